"""LoRA training on this machine, with and without each optimisation. The last line is JSON.

    python3 run.py setup training && python3 run.py python benchmarks/train.py [--small] [--out FILE]

Samples and tokens a second, memory and utilisation of a model of InternVL3-1B's shape with random weights, on
conversations of FairFaceGPT's lengths about random pictures of FairFace's size. Each way runs in a process of its own,
one after the other, and takes whole steps of the paper's batch of 80. The last way is a plain transformers Trainer with
the paper's settings: padded batches, gradient checkpointing, pictures decoded and the whole head computed every time.
Seconds are medians over the steps after the first ones.

Utilisation: the arithmetic that the method needs (``lora/flops.py``; padding and repeated work count nothing) by the
device's peak; none for a device whose peak is not in the table. ``--small``: a tiny shape, on a processor in a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), *(str(ROOT / part) for part in ("desktop", "converters", "training"))]

if TYPE_CHECKING:
    import torch

    from facellm_training.lora.corpus import Part
    from facellm_training.lora.recipe import LoraRecipe
    from facellm_training.lora.session import Session

#: Name → what differs from the first way: settings of ``speed``; "images": the cache of pictures.
WAYS: dict[str, dict[str, Any]] = {
    "all": {},
    "not compiled": {"compiled": False},
    "PyTorch's attention": {"attention": "sdpa"},
    "flex attention, one row": {"attention": "flex_attention", "row_tokens": 8192, "rows": 1},
    "twice the tokens a pass": {"rows": 8},
    "padded": {"packing": False, "compiled": False},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "pictures decoded each time": {"images": False},
    "image tower LoRA too": {"tower": True, "gradient_checkpointing": True},
}
PLAIN = "plain Trainer"
#: Steps that compile and warm up.
FIRST = 3
VISION_1B = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
TEXT_1B = {
    "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
    "intermediate_size": 4864, "vocab_size": 151674,
}  # fmt: skip
VISION_TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TEXT_TINY = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 2000,
}  # fmt: skip
CONTEXT = 1500


def main() -> int:
    """Run each way in a child and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny shape")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--micro-batch", type=int, default=8, help="conversations a pass where nothing is packed")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, help="default: on CUDA only")
    parser.add_argument("--ways", nargs="*", choices=[*WAYS, PLAIN], default=[*WAYS, PLAIN])
    parser.add_argument("--out", type=Path, help="the last line also here")
    parser.add_argument("--way", choices=[*WAYS, PLAIN], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return 0
    found: dict[str, Any] = {}
    for way in options.ways:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            found[way] = {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
        else:
            found[way] = json.loads(done.stdout.splitlines()[-1])
        print(f"{way}: {found[way]}", file=sys.stderr)
    line = json.dumps(summary(found, options))
    print(line)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    return 0


def summary(found: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Where it ran, all ways, and the speed of each as a multiple of the plain Trainer's."""
    import torch

    from facellm_training.lora.flops import peak
    from facellm_training.lora.record import record

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    about = record({}, "", 1)
    known = peak(name)
    plain = found.get(PLAIN, {}).get("samples_per_s")
    return {
        "device": name, "peak_flops": known[0] if known else None, "peak_source": known[1] if known else None,
        "shape": "tiny" if options.small else "InternVL3-1B", "versions": about["versions"], "commit": about["commit"],
        "ways": found,
        "times_plain_trainer": {
            way: round(one["samples_per_s"] / plain, 2) for way, one in found.items() if plain and "failed" not in one
        },
    }  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One way, in this process."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        session = prepared(options, Path(folder))
        if options.way == PLAIN:
            seconds = trainer_steps(session, options)
        else:
            from facellm_training.lora import loop, state

            loop.run(session)
            seconds = [row["seconds"] for row in state.rows(session.out)]
        return row(session, seconds, torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None)


def row(session: Session, seconds: list[float], memory: int | None) -> dict[str, Any]:
    """The numbers of a way. ``seconds`` of each step."""
    import torch

    from facellm_training.lora.flops import peak, work

    took = median(seconds[FIRST:])
    encoded = session.corpus.train.encoded
    batch = session.recipe.optimiser.batch
    share = batch / len(encoded)
    tokens = sum(len(one) for one in encoded) * share
    needed = share * work(session.accelerator.unwrap_model(session.model)).of(
        [len(one) for one in encoded], sum(one.supervised for one in encoded), sum(one.pictures for one in encoded)
    )
    known = peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return {
        "samples_per_s": round(batch / took, 2), "tokens_per_s": round(tokens / took),
        "seconds_a_step": round(took, 4), "memory_gib": round(memory / 2**30, 2) if memory else None,
        "tflops": round(needed / took / 1e12, 4), "utilisation": round(needed / took / known[0], 4) if known else None,
    }  # fmt: skip


def recipe_of(options: argparse.Namespace, folder: Path) -> LoraRecipe:
    """The way's settings."""
    import torch

    from facellm_training.lora.recipe import Data, Evaluation, LoraRecipe, Optimiser, Part, Speed

    cuda = torch.cuda.is_available()
    compiled = cuda if options.compiled is None else options.compiled
    speed: dict[str, Any] = {
        "precision": "bf16" if cuda else "fp32", "compiled": compiled, "gradient_checkpointing": False,
        "micro_batch": options.micro_batch, "row_tokens": 256 if options.small else 2048, "rows": 4,
    }  # fmt: skip
    if options.way == PLAIN:
        speed |= {"gradient_checkpointing": True, "compiled": False, "attention": "sdpa"}
    change = dict(WAYS.get(options.way, {}))
    images, tower = change.pop("images", options.way != PLAIN), change.pop("tower", False)
    if options.small and "row_tokens" in change:
        change["row_tokens"] = 1024
    change["compiled"] = compiled and change.get("compiled", speed["compiled"])
    data = Data(folder, image_cache=images, workers=min(8, os.cpu_count() or 1) if cuda else 0)
    return LoraRecipe(
        "random", folder / "out", data, language=Part(16, 32.0, 1e-5),
        image_tower=Part(16, 32.0, 1e-5) if tower else Part(),
        optimiser=Optimiser(batch=8 if options.small else 80, epochs=float(FIRST + options.steps)),
        speed=Speed(**(speed | change)), evaluation=Evaluation(every=0), save_every=10**9,
    )  # fmt: skip


def prepared(options: argparse.Namespace, folder: Path) -> Session:
    """As ``lora.run.prepare``, with random weights and pictures in place of files."""
    import torch
    from accelerate import Accelerator

    from facellm_training.lora import bases, model
    from facellm_training.lora.corpus import Corpus
    from facellm_training.lora.corpus import Part as Conversations
    from facellm_training.lora.images import Tiles, cached
    from facellm_training.lora.optimiser import optimiser
    from facellm_training.lora.session import Session

    recipe = recipe_of(options, folder)
    recipe.out.mkdir(parents=True)
    accelerator = Accelerator(mixed_precision="bf16" if recipe.speed.precision == "bf16" else "no")
    dtype = torch.bfloat16 if recipe.speed.precision == "bf16" else torch.float32
    base = random_model(options, recipe, accelerator.device).to(dtype)
    tuned = model.with_adapter(base, recipe)
    if recipe.speed.gradient_checkpointing:
        model.checkpointed(tuned)
    if recipe.speed.compiled:
        model.compile_blocks(tuned)
    optim = optimiser(tuned, recipe, accelerator.device)
    tuned, optim = accelerator.prepare(tuned, optim)
    side = 112 if options.small else 448
    shape = bases.Geometry(side, (side // 28) ** 2, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    train = conversations(recipe, folder, shape.tokens, base.config.text_config.vocab_size)
    tiles = cached(train.images, side, folder / "cache", _quiet) if recipe.data.image_cache else Tiles(side)
    corpus = Corpus(train, Conversations(), [], {}, "")  # type: ignore[arg-type]
    normalise = model.Normaliser(shape, accelerator.device, dtype)
    return Session(recipe, accelerator, tuned, optim, normalise, corpus, tiles, 0, {}, _quiet)


def _quiet(_: str) -> None:
    """Nothing is told."""


def random_model(options: argparse.Namespace, recipe: LoraRecipe, device: torch.device) -> Any:
    """InternVL3 with the first random weights that transformers gives it."""
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

    from facellm_training.lora.model import attention

    side = 112 if options.small else 448
    vision = InternVLVisionConfig(
        image_size=[side, side], patch_size=[14, 14], attention_bias=True, norm_type="layer_norm", use_qk_norm=False,
        **(VISION_TINY if options.small else VISION_1B),
    )  # fmt: skip
    text = Qwen2Config(
        max_position_embeddings=32768, rope_theta=1e6, tie_word_embeddings=True,
        **(TEXT_TINY if options.small else TEXT_1B),
    )  # fmt: skip
    config = InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=CONTEXT, image_seq_length=(side // 28) ** 2,
        downsample_ratio=0.5, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    with device:
        found = InternVLForConditionalGeneration._from_config(  # noqa: SLF001 - what Auto classes call, too
            config, attn_implementation=attention(recipe.speed.attention, device)
        )
    found.requires_grad_(False)
    found.config.use_cache = False
    return found


def conversations(recipe: LoraRecipe, folder: Path, image_tokens: int, vocabulary: int) -> Part:
    """A step's batch of them: a question of 18 to 32 tokens; answers as GPT-4o's descriptions are, 40 to 220."""
    import numpy as np
    from PIL import Image

    from facellm_training.lora.conversations import Conversation
    from facellm_training.lora.corpus import Part
    from facellm_training.lora.template import SILENT, Encoded

    draw = np.random.default_rng(0)
    part = Part()
    for number in range(recipe.optimiser.batch):
        path = folder / f"{number // 8}.jpg"
        if not path.exists():
            coarse = draw.integers(0, 255, (28, 28, 3)).astype(np.uint8)
            Image.fromarray(coarse).resize((224, 224)).save(path, quality=90)
        asked, answered = (int(draw.integers(*span)) for span in ((18, 32), (40, 220)))
        if vocabulary < 10_000:
            answered //= 4
        words = draw.integers(0, CONTEXT, asked + answered)
        ids = np.concatenate([words[:8], np.full(image_tokens, CONTEXT), words[8:]]).astype(np.int32)
        labels = np.where(np.arange(len(ids)) < len(ids) - answered, SILENT, ids).astype(np.int32)
        part.conversations.append(Conversation(str(number), (path,), ()))
        part.encoded.append(Encoded(ids, labels, 1))
    return part


def trainer_steps(session: Session, options: argparse.Namespace) -> list[float]:
    """Seconds of each step of a plain Trainer on the same model and conversations."""
    import torch
    import transformers

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.ends.append(time.monotonic())

    recipe, clock = session.recipe, Clock()
    settings = transformers.TrainingArguments(
        output_dir=str(session.out), per_device_train_batch_size=options.micro_batch,
        gradient_accumulation_steps=recipe.optimiser.batch // options.micro_batch, max_steps=FIRST + options.steps + 1,
        learning_rate=1e-5, lr_scheduler_type="cosine", bf16=recipe.speed.precision == "bf16",
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}, report_to=[],
        save_strategy="no", logging_strategy="no", remove_unused_columns=False, disable_tqdm=True,
        dataloader_num_workers=recipe.data.workers,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=session.accelerator.unwrap_model(session.model), args=settings, callbacks=[clock],
        train_dataset=list(range(len(session.corpus.train.encoded))), data_collator=Padding(session),
    )  # fmt: skip
    trainer.train()
    return [end - begun for begun, end in zip(clock.ends, clock.ends[1:], strict=False)]


class Padding:
    """What a plain collator does: decode, normalise on the processor, pad; labels for the whole row."""

    def __init__(self, session: Session) -> None:
        self._part, self._tiles = session.corpus.train, session.tiles

    def __call__(self, chosen: list[int]) -> dict[str, torch.Tensor]:
        import numpy as np
        import torch

        encoded = [self._part.encoded[one] for one in chosen]
        length = max(len(one) for one in encoded)
        ids, labels = np.zeros((len(chosen), length), np.int64), np.full((len(chosen), length), -100)
        mask = np.zeros((len(chosen), length), np.int64)
        for place, one in enumerate(encoded):
            ids[place, : len(one)], labels[place, : len(one)], mask[place, : len(one)] = one.ids, one.labels, 1
        pixels = np.stack([self._tiles(self._part.conversations[one].images[0]) for one in chosen])
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return {
            "input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels),
            "attention_mask": torch.from_numpy(mask),
            "pixel_values": (values - mean[:, None, None]) / std[:, None, None],
        }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
