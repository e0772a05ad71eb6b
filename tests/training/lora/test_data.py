"""Conversations of every layout are read; faulty ones are named, not trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facellm_training.lora.conversations import DataError, read_conversations
from facellm_training.lora.corpus import read_corpus
from facellm_training.lora.images import Tiles, cached, read_tile
from facellm_training.lora.recipe import Data
from facellm_training.lora.template import SILENT, Template
from tests.training.lora import tiny

PLAIN = [("user", "<image>What?"), ("assistant", "A face.")]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        tiny.picture(tmp_path / "images" / f"{name}.png", "red", 0)
    return tmp_path


@pytest.fixture
def template(made) -> Template:
    from transformers import AutoTokenizer

    return Template(AutoTokenizer.from_pretrained(made / "qwen2"), 16, 120)


def put(folder: Path, *rows: dict[str, Any], name: str = "conversations.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_our_layout_is_read_from_lines_and_from_a_list(folder) -> None:
    row = tiny.row("one", "images/a.png", PLAIN, "choice", ["yes", "no"], "yes")
    from_lines = read_conversations(put(folder, row)).conversations
    (folder / "list.json").write_text(json.dumps([row]))
    assert read_conversations(folder / "list.json").conversations == from_lines
    assert from_lines[0].images == (folder / "images/a.png",)
    assert (from_lines[0].choices, from_lines[0].answer) == (("yes", "no"), "yes")


@pytest.mark.parametrize(
    ("about", "row"),
    [
        (
            {"formatting": "sharegpt", "columns": {"messages": "conversations", "images": "images"}},
            {
                "conversations": [{"from": "human", "value": PLAIN[0][1]}, {"from": "gpt", "value": PLAIN[1][1]}],
                "images": ["images/a.png"],
            },
        ),
        (
            {
                "formatting": "sharegpt",
                "columns": {"messages": "messages", "images": "pictures"},
                "tags": {
                    "role_tag": "role",
                    "content_tag": "content",
                    "user_tag": "user",
                    "assistant_tag": "assistant",
                },
            },
            {
                "messages": [{"role": role, "content": text} for role, text in PLAIN],
                "pictures": ["images/a.png"],
            },
        ),
        (
            {"columns": {"prompt": "q", "response": "a", "images": "images"}},
            {"q": PLAIN[0][1], "a": PLAIN[1][1], "images": ["images/a.png"]},
        ),
    ],
)
def test_llama_factorys_descriptions_are_read(folder, about, row) -> None:
    (folder / "dataset_info.json").write_text(json.dumps({"faces": about | {"file_name": "faces.json"}}))
    (folder / "faces.json").write_text(json.dumps([row]))
    (found,) = read_conversations(folder, "faces").conversations
    assert found.messages == tuple(PLAIN)
    assert found.images == (folder / "images/a.png",)


def test_the_published_description_that_drops_all_pictures_is_refused(folder) -> None:
    about = {"file_name": "faces.json", "columns": {"prompt": "instruction", "response": "output", "image": "image"}}
    (folder / "dataset_info.json").write_text(json.dumps({"faces": about}))
    (folder / "faces.json").write_text("[]")
    with pytest.raises(DataError, match="left out of training") as caught:
        read_conversations(folder)
    assert '"images"' in caught.value.hint
    row = {"instruction": "<image>What?", "output": "A face.", "image": "images/a.png"}
    found = read_conversations(put(folder, row, name="plain.jsonl") / "plain.jsonl")
    assert 'the key is "images"' in found.faulty[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": ["images/none.png"]}, "images/none.png is missing"),
        ({"images": []}, "has no picture"),
        ({"images": ["images/a.png", "images/b.png"]}, "2 pictures and 1 times <image>"),
        ({"messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A"}]}, "no <image>"),
        ({"messages": [{"role": "user", "content": "<image>"}]}, "user, assistant"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "by none of"),
        ({"messages": []}, "no messages"),
        (
            {"messages": [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": " "}]},
            "empty answer",
        ),
        (
            {"messages": [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": "<|im_end|>"}]},
            "control token",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "<image>" + "why " * 200},
                    {"role": "assistant", "content": "x"},
                ]
            },
            "data.max_tokens allows 120",
        ),
    ],
)
def test_faulty_conversations_stop_or_are_counted(folder, template, change, said) -> None:
    good, bad = tiny.row("good", "images/a.png", PLAIN, "open"), tiny.row("bad", "images/a.png", PLAIN, "open")
    put(folder, good, bad | change)
    with pytest.raises(DataError, match="1 of 2") as caught:
        read_corpus(Data(folder, held_out=0), template, 10, 0, print)
    assert said in str(caught.value) and "bad" in str(caught.value)
    corpus = read_corpus(Data(folder, held_out=0, faulty="skip"), template, 10, 0, print)
    assert len(corpus.train.encoded) == 1
    assert sum(corpus.dropped.values()) == 1


def test_an_unreadable_picture_is_an_error_or_counted(folder, template, tmp_path) -> None:
    (folder / "images/b.png").write_bytes((folder / "images/b.png").read_bytes()[:200])
    put(folder, *(tiny.row(name, f"images/{name}.png", PLAIN, "open") for name in ("a", "b")))
    with pytest.raises(DataError, match=r"b\.png cannot be read"):
        cached([folder / "images/b.png"], 28, tmp_path / "cache", print)
    assert not list((tmp_path / "cache").glob("*.npy"))
    corpus = read_corpus(Data(folder, held_out=0, faulty="skip"), template, 10, 0, print)
    assert len(corpus.train.encoded) == 1


@pytest.mark.parametrize("text", ["{", '{"a": 1}\n{'])
def test_broken_json_is_named(folder, text) -> None:
    (folder / "conversations.jsonl").write_text(text)
    with pytest.raises(DataError, match="not valid JSON"):
        read_conversations(folder)


def test_nothing_there_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match="no conversations at"):
        read_conversations(tmp_path / "none")
    with pytest.raises(DataError, match="neither"):
        read_conversations(tmp_path)
    (tmp_path / "conversations.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no conversations"):
        read_conversations(tmp_path)


def test_every_answer_of_several_turns_carries_loss(folder, template) -> None:
    said = [("user", "<image>\nWho?"), ("assistant", "A boy."), ("user", "Where?"), ("assistant", "On the left.")]
    (found,) = read_conversations(put(folder, tiny.row("x", "images/a.png", said, "open"))).conversations
    encoded = template.encode(found)
    loud = template.tokenizer.decode(encoded.labels[encoded.labels != SILENT])
    assert loud == "A boy.<|im_end|>On the left.<|im_end|>"
    whole = template.tokenizer.decode(encoded.ids)
    assert whole.replace("<IMG_CONTEXT>" * 16, "*") == (
        "<|im_start|>user\n<img>*</img>\nWho?<|im_end|>\n<|im_start|>assistant\nA boy.<|im_end|>\n"
        "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\nOn the left.<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("choices", "answer", "content", "keys"),
    [
        (["a boy", "a girl"], "B", "B", ("A", "B")),
        (["yes", "no"], "no", "No, none.", ("Yes", "No")),
        (["yes", "no"], "yes", "yes", ("yes", "no")),
    ],
)
def test_closed_questions_end_before_their_answer(folder, template, choices, answer, content, keys) -> None:
    row = tiny.row("x", "images/a.png", [("user", "<image>Is it?"), ("assistant", content)], "c", choices, answer)
    (found,) = read_conversations(put(folder, row)).conversations
    closed = template.closed(found)
    assert all(key.startswith(template.tokenizer.decode([one])) for one, key in zip(closed.keys, keys, strict=True))
    assert keys[closed.right].lower() == answer.lower()
    assert template.tokenizer.decode(closed.ids).endswith("<|im_start|>assistant\n")


def test_held_out_pictures_are_in_no_conversation_that_is_trained_on(made, template) -> None:
    corpus = read_corpus(Data(made / "data", held_out=4, max_tokens=120), template, 100, 7, print)
    held, trained = set(corpus.held.images), set(corpus.train.images)
    assert len(held) == 4 and len(trained) == 8 and not held & trained
    assert len(corpus.closed) == 4
    with pytest.raises(DataError, match="left to train on"):
        read_corpus(Data(made / "data", held_out=50), template, 100, 7, print)


def test_tiles_come_the_same_from_the_cache(made, tmp_path) -> None:
    paths = sorted((made / "data" / "images").iterdir())
    tiles, plain = cached(paths, 112, tmp_path, print), Tiles(112)
    assert all((tiles(path) == plain(path)).all() for path in paths)
    assert tiles(paths[0]).shape == (112, 112, 3)
    (file,) = tmp_path.glob("*.npy")
    before = file.stat().st_mtime_ns
    cached(paths, 112, tmp_path, print)
    assert file.stat().st_mtime_ns == before


def test_an_upright_picture_is_made_of_a_turned_one(tmp_path) -> None:
    from PIL import Image

    picture = Image.new("RGB", (40, 20), "white")
    picture.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right: left becomes top
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    tile = read_tile(tmp_path / "turned.jpg", 28)
    assert tile[:10].mean() < 20 and tile[-10:].mean() > 235
