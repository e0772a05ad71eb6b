"""Loads a model pair with llama.cpp: parameters, logs, devices. Only the ``llama_*`` files import ``llama_cpp``."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import llama_cpp.mtmd_cpp as mtmd

from facellm.engine.errors import BadModel, NoGpu, OutOfMemory
from facellm.engine.llama_devices import gpu_names
from facellm.engine.package_check import again
from facellm.engine.protocol import EngineOptions

#: Sequences that one decode may hold: the picture's own and one for each question of ``choose``.
PARALLEL = 24
#: Tokens in one decode. Larger batches were no faster on two cores and cost memory.
BATCH = 512
#: Bytes of weights for each thread that generates: a small model's steps are too short to share among many. On two
#: cores the nano (145 MB) made 48 tokens a second with one thread and 76 with two, at another hour of the same machine
#: some 135 with either. Reading a prompt and encoding a picture use all threads.
WEIGHTS_PER_THREAD = 48 << 20
#: Asks for every layer, however many the model has.
ALL_LAYERS = 999

_ERROR, _CONTINUED = 4, 5  # enum ggml_log_level
#: Words in llama.cpp's log when memory, not the file, was the trouble.
_NO_MEMORY = ("failed to allocate", "unable to allocate", "out of memory", "cannot allocate", "bad_alloc")

#: llama.cpp's last log lines with their levels: when it returns only NULL, they hold the reason.
LOG: deque[tuple[int, str]] = deque(maxlen=80)
_level = 0


def _on_log(level: int, text: bytes, _data: Any) -> None:
    global _level  # noqa: PLW0603 - a continued line has the level of the line that it continues
    _level = _level if level == _CONTINUED else level
    line = text.decode("utf-8", "replace").strip()
    if line.strip("."):  # dots are its progress bar
        LOG.append((_level, line))
        if _level >= _ERROR:  # on its way to the client in case this process does not live to tell
            print(line, file=sys.stderr, flush=True)  # noqa: T201


_LOG_CALLBACK = llama_cpp.llama_log_callback(_on_log)


def capture_logs() -> None:
    """Send the logs of llama.cpp and mtmd to :data:`LOG`, errors also to standard error."""
    for set_log in (llama_cpp.llama_log_set, mtmd.mtmd_log_set, mtmd.mtmd_helper_log_set):
        set_log(_LOG_CALLBACK, None)


def reason() -> str:
    """What llama.cpp said about a failure: its first error, for the later ones are only consequences."""
    errors = [line for level, line in LOG if level >= _ERROR]
    return errors[0] if errors else "it gives no reason"


@dataclass(frozen=True, slots=True)
class Placement:
    """``layers`` of the language model on the GPU (0: none); ``threads`` of the CPU; ``gpu``: its name."""

    layers: int
    threads: int
    gpu: str = ""

    def __str__(self) -> str:
        cpu = f"CPU, {self.threads} thread{'s' if self.threads != 1 else ''}"
        if not self.layers:
            return cpu
        return f"{self.gpu}, {'all' if self.layers == ALL_LAYERS else self.layers} layers; {cpu}"


def placement(options: EngineOptions, cores: int) -> Placement:
    """Where to compute. Raises ``NoGpu`` when a GPU is demanded and there is none for this llama.cpp."""
    threads = options.threads or cores
    gpus = gpu_names()
    if options.device == "gpu" and not gpus:
        raise NoGpu(
            "This build of llama.cpp finds no GPU on this computer.",
            "Use --device auto or cpu, or build llama-cpp-python for your GPU.",
        )
    if options.device == "cpu" or not gpus:
        return Placement(0, threads)
    layers = ALL_LAYERS if options.gpu_layers is None else max(0, options.gpu_layers)
    return Placement(layers, threads, gpus[0])


def load_language(path: Path, where: Placement, on_progress: Callable[[float], None]) -> Any:
    """The language model. Raises ``BadModel`` or ``OutOfMemory`` with llama.cpp's own reason."""
    LOG.clear()
    parameters = llama_cpp.llama_model_default_params()
    parameters.n_gpu_layers = where.layers
    nothing = (ctypes.c_void_p * 1)(None)
    if not where.layers:  # an empty list: with none given, llama.cpp would use a GPU for large batches all the same
        parameters.devices = ctypes.cast(nothing, ctypes.c_void_p)
    progress = llama_cpp.llama_progress_callback(_teller(on_progress))
    parameters.progress_callback = progress
    model = llama_cpp.llama_model_load_from_file(_native_path(path), parameters)
    if not model:
        raise _load_failure(path)
    return model


def new_context(model: Any, size: int, where: Placement, abort: Any) -> Any:
    """A context of ``size`` tokens whose sequences share one KV memory. Raises ``OutOfMemory``.

    ``abort``: an ``abort_callback`` that must live as long as the context.
    """
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = size
    parameters.n_batch = parameters.n_ubatch = BATCH
    parameters.n_seq_max = PARALLEL
    parameters.kv_unified = True
    parameters.swa_full = True  # or models with a sliding window could not forget a question
    parameters.n_threads_batch = where.threads
    parameters.n_threads = min(where.threads, max(1, llama_cpp.llama_model_size(model) // WEIGHTS_PER_THREAD))
    parameters.offload_kqv = parameters.op_offload = bool(where.layers)
    parameters.no_perf = True
    context = llama_cpp.llama_init_from_model(model, parameters)
    if not context:
        raise OutOfMemory(f"There is no room for a context of {size} tokens: {reason()}", "Choose a smaller one.")
    llama_cpp.llama_set_abort_callback(context, abort, None)
    return context


def load_eyes(path: Path, model: Any, where: Placement, on_progress: Callable[[float], None], keep_going: Any) -> Any:
    """The image encoder. Raises ``BadModel`` or ``OutOfMemory``.

    ``keep_going``: a ``ggml_backend_sched_eval_callback`` that must live as long as the encoder.
    """
    LOG.clear()
    parameters = mtmd.mtmd_context_params_default()
    parameters.use_gpu = bool(where.layers)
    parameters.print_timings = False
    parameters.n_threads = where.threads
    parameters.warmup = False  # the self-test warms up
    parameters.cb_eval = keep_going
    progress = mtmd.mtmd_progress_callback(_teller(on_progress))
    parameters.progress_callback = progress
    eyes = mtmd.mtmd_init_from_file(_native_path(path), model, parameters)
    if not eyes:
        raise _load_failure(path)
    if not mtmd.mtmd_support_vision(eyes):
        raise BadModel(f"{path.name} is not made for pictures.", "Choose the model's own mmproj GGUF.")
    return eyes


def runtime_version() -> str:
    """The binding's version and that of llama.cpp itself."""
    return f"llama-cpp-python {llama_cpp.__version__} (llama.cpp {llama_cpp.llama_version().decode()})"


def _teller(on_progress: Callable[[float], None]) -> Callable[[float, Any], bool]:
    """llama.cpp reports hundreds of times; whole percents are enough."""
    last = -1

    def tell(share: float, _data: Any) -> bool:
        nonlocal last
        if int(share * 100) > last:
            last = int(share * 100)
            on_progress(min(1.0, max(0.0, share)))
        return True

    return tell


def _load_failure(path: Path) -> BadModel | OutOfMemory:
    if any(words in line.lower() for _, line in LOG for words in _NO_MEMORY):
        return OutOfMemory(f"{path.name} does not fit into memory: {reason()}", "Choose a smaller model.")
    return BadModel(f"{path.name} cannot be loaded: {reason()}", again(path))


def _native_path(path: Path) -> bytes:
    """llama.cpp opens UTF-8 paths on every platform."""
    return str(path).encode("utf-8")
