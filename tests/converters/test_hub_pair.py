"""A model of the hub that is converted already: which of its files are fetched, and that they become a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facellm.cli.app import app
from facellm.models.hub_id import HubId
from facellm_converters.checkpoint.hub_pair import PairKinds, PairNames, pick_pair
from facellm_converters.checkpoint.source import resolve_hub
from facellm_converters.convert import Order, convert
from facellm_converters.errors import BadCheckpoint, ConversionError

pytest.importorskip("huggingface_hub")

from huggingface_hub import constants

from tests.converters.hub_server import REPO, Hub, hub_with_a_model, quiet

Q8 = PairKinds("Q8_0", "F16")


@pytest.mark.parametrize(
    ("names", "kinds", "language", "mmproj"),
    [
        (["m-Q8_0.gguf", "m-Q4_0.gguf", "mmproj-F32.gguf", "mmproj-F16.gguf"], Q8, ["m-Q8_0.gguf"], "mmproj-F16.gguf"),
        (["m.q8_0.gguf", "m.mmproj.gguf"], Q8, ["m.q8_0.gguf"], "m.mmproj.gguf"),
        (["m-f16.gguf", "m-bf16.gguf", "mmproj.gguf"], PairKinds("F16", "F16"), ["m-f16.gguf"], "mmproj.gguf"),
        (["m-Q4_K_S.gguf", "m-Q4_K_M.gguf", "mmproj.gguf"], PairKinds("Q4_K_M", ""), ["m-Q4_K_M.gguf"], "mmproj.gguf"),
        (["m.gguf", "mmproj.gguf", "m-imatrix.gguf", "m-lora.gguf"], Q8, ["m.gguf"], "mmproj.gguf"),
        (
            ["m-Q8_0-00002-of-00002.gguf", "m-Q8_0-00001-of-00002.gguf", "mmproj-BF16.gguf", "mmproj-Q8_0.gguf"],
            PairKinds("Q8_0", "Q8_0"), ["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"], "mmproj-Q8_0.gguf",
        ),
    ],
)  # fmt: skip
def test_the_pair_of_the_kinds_that_are_wanted(
    names: list[str], kinds: PairKinds, language: list[str], mmproj: str
) -> None:
    assert pick_pair("a/b", names, kinds) == PairNames(tuple(language), mmproj)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["m-Q4_K_M.gguf", "m-IQ4_XS.gguf", "mmproj.gguf"], "no Q8_0; it has: IQ4_XS, Q4_K_M"),
        (["m-F16.gguf", "mmproj.gguf"], "no Q8_0; it has: F16"),
        (["a-Q8_0.gguf", "b-Q8_0.gguf", "mmproj.gguf"], "2 files of Q8_0"),
        (["m-Q8_0.gguf"], "none is an image part"),
        (["mmproj-Q8_0.gguf"], "none is a language model"),
        (["m-Q8_0.gguf", "mmproj-Q8_0.gguf", "mmproj-BF16.gguf"], "several image parts"),
    ],
)
def test_what_there_is_is_said_where_it_is_not_that(names: list[str], says: str) -> None:
    with pytest.raises(ConversionError, match=says) as caught:
        pick_pair("a/b", names, Q8)
    assert caught.value.hint


# ---- fetched


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub whose cache and home are the test's own."""
    monkeypatch.setenv("FACELLM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield from hub_with_a_model(tmp_path, monkeypatch)


@pytest.fixture
def with_pair(hub: Hub, made: Path, tmp_path: Path) -> Hub:
    """The hub's model is a converted one, with another quantisation beside it."""
    done = convert(Order(made / "qwen3", tmp_path / "pair"), quiet)
    hub.files = {
        "README.md": b"# Tiny\n", "tiny-Q8_0.gguf": done.language.read_bytes(), "tiny-Q4_K_M.gguf": b"not asked for",
        "mmproj-tiny-F16.gguf": done.mmproj.read_bytes(),
    }  # fmt: skip
    return hub


def imported(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["models", "import", *words])
    return done.exit_code, done.stdout, done.stderr


def models(tmp_path: Path) -> list[str]:
    folder = tmp_path / "home" / "models"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_pair_of_the_hub_becomes_a_model(with_pair: Hub, tmp_path: Path) -> None:
    code, out, err = imported(f"{REPO}@main", "--json")
    assert code == 0, err
    row = json.loads(out)
    assert (row["name"], Path(row["llm"]).name) == ("tiny", "tiny-Q8_0.gguf")
    assert models(tmp_path) == ["tiny"]
    assert not Path(row["llm"]).is_symlink()
    assert not with_pair.asked("tiny-Q4_K_M.gguf")
    assert "etching" in err
    # Once more without the network: what was fetched is found again.
    asked = len(with_pair.seen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACELLM_OFFLINE", "1")
        assert imported(REPO, "--name", "again")[0] == 0
    assert len(with_pair.seen) == asked
    assert models(tmp_path) == ["again", "tiny"]


def test_a_kind_that_the_hub_has_not(with_pair: Hub, tmp_path: Path) -> None:
    code, _, err = imported(REPO, "--quant", "F16")
    assert code == 1
    assert "no F16; it has: Q4_K_M, Q8_0" in err
    assert models(tmp_path) == []


def test_an_adapter_does_not_go_into_a_pair(with_pair: Hub, tmp_path: Path) -> None:
    code, _, err = imported(REPO, "--adapter", str(tmp_path))
    assert code == 1
    assert "converted already" in err
    assert models(tmp_path) == []


def test_bytes_that_are_not_the_hubs_are_refused(with_pair: Hub, tmp_path: Path) -> None:
    with_pair.sent["tiny-Q8_0.gguf"] = bytes(len(with_pair.files["tiny-Q8_0.gguf"]))
    code, _, err = imported(REPO)
    assert code == 1
    assert "another hash" in err
    assert models(tmp_path) == []


def test_a_checkpoint_of_the_hub_is_converted(hub: Hub, made: Path, tmp_path: Path) -> None:
    hub.files = {file.name: file.read_bytes() for file in (made / "qwen3").iterdir()}
    code, out, err = imported(REPO, "--quant", "F16", "--json")
    assert code == 0, err
    assert json.loads(out)["title"] == "tiny"
    assert models(tmp_path) == ["tiny"]


def test_without_the_network_it_is_said_as_by_convert(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACELLM_OFFLINE", "1")
    code, _, err = imported(REPO)
    assert code == 1
    assert "was not fetched before" in err
    assert "FACELLM_OFFLINE" in err
    assert (hub.seen, models(tmp_path)) == ([], [])


def test_safetensors_are_preferred_and_convert_still_refuses_a_pair(with_pair: Hub) -> None:
    code = CliRunner().invoke(app, ["convert", REPO])
    assert code.exit_code == 1
    assert "models import" in code.stderr
    with_pair.files["model.safetensors"] = b"{}"
    with_pair.files["config.json"] = b"{}"
    folder, pair = resolve_hub(HubId(REPO), Q8, quiet)
    assert pair is None
    assert (folder / "model.safetensors").is_file()
    del with_pair.files["model.safetensors"], with_pair.files["tiny-Q8_0.gguf"], with_pair.files["tiny-Q4_K_M.gguf"]
    del with_pair.files["mmproj-tiny-F16.gguf"]
    with pytest.raises(BadCheckpoint, match="no safetensors"):
        resolve_hub(HubId(REPO), Q8, quiet)
