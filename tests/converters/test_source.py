"""Where checkpoints come from: folders, and a hub that is at hand; what is not at hand: test_source_refusals.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from facellm.models.hub_id import HubId
from facellm_converters.checkpoint.source import hub_id, resolve
from facellm_converters.checkpoint.tensors import opened
from facellm_converters.errors import BadCheckpoint, ConversionError
from facellm_converters.layouts.checkpoint import open_checkpoint

huggingface_hub = pytest.importorskip("huggingface_hub")

from tests.converters.hub_server import (
    COMMIT,
    LARGE,
    REPO,
    SMALL,
    Hub,
    fetched,
    hub_with_a_model,
    left_over,
    quiet,
    sha256,
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    yield from hub_with_a_model(tmp_path, monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(hub: Hub) -> Hub:
    assert hub.store is not None
    return hub.store


def test_a_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert resolve(str(tmp_path), revision=None, cache=None, tell=quiet) == tmp_path
    monkeypatch.chdir(tmp_path)  # a folder that is there wins over a model of that name
    assert resolve("owner/name", revision=None, cache=None, tell=quiet) == Path("owner/name")
    with pytest.raises(ConversionError, match="it has no revision main"):
        resolve("owner/name", revision="main", cache=None, tell=quiet)


def test_a_revision_is_named_once_and_stays_in_its_folder() -> None:
    assert hub_id("a/b") == HubId("a/b", "main")
    assert hub_id("a/b@v1") == hub_id("a/b", "v1") == hub_id("a/b@v1", "v1") == HubId("a/b", "v1")
    assert hub_id("a/b", "refs/pr/3") == HubId("a/b", "refs/pr/3")
    for name, revision in (("a/b@v1", "v2"), ("a/b", "../../x"), ("a/b", "/etc"), ("a/b@x y", None)):
        with pytest.raises(ConversionError, match="revision"):
            hub_id(name, revision)


def test_weights_and_texts_are_fetched_and_neither_code_nor_pickles(hub: Hub, cache: Path) -> None:
    hub.files |= {
        "chat_template.jinja": b"{}",
        "LICENSE": b"MIT",
        "vocab.txt": b"",
        "two words #1.json": b"[]",
        "train.sh": b"",
        "onnx/config.json": b"{}",
    }
    told: list[tuple[str, int, int]] = []
    folder = resolve(REPO, revision=None, cache=cache, tell=lambda *row: told.append(row))
    names = {"model.safetensors", "chat_template.jinja", "LICENSE", "vocab.txt", "two words #1.json", *SMALL}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: hub.files[name] for name in names}
    assert folder.name == COMMIT
    with opened(folder) as tensors:
        assert tensors.infos["w"].shape == (1 << 19,)
    weights = [row for row in told if row[0] == "fetching weights"]
    assert weights[0][1:] == (0, len(LARGE))
    assert weights[-1][1:] == (len(LARGE), len(LARGE))
    assert len(weights) >= 4
    assert [row[1] for row in weights] == sorted(row[1] for row in weights)
    assert left_over(cache) == []


def test_a_checkpoint_of_transformers_comes_through_whole(made: Path, hub: Hub, cache: Path) -> None:
    hub.files = {path.name: path.read_bytes() for path in (made / "qwen2").iterdir()}
    with open_checkpoint(fetched(cache)) as far, open_checkpoint(made / "qwen2") as near:
        assert far.kind == near.kind
        assert set(far.tensors.infos) == set(near.tensors.infos)


def test_the_library_finds_what_was_fetched_and_the_other_way_round(hub: Hub, cache: Path) -> None:
    folder = fetched(cache)
    found = huggingface_hub.try_to_load_from_cache(REPO, "model.safetensors", cache_dir=cache)
    assert Path(found) == folder / "model.safetensors"
    before = len(hub.asked(".safetensors"))
    assert fetched(cache) == folder
    assert len(hub.asked(".safetensors")) == before
    (folder / "model.safetensors").unlink()  # as another revision's folder looks at first
    assert fetched(cache) == folder
    assert len(hub.asked(".safetensors")) == before
    assert (folder / "model.safetensors").read_bytes() == LARGE


def test_an_interrupted_fetch_goes_on_from_where_it_was(hub: Hub, store: Hub, cache: Path) -> None:
    def stop(step: str, done: int, _whole: int) -> None:
        if step == "fetching weights" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resolve(REPO, revision=None, cache=cache, tell=stop)
    part = cache / "models--faces--tiny" / "blobs" / f"{sha256(LARGE)}.incomplete"
    have = part.stat().st_size
    assert 0 < have < len(LARGE)
    assert not list(cache.rglob("snapshots/*/model.safetensors"))
    store.seen.clear()
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE
    assert [seen.range for seen in store.asked(".safetensors")] == [f"bytes={have}-"]
    assert left_over(cache) == []


def test_a_fetch_that_ended_before_the_comparison_is_not_done_again(hub: Hub, store: Hub, cache: Path) -> None:
    part = cache / "models--faces--tiny" / "blobs" / f"{sha256(LARGE)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(LARGE)
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE
    assert store.seen == []


def test_a_connection_that_breaks_again_and_again_is_told_and_what_came_is_kept(
    hub: Hub, store: Hub, cache: Path
) -> None:
    hub.faults.cut_after = [300_000] * 4
    with pytest.raises(ConversionError, match=rf"faces/tiny cannot be fetched from {hub.url}: .* broke 4") as caught:
        fetched(cache)
    assert "what has arrived is kept" in caught.value.hint
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE
    assert store.seen[-1].range == "bytes=1200000-"


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, store: Hub, cache: Path) -> None:
    hub.faults.cut_after = [1 << 20]
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE
    assert [seen.range for seen in store.asked(".safetensors")] == ["", f"bytes={1 << 20}-"]


def test_a_server_without_ranges_begins_anew(hub: Hub, cache: Path) -> None:
    part = cache / "models--faces--tiny" / "blobs" / f"{sha256(LARGE)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(LARGE[: 1 << 19])
    hub.faults.ignores_ranges = True
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE


def test_of_several_weights_those_of_the_index_are_fetched(hub: Hub, cache: Path) -> None:
    parts = {f"model-0000{number}-of-00002.safetensors": save({f"w{number}": np.ones(4)}) for number in (1, 2)}
    index = {"weight_map": {f"w{number}": name for number, name in enumerate(parts, 1)}}
    hub.files = {
        **SMALL,
        **parts,
        "consolidated.safetensors": LARGE,
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    folder = fetched(cache)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == sorted(parts)
    del hub.files["model-00002-of-00002.safetensors"]
    with pytest.raises(BadCheckpoint, match=r"names 1 files that are not there: model-00002"):
        fetched(cache)


def test_without_an_index_the_usual_file_is_fetched_and_no_second_copy(hub: Hub, cache: Path) -> None:
    hub.files["consolidated.safetensors"] = LARGE[::-1]
    assert [path.name for path in fetched(cache).glob("*.safetensors")] == ["model.safetensors"]
    assert not hub.asked("consolidated.safetensors")


def test_the_token_goes_to_the_hub_and_to_nobody_else(
    hub: Hub, store: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetched(cache)
    assert {seen.authorization for seen in hub.seen} == {"Bearer hf_secret"}
    assert hub.asked("/config.json")[-1].path.startswith("/api/resolve-cache/")  # so that following this was seen
    assert [seen.authorization for seen in store.seen] == [""]


def test_a_token_that_is_not_to_be_used_unasked_is_not_sent(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    fetched(cache)
    assert {seen.authorization for seen in hub.seen} == {""}
