"""``facellm serve`` as a process: its one line, its key, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from facellm.core.package import ModelPackage
from tests.e2e.command import command, environment, run
from tests.server.conftest import KEY, LONG, about, openai

#: Promised for the end, and what a busy machine may add to it.
END_S, BUSY_S = 2.0, 4.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends by signal")


@contextmanager
def serving(nano: ModelPackage, *arguments: str, key: str = KEY) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its first line."""
    process = subprocess.Popen(
        command("serve", "--model", str(nano.llm.parent), *arguments), env=environment({"FACELLM_SERVER_KEY": key}),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_the_middle_of_an_answer(nano: ModelPackage, number: signal.Signals) -> None:
    with serving(nano, "--json") as (process, line):
        row = json.loads(line)
        assert row == {"url": row["url"], "key_env": "FACELLM_SERVER_KEY", "model": "nano", "pid": process.pid}
        children = children_of(process)
        assert children
        failures: list[Any] = []

        def ask() -> None:
            with openai.OpenAI(base_url=row["url"], api_key=KEY, max_retries=0) as client:
                try:
                    client.chat.completions.create(model="nano", messages=about(LONG))
                except openai.APIError as error:
                    failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(1.0)
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(END_S + BUSY_S) == 0
        assert time.monotonic() - begun < END_S + BUSY_S
        asking.join(10)
        assert len(failures) == 1
        assert not psutil.wait_procs(children, 1)[1]
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_the_engine_does_not_outlive_a_killed_server(nano: ModelPackage) -> None:
    with serving(nano, "--json") as (process, _):
        children = children_of(process)
        process.kill()
        assert not psutil.wait_procs(children, 5)[1]


def test_a_signal_while_it_loads_ends_it(nano: ModelPackage) -> None:
    process = subprocess.Popen(
        command("serve", "--model", str(nano.llm.parent)), env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert "Loading" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=END_S + BUSY_S)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err


def test_without_a_key_one_is_made_and_shown_once(nano: ModelPackage) -> None:
    with serving(nano, "--json", key="") as (process, line):
        row = json.loads(line)
        assert len(row["key"]) >= 32
        with openai.OpenAI(base_url=row["url"], api_key=row["key"]) as client:
            got = client.chat.completions.create(model="nano", messages=about("Say hello."), max_tokens=1)
            assert got.choices[0].finish_reason == "length"
        process.terminate()
        out, err = process.communicate(timeout=END_S + BUSY_S)
        assert out == ""
        assert row["key"] not in err


def test_nothing_of_what_is_asked_is_written(nano: ModelPackage) -> None:
    with serving(nano) as (process, line):
        assert line.startswith("nano answers at http://127.0.0.1:")
        assert KEY not in line
        url = line.split()[3]
        with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            client.chat.completions.create(model="nano", messages=about("A very private question?"), max_tokens=1)
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="nano", messages=about("A private fault?"), n=2)
        process.terminate()
        out, err = process.communicate(timeout=END_S + BUSY_S)
        assert "private" not in out + err


def test_what_it_cannot_start_with() -> None:
    missing = run("serve", "--key-env", "NO_SUCH_VARIABLE_HERE")
    assert missing.returncode == 1
    assert "NO_SUCH_VARIABLE_HERE is not set" in missing.stderr
    spaced = run("serve", env={"FACELLM_SERVER_KEY": "two words"})
    assert spaced.returncode == 1
    unknown = run("serve", "--model", "no-such-model")
    assert "There is no model called no-such-model" in unknown.stderr
