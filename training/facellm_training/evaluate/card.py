"""The nano's model card, written from its report: every number in it was measured by the run that wrote it."""

from __future__ import annotations

from typing import Any

from facellm_training.evaluate.metrics import Score
from facellm_training.evaluate.report import markdown

_INTRODUCTION = """# FaceLLM-nano: model card

*Written by `facellm train training/recipes/nano.yaml` from its own measurements; not edited by hand.*

## What it is

CLIP ViT-B/16 image tower (11 blocks, LoRA on the upper five) → 2×2 pixel shuffle → projector → SmolLM2-135M-Instruct
(LoRA), in llama.cpp. 49 image tokens for a face crop of 224×224 px. Trained on 17,116 FairFace pictures (every
twentieth of the 18,000 held out), weak labels of what is visible, and measurements of pose and light. Why so:
`decisions/nano-model.md`.

**Made for:** glasses, headwear, smile, mouth, facial hair, hair colour, head direction, perceived gender, age range.
**Not for:** who somebody is, feelings, ethnicity, health, character; anything outside the face crop; decisions about
people.
"""

_LIMITS = """
## Limits

A small model on weak labels: it will be wrong, more often for the very old, profiles, dark and blurred pictures.
Labels of gender are binary and perceived by crowd workers, ages are perceived bins; race is used to measure gaps only
and is never answered by the product. Attribute labels of the validation pictures are weak as well: two annotators
agree on glasses in 99.5 % of pictures, on mouth in 91 %, hair colour 85 %, smile 83 %, expression 81 %; no score above
that means much. A description says what it was taught to say: it names no detail outside its vocabulary.
"""


def card(report: dict[str, Any]) -> str:
    """Markdown from the report that ``facellm train`` ends with."""
    model = report["model"]
    parts = [
        _INTRODUCTION,
        "## Measured\n",
        _how(model, report["temperature"]),
        markdown(report),
        "\n" + _missed(report),
        "\n## Without seeing\n",
        _swapped(report),
        "\n## Descriptions\n",
        _descriptions(report["descriptions"]),
        "\n## Groups\n",
        *(_group(name, group) for name, group in report["groups"].items()),
        "\n## What the image tokens show\n",
        "Attribute heads on held-out *train* pictures, an upper bound for the language stage: "
        + ", ".join(f"{task} {100 * row['accuracy']:.1f} %" for task, row in report["image stage"].items())
        + ".",
        _LIMITS,
        f"Language SHA-256 `{model['llm_sha256']}`, image encoder `{model['mmproj_sha256']}`.\n",
    ]
    return "\n".join(parts)


def _how(model: dict[str, Any], temperature: float) -> str:
    return (
        f"The finished pair in {model['runtime']} on {model['device']}, answers constrained to the options' letters, "
        "FairFace *validation* (never trained on), 95 % bootstrap intervals. Temperature of the probabilities: "
        f"{temperature:g}, fitted on held-out train pictures.\n"
    )


def _missed(report: dict[str, Any]) -> str:
    rows = [(name, score) for name, score in report["scores"].items() if score["target"]]
    missed = [
        f"{name} by {score['target'] - 100 * score['value']:.1f} points"
        for name, score in rows
        if 100 * score["value"] < score["target"]
    ]
    if not missed:
        return "Every target is reached."
    return f"Targets missed: {', '.join(missed)}. Reached: {len(rows) - len(missed)} of {len(rows)}.\n"


def _swapped(report: dict[str, Any]) -> str:
    rows = report["swapped"]["scores"]
    listed = [f"{n} {100 * s['value']:.0f} % (most frequent answer {100 * s['guess']:.0f})" for n, s in rows.items()]
    number = max(score["n"] for score in rows.values())
    return (
        f"{number} pictures were asked about with another picture's face in their place. "
        f"Right all the same: {', '.join(listed)}.\n"
    )


def _descriptions(found: dict[str, Any]) -> str:
    agree = found["facts that agree"]
    score = Score(agree["value"], agree["low"], agree["high"], agree["n"])
    by_task = ", ".join(f"{task} {100 * row['agree']:.0f} % ({row['n']})" for task, row in found["by task"].items())
    return (
        f'"Describe this picture." on {found["descriptions"]} labelled validation pictures: {score.percent()} % of '
        f"{score.n} stated facts agree with the label (an age within one bin). By fact: {by_task}. "
        f"{100 * found['sentences with something invented']:.1f} % of {found['sentences']} sentences hold a clause "
        "that is none of those taught.\n"
    )


def _group(name: str, group: dict[str, Any]) -> str:
    rates = ", ".join(f"{who} {100 * rate:.1f} ({group['n'][who]})" for who, rate in group["accuracy"].items())
    return f"**{name}**, accuracy % (pictures): {rates}. Largest gap {100 * group['gap']:.1f} points.\n"
