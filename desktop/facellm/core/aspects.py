"""The eight aspects of FairFaceGPT: what the preset buttons ask, and the wording shared with training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Aspect:
    """``key`` is stable (settings, training data); ``title`` is shown on a button; ``question`` is asked."""

    key: str
    title: str
    question: str


ASPECTS: tuple[Aspect, ...] = (
    Aspect("attributes", "Age & gender", "Describe the visible age range and attributes."),
    Aspect("structure", "Face & hair", "Describe the face and hair."),
    Aspect("skin", "Skin & beard", "Describe the skin and facial hair."),
    Aspect("expression", "Expression", "Describe the visible expression."),
    Aspect("quality", "Light & quality", "Describe the lighting and image quality."),
    Aspect("pose", "Pose", "Describe the head pose."),
    Aspect("forensic", "What is covered", "What covers the face, or what cannot be seen?"),
    Aspect("detail", "Describe all", "Describe this picture."),
)


def aspect(key: str) -> Aspect:
    """The aspect with this key. Raises ``KeyError``."""
    for item in ASPECTS:
        if item.key == key:
            return item
    raise KeyError(key)
