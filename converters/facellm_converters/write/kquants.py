"""k-quants, which numpy has not: llama.cpp's own quantiser, in a process of its own.

A process, because it neither tells how far it is nor can be interrupted; killed, it leaves a file that nobody keeps.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gguf import LlamaFileType

from facellm.core.child import child_command
from facellm_converters.errors import ConversionError

#: Bits of a weight by what the file is written as at first.
_BITS = {"F32": 32.0, "F16": 16.0, "BF16": 16.0}
_LOOK_S = 0.2
_PROGRAM = "facellm_converters.write.llama_quantise"


@dataclass(frozen=True, slots=True)
class KType:
    """``number``: llama.cpp's ``llama_ftype``. ``bits``: of a weight at most, for narrow rows get wider types."""

    number: int
    bits: float

    def share(self, first: str) -> float:
        """Bytes written, as a share of the file that it is made from."""
        return self.bits / _BITS[first]


#: Bits: what ``facellm inspect`` says of InternVL3-1B's shapes, whose rows of 896 force wider types, rounded up.
#: ``python3 run.py bench convert_costs`` prints them.
K_TYPES = {
    "Q4_K_M": KType(LlamaFileType.MOSTLY_Q4_K_M, 6.4),
    "Q5_K_M": KType(LlamaFileType.MOSTLY_Q5_K_M, 6.8),
    "Q6_K": KType(LlamaFileType.MOSTLY_Q6_K, 8.2),
    "IQ4_XS": KType(LlamaFileType.MOSTLY_IQ4_XS, 5.7),
}


def quantise(
    source: Path, out: Path, kind: str, threads: int, advance: Callable[[int], None], importance: Path | None = None
) -> None:
    """``importance``: a file that :mod:`facellm_converters.importance` wrote.

    Raises ``ConversionError`` with llama.cpp's own words.
    """
    command = child_command(_PROGRAM, str(source), str(out), str(int(K_TYPES[kind].number)), str(threads))
    command += [str(importance)] if importance is not None else []
    nothing = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE) as child:
        try:
            said = _watch(child, out, advance)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        lines = [line for line in said.splitlines() if "rror" in line or "fail" in line] or said.splitlines()[-1:]
        raise ConversionError(f"llama.cpp could not quantise to {kind}: {' '.join(lines[:2]).strip()}")
    with out.open("rb+") as file:
        os.fsync(file.fileno())


def _watch(child: subprocess.Popen[bytes], out: Path, advance: Callable[[int], None]) -> str:
    before = 0
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.communicate(timeout=_LOOK_S)[1].decode("utf-8", "replace")
        with suppress(OSError):
            size = out.stat().st_size
            advance(size - before)
            before = size
