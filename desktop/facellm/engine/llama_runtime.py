"""A loaded model pair that answers questions: free text, or one of given choices with a probability each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from threading import Event
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from facellm.core.ask import Answer, Question, Timings, Turn
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.core.prompt import user_text
from facellm.engine import llama_native as native
from facellm.engine.canary import Passed, check_canary
from facellm.engine.choices import ballot
from facellm.engine.errors import EngineError, OutOfMemory, QuestionTooLong, Stopped
from facellm.engine.llama_context import Context
from facellm.engine.llama_eyes import Eyes
from facellm.engine.llama_vocabulary import Vocabulary
from facellm.engine.package_check import PackageHeaders, check_files, check_memory, stored_bytes
from facellm.engine.prompts import Item, Prompt, Slot, tokenize
from facellm.engine.protocol import (
    AskEvent,
    AskRequest,
    Done,
    Encoded,
    EngineInfo,
    EngineOptions,
    Likely,
    Loading,
    Token,
)
from facellm.engine.sampling import Spelling, draw, goes_in_circles, log_softmax
from facellm.engine.template import ChatTemplate
from facellm.engine.threads import usable_cores
from facellm.models.store import data_folder

#: Nodes of the image graph between two looks at the stop flag. The nano's graph has 371 nodes in 0.35 s on one
#: core; CPU time of an encode is the same within 1 % for a look at every node, every 4, 16, 64 and none.
STRETCH = 4
#: A longer text is refused before it is tokenised: no token of any model is this long on average.
CHARACTERS_PER_TOKEN = 32
#: So many of the oldest turns are left out at a time when a conversation outgrows the context: after each change the
#: rest has to be read anew, and with one at a time that would be after every question.
TURNS_DROPPED = 3
#: The answer never claims more than this share of the context, whatever its limit: pictures and question come first.
ANSWER_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class _Start:
    """Where an answer's clock began, and what its pictures took."""

    begun: float
    encoded: Encoded
    prompt: Prompt

    def timings(self, first_s: float, tokens: int, since_first_s: float) -> Timings:
        rate = (tokens - 1) / since_first_s if tokens > 1 and since_first_s > 0 else 0.0
        return Timings(
            self.encoded.seconds, first_s, tokens, rate, self.prompt.tokens, self.encoded.image_tokens
        )  # fmt: skip


class Runtime:
    """Raises the engine's errors; when ``stop`` is set by another thread, work ends early."""

    def __init__(
        self, package: ModelPackage, options: EngineOptions, stop: Event, tell: Callable[[Loading], None]
    ) -> None:
        begun = time.monotonic()
        self._package, self._options, self._stop = package, options, stop
        native.capture_logs()
        headers = check_files(package)
        llama_cpp.llama_backend_init()
        where = native.placement(options, usable_cores())
        try:
            self._load(headers, where, tell)
        except OutOfMemory:
            if not where.layers or options.device == "gpu":
                raise
            where = native.Placement(0, where.threads)  # "auto": what the GPU has no room for, the CPU does
            self._load(headers, where, tell)
        passed = Passed(data_folder() / "self-tests", package.mmproj, native.runtime_version(), str(where))
        if not passed.known():
            check_canary(headers.eyes, package.tile, self._embed, lambda share: tell(Loading("self-test", share)))
            passed.remember()
        self.info = EngineInfo(
            package.title or package.name, str(where), self.context.size, where.threads, native.runtime_version(),
            stored_bytes(package.llm), stored_bytes(package.mmproj), time.monotonic() - begun, os.getpid(),
        )  # fmt: skip

    # ---- asking

    def ask(self, request: AskRequest) -> Iterator[AskEvent]:
        """Yield ``Encoded`` if there are pictures, ``Token``s, and last ``Done``."""
        begun = time.monotonic()
        prompt = self._fitting(request, self.eyes.look(request.images))
        encoded = self._encode(prompt, bool(request.question.choices))
        if request.images:
            yield encoded
        start = _Start(begun, encoded, prompt)
        try:
            if request.question.choices:
                answer = self._choose([request.question], [prompt], start)[0]
                yield Token(answer.text, answer.logprobs[0])
                yield Done(answer, prompt.text)
            else:
                yield from self._generate(request, start)
        except Stopped:
            yield Done(Answer("", start.timings(0.0, 0, 0.0), "stopped"), prompt.text)

    def choose(self, images: Sequence[RgbImage], questions: Sequence[Question]) -> tuple[Answer, ...]:
        """Closed questions about the same pictures, decoded together. Raises ``Stopped`` besides."""
        if not questions:
            return ()
        begun = time.monotonic()
        pictures = self.eyes.look(images)
        prompts = [self._fitting(AskRequest((), question, max_tokens=1), pictures) for question in questions]
        return tuple(self._choose(questions, prompts, _Start(begun, self._encode(prompts[0], True), prompts[0])))

    def _choose(self, questions: Sequence[Question], prompts: Sequence[Prompt], start: _Start) -> list[Answer]:
        ballots = [ballot(q, p, self.vocabulary) for q, p in zip(questions, prompts, strict=True)]
        first = prompts[0]
        self.context.prefill(first.items[: first.head])
        tails = [one.tails() for one in ballots]
        rows = iter(self.context.branch([tail for group in tails for tail in group]))
        seconds = time.monotonic() - start.begun
        temperature = float(self._language.get("facellm.choice_temperature", 1.0))
        return [
            one.answer(
                [next(rows) for _ in group], temperature, _Start(0, start.encoded, one.prompt).timings(seconds, 1, 0)
            )
            for one, group in zip(ballots, tails, strict=True)
        ]

    def _generate(self, request: AskRequest, start: _Start) -> Iterator[AskEvent]:
        rng = np.random.default_rng(request.seed + self._options.seed)
        spelling = Spelling()
        limit = min(request.max_tokens, self.context.size - start.prompt.tokens)
        texts: list[str] = []
        tokens: list[int] = []
        logprobs: list[float] = []
        finish, first_at = "stopped", 0.0  # unless the loop gets as far as to say otherwise
        with suppress(Stopped):
            logits = self.context.logits_after(start.prompt.items)
            while True:
                scores = log_softmax(logits)
                token = draw(scores, request.temperature, rng)
                first_at = first_at or time.monotonic()
                if self.vocabulary.ends(token):
                    finish = "end"
                    break
                tokens.append(token)
                logprobs.append(float(scores[token]))
                texts.append(spelling.add(self.vocabulary.piece(token)))
                yield Token(texts[-1], logprobs[-1], self._likeliest(scores, request.top))
                if any(stop in "".join(texts) for stop in request.stop):
                    finish = "end"
                    break
                if len(tokens) >= limit or goes_in_circles(tokens):
                    finish = "length"
                    break
                logits = self.context.logits_after_next(token)
        now = time.monotonic()
        first_s, rest_s = (first_at - start.begun, now - first_at) if first_at else (0.0, 0.0)
        timings = start.timings(first_s, len(tokens), rest_s)
        yield Done(Answer("".join(texts).strip(), timings, finish, (), tuple(logprobs)), start.prompt.text)

    def _likeliest(self, scores: NDArray[np.float32], count: int) -> tuple[Likely, ...]:
        if not count:
            return ()
        best = [int(token) for token in np.argsort(-scores, kind="stable")[:count]]
        spelled = [self.vocabulary.piece(token).decode("utf-8", "replace") for token in best]
        return tuple(
            Likely(text or self.vocabulary.text(token), float(scores[token]))
            for text, token in zip(spelled, best, strict=True)
        )

    # ---- parts of a question

    def _fitting(self, request: AskRequest, pictures: Sequence[Sequence[Item]]) -> Prompt:
        """The prompt; the oldest turns are left out until it fits together with the answer. Never the pictures."""
        question = request.question
        text = user_text(question.text, () if question.stated else question.choices)
        room = self.context.size - max(1, min(request.max_tokens, int(self.context.size * ANSWER_SHARE)))
        history = request.history
        while True:
            prompt = self._prompt(text, history, pictures, request.system)
            if prompt.tokens <= room:
                return prompt
            if not history:
                raise QuestionTooLong(
                    f"Pictures and question take {prompt.tokens:,} tokens; the context has room for {room:,}.",
                    "Ask a shorter question, or with fewer pictures.",
                )
            history = history[TURNS_DROPPED:]

    def _prompt(self, text: str, history: tuple[Turn, ...], pictures: Sequence[Sequence[Item]], system: str) -> Prompt:
        longest = self.context.size * CHARACTERS_PER_TOKEN
        if len(text) + len(system) > longest:
            raise QuestionTooLong(
                f"The question has {len(text) + len(system):,} characters.", "Ask a shorter question."
            )
        history = tuple(Turn(turn.question[:longest], turn.answer[:longest]) for turn in history)
        return tokenize(self._template.compose(text, history, len(pictures), system), pictures, self.vocabulary)

    def _encode(self, prompt: Prompt, closed: bool) -> Encoded:
        """Encode what the KV state does not hold yet."""
        items = prompt.items[: prompt.head] if closed else prompt.items
        before = self.eyes.encodes
        seconds = self.eyes.encode(items[self.context.recall(items) :])
        tokens = sum(item.tokens for item in items if isinstance(item, Slot))
        return Encoded(seconds, tokens, self.eyes.encodes == before, self.eyes.encodes)

    def _embed(self, image: RgbImage) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Embeddings of a picture, ``[tokens, width]``."""
        slots = [item for item in self.eyes.look([image])[0] if isinstance(item, Slot)]
        self.eyes.encode(slots)
        return np.concatenate([self.eyes.embedding(slot) for slot in slots])

    # ---- set-up

    def _load(self, headers: PackageHeaders, where: native.Placement, tell: Callable[[Loading], None]) -> None:
        package, size = self._package, self._context_size(headers.language)
        if not where.layers:
            check_memory(package, headers, size)
        abort, keep_going = self._callbacks = self._looks_at_stop()
        with ExitStack() as undo:  # what a GPU had no room for in the end must not stay there
            model = native.load_language(package.llm, where, lambda share: tell(Loading("language model", share)))
            undo.callback(llama_cpp.llama_model_free, model)
            context = native.new_context(model, size, where, abort)
            undo.callback(llama_cpp.llama_free, context)
            projector = native.load_eyes(
                package.mmproj, model, where, lambda share: tell(Loading("image encoder", share)), keep_going
            )
            undo.pop_all()
        self._language = headers.language
        self.vocabulary = Vocabulary(model)
        self.eyes = Eyes(projector, int(llama_cpp.llama_model_n_embd_inp(model)), self._stop)
        self.context = Context(context, self.vocabulary.size, self.eyes, self._stop)
        self._template = ChatTemplate(
            str(headers.language.get("tokenizer.chat_template", "")),
            bos=self.vocabulary.text(self.vocabulary.bos), eos=self.vocabulary.text(self.vocabulary.eos),
        )  # fmt: skip

    def _context_size(self, language: dict[str, Any]) -> int:
        """As asked for, but not beyond what the model was trained for."""
        trained = int(language.get(f"{language['general.architecture']}.context_length", 0))
        if self._options.context < 1:
            raise EngineError(f"A context of {self._options.context} tokens is impossible.", "Choose 512 or more.")
        return min(self._options.context, trained) if trained else self._options.context

    def _looks_at_stop(self) -> tuple[Any, Any]:
        """Callbacks that llama.cpp asks between operations: for the language model, for the image encoder."""
        nodes = 0

        def abort(_data: Any) -> bool:
            return self._stop.is_set()

        def keep_going(_tensor: Any, ask: bool, _data: Any) -> bool:
            nonlocal nodes
            if not ask:
                return not self._stop.is_set()
            # "Do you want to see this node?" Only after a seen one can the graph be left; the
            # stretches between run at full speed.
            nodes += 1
            return nodes % STRETCH == 0 or self._stop.is_set()

        return llama_cpp.ggml_abort_callback(abort), llama_cpp.ggml_backend_sched_eval_callback(keep_going)
