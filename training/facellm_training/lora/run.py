"""``facellm train`` with a LoRA recipe: base and data → steps → adapter, curves, report. A killed run goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from facellm_training.lora import bases, images, model, state
from facellm_training.lora.conversations import locate, write_conversations
from facellm_training.lora.corpus import Corpus, read_corpus
from facellm_training.lora.loop import run
from facellm_training.lora.optimiser import optimiser
from facellm_training.lora.recipe import NANO, LoraRecipe
from facellm_training.lora.record import record
from facellm_training.lora.report import write_report
from facellm_training.lora.session import Session
from facellm_training.lora.template import Template
from facellm_training.progress import percent
from facellm_training.recipe import RecipeError

Tell = Callable[[str], None]

#: The closed questions that the run is measured by, for asking them of the finished models.
HELD_OUT = "held_out.jsonl"


def train_lora(recipe: LoraRecipe, tell: Tell = print) -> Path:
    """Run what is missing of the recipe; returns the adapter's folder, which ``facellm convert BASE --adapter`` takes.

    Below the recipe's ``out``: ``adapter``, ``state.pt``, ``metrics.jsonl``, ``tensorboard``, ``curves.png``,
    ``report.md``, ``run.json``, ``held_out.jsonl``.
    Started by ``accelerate launch`` it runs on all devices that accelerate was told of.
    Raises ``FaceLLMError`` with what happened; see ``loop.run`` for what is kept then.
    """
    session = prepare(recipe, tell)
    progress = run(session)
    adapter = _result(session, progress)
    if session.accelerator.is_main_process:
        about = record(recipe.as_json(), session.corpus.digest, session.accelerator.num_processes)
        write_report(session.out, about, progress, _counts(session), dict(session.corpus.dropped))
        write_conversations(session.out / HELD_OUT, [one for one, _ in session.corpus.closed])
    session.accelerator.end_training()
    # What a release does next needs the memory of the device.
    session.model, session.optim = session.accelerator.free_memory(session.model, session.optim)
    return adapter


def prepare(recipe: LoraRecipe, tell: Tell) -> Session:
    """Data, base, adapter and optimiser, ready for the first step. Raises ``FaceLLMError``."""
    from accelerate import Accelerator

    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the loader's processes are forked
    accelerator = Accelerator(mixed_precision="bf16" if recipe.speed.precision == "bf16" else "no")
    say = tell if accelerator.is_main_process else _silent
    _made(recipe.out)
    locate(recipe.data.path, recipe.data.name)  # before a base of gigabytes is fetched
    with accelerator.main_process_first():
        base = bases.located(recipe, percent(say), say)
    shape = bases.geometry(base)
    tokenizer = _tokenizer(base)
    template = Template(tokenizer, shape.tokens, recipe.data.max_tokens, bases.kind_of(base).marks)
    corpus = read_corpus(recipe.data, template, recipe.evaluation.items, recipe.optimiser.seed, say)
    with accelerator.main_process_first():
        tiles = _tiles(recipe, corpus, shape.side, say)
    tuned = _tuned(base, recipe, accelerator.device)
    optim = optimiser(tuned, recipe, accelerator.device)
    tuned, optim = accelerator.prepare(tuned, optim)
    dtype = torch.bfloat16 if recipe.speed.precision == "bf16" else torch.float32
    return Session(
        recipe, accelerator, tuned, optim, model.Normaliser(shape, accelerator.device, dtype), corpus, tiles,
        int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id),
        recipe.identity() | {"data": corpus.fingerprint()} | _version(recipe, base), say,
    )  # fmt: skip


def _version(recipe: LoraRecipe, base: Path) -> dict[str, str]:
    """Which embedded model: another version of this program may bring another one."""
    return {"base": base.name} if recipe.base == NANO else {}


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecipeError(
            f"The folder {folder} cannot be made: {error.strerror}.", "Choose another out in the recipe."
        ) from error


def _tuned(base: Path, recipe: LoraRecipe, device: torch.device) -> Any:
    tuned = model.with_adapter(model.load_base(base, recipe, device), recipe)
    if recipe.speed.gradient_checkpointing:
        model.checkpointed(tuned)
    if recipe.speed.compiled:
        model.compile_blocks(tuned)
    return tuned


def _tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base, **bases.kind_of(base).tokenizer)
    except (OSError, ValueError) as error:
        raise bases.BaseError(f"The base's tokenizer cannot be loaded: {error}", "Is its folder whole?") from error


def _tiles(recipe: LoraRecipe, corpus: Corpus, side: int, say: Tell) -> images.Tiles:
    closed = [image for one, _ in corpus.closed for image in one.images]
    paths = [*corpus.train.images, *corpus.held.images, *closed]
    if not recipe.data.image_cache:
        return images.Tiles(side)
    return images.cached(paths, side, recipe.out / "cache", say)


def _result(session: Session, progress: state.Progress) -> Path:
    """The best adapter, or the last: where the recipe wants it, or nothing was better than the base."""
    adapter, best = session.out / state.ADAPTER, session.out / state.BEST
    if session.recipe.evaluation.keep == "best" and progress.best > 0 and best.is_dir():
        if session.accelerator.is_main_process:
            shutil.copytree(best, adapter, dirs_exist_ok=True)
        session.accelerator.wait_for_everyone()
        return adapter
    if session.recipe.evaluation.keep == "best":
        session.tell("No evaluation was better than the untrained base: the adapter is that of the last step.")
    state.save_adapter(session.out, state.ADAPTER, session.accelerator, session.model)
    return adapter


def _counts(session: Session) -> dict[str, int]:
    trained = sum(values.numel() for values in session.model.parameters() if values.requires_grad)
    corpus = session.corpus
    return {
        "trained on": len(corpus.train.encoded), "held out": len(corpus.held.encoded),
        "closed questions held out": len(corpus.closed), "pictures trained on": len(set(corpus.train.images)),
        "trained weights": trained,
    }  # fmt: skip


def _silent(_: str) -> None:
    """Other devices than the first print nothing."""
