"""A GGUF pair on its way into the model folder: copied whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facellm.models.gguf_header import HeaderError
from facellm.models.importing import ImportRefused, Pair, find_pair
from facellm.models.staging import ASIDE, STAGED, check_elsewhere, copy_pair, model_name, publish_package, staging
from facellm.models.store import AssetStore
from tests.imports import left
from tests.models.test_importing import eyes, pair, write

WEIGHTS = 3 << 20


@pytest.fixture
def store(tmp_path: Path) -> AssetStore:
    return AssetStore(tmp_path / "home", bundle=tmp_path / "bundle")


def taken(source: Path) -> Pair:
    found = find_pair(source)
    assert found is not None
    return found


def bring(source: Path, store: AssetStore, name: str, tell: Any = lambda *_: None, *, replace: bool = False) -> Path:
    with staging(store, model_name(store, name, replace=replace)) as folder:
        copy_pair(taken(source), folder, tell)
        return publish_package(folder, store, name, replace=replace).llm.parent


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_pair_is_copied_whole_and_the_source_stays(store: AssetStore, tmp_path: Path) -> None:
    source = pair(tmp_path / "x", weights=WEIGHTS)
    (source / "package.toml").write_text('title = "Mine"\n')
    (source / "notes.txt").write_text("not a part of it")
    before, told = contents(source), []
    place = bring(source, store, "tiny", lambda *step: told.append(step))
    assert place == store.models / "tiny"
    assert contents(source) == before
    assert contents(place) == {name: data for name, data in before.items() if name != "notes.txt"}
    size = taken(source).bytes
    assert told[0] == ("copying", 0, size)
    assert told[-1] == ("copying", size, size)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert len(told) > 4
    assert left(store.root) == ["tiny"]


def test_without_room_nothing_is_written(store: AssetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=70_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ImportRefused, match="13 MB will be copied; 70 MB are free") as caught:
        bring(pair(tmp_path / "x", weights=WEIGHTS), store, "tiny")
    assert caught.value.hint
    assert left(store.root) == []


def test_a_damaged_file_is_refused_before_it_is_copied(store: AssetStore, tmp_path: Path) -> None:
    source, told = pair(tmp_path / "x", weights=WEIGHTS), []
    with (source / "tiny-Q8_0.gguf").open("rb+") as file:
        file.truncate(1 << 20)
    with pytest.raises(HeaderError, match="cut short"):
        bring(source, store, "tiny", lambda *step: told.append(step))
    assert (left(store.root), told) == ([], [])


def test_all_shards_are_looked_at(store: AssetStore, tmp_path: Path) -> None:
    source = tmp_path / "x"
    for number in (1, 2):
        write(source / f"big-0000{number}-of-00002.gguf", split__count=2, weights=10_000)
    eyes(source / "mmproj.gguf")
    assert len(list(bring(source, store, "big").iterdir())) == 3
    with (source / "big-00002-of-00002.gguf").open("rb+") as file:
        file.truncate(20_000)
    with pytest.raises(HeaderError, match=r"big-00002-of-00002\.gguf is cut short"):
        bring(source, store, "other")
    assert left(store.root) == ["big"]


def test_a_name_that_is_taken(store: AssetStore, tmp_path: Path) -> None:
    bring(pair(tmp_path / "old"), store, "tiny")
    new = pair(tmp_path / "new", weights=100)
    with pytest.raises(ImportRefused, match="called tiny already"):
        bring(new, store, "tiny")
    place = bring(new, store, "tiny", replace=True)
    assert contents(place) == contents(new)
    assert left(store.root) == ["tiny"]


@pytest.mark.parametrize(
    ("name", "says"), [("nano", "embedded"), ("NANO", "embedded"), ("…", "called"), ("a" * 101, "called")]
)
def test_names_that_cannot_be_had(store: AssetStore, name: str, says: str) -> None:
    with pytest.raises(ImportRefused, match=says):
        model_name(store, name, replace=True)


def test_names_become_file_names(store: AssetStore) -> None:
    assert model_name(store, " owner/Face VL (1B) ", replace=False) == "Face-VL-1B"
    assert model_name(store, "../../etc", replace=False) == "etc"
    assert model_name(store, ".hidden", replace=False) == "hidden"


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("replace", [False, True])
def test_an_interrupt_leaves_nothing(store: AssetStore, tmp_path: Path, replace: bool) -> None:
    if replace:
        bring(pair(tmp_path / "old"), store, "tiny")
    before = left(store.root)
    with pytest.raises(KeyboardInterrupt):
        bring(pair(tmp_path / "x", weights=WEIGHTS), store, "tiny", interrupted, replace=replace)
    assert left(store.root) == before


def test_what_a_killed_import_left_is_cleared_by_the_next_one(store: AssetStore, tmp_path: Path) -> None:
    bring(pair(tmp_path / "old"), store, "tiny")
    pair(store.models / f"{STAGED}half")
    os.replace(store.models / "tiny", store.models / f"{ASIDE}tiny")  # killed between the two renames
    bring(pair(tmp_path / "x"), store, "other")
    assert left(store.root) == ["other", "tiny"]
    pair(store.models / f"{ASIDE}tiny")  # killed before the old one was deleted
    bring(pair(tmp_path / "y"), store, "third")
    assert left(store.root) == ["other", "third", "tiny"]


def test_when_the_rename_fails_the_old_model_is_back(
    store: AssetStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = contents(bring(pair(tmp_path / "old"), store, "tiny"))
    replace: Callable[[Path, Path], None] = os.replace

    def failing(source: Path, target: Path) -> None:
        if Path(source).name.startswith(STAGED):
            raise PermissionError(13, "in use", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(ImportRefused, match="in use") as caught:
        bring(pair(tmp_path / "new", weights=100), store, "tiny", replace=True)
    assert caught.value.hint
    assert contents(store.models / "tiny") == old
    assert left(store.root) == ["tiny"]


def test_what_is_in_the_model_folder_already_is_not_copied(store: AssetStore, tmp_path: Path) -> None:
    place = bring(pair(tmp_path / "x"), store, "tiny")
    with pytest.raises(ImportRefused, match="already, as tiny"):
        check_elsewhere(taken(place), store)
    check_elsewhere(taken(tmp_path / "x"), store)


def test_a_model_folder_that_cannot_be_written(store: AssetStore, tmp_path: Path) -> None:
    store.root.mkdir()
    store.models.write_text("a file where the folder should be")
    with pytest.raises(ImportRefused, match="cannot be read or written") as caught:
        bring(pair(tmp_path / "x"), store, "tiny")
    assert str(store.models) in str(caught.value)
    assert caught.value.hint
