"""How fast a model pair answers on this machine. The last line is JSON.

    python3 run.py python benchmarks/engine.py [--model NAME | --llm FILE --mmproj FILE --tile N] [--threads N]

Pictures are tiles cut from a real photo, each new to the engine. Medians over the faces, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from PIL import Image
from skimage import data

from facellm.core.ask import Question
from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import AskRequest, Done, EngineOptions, Token

OPEN = Question("Describe the face and hair.")
FOLLOW_UP = Question("Is the person wearing glasses?")
#: As evaluation asks them.
CLOSED = [
    Question("Is this a man or a woman?", ("man", "woman")),
    Question("Which age group?", ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")),
    Question("Is the person wearing glasses?", ("none", "eyeglasses", "sunglasses")),
    Question("Which headwear?", ("none", "hat or cap", "helmet", "scarf or hood")),
    Question("Is the person smiling?", ("no", "slightly", "broadly")),
    Question("Which hair colour?", ("black", "brown", "blond", "grey or white", "red", "not visible")),
]


def main() -> int:
    """Measure, print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="a model's name (default: the embedded one)")
    parser.add_argument("--llm", type=Path, help="a language GGUF, instead of --model")
    parser.add_argument("--mmproj", type=Path, help="its mmproj GGUF")
    parser.add_argument("--tile", type=int, default=224, help="side of its pictures in pixels")
    parser.add_argument("--threads", type=int, help="default: the physical cores")
    parser.add_argument("--faces", type=int, default=7)
    options = parser.parse_args()
    package = chosen_package(options)
    with EngineClient(package, EngineOptions(threads=options.threads)) as client:
        begun = time.monotonic()
        info = client.load()
        result: dict[str, object] = {
            "model": info.model,
            "device": info.device,
            "runtime": info.runtime,
            "machine": f"{platform.system()} {platform.machine()}, {psutil.cpu_count(logical=False)} cores",
            "busy": [round(load, 1) for load in psutil.getloadavg()],
            "start_ms": ms(time.monotonic() - begun),
            "load_ms": ms(info.load_s),
        }
        result |= measured(client, faces(package.tile, options.faces + 1))
        assert client.pid is not None
        memory = psutil.Process(client.pid).memory_info()
        result["resident_mb"] = round(memory.rss / 2**20)
        result["files_mb"] = round((info.llm_bytes + info.mmproj_bytes) / 2**20)
    for name, value in result.items():
        print(f"{name:28} {value}")
    print(json.dumps(result))
    return 0


def chosen_package(options: argparse.Namespace) -> ModelPackage:
    """The pair named on the command line."""
    if options.llm and options.mmproj:
        return ModelPackage(options.llm.stem, options.llm, options.mmproj, options.tile)
    from facellm.models.packages import find_package
    from facellm.models.store import AssetStore

    return find_package(options.model, AssetStore())


def faces(tile: int, count: int) -> list[RgbImage]:
    """Different tiles around one real face."""
    photo = Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]
    turned = (photo.rotate(3 * index - 10).crop((150, 10, 310, 170)).resize((tile, tile)) for index in range(count))
    return [np.ascontiguousarray(np.asarray(one, np.uint8)) for one in turned]


def measured(client: EngineClient, pictures: list[RgbImage]) -> dict[str, object]:
    """The first picture only warms up."""
    rows: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        rows.setdefault(name, []).append(value)

    for picture in pictures:
        first = ask(client, picture, OPEN, 33)
        timings = first.answer.timings
        note("encode_ms", ms(timings.encode_s))
        note("first_token_ms", ms(timings.first_token_s))
        note("tokens_per_s", timings.tokens_per_s)
        note("follow_up_first_token_ms", ms(ask(client, picture, FOLLOW_UP, 1).answer.timings.first_token_s))
        note("other_question_encodes_ms", ms(ask(client, picture, OPEN, 1).answer.timings.encode_s))
    for picture in pictures:
        note("back_first_token_ms", ms(ask(client, picture, FOLLOW_UP, 1).answer.timings.first_token_s))
        begun = time.monotonic()
        client.choose((picture,), CLOSED)
        note("closed_6_questions_ms", ms(time.monotonic() - begun))
    result: dict[str, object] = {name: round(median(values[1:]), 1) for name, values in rows.items()}
    result["image_prefill_ms"] = round(
        median(
            first - encode - follow
            for first, encode, follow in zip(
                rows["first_token_ms"][1:], rows["encode_ms"][1:], rows["follow_up_first_token_ms"][1:], strict=True
            )
        ), 1,
    )  # fmt: skip
    result["image_tokens"] = timings.image_tokens
    result["stop_ms"] = ms(median(stopped(client) for _ in range(5)))
    return result


def ask(client: EngineClient, picture: RgbImage, question: Question, tokens: int) -> Done:
    """The answer to one question about one picture."""
    *_, done = client.ask(AskRequest((picture,), question, max_tokens=tokens))
    assert isinstance(done, Done)
    return done


def stopped(client: EngineClient) -> float:
    """Seconds from stop to the end of a running answer."""
    begun = 0.0
    request = AskRequest((), Question("Write a long story about the sea."), max_tokens=500, temperature=1.5)
    for count, event in enumerate(client.ask(request)):
        if count == 3 and isinstance(event, Token):
            begun = time.monotonic()
            client.stop()
    return time.monotonic() - begun if begun else 0.0


def ms(seconds: float) -> float:
    """Milliseconds, to a tenth."""
    return round(seconds * 1e3, 1)


if __name__ == "__main__":
    sys.exit(main())
