"""Assets: fetched once, verified always, nothing half-written under a real name."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facellm.core.command import command
from facellm.models.manifest import Source
from facellm.models.store import AssetCorrupt, AssetMissing, AssetStore, SourceFailed, StoreUnwritable
from tests.models.file_server import PAYLOAD, FileServer, asset_from

Make = Callable[..., AssetStore]

#: What a process of its own runs: one asset, fetched from the server of the test.
ENSURE = (
    "import sys; from pathlib import Path; from facellm.models.store import AssetStore;"
    "from facellm.models.manifest import Asset, Source;"
    "sources = (Source('url', sys.argv[4]),);"
    "a = Asset('thing', 'A thing', 'MIT', 'us', 'thing.bin', int(sys.argv[2]), sys.argv[3], sources);"
    "AssetStore(Path(sys.argv[1]), {'thing': a}).ensure('thing')"
)


def ensure_in_child(root: Path, server: FileServer) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", ENSURE, str(root), str(len(PAYLOAD)), asset_from().sha256, server.url]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def visible(root: Path) -> list[str]:
    return [path.name for path in (root / "assets").iterdir() if not path.name.startswith(".")]


def test_fetches_verifies_and_does_not_fetch_again(store_of: Make, server: FileServer) -> None:
    store = store_of(Source("url", server.url))
    shares: list[float] = []
    assert store.ensure("thing", shares.append).read_bytes() == PAYLOAD
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    store.ensure("thing")
    assert len(server.ranges) == 1


def test_a_killed_fetch_goes_on_where_it_was(store_of: Make, tmp_path: Path, server: FileServer) -> None:
    server.stall_after = 300_000
    child = ensure_in_child(tmp_path, server)
    assert server.stalled.wait(60)
    part = tmp_path / "assets" / ".thing.bin.0.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size >= 262_144) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert visible(tmp_path) == []
    have = part.stat().st_size
    server.stall_after = None
    assert store_of(Source("url", server.url)).ensure("thing").read_bytes() == PAYLOAD
    assert server.ranges == ["", f"bytes={have}-"]
    assert not part.exists()


def test_wrong_bytes_name_both_hashes_and_leave_nothing(store_of: Make, tmp_path: Path, server: FileServer) -> None:
    server.payload = bytes(len(PAYLOAD))
    store = store_of(Source("url", server.url))
    with pytest.raises(AssetCorrupt) as caught:
        store.ensure("thing")
    assert store.asset("thing").sha256 in str(caught.value)
    assert hashlib.sha256(server.payload).hexdigest() in str(caught.value)
    assert [path.name for path in (tmp_path / "assets").iterdir()] == [".thing.bin.lock"]


def test_a_wrong_beginning_of_an_earlier_run_is_begun_anew(store_of: Make, tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / ".thing.bin.0.part").write_bytes(bytes(5000))
    assert store_of(Source("url", server.url)).ensure("thing").read_bytes() == PAYLOAD
    assert server.ranges == ["bytes=5000-", ""]


def test_one_source_does_not_go_on_with_the_beginning_of_another(store_of: Make, server: FileServer) -> None:
    server.cut_after = [1000, 1000, 1000, 1000]  # the first source gives up; the second must start at 0
    store = store_of(Source("url", server.url + "?first"), Source("url", server.url + "?second"))
    assert store.ensure("thing").read_bytes() == PAYLOAD
    assert server.ranges == ["", "bytes=1000-", "bytes=2000-", "bytes=3000-", ""]


def test_every_source_is_tried_and_every_reason_told(
    store_of: Make, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.statuses = [404]
    sources = (
        Source("url", server.url),
        Source("url", "http://127.0.0.1:9/nothing"),
        Source("wheel", "no-such==0", "x"),
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SourceFailed) as caught:
        store_of(*sources).ensure("thing")
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "404" in lines[1]
    assert "cannot be reached" in lines[2]
    assert "pip could not fetch it" in lines[3]
    assert "by hand" in caught.value.hint


def test_a_later_source_helps(store_of: Make, server: FileServer) -> None:
    store = store_of(Source("url", "http://127.0.0.1:9/nothing"), Source("url", server.url))
    assert store.ensure("thing").read_bytes() == PAYLOAD


def test_offline_fetches_nothing(store_of: Make, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    with pytest.raises(AssetMissing, match="FACELLM_OFFLINE"):
        store_of(Source("url", server.url)).ensure("thing")
    assert server.ranges == []


def test_offline_still_gives_what_is_there(store_of: Make, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(Source("url", server.url))
    store.ensure("thing")
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    assert store.ensure("thing").read_bytes() == PAYLOAD


def test_path_fetches_nothing(store_of: Make, server: FileServer) -> None:
    with pytest.raises(AssetMissing) as caught:
        store_of(Source("url", server.url)).path("thing")
    assert command("models", "ensure") in caught.value.hint
    assert server.ranges == []


def test_a_file_changed_on_disk_is_noticed_and_replaced(store_of: Make, server: FileServer) -> None:
    store = store_of(Source("url", server.url))
    file = store.ensure("thing")
    file.write_bytes(PAYLOAD[:-1] + b"x")
    with pytest.raises(AssetCorrupt):
        store.path("thing")
    assert store.ensure("thing").read_bytes() == PAYLOAD


def test_a_known_good_file_is_not_hashed_again_but_verify_does(store_of: Make, server: FileServer) -> None:
    store = store_of(Source("url", server.url))
    file = store.ensure("thing")
    times = file.stat()
    file.write_bytes(PAYLOAD[:-1] + b"x")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and time as at the last check
    store.path("thing")
    with pytest.raises(AssetCorrupt):
        store.verify("thing")
    with pytest.raises(AssetCorrupt):
        store.path("thing")


def test_a_shipped_file_is_used_where_it_lies(store_of: Make, tmp_path: Path, server: FileServer) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "thing.bin").write_bytes(PAYLOAD)
    store = store_of(Source("bundle", "thing.bin"), Source("url", server.url), bundle=bundle)
    assert store.ensure("thing") == bundle / "thing.bin"
    (bundle / "thing.bin").write_bytes(bytes(len(PAYLOAD)))
    assert store.ensure("thing") == tmp_path / "assets" / "thing.bin", "a damaged one is replaced by a fetched one"


def test_three_processes_fetch_once(tmp_path: Path, server: FileServer) -> None:
    server.stall_after = 1000
    children = [ensure_in_child(tmp_path, server) for _ in range(3)]
    assert server.stalled.wait(60)
    time.sleep(1)  # the others are given time to do the same, were there no lock
    server.stall_after = None
    server.go_on.set()
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert server.ranges == ["", "bytes=1000-"]


def test_a_folder_that_cannot_be_written_is_one_sentence(store_of: Make, tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnwritable, match="cannot be written"):
        store_of(Source("url", server.url), root=tmp_path / "file").ensure("thing")


def test_a_full_disk_is_told_before_anything_is_fetched(
    store_of: Make, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(SourceFailed, match="MB are free"):
        store_of(Source("url", server.url)).ensure("thing")
    assert server.ranges == []
