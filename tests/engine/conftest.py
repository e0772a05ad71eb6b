"""A real model in a real child process, real faces, and llama.cpp itself in a process of its own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facellm.core.faces import RgbImage
from facellm.core.package import ModelPackage
from facellm.engine.client import EngineClient
from facellm.engine.protocol import EngineOptions

#: One thread: the tests are about behaviour, and must not depend on how busy the other cores are.
OPTIONS = EngineOptions(threads=1)


@pytest.fixture(scope="session")
def package(request: pytest.FixtureRequest) -> ModelPackage:
    """The embedded model; FACELLM_TEST_PAIR names a folder with another llm.gguf and mmproj.gguf (tile 224)."""
    folder = os.environ.get("FACELLM_TEST_PAIR")
    if folder:
        return ModelPackage("pair", Path(folder, "llm.gguf").resolve(), Path(folder, "mmproj.gguf").resolve(), 224)
    found: ModelPackage = request.getfixturevalue("nano")
    return found


@pytest.fixture(scope="session")
def shared_client(package: ModelPackage) -> Iterator[EngineClient]:
    with EngineClient(package, OPTIONS) as client:
        client.load()
        yield client


@pytest.fixture
def client(shared_client: EngineClient) -> EngineClient:
    """The engine, loaded. Tests that end the child take ``own_client``."""
    return shared_client


@pytest.fixture
def own_client(package: ModelPackage) -> Iterator[EngineClient]:
    """An engine of the test's own, not yet started."""
    with EngineClient(package, OPTIONS) as client:
        yield client


@pytest.fixture(scope="session")
def faces(astronaut: Path, package: ModelPackage) -> tuple[RgbImage, ...]:
    """Four different tiles of one real face."""
    with Image.open(astronaut) as photo:
        face = photo.convert("RGB").crop((160, 20, 300, 160)).resize((package.tile, package.tile))
    turned = [face, face.transpose(Image.Transpose.FLIP_LEFT_RIGHT), face.rotate(8), face.rotate(-8)]
    return tuple(np.ascontiguousarray(np.asarray(one, np.uint8)) for one in turned)


@pytest.fixture(scope="session")
def fresh_face() -> Callable[[], RgbImage]:
    """Pictures that the engine has not seen, a new one each call."""
    rng = np.random.default_rng(20261124)
    return lambda: rng.integers(0, 256, (224, 224, 3), np.uint8)


@pytest.fixture(scope="session")
def native() -> Callable[..., Any]:
    """Run a function of ``native_side.py`` where llama.cpp may be imported: not in this process."""
    script = Path(__file__).with_name("native_side.py")

    def call(function: str, *arguments: object) -> Any:
        import facellm

        root = str(Path(facellm.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, str(script), function], input=pickle.dumps(arguments), capture_output=True,
            env=os.environ | {"PYTHONPATH": root}, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-3000:]
        return pickle.loads(done.stdout)

    return call
