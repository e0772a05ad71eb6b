"""Assets: fetched once, verified always, nothing half-written."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from facellm.models.manifest import Source
from facellm.models.store import AssetCorrupt, AssetMissing, AssetStore, SourceFailed

from .conftest import PAYLOAD, FileServer, asset_from


def store_of(root: Path, *sources: Source, payload: bytes = PAYLOAD) -> AssetStore:
    return AssetStore(root, {"thing": asset_from(*sources, payload=payload)})


def test_fetches_verifies_and_does_not_fetch_again(tmp_path: Path, server: FileServer) -> None:
    store = store_of(tmp_path, Source("url", server.url))
    assert store.ensure("thing").read_bytes() == PAYLOAD
    store.ensure("thing")
    assert len(server.ranges) == 1


def test_resumes_where_the_connection_broke(tmp_path: Path, server: FileServer) -> None:
    server.cut_after = [300_000, 100_000]
    assert store_of(tmp_path, Source("url", server.url)).ensure("thing").read_bytes() == PAYLOAD
    assert server.ranges == ["", "bytes=300000-", "bytes=400000-"]


def test_resumes_after_an_interrupted_run(tmp_path: Path, server: FileServer) -> None:
    store = store_of(tmp_path, Source("url", server.url))
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / ".thing.bin.part").write_bytes(PAYLOAD[:5000])
    assert store.ensure("thing").read_bytes() == PAYLOAD
    assert server.ranges == ["bytes=5000-"]


def test_wrong_bytes_name_both_hashes_and_leave_nothing(tmp_path: Path, server: FileServer) -> None:
    server.payload = bytes(len(PAYLOAD))
    store = store_of(tmp_path, Source("url", server.url))
    with pytest.raises(AssetCorrupt) as caught:
        store.ensure("thing")
    assert store.asset("thing").sha256 in str(caught.value)
    import hashlib

    assert hashlib.sha256(server.payload).hexdigest() in str(caught.value)
    assert [path.name for path in (tmp_path / "assets").iterdir()] == [".thing.bin.lock"]


def test_every_source_is_tried_and_every_reason_told(tmp_path: Path, server: FileServer) -> None:
    server.status = 404
    sources = (Source("bundle", "no-such-file"), Source("url", server.url), Source("url", "http://127.0.0.1:9/nothing"))
    with pytest.raises(SourceFailed) as caught:
        store_of(tmp_path, *sources).ensure("thing")
    text = str(caught.value)
    assert "not part of this installation" in text and "404" in text and "not reachable" in text
    assert "by hand" in caught.value.hint


def test_a_later_source_helps(tmp_path: Path, server: FileServer) -> None:
    store = store_of(tmp_path, Source("bundle", "no-such-file"), Source("url", server.url))
    assert store.ensure("thing").read_bytes() == PAYLOAD


def test_offline_fetches_nothing(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    with pytest.raises(AssetMissing, match="FACELLM_OFFLINE"):
        store_of(tmp_path, Source("url", server.url)).ensure("thing")
    assert server.ranges == []


def test_a_file_changed_on_disk_is_noticed(tmp_path: Path, server: FileServer) -> None:
    store = store_of(tmp_path, Source("url", server.url))
    file = store.ensure("thing")
    file.write_bytes(PAYLOAD[:-1] + b"x")
    with pytest.raises(AssetCorrupt):
        store.path("thing")


def test_a_member_of_a_wheel_is_an_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "carrier_pkg-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carrier_pkg/data/thing.bin", PAYLOAD)
        wheel.writestr("carrier_pkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier-pkg\nVersion: 1.0\n")
        wheel.writestr("carrier_pkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier_pkg-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    store = store_of(tmp_path, Source("wheel", "carrier-pkg==1.0", "carrier_pkg/data/thing.bin"))
    assert store.ensure("thing").read_bytes() == PAYLOAD
    other = store_of(tmp_path / "b", Source("wheel", "carrier-pkg==1.0", "carrier_pkg/other.bin"))
    with pytest.raises(SourceFailed, match=r"does not hold carrier_pkg/other\.bin"):
        other.ensure("thing")


def test_two_processes_fetch_once(tmp_path: Path, server: FileServer) -> None:
    script = (
        "import sys; from pathlib import Path; from facellm.models.store import AssetStore;"
        "from facellm.models.manifest import Asset, Source;"
        f"a = Asset('thing','A thing','MIT','us','thing.bin',{len(PAYLOAD)},sys.argv[2],(Source('url', sys.argv[3]),));"
        "AssetStore(Path(sys.argv[1]), {'thing': a}).ensure('thing')"
    )
    digest = asset_from().sha256
    command = [sys.executable, "-c", script, str(tmp_path), digest, server.url]
    children = [subprocess.Popen(command) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(server.ranges) == 1
