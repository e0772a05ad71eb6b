"""The nano as a checkpoint folder, as ``facellm convert`` and transformers' parts read it: carriers and deltas joined.

Weights are float32, the type in which the merged ones are rounded once: the shipped pair is made of the same numbers,
so that the folder converts to the very bytes. In float16 or bfloat16 they would be rounded twice, and the carriers'
8-bit tables (a float16 scale times an int8) do not fit into 11 bits.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file

from facellm.core.errors import FaceLLMError
from facellm.models.filelock import locked
from facellm.models.nano import clip_onnx, smollm2
from facellm.models.nano.deltas import Deltas, read_deltas
from facellm.models.nano.gguf_files import CHAT_TEMPLATE
from facellm.models.nano.merged import merged_language, merged_tower, rotary_heads
from facellm.models.nano.pair import DELTAS, LANGUAGE_ASSET, NAME, TOWER_ASSET, pair_id
from facellm.models.nano.tensor_parts import content_sha256
from facellm.models.store import HOME_ENV, AssetStore
from facellm_training.nano.checkpoint_files import config_json, preprocessor_json, readme
from facellm_training.nano.checkpoint_tokenizer import tokenizer_files

#: Bytes of all files, and some room.
SPACE = 900 << 20
_WORK = ".checkpoint-"

_MODULE = {short: name for name, short in smollm2.GGUF_NAME.items()} | {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_TOP = {"token_embd.weight": "embed_tokens.weight", "output_norm.weight": "norm.weight"}


class CheckpointNotWritten(FaceLLMError):
    """A folder that holds a checkpoint already, or cannot be written to."""


def write_checkpoint(folder: Path, store: AssetStore, deltas: Path = DELTAS, *, force: bool = False) -> Path:
    """Write config.json, model.safetensors (861 MB), the tokenizer's files and a README into ``folder``; the same bytes
    every time. Fetches carriers that are not there. ``force``: replace a checkpoint that is there. Returns ``folder``.

    Raises ``CheckpointNotWritten``, ``ModelPartError`` for damaged parts, and the store's errors.
    """
    if (folder / "config.json").exists() and not force:
        raise CheckpointNotWritten(f"{folder} holds a checkpoint already.", "Give another folder, or delete this one.")
    trained = read_deltas(deltas)
    part = smollm2.LanguagePart(store.ensure(LANGUAGE_ASSET))
    tower = clip_onnx.read_clip_tower(store.ensure(TOWER_ASSET))
    weights = dict(_language(part, trained)) | dict(_image(tower, trained))
    fields = {key: value for key, value, _, _ in part.fields()}
    files: dict[str, Any] = {
        "config.json": config_json(fields, trained),
        "preprocessor_config.json": preprocessor_json(),
        **tokenizer_files(fields),
    }
    texts = {name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in files.items()}
    texts |= {"chat_template.jinja": CHAT_TEMPLATE, "README.md": readme(trained)}
    try:
        _publish(folder, weights, texts)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):  # what was made for it, or is empty anyway
            folder.rmdir()
        raise CheckpointNotWritten(
            f"The checkpoint cannot be written to {folder}: {error}.",
            f"Free {SPACE >> 20} MB, or give a folder that may be written to.",
        ) from error
    return folder


def kept_checkpoint(store: AssetStore, tell: Callable[[str], None]) -> Path:
    """The folder of the shipped model's checkpoint below the store's; made at the first call, then taken as it is.

    Its name holds the pair's id, so that a program with other weights makes its own. Raises as ``write_checkpoint``.
    """
    folder = store.root / "checkpoints" / f"{NAME}-{pair_id(store, content_sha256(DELTAS))}"
    try:
        with locked(folder.with_name(f".{folder.name}.lock")):
            if not (folder / "config.json").is_file():
                for left in folder.glob(f"{_WORK}*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                tell(f"Writing the embedded model as a checkpoint to {folder} (861 MB, once)")
                write_checkpoint(folder, store)
    except OSError as error:
        raise CheckpointNotWritten(
            f"{folder.parent} cannot be written to: {error.strerror or error}.",
            f"Mend its permissions, or set {HOME_ENV} to another folder.",
        ) from error
    return folder


def _publish(folder: Path, weights: dict[str, NDArray[np.float32]], texts: dict[str, str]) -> None:
    """Filled in a folder of its own; config.json, without which it is no checkpoint, goes first and comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=_WORK, dir=folder))
    try:
        if shutil.disk_usage(folder).free < SPACE:
            raise OSError(f"less than {SPACE >> 20} MB are free")
        save_file(weights, work / "model.safetensors", metadata={"format": "pt"})
        for name, text in texts.items():
            (work / name).write_text(text, encoding="utf-8", newline="\n")
        (folder / "config.json").unlink(missing_ok=True)
        for name in sorted((file.name for file in work.iterdir()), key=lambda name: name == "config.json"):
            (work / name).replace(folder / name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _language(part: smollm2.LanguagePart, deltas: Deltas) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, weight in merged_language(part, deltas):
        heads = rotary_heads(name)
        yield _language_name(name), smollm2.halved_rows(weight, heads) if heads else weight


def _language_name(name: str) -> str:
    """``blk.3.attn_q.weight`` → ``model.language_model.layers.3.self_attn.q_proj.weight``."""
    start = "model.language_model."
    if name in _TOP:
        return start + _TOP[name]
    _, layer, short, end = name.split(".")
    return f"{start}layers.{layer}.{_MODULE[short]}.{end}"


def _image(tower: clip_onnx.Weights, deltas: Deltas) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The blocks that are used, and the projector."""
    for name, weight in merged_tower(tower, deltas).items():
        kind, *rest = name.split(".")
        used = int(rest[1]) < clip_onnx.BLOCKS if kind == "encoder" else kind in ("embeddings", "pre_layrnorm")
        if used and not name.endswith("position_ids"):
            yield f"model.vision_tower.{name}", np.ascontiguousarray(weight, np.float32)
    for name, weight in deltas.projector.items():
        yield f"model.multi_modal_{name}", weight
