"""Messages between the client and the engine's child process. Plain, frozen, picklable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from facellm.core.ask import Answer, Question, Turn
from facellm.core.errors import FaceLLMError
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage

Device: TypeAlias = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """``gpu_layers``: language-model layers on the GPU (``None``: all with auto or gpu, none with cpu).

    ``threads``: CPU threads (``None``: the physical cores this process may use); ``context``: tokens of picture,
    thread and answer together; ``seed`` is added to the seed of each request.
    """

    device: Device = "auto"
    gpu_layers: int | None = None
    threads: int | None = None
    context: int = 2048
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What was loaded: names for people, sizes in bytes, ``load_s`` in seconds. ``pid`` of the child."""

    model: str
    device: str
    context: int
    threads: int
    runtime: str
    llm_bytes: int
    mmproj_bytes: int
    load_s: float
    pid: int


@dataclass(frozen=True, slots=True)
class AskRequest:
    """``images``: uint8 ``[tile, tile, 3]`` each; ``history``: earlier turns about the same pictures.

    ``temperature`` 0 takes the most probable token; otherwise ``seed`` makes the answer repeatable. ``system``: what
    the model is told before everything else. A free answer ends with the first of the texts ``stop`` that it comes to,
    which is then its end. ``top``: so many of the likeliest tokens are given with each token of a free answer.
    """

    images: tuple[RgbImage, ...]
    question: Question
    history: tuple[Turn, ...] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    system: str = ""
    stop: tuple[str, ...] = ()
    top: int = 0


@dataclass(frozen=True, slots=True)
class Loading:
    """Share 0..1 of one stage of loading."""

    stage: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Encoded:
    """The pictures are embedded. ``cached``: nothing was encoded, ``seconds`` is 0; ``encodes``: all since load."""

    seconds: float
    image_tokens: int
    cached: bool
    encodes: int = 0


@dataclass(frozen=True, slots=True)
class Likely:
    """A token that could have come, as it is spelled, and its log-probability."""

    text: str
    logprob: float


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the answer (whole characters) and the log-probability of its last token.

    The pieces of an answer joined and stripped are its text. ``top``: see ``AskRequest``, the likeliest first.
    """

    text: str
    logprob: float
    top: tuple[Likely, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The answer, and the exact text that the model received (pictures as ``<image>``)."""

    answer: Answer
    prompt: str


AskEvent: TypeAlias = Encoded | Token | Done


@dataclass(frozen=True, slots=True)
class LoadCommand:
    """The first command to a child."""

    package: ModelPackage
    options: EngineOptions


@dataclass(frozen=True, slots=True)
class AskCommand:
    """Answered by ``AskEvent``s, the last a ``Done``."""

    number: int
    request: AskRequest


@dataclass(frozen=True, slots=True)
class ChooseCommand:
    """Answered by one ``Chosen``."""

    number: int
    images: tuple[RgbImage, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class StopCommand:
    """Ends request ``number``, also before it has begun; newer ones are left alone."""

    number: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """One answer a question, in order."""

    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed; the child lives on unless it said otherwise by ending."""

    error: FaceLLMError


@dataclass(frozen=True, slots=True)
class Reply:
    """Any event, with the number of the request it belongs to (0: loading)."""

    number: int
    event: AskEvent | Loading | EngineInfo | Chosen | Failed


Command: TypeAlias = LoadCommand | AskCommand | ChooseCommand | StopCommand
