"""The manifest that is shipped is whole, and a broken one says where."""

from __future__ import annotations

from pathlib import Path

import pytest

from facellm.models.manifest import ManifestError, read_manifest

URL = '{ url = "https://example.org/thing.bin" }'
GOOD = f"""
[thing]
title = "A thing"
licence = "MIT"
attribution = "us"
file = "thing.bin"
size = 3
sha256 = "{"a" * 64}"
sources = [{URL}]
"""


def test_the_shipped_manifest_names_what_the_product_needs() -> None:
    manifest = read_manifest()
    assert set(manifest) == {"face-landmarker", "yunet", "smollm2-135m-q4_1", "clip-vit-b16-int8"}


@pytest.mark.parametrize("name", ["face-landmarker", "yunet", "smollm2-135m-q4_1"])
def test_each_has_a_publisher_a_carrier_and_a_place_in_an_installer(name: str) -> None:
    kinds = [source.kind for source in read_manifest()[name].sources]
    assert kinds[0] == "bundle"
    assert kinds[1] in ("url", "hub")
    assert kinds[2] == "wheel"


def test_a_carrier_tells_its_size_for_progress_and_disk_space() -> None:
    for asset in read_manifest().values():
        for source in asset.sources:
            assert (source.carrier > 1_000_000) == (source.kind == "wheel"), f"{asset.name}: {source}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 3", "size = 0"),
        ("size = 3", 'size = "3"'),
        ("a" * 64, "a" * 63),
        ("a" * 64, "A" * 64),
        ('file = "thing.bin"', 'file = "../thing.bin"'),
        ('file = "thing.bin"', 'file = "c:thing.bin"'),
        ('licence = "MIT"', ""),
        ('licence = "MIT"', 'licence = ""'),
        ("size = 3", "size = 3\nbytes = 4"),
        ("{ url =", "{ link ="),
        (URL, ""),
        (URL, '"https://example.org/thing.bin"'),
        (URL, '{ url = "http://example.org/thing.bin" }'),
        (URL, '{ url = "file:///etc/passwd" }'),
        (URL, '{ wheel = "thing==1" }'),
        (URL, '{ wheel = "thing", member = "a" }'),
        (URL, '{ wheel = "--index-url=x==1", member = "a" }'),
        (URL, '{ hub = "owner", file = "a" }'),
        (URL, '{ bundle = "../../thing.bin" }'),
        (URL, '{ url = "https://example.org/a", bundle = "b" }'),
        ("[thing]", "[thing"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(GOOD)
    assert read_manifest(path)["thing"].size == 3
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ManifestError):
        read_manifest(path)


def test_two_assets_must_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(GOOD + GOOD.replace("[thing]", "[other]"))
    with pytest.raises(ManifestError, match="same file"):
        read_manifest(path)
