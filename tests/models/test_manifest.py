"""The manifest that is shipped is whole, and a broken one says where."""

from __future__ import annotations

from pathlib import Path

import pytest
from facellm.models.manifest import ManifestError, read_manifest

GOOD = """
[thing]
title = "A thing"
licence = "MIT"
attribution = "us"
file = "thing.bin"
size = 3
sha256 = "{}"
sources = [{{ url = "https://example.org/thing.bin" }}]
""".format("a" * 64)


def test_the_shipped_manifest_names_what_the_product_needs() -> None:
    manifest = read_manifest()
    assert set(manifest) == {"face-landmarker", "yunet", "smollm2-135m-q4_1", "clip-vit-b16-int8"}
    assert all(asset.sources and asset.licence for asset in manifest.values())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 3", "size = 0"),
        ("size = 3", 'size = "3"'),
        ("a" * 64, "a" * 63),
        ('file = "thing.bin"', 'file = "../thing.bin"'),
        ('licence = "MIT"', ""),
        ("{ url =", "{ link ="),
        ('{ url = "https://example.org/thing.bin" }', '{ wheel = "thing==1" }'),
        ('{ url = "https://example.org/thing.bin" }', '{ url = "a", bundle = "b" }'),
        ("[thing]", "[thing"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(GOOD)
    assert read_manifest(path)["thing"].size == 3
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ManifestError):
        read_manifest(path)
