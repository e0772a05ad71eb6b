"""Answers questions with a loaded model pair: free text, or one of given choices with a probability each."""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from facellm.core import canary
from facellm.core.ask import Answer, ChoiceProbability, Question, Timings, Turn
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.core.prompt import choice_keys, user_text
from facellm.engine import llama_native as native
from facellm.engine.errors import BadModel, EngineError, QuestionTooLong, RuntimeChanged, Stopped
from facellm.engine.llama_context import Context, Item
from facellm.engine.protocol import AskEvent, AskRequest, Done, Encoded, EngineInfo, EngineOptions, Loading, Token
from facellm.engine.template import Picture, Said, as_text, compose

#: Below this mean token cosine the runtime computes something else than the model was trained on.
#: Measured for the nano: 0.9999 on f16 weights; a shift by one patch gives less than 0.9.
CANARY_COSINE = 0.999

#: Nodes of the image graph between two looks at the stop flag: about ten looks a picture for the nano.
STRETCH = 24


class Runtime:
    """A loaded model. Raises the engine's errors; ``stop`` ends work early with ``finish == "stopped"``."""

    def __init__(
        self, package: ModelPackage, options: EngineOptions, stop: Event, tell: Callable[[Loading], None]
    ) -> None:
        started = time.monotonic()
        self._package, self._stop = package, stop
        native.silence()
        language, eyes = native.check_files(package)
        native.check_memory(package, language, options)
        layers, threads = native.gpu_layers(options), native.cpu_threads(options)
        llama_cpp.llama_backend_init()
        model = native.load_language(package.llm, layers, lambda share: tell(Loading("language model", share)))
        native_context = native.new_context(model, options, threads)
        self._callbacks = self._stoppable(native_context)
        projector, kept = native.load_eyes(
            package.mmproj, model, threads, bool(layers), lambda share: tell(Loading("image encoder", share)),
            self._callbacks[1],
        )  # fmt: skip
        self._callbacks += kept
        self.context = Context(model, native_context, projector, stop)
        self._template = str(language.get("tokenizer.chat_template") or "")
        if not self._template:
            raise BadModel(f"{package.llm.name} carries no chat template.", "Convert the model anew.")
        self._special = self._special_tokens(language)
        self._temperature = float(language.get("facellm.choice_temperature", 1.0))
        self._check_canary(eyes)
        self.info = EngineInfo(
            package.title or package.name, native.device_name(layers, threads), self.context.size, threads,
            native.runtime_version(), package.llm.stat().st_size, package.mmproj.stat().st_size,
            time.monotonic() - started, os.getpid(),
        )  # fmt: skip

    # ---- asking

    def ask(self, request: AskRequest) -> Iterator[AskEvent]:
        """Yield ``Encoded``, then ``Token``s, then ``Done``. Raises the engine's errors."""
        if request.question.choices:
            yield from self._ask_choice(request)
            return
        begun = time.monotonic()
        encoded, pictures = self._encode(request.images)
        yield encoded
        items, prompt = self._fit(request, pictures)
        self.context.prefill(items)
        yield from self._generate(request, encoded, prompt, len(items), time.monotonic() - begun)

    def choose(self, images: tuple[RgbImage, ...], questions: tuple[Question, ...]) -> tuple[Answer, ...]:
        """Closed questions about the same pictures, decoded together: one pass over all of them."""
        encoded, pictures = self._encode(images)
        begun = time.monotonic()
        sequences = [self._items(user_text(q.text, q.choices), (), pictures)[0] for q in questions]
        shared = min(len(sequence) - 1 for sequence in sequences)
        while any(sequence[:shared] != sequences[0][:shared] for sequence in sequences):
            shared -= 1
        self.context.prefill(sequences[0][:shared])
        answers: list[Answer] = []
        for group in self._groups([sequence[shared:] for sequence in sequences]):
            tails = [[item for item in tail if isinstance(item, int)] for tail in group]
            for logits in self.context.branch(tails):
                question = questions[len(answers)]
                timings = Timings(encoded.seconds, time.monotonic() - begun, 1, 0.0, 0, encoded.image_tokens)
                answers.append(self._chosen(question, logits, timings))
        return tuple(answers)

    def _groups(self, tails: list[list[Item]]) -> Iterator[list[list[Item]]]:
        """Tails that fit into one decode."""
        group: list[list[Item]] = []
        room = min(native.BATCH, self.context.size // 2)
        for tail in tails:
            if group and (len(group) >= native.PARALLEL - 1 or sum(map(len, group)) + len(tail) > room):
                yield group
                group = []
            group.append(tail)
        yield group

    def _ask_choice(self, request: AskRequest) -> Iterator[AskEvent]:
        begun = time.monotonic()
        encoded, pictures = self._encode(request.images)
        yield encoded
        question = request.question
        items, prompt = self._items(user_text(question.text, question.choices), request.history, pictures)
        self.context.prefill(items)
        seconds = time.monotonic() - begun
        timings = Timings(encoded.seconds, seconds, 1, 0.0, len(items), encoded.image_tokens)
        answer = self._chosen(question, self.context.logits(), timings)
        yield Token(answer.text, float(np.log(max(choice.p for choice in answer.choices))))
        yield Done(answer, prompt)

    def _chosen(self, question: Question, logits: NDArray[np.float32], timings: Timings) -> Answer:
        logp = _log_softmax(logits) / self._temperature
        scores = [
            float(np.logaddexp.reduce([logp[token] for token in self._variants(key)]))
            for key in choice_keys(question.choices)
        ]
        weights = np.exp(np.array(scores) - max(scores))
        choices = tuple(
            ChoiceProbability(text, float(p)) for text, p in zip(question.choices, weights / weights.sum(), strict=True)
        )
        best = max(choices, key=lambda choice: choice.p)
        return Answer(best.text, timings, "end", choices, (float(max(scores)),))

    def _variants(self, key: str) -> set[int]:
        """First tokens that mean ``key``: models begin a yes with either case."""
        forms = {key, key.capitalize()} if len(key) > 1 else {key}
        return {self.context.tokenize(form, special=False)[0] for form in forms}

    # ---- parts of an answer

    def _encode(self, images: tuple[RgbImage, ...]) -> tuple[Encoded, list[list[Item]]]:
        tile = self._package.tile
        for image in images:
            if image.shape != (tile, tile, 3):
                raise EngineError(f"This model takes pictures of {tile}×{tile} pixels, got {image.shape}.")
        before, pictures, seconds = self.context.encodes, [], 0.0
        for image in images:
            items, spent = self.context.encode(image)
            pictures.append(items)
            seconds += spent
        tokens = sum(self.context.positions(items) for items in pictures)
        return Encoded(seconds, tokens, self.context.encodes == before), pictures

    def _fit(self, request: AskRequest, pictures: list[list[Item]]) -> tuple[list[Item], str]:
        """The prompt; the oldest turns are left out until it fits together with the answer."""
        history = request.history
        while True:
            items, prompt = self._items(request.question.text, history, pictures)
            room = self.context.size - self.context.positions(items)
            if room >= min(request.max_tokens, 64):
                return items, prompt
            if not history:
                raise QuestionTooLong(
                    f"Picture and question leave {max(0, room)} tokens for an answer.", "Ask a shorter question."
                )
            history = history[1:]

    def _items(self, text: str, history: tuple[Turn, ...], pictures: list[list[Item]]) -> tuple[list[Item], str]:
        pieces = compose(self._template, text.strip(), history, len(pictures), self._special)
        items: list[Item] = []
        for piece in pieces:
            if isinstance(piece, Picture):
                items += pictures[piece.index]
            else:
                items += self.context.tokenize(piece.text, special=not isinstance(piece, Said))
        return items, as_text(pieces)

    def _generate(
        self, request: AskRequest, encoded: Encoded, prompt: str, prompt_tokens: int, prefill_s: float
    ) -> Iterator[AskEvent]:
        rng = np.random.default_rng(request.seed)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        texts: list[str] = []
        logprobs: list[float] = []
        finish, first_s, begun = "length", 0.0, time.monotonic()
        limit = min(request.max_tokens, self.context.size - prompt_tokens - encoded.image_tokens)
        for _ in range(limit):
            logp = _log_softmax(self.context.logits())
            token = _sample(logp, request.temperature, rng)
            first_s = first_s or prefill_s + time.monotonic() - begun
            if self.context.ends(token):
                finish = "end"
                break
            logprobs.append(float(logp[token]))
            if text := decoder.decode(self.context.piece(token)):
                texts.append(text)
                yield Token(text, logprobs[-1])
            try:
                if self._stop.is_set():
                    raise Stopped("stopped")
                self.context.extend(token)
            except Stopped:
                finish = "stopped"
                break
        spent = time.monotonic() - begun
        timings = Timings(
            encoded.seconds, first_s or prefill_s, len(logprobs), len(logprobs) / spent if spent else 0.0,
            prompt_tokens, encoded.image_tokens,
        )  # fmt: skip
        yield Done(Answer("".join(texts).strip(), timings, finish, (), tuple(logprobs)), prompt)

    # ---- set-up

    def _stoppable(self, context: Any) -> list[Any]:
        """Callbacks that llama.cpp asks between operations; they must live as long as the context."""

        @llama_cpp.ggml_abort_callback
        def abort(_data: Any) -> bool:
            return self._stop.is_set()

        nodes = 0

        @llama_cpp.ggml_backend_sched_eval_callback
        def keep_going(_tensor: Any, ask: bool, _data: Any) -> bool:
            nonlocal nodes
            if not ask:
                return not self._stop.is_set()
            # "Do you want to see this node?" Only after a seen one can the graph be left, so every
            # few nodes yes; the stretches between run at full speed.
            nodes += 1
            return nodes % STRETCH == 0

        llama_cpp.llama_set_abort_callback(context, abort, None)
        return [abort, keep_going]

    def _special_tokens(self, language: dict[str, Any]) -> dict[str, str]:
        names = {}
        for name in ("bos", "eos"):
            token = language.get(f"tokenizer.ggml.{name}_token_id")
            vocabulary = llama_cpp.llama_model_get_vocab(self.context._model)  # noqa: SLF001 - one room
            text = llama_cpp.llama_vocab_get_text(vocabulary, int(token)) if token is not None else b""
            names[f"{name}_token"] = (text or b"").decode("utf-8", "replace")
        return names

    def _check_canary(self, eyes: dict[str, Any]) -> None:
        expected = eyes.get("facellm.canary.embedding")
        if expected is None:
            return
        if eyes.get("facellm.canary.picture") != canary.PICTURE:
            raise RuntimeChanged("This model was made for a newer FaceLLM.", "Update FaceLLM.")
        items, _ = self.context.encode(canary.waves(self._package.tile))
        tokens = int(eyes["facellm.canary.tokens"])
        wanted = np.array(expected, np.float32).reshape(tokens, -1)
        found = self.context.embedding(items)[:tokens]
        cosine = (wanted * found).sum(1) / (np.linalg.norm(wanted, axis=1) * np.linalg.norm(found, axis=1) + 1e-9)
        if not cosine.mean() >= CANARY_COSINE:
            raise RuntimeChanged(
                f"This version of llama.cpp computes other image embeddings than the model was trained on "
                f"(cosine {cosine.mean():.4f}, at least {CANARY_COSINE} expected).",
                "Install the version of llama-cpp-python that FaceLLM pins.",
            )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - float(logits.max())
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _sample(logp: NDArray[np.float64], temperature: float, rng: np.random.Generator) -> int:
    """The best token at temperature 0; otherwise one of the nucleus that holds 95 % of the mass."""
    if temperature <= 0:
        return int(logp.argmax())
    p = np.exp(logp / temperature)
    p /= p.sum()
    order = np.argsort(-p)[:256]
    kept = order[: int(np.searchsorted(np.cumsum(p[order]), 0.95)) + 1]
    return int(rng.choice(kept, p=p[kept] / p[kept].sum()))
