"""Loads a model pair with llama.cpp: parameters, logs, devices, memory. Only this room imports ``llama_cpp``."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd
import psutil

from facellm.core.package import ModelPackage
from facellm.engine.errors import BadModel, MissingProjector, NoGpu, OutOfMemory, WrongPair
from facellm.engine.protocol import EngineOptions
from facellm.models.gguf_header import HeaderError, read_header

#: Sequences that one decode may hold: the picture's own and one for each question of ``choose``.
PARALLEL = 24
#: Tokens in one decode. Larger batches were no faster on two cores and cost memory.
BATCH = 512
#: Bytes that llama.cpp needs beside the weights and the KV state (compute buffers, image graph).
WORKSPACE = 160 << 20

#: llama.cpp's last log lines: when it returns only NULL, they hold the reason.
LOG: deque[str] = deque(maxlen=60)


@llama_cpp.llama_log_callback
def _on_log(level: int, text: bytes, _data: Any) -> None:
    line = text.decode("utf-8", "replace").rstrip()
    if line and level >= 2:
        LOG.append(line)


def silence() -> None:
    """Send llama.cpp's and mtmd's logs to :data:`LOG` instead of standard error."""
    llama_cpp.llama_log_set(_on_log, ctypes.c_void_p(0))
    mtmd.mtmd_log_set(_on_log, ctypes.c_void_p(0))


def last_reason() -> str:
    """llama.cpp's last error line, or an empty string."""
    for line in reversed(LOG):
        if "error" in line.lower() or "fail" in line.lower():
            return line
    return LOG[-1] if LOG else ""


def check_files(package: ModelPackage) -> tuple[dict[str, Any], dict[str, Any]]:
    """Headers of both files. Raises ``BadModel``, ``MissingProjector`` or ``WrongPair`` before anything is loaded."""
    if not package.llm.is_file():
        raise BadModel(f"The model file {package.llm.name} is missing.", f"It should lie in {package.llm.parent}.")
    if not package.mmproj.is_file():
        raise MissingProjector(
            f"The model has no eyes: {package.mmproj.name} is missing.", f"It should lie in {package.mmproj.parent}."
        )
    try:
        language, eyes = read_header(package.llm), read_header(package.mmproj)
    except HeaderError as error:
        raise BadModel(str(error), error.hint) from error
    if eyes.get("general.architecture") != "clip":
        raise MissingProjector(f"{package.mmproj.name} is not an mmproj file.", "Choose the model's mmproj GGUF.")
    width = language.get(f"{language.get('general.architecture')}.embedding_length")
    sees = eyes.get("clip.vision.projection_dim")
    pair = {header["facellm.pair"] for header in (language, eyes) if "facellm.pair" in header}
    if width != sees or len(pair) > 1:
        raise WrongPair(
            f"{package.llm.name} and {package.mmproj.name} do not belong together "
            f"(embedding {width} and {sees}{', pair ids differ' if len(pair) > 1 else ''}).",
            "Use the two files of one model.",
        )
    return language, eyes


def check_memory(package: ModelPackage, language: dict[str, Any], options: EngineOptions) -> None:
    """Raise ``OutOfMemory`` when the weights, the KV state and the workspace cannot fit."""
    name = language.get("general.architecture")
    layers, width = int(language.get(f"{name}.block_count", 0)), int(language.get(f"{name}.embedding_length", 0))
    heads = int(language.get(f"{name}.attention.head_count", 1))
    kv_heads = int(language.get(f"{name}.attention.head_count_kv", heads))
    state = 2 * 2 * layers * width * kv_heads // max(1, heads) * options.context  # keys and values, float16
    needed = package.llm.stat().st_size + package.mmproj.stat().st_size + state + WORKSPACE
    free = psutil.virtual_memory().available
    if needed > free:
        raise OutOfMemory(
            f"The model needs about {needed // 2**20:,} MB of memory; {free // 2**20:,} MB are free.",
            "Close other programs, choose a smaller model or quantisation, or a smaller context.",
        )


def gpu_layers(options: EngineOptions) -> int:
    """Layers to put on the GPU. Raises ``NoGpu``."""
    can = bool(llama_cpp.llama_supports_gpu_offload())
    if options.device == "cpu":
        return 0
    if options.device == "gpu" and not can:
        raise NoGpu(
            "This build of llama.cpp finds no GPU on this computer.",
            "Use --device auto or cpu, or set FACELLM_CMAKE_ARGS and run the set-up again to build for your GPU.",
        )
    if not can:
        return 0
    return 999 if options.gpu_layers is None else options.gpu_layers


def cpu_threads(options: EngineOptions) -> int:
    """Physical cores unless told otherwise: hyper-threads slow llama.cpp down."""
    return options.threads or psutil.cpu_count(logical=False) or 2


def load_language(path: Path, layers: int, on_progress: Callable[[float], None]) -> Any:
    """The language model. Raises ``BadModel`` with llama.cpp's own reason."""

    @llama_cpp.llama_progress_callback
    def progress(share: float, _data: Any) -> bool:
        on_progress(share)
        return True

    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = layers
    parameters.progress_callback = progress
    model = llama_cpp.llama_model_load_from_file(_native_path(path), parameters)
    if not model:
        raise BadModel(f"{path.name} cannot be loaded: {last_reason()}", "Fetch or convert the model again.")
    return model


def new_context(model: Any, options: EngineOptions, threads: int) -> Any:
    """A context whose sequences share one KV memory. Raises ``OutOfMemory``."""
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = options.context
    parameters.n_batch = parameters.n_ubatch = BATCH
    parameters.n_seq_max = PARALLEL
    parameters.kv_unified = True
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.no_perf = True
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        raise OutOfMemory(
            f"There is no room for a context of {options.context} tokens: {last_reason()}", "Choose a smaller context."
        )
    return context


def load_eyes(
    path: Path, model: Any, threads: int, use_gpu: bool, on_progress: Callable[[float], None], keep_going: Any
) -> tuple[Any, list[Any]]:
    """The image encoder and the callbacks that must outlive it. Raises ``BadModel``."""

    @mtmd.mtmd_progress_callback
    def progress(share: float, _data: Any) -> bool:
        on_progress(share)
        return True

    parameters = mtmd.mtmd_context_params_default()
    parameters.use_gpu = use_gpu
    parameters.print_timings = False
    parameters.n_threads = threads
    parameters.warmup = False  # the canary warms up
    parameters.progress_callback = progress
    parameters.cb_eval = keep_going
    eyes = mtmd.mtmd_init_from_file(_native_path(path), model, parameters)
    if not eyes:
        raise BadModel(f"{path.name} cannot be loaded: {last_reason()}", "Fetch or convert the model again.")
    return eyes, [progress, keep_going]


def device_name(layers: int, threads: int) -> str:
    """What computes, for people."""
    if layers:
        return "GPU" if sys.platform != "darwin" else "GPU (Metal)"
    return f"CPU, {threads} threads"


def runtime_version() -> str:
    return f"llama-cpp-python {llama_cpp.__version__}"


def _native_path(path: Path) -> bytes:
    """llama.cpp opens UTF-8 paths on every platform."""
    return str(path).encode("utf-8")
