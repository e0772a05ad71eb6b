"""Which files form one model, by name, by folder, by file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facellm.core.command import command
from facellm.models.gguf_header import HeaderError
from facellm.models.nano.pair import LANGUAGE_FILE, MMPROJ_FILE
from facellm.models.packages import ModelMissing, find_package, list_packages
from facellm.models.store import AssetStore


def write_gguf(path: Path, architecture: str = "qwen2", **fields: Any) -> Path:
    """A real GGUF header without tensors."""
    from gguf import GGUFWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture)
    for name, value in fields.items():
        key = name.replace("__", ".")
        writer.add_uint32(key, value) if isinstance(value, int) else writer.add_string(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_pair(folder: Path, size: int = 448) -> Path:
    write_gguf(folder / "model-Q4_K_M.gguf", general__name="InternVL3 1B", general__license="mit")
    write_gguf(folder / "mmproj-model-f16.gguf", "clip", clip__vision__image_size=size)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> AssetStore:
    return AssetStore(tmp_path / "home", bundle=tmp_path / "bundle")


def test_a_folder_in_the_model_folder_is_a_model(store: AssetStore) -> None:
    write_pair(store.models / "facellm-1b")
    package = find_package("facellm-1b", store)
    assert package.llm.name == "model-Q4_K_M.gguf"
    assert package.mmproj.name == "mmproj-model-f16.gguf"
    assert (package.name, package.tile, package.title, package.licence) == ("facellm-1b", 448, "InternVL3 1B", "mit")


def test_package_toml_has_the_last_word(store: AssetStore) -> None:
    folder = write_pair(store.models / "x")
    (folder / "package.toml").write_text('title = "Mine"\nlicence = "CC0-1.0"\ntile = 336\n')
    package = find_package("x", store)
    assert (package.tile, package.title, package.licence) == (336, "Mine", "CC0-1.0")


@pytest.mark.parametrize("text", ["tile = 0", 'tile = "448"', "tile = [", "tile = 100000"])
def test_a_wrong_package_toml_is_told(store: AssetStore, text: str) -> None:
    folder = write_pair(store.models / "x")
    (folder / "package.toml").write_text(text)
    with pytest.raises(ModelMissing, match=r"how large|not valid TOML"):
        find_package("x", store)


def test_a_path_to_a_folder_is_a_model(store: AssetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_pair(tmp_path / "elsewhere")
    assert find_package(str(folder), store).name == "elsewhere"
    monkeypatch.chdir(folder)
    assert find_package(".", store).name == "elsewhere"


def test_a_path_to_a_language_file_finds_its_eyes(store: AssetStore, tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "several")
    chosen = write_gguf(folder / "model-Q8_0.gguf")
    with pytest.raises(ModelMissing, match="holds 2 and 1"):
        find_package(str(folder), store)
    package = find_package(str(chosen), store)
    assert (package.llm, package.mmproj.name) == (chosen, "mmproj-model-f16.gguf")


def test_of_several_eyes_the_ones_of_the_same_pair_are_taken(store: AssetStore, tmp_path: Path) -> None:
    for pair in "ab":
        write_gguf(tmp_path / f"llm-{pair}.gguf", facellm__pair=pair)
        write_gguf(tmp_path / f"eyes-{pair}.gguf", "clip", facellm__pair=pair, clip__vision__image_size=224)
    assert find_package(str(tmp_path / "llm-b.gguf"), store).mmproj.name == "eyes-b.gguf"
    write_gguf(tmp_path / "llm-c.gguf")
    with pytest.raises(ModelMissing, match="exactly one mmproj"):
        find_package(str(tmp_path / "llm-c.gguf"), store)


def test_a_path_to_the_eyes_is_told(store: AssetStore, tmp_path: Path) -> None:
    folder = write_pair(tmp_path / "x")
    with pytest.raises(ModelMissing, match="image part"):
        find_package(str(folder / "mmproj-model-f16.gguf"), store)


def test_a_file_that_is_no_model_is_told(store: AssetStore, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04 no model")
    with pytest.raises(HeaderError, match="not a GGUF"):
        find_package(str(tmp_path / "x.gguf"), store)
    with pytest.raises(ModelMissing, match="no file"):
        find_package(str(tmp_path / "y.gguf"), store)


def test_a_model_in_several_files_counts_once(store: AssetStore) -> None:
    folder = store.models / "large"
    for number in (1, 2, 3):
        write_gguf(folder / f"large-0000{number}-of-00003.gguf")
    write_gguf(folder / "mmproj.gguf", "clip", clip__vision__image_size=448)
    assert find_package("large", store).llm.name == "large-00001-of-00003.gguf"


def test_a_link_beside_its_file_does_not_count_twice(store: AssetStore) -> None:
    folder = write_pair(store.models / "x")
    (folder / "llm.gguf").symlink_to("model-Q4_K_M.gguf")
    assert find_package("x", store).llm.name == "model-Q4_K_M.gguf"


def test_an_unknown_name_lists_the_known_ones(store: AssetStore) -> None:
    write_pair(store.models / "one")
    for name in ("two", "", "../home", "."):
        with pytest.raises(ModelMissing) as caught:
            find_package(name, store)
        assert caught.value.hint
    with pytest.raises(ModelMissing, match="Known models: one"):
        find_package("two", store)


def test_the_nano_not_built_says_how(store: AssetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nano").mkdir()  # a folder of that name where one happens to stand is not it
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelMissing) as caught:
        find_package("nano", store)
    assert command("models", "build", "nano") in caught.value.hint


def test_models_are_listed_with_the_nano_first_and_broken_ones_left_out(store: AssetStore) -> None:
    write_pair(store.models / "b")
    write_pair(store.models / "a")
    write_gguf(store.models / "broken" / "only.gguf")
    (store.models / ".hidden").mkdir()
    write_gguf(store.models / "nano" / LANGUAGE_FILE, "llama")
    write_gguf(store.models / "nano" / MMPROJ_FILE, "clip")
    assert [package.name for package in list_packages(store)] == ["nano", "a", "b"]


def test_a_shipped_nano_is_found_and_stands_before_an_older_own_one(store: AssetStore) -> None:
    for folder in (store.models / "nano", store.bundle / "models" / "nano"):
        write_gguf(folder / LANGUAGE_FILE, "llama")
        write_gguf(folder / MMPROJ_FILE, "clip")
    assert find_package("nano", store).llm.parent == store.bundle / "models" / "nano"
    assert [package.llm.parent for package in list_packages(store)] == [store.bundle / "models" / "nano"]
