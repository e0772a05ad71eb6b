"""From which numbers on a pair counts as its checkpoint: by how its two files are stored, each with its reason."""

from __future__ import annotations

from pathlib import Path

from gguf import LlamaFileType

from facellm.models.gguf_header import read_header

#: Least mean token cosine of image tokens, by the mmproj's kind. What the engine's self-test asks for where nothing is
#: rounded away: measured 0.9999995 for InternVL's layout and 0.999998 for the nano; tokens off by one patch give 0.89
#: and 0.69. With 8 bits the nano has 0.999, and 0.997 where its pixels are normalised before the kernel.
COSINES = {"F32": 0.999, "F16": 0.999, "BF16": 0.999, "Q8_0": 0.99}

#: Highest mean divergence in nats, by the language part's kind: ten times what llama.cpp's own table has for LLaMA 3 8B
#: (tools/perplexity/README.md: Q8_0 0.0014, Q6_K 0.0055, Q5_K_M 0.011, Q4_K_M 0.031, IQ4_XS 0.036), since models of
#: half a billion weights lose more. Where nothing is quantised only rounding is left: 0.0000015 on small random
#: models and on InternVL3-1B's shapes, 0.00004 with bfloat16, to which llama.cpp rounds the activations too; one bias
#: with the wrong sign, the least of the faults that were tried, gives 0.0013.
DIVERGENCES = {
    "F32": 0.0005, "F16": 0.0005, "BF16": 0.001,
    "Q8_0": 0.015, "Q6_K": 0.055, "Q5_K_M": 0.11, "Q4_K_M": 0.31, "IQ4_XS": 0.36,
}  # fmt: skip

#: What an mmproj of 8 bits may add after a picture: its tokens, a hundredth of them another, move every answer.
_EIGHT_BITS = 0.05


def stored_kind(file: Path) -> str:
    """What a GGUF says that it is stored as: "F16", "Q4_K_M", …; empty where it does not say."""
    number = read_header(file).get("general.file_type")
    known = {int(one): one.name for one in LlamaFileType}
    name = known.get(number, "") if isinstance(number, int) else ""
    return name.removeprefix("ALL_").removeprefix("MOSTLY_")


def faults(language: str, mmproj: str, cosine: float, divergence: float, after_picture: float) -> tuple[str, ...]:
    """Sentences that say why a pair is not equal; none where it is.

    ``language``, ``mmproj``: how they are stored. ``cosine``: mean of the image tokens; ``divergence``: mean over texts
    without a picture, ``after_picture``: with one.
    """
    least = COSINES.get(mmproj, min(COSINES.values()))
    most = DIVERGENCES.get(language, max(DIVERGENCES.values()))
    with_picture = most + (0.0 if COSINES.get(mmproj, 0) >= COSINES["F16"] else _EIGHT_BITS)
    found = []
    if not cosine >= least:  # written so that NaN is a fault
        found.append(f"image tokens: cosine {cosine:.4f}, at least {least} expected of {mmproj or 'this kind'}")
    if not divergence <= most:
        found.append(f"texts: divergence {divergence:.2g}, at most {most} expected of {language or 'this kind'}")
    if not after_picture <= with_picture:
        found.append(f"texts after a picture: divergence {after_picture:.2g}, at most {with_picture} expected")
    return tuple(found)
