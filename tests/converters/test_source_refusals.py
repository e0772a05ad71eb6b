"""What is no checkpoint, what a hub refuses, and what it or the network does wrong."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from facellm_converters.errors import BadCheckpoint, ConversionError

pytest.importorskip("huggingface_hub")

from tests.converters.hub_server import COMMIT, LARGE, REPO, SMALL, Hub, fetched, hub_with_a_model, left_over, sha256


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    yield from hub_with_a_model(tmp_path, monkeypatch)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "name", ["./owner/name", "../name", "/owner/name", "~/name", "name", "a/b/c", "a\\b", "C:\\a", "a/", "", "a b/c"]
)
def test_what_looks_like_a_folder_is_never_taken_for_a_model_of_the_hub(name: str, hub: Hub, cache: Path) -> None:
    with pytest.raises(ConversionError, match="There is no folder"):
        fetched(cache, name)
    assert hub.seen == []


def test_a_file_is_no_checkpoint(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(ConversionError, match="is a file"):
        fetched(cache, str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_other_bytes_than_the_hub_lists_are_refused_and_thrown_away(hub: Hub, cache: Path, name: str) -> None:
    right = hub.files[name]
    hub.sent[name] = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(BadCheckpoint, match=f"{name} of faces/tiny has another hash"):
        fetched(cache)
    assert left_over(cache) == []
    assert not list(cache.rglob(f"snapshots/*/{name}"))
    del hub.sent[name]
    assert (fetched(cache) / name).read_bytes() == right


def test_a_begun_file_that_is_not_the_hubs_is_found_out(hub: Hub, cache: Path) -> None:
    part = cache / "models--faces--tiny" / "blobs" / f"{sha256(LARGE)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    with pytest.raises(BadCheckpoint, match="another hash"):
        fetched(cache)
    assert (fetched(cache) / "model.safetensors").read_bytes() == LARGE


@pytest.mark.parametrize(("other", "says"), [("pytorch_model.bin", "pickle"), ("x-Q4_K_M.gguf", "converted already")])
def test_a_model_without_safetensors_is_told_before_anything_is_fetched(
    hub: Hub, cache: Path, other: str, says: str
) -> None:
    hub.files = {**SMALL, other: b"x"}
    with pytest.raises(BadCheckpoint, match=f"holds no safetensors weights, but {other}") as caught:
        fetched(cache)
    assert says in caught.value.hint
    assert len(hub.seen) == 1
    assert not cache.exists()


@pytest.mark.parametrize(
    ("where", "status", "code", "says", "hint"),
    [
        ("/revision/main", 401, "RepoNotFound", "neither a folder faces/tiny nor a model", "private"),
        ("/revision/main", 401, "", r"does not let you read faces/tiny \(401\)", "Check the name"),
        ("/revision/main", 404, "", "neither a folder faces/tiny nor a model", "Check the name"),
        ("/revision/main", 404, "RevisionNotFound", "has no revision main", "/faces/tiny/commits"),
        ("/revision/main", 503, "", "answered 503", "later"),
        ("/model.safetensors", 403, "GatedRepo", "accepted its licence", "/faces/tiny, then log in"),
        ("/model.safetensors", 403, "", r"does not let you read faces/tiny \(403\)", "HF_TOKEN"),
        ("/model.safetensors", 404, "", "neither a folder faces/tiny nor a model", "private"),
        ("/model.safetensors", 410, "", r"faces/tiny cannot be fetched from http.*410", "what has arrived is kept"),
        ("/model.safetensors", 401, "", r"does not let you read faces/tiny \(401\)", "HF_TOKEN"),
    ],
)
def test_what_the_hub_refuses_is_told_with_what_to_do(
    hub: Hub, cache: Path, where: str, status: int, code: str, says: str, hint: str
) -> None:
    hub.faults.answers[where] = (status, code)
    with pytest.raises(ConversionError, match=says) as caught:
        fetched(cache)
    assert hint in caught.value.hint
    assert left_over(cache) in ([], [f"{sha256(LARGE)}.incomplete"])


def test_a_log_in_page_is_not_taken_for_the_hub(hub: Hub, cache: Path) -> None:
    hub.faults.page = b"<html>Welcome to the hotel</html>"
    with pytest.raises(ConversionError, match="does not answer as the hub does"):
        fetched(cache)


def test_without_a_network_is_told_what_can_be_done(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(
            ConversionError, match=r"faces/tiny cannot be fetched, the connection to http://127"
        ) as caught:
            fetched(cache)
        assert "*.safetensors, *.json, *.jinja and tokenizer files" in caught.value.hint
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        folder = fetched(cache)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConversionError) as caught:
            fetched(cache)
        assert "HF_HUB_OFFLINE=1" in caught.value.hint
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert fetched(cache) == folder


def test_offline_nothing_is_asked_and_a_part_is_not_taken_for_the_whole(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConversionError, match="was not fetched before") as caught:
        fetched(cache)
    assert caught.value.hint.startswith("Unset HF_HUB_OFFLINE")
    assert hub.seen == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = fetched(cache, f"{REPO}@v1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.seen.clear()
    assert fetched(cache, revision="v1") == fetched(cache, revision=COMMIT) == folder
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"only a part was fetched before; missing: \*.safetensors"):
        fetched(cache, revision="v1")
    assert hub.seen == []


def test_a_disk_that_is_too_small_is_found_before_the_weights_are_asked_for(hub: Hub, cache: Path) -> None:
    hub.sizes["model.safetensors"] = 10**18
    with pytest.raises(ConversionError, match=r"1,000,000,000.0 GB of faces/tiny are to be fetched; .* are free in"):
        fetched(cache)
    assert hub.asked(".safetensors") == []


def test_a_cache_that_is_a_file_is_a_sentence(hub: Hub, cache: Path) -> None:
    cache.write_text("")
    with pytest.raises(ConversionError, match="cannot be written"):
        fetched(cache)


def test_a_list_that_reaches_outside_its_folder_is_not_followed(hub: Hub, cache: Path, tmp_path: Path) -> None:
    hub.files = {**SMALL, "tower.safetensors": save({"w": np.ones(4)}), "..\\evil.json": b"{}"}
    hub.files |= {"../../evil.json": b"{}", "../../evil.safetensors": b"", "more/evil.safetensors": b""}
    assert (fetched(cache) / "tower.safetensors").is_file()
    assert not [seen for seen in hub.seen if "evil" in seen.path]
    assert not list(tmp_path.rglob("*evil*"))


def test_without_the_library_is_told_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ConversionError, match="needs the package huggingface_hub") as caught:
        fetched(cache)
    assert "pip install huggingface_hub" in caught.value.hint


@pytest.mark.parametrize("name", ["../model.safetensors", "model.bin", ""])
def test_an_index_that_names_other_things_than_safetensors_beside_it_is_refused(
    hub: Hub, cache: Path, name: str
) -> None:
    hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": {"w": name}}).encode()
    with pytest.raises(BadCheckpoint, match=re.escape(f"outside its folder: {name!r}")):
        fetched(cache)
    assert hub.asked(".safetensors") == []
