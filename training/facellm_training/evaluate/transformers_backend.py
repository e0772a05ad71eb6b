"""A checkpoint of InternVL in the ``-hf`` layout, on transformers: CUDA where there is one, else the CPU."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from facellm.core.faces import RgbImage
from facellm_training.evaluate.backends import CONCLUDE, file_sha256, log_softmax, one_tile, tile_rule
from facellm_training.evaluate.items import EvaluationError, Item, ItemRefused
from facellm_training.evaluate.journal import Reply
from facellm_training.lora.faults import is_lost_device


class TransformersBackend:
    """Pictures are normalised and placed here rather than by the checkpoint's processor: that one would cut tiles."""

    together = False

    def __init__(self, folder: Path, device: str | None = None) -> None:
        """``device``: as torch names them. Raises ``EvaluationError`` for a folder that is no such checkpoint."""
        import torch
        from transformers import AutoTokenizer, InternVLForConditionalGeneration

        check_folder(folder)
        self._folder, self._torch = folder, torch
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = torch.bfloat16 if self._device.startswith("cuda") else torch.float32
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder)
            self._model = InternVLForConditionalGeneration.from_pretrained(folder, dtype=self._dtype)
        except (OSError, ValueError, KeyError) as error:
            raise EvaluationError(f"{folder} cannot be loaded: {error}", "Check that it is whole.") from error
        with self._device_faults("with the model alone"):
            self._model.to(self._device).eval()
        self._tile = int(self._model.config.vision_config.image_size[0])
        picture = self._tokenizer.convert_ids_to_tokens(self._model.config.image_token_id)
        self._picture, self._slot = picture, f"<img>{picture * self._model.config.image_seq_length}</img>"
        norms = _read(folder / "preprocessor_config.json")
        self._mean, self._std = (np.array(norms[name], np.float32) for name in ("image_mean", "image_std"))

    @property
    def settings(self) -> dict[str, Any]:
        import transformers

        weights = sorted(self._folder.glob("*.safetensors"))
        return {
            "backend": "transformers", "runtime": f"transformers {transformers.__version__}, "
            f"torch {self._torch.__version__}", "device": self._device, "dtype": str(self._dtype),
            "weights_sha256": {file.name: file_sha256(file) for file in weights},
            "tiles": tile_rule(self._tile), "decoding": "greedy", "seed": 0,
        }  # fmt: skip

    def answer(self, pictures: Sequence[RgbImage], items: Sequence[Item]) -> list[Reply]:
        tiles = np.stack(one_tile(pictures, self._tile)).astype(np.float32) / 255
        values = self._torch.from_numpy(((tiles - self._mean) / self._std).transpose(0, 3, 1, 2).copy())
        with self._device_faults("with a single question"), self._torch.inference_mode():
            return [self._one(values.to(self._device, self._dtype), item) for item in items]

    @contextmanager
    def _device_faults(self, when: str) -> Iterator[None]:
        """A card that is full or gone, as a sentence."""
        try:
            yield
        except self._torch.OutOfMemoryError as error:
            raise EvaluationError(
                f"The GPU's memory ran out {when}: there is no smaller batch.",
                "Free it, take a smaller model, or a GGUF of this. All earlier answers are kept.",
            ) from error
        except RuntimeError as error:
            if not is_lost_device(error):
                raise
            raise EvaluationError(
                f"The GPU does not answer any more: {str(error).splitlines()[0]}",
                "All earlier answers are kept; run the same command again to go on.",
            ) from error

    def _one(self, values: Any, item: Item) -> Reply:
        begun = time.monotonic()
        said = [("user", item.prompt)]
        text = self._say(values, said, item.max_tokens) if item.max_tokens else None
        if item.think:
            said += [("assistant", text or ""), ("user", CONCLUDE)]
        logprobs = self._choose(values, said, item.keys)
        return Reply(logprobs, text, round(time.monotonic() - begun, 4))

    def _say(self, values: Any, said: list[tuple[str, str]], max_tokens: int) -> str:
        prompt = self._tokens(self._render(said, len(values)))
        whole = self._model.generate(
            input_ids=prompt, pixel_values=values, attention_mask=self._torch.ones_like(prompt), do_sample=False,
            max_new_tokens=max_tokens, pad_token_id=self._tokenizer.pad_token_id or 0,
        )  # fmt: skip
        return str(self._tokenizer.decode(whole[0, prompt.shape[1] :], skip_special_tokens=True)).strip()

    def _choose(self, values: Any, said: list[tuple[str, str]], keys: Sequence[str]) -> tuple[float, ...]:
        """Each key's probability as the answer's beginning; a word counts with and without a capital."""
        text = self._render(said, len(values))
        before = self._tokens(text)
        first = self._logs(before, values)[-1]
        scores = []
        for key in keys:
            ways = {key} if len(key) == 1 else {key, key.capitalize()}
            logs = []
            for way in sorted(ways):
                after = self._tokens(text + way)
                added = after[0, before.shape[1] :].tolist()
                if len(added) == 1:
                    logs.append(float(first[added[0]]))
                else:
                    rows = self._logs(after, values)[before.shape[1] - 1 : -1]
                    logs.append(sum(float(row[token]) for row, token in zip(rows, added, strict=True)))
            scores.append(float(np.logaddexp.reduce(logs)))
        return log_softmax(scores)

    def _logs(self, tokens: Any, values: Any) -> Any:
        return self._model(input_ids=tokens, pixel_values=values).logits[0].float().log_softmax(-1)

    def _tokens(self, text: str) -> Any:
        found = self._tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        return found.to(self._device)

    def _render(self, said: list[tuple[str, str]], pictures: int) -> str:
        """The conversation in the checkpoint's own template, the pictures first."""
        messages: list[dict[str, Any]] = [{"role": role, "content": [{"type": "text", "text": t}]} for role, t in said]
        messages[0]["content"] = [{"type": "image"}] * pictures + messages[0]["content"]
        text = str(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        if text.count(self._picture) != pictures:
            raise ItemRefused(f"The template has {text.count(self._picture)} places for {pictures} pictures.")
        return text.replace(self._picture, self._slot)

    def close(self) -> None:
        del self._model
        if self._device.startswith("cuda"):
            self._torch.cuda.empty_cache()


def check_folder(folder: Path) -> None:
    """Raises ``EvaluationError`` for a checkpoint of another architecture."""
    kind = _read(folder / "config.json").get("model_type")
    if kind != "internvl":
        raise EvaluationError(
            f"{folder} holds a {kind} checkpoint, not InternVL in the -hf layout.",
            "Convert it and give the GGUF folder instead.",
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}.", "Check that the checkpoint is whole.") from error
    return dict(found)
