"""Asking needs no network: it works with none, and no socket is ever opened."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.command import environment, run

Model = tuple[str, str]

#: Read by every Python process below before anything else: the command and its engine.
NO_SOCKETS = """
import os, sys

def forbid(event, arguments):
    internet = event == "socket.__new__" and arguments[1] != 1  # 1 is AF_UNIX, which stays on this computer
    if internet or event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request"):
        with open(os.environ["SOCKETS_SEEN"], "a") as seen:
            seen.write(f"{event} {arguments}\\n")
        raise PermissionError(f"no network in this test: {event} {arguments}")

sys.addaudithook(forbid)
"""

QUESTION = ("-q", "Is this person wearing glasses?", "-q", "Describe this picture.", "--max-tokens", "16")


def has_namespaces() -> bool:
    try:
        return subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not has_namespaces(), reason="needs the right to make a network namespace")
def test_asking_works_without_any_network(model: Model, photos: Path) -> None:
    done = run("ask", photos / "two.jpg", *QUESTION, "--json", *model, prefix=("unshare", "-n"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"answer"') == 4


def test_no_python_code_opens_a_socket(model: Model, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_SOCKETS)
    seen = tmp_path / "seen.txt"
    blocked = {"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}", "SOCKETS_SEEN": str(seen)}
    done = run("ask", photos / "two.jpg", *QUESTION, "--json", *model, env=blocked)
    assert done.returncode == 0, done.stderr
    assert not seen.exists()


def test_the_block_above_would_have_been_seen(tmp_path: Path) -> None:
    import os
    import sys

    (tmp_path / "sitecustomize.py").write_text(NO_SOCKETS)
    seen = tmp_path / "seen.txt"
    script = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/')"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "SOCKETS_SEEN": str(seen)}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True)
    assert done.returncode != 0
    assert seen.read_text()


@pytest.mark.skipif(not Path("/usr/bin/strace").exists(), reason="needs strace")
def test_no_native_code_opens_an_internet_socket(model: Model, photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls.txt"
    tracer = ("strace", "-f", "-e", "trace=socket,connect", "-o", str(log))
    done = run("ask", photos / "one.png", *QUESTION, *model, prefix=tracer)
    assert done.returncode == 0, done.stderr
    assert "AF_INET" not in log.read_text()
