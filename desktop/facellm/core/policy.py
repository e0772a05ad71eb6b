"""What the product does not infer from a face, and what it says instead. All of it is in this file.

* Ethnicity, race, nationality, religion, sexual orientation, political views: not inferred
  (EU AI Act Art. 5(1)(g); GDPR Art. 9). Evaluation measures the model's racial *bias* and
  therefore has ``RESEARCH_ENV``; nothing else may use it.
* Who a person is: not answered; there is no identification in this product.
* Inner feelings: the question is turned towards what can be seen (Art. 5(1)(f)).

Rules are patterns over the question's words: simple, readable, and testable. They err
towards explaining; an explanation costs the user one more sentence, an inference can harm.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

#: Set to "1" by the evaluation commands only; documented in docs/privacy.md.
RESEARCH_ENV = "FACELLM_RESEARCH_ETHNICITY"

_ETHNICITY = re.compile(
    r"""\b(
      ethnic\w* | race | races | racial\w* | ancestr\w+ | nationalit\w+ | national\ origin |
      (?:country|region|continent|tribe)\b.{0,30}\b(?:from|come|belong) |
      where\b.{0,20}\b(?:is|are|was|were|do|does)\b.{0,30}\b(?:from|born) |
      (?:skin|person|people|man|woman|face|he|she|they)\b.{0,12}\b(?:black|white|asian|latin[oax]|hispanic|
          african|arab\w*|caucasian|indian|middle\ eastern|jewish|muslim|christian|hindu) |
      (?:asian|caucasian|african|latin[oax]|hispanic|middle\ eastern|arab\w*)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_BELIEFS = re.compile(
    r"""\b(religio\w* | faith | muslim | christian | jewish | hindu | buddhist | atheist |
      gay | lesbian | bisexual | homosexual | heterosexual | straight\ or\ gay | sexual\ (?:orientation|preference) |
      politic\w* | republican | democrat | votes?\ for | criminal\w* | trustworth\w* | intelligen\w* |
      iq | personality | disab\w+ | autis\w+ | illness | disease | diagnos\w+ | pregnan\w+)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_IDENTITY = re.compile(
    r"""\b(
      who\ (?:is|are|was)\b(?!.{0,20}\b(?:older|younger|taller|smiling|wearing|turned|looking|closer)) |
      who's\b | whose\ face | what\ is\ (?:his|her|their|the\ \w+'s)\ name | what's\ (?:his|her|their)\ name |
      (?:first|last|full|sur)\ ?name | identify | identity | recogni[sz]e\b.{0,25}\b(?:person|man|woman|face|him|her|who) |
      is\ (?:this|that|it)\ (?:really\ )?(?:the\ )?(?:actor|actress|singer|president|celebrity|politician|famous) |
      famous | celebrity | same\ person | name\ (?:this|the|that)\ (?:person|man|woman|face)
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
_FEELING = re.compile(
    r"""\b(
      feel\w* | emotion\w* | mood | (?:is|are|does|look|looks)\b.{0,25}\b(?:happy|sad|angry|afraid|scared|depressed|
      anxious|nervous|bored|stressed|lying|honest|in\ love|upset|joyful|frightened|disgusted|surprised)
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)

_ETHNICITY_TEXT = (
    "FaceLLM does not infer ethnicity, race or origin from a face: a face does not show them reliably, and "
    "inferring them can harm people. You can ask about what is visible instead: hair, glasses, expression, pose, light."
)
_BELIEFS_TEXT = (
    "FaceLLM does not infer beliefs, orientation, character or health from a face: they cannot be seen. "
    "You can ask about what is visible instead: hair, glasses, expression, pose, light."
)
_IDENTITY_TEXT = (
    "FaceLLM does not say who a person is and keeps no faces to compare with. "
    "You can ask what the person looks like instead."
)
_FEELING_NOTE = "A face shows movement, not feelings: the answer describes the visible expression."
_FEELING_QUESTION = "Describe the visible expression."


@dataclass(frozen=True, slots=True)
class Verdict:
    """``refusal``: what is said instead of asking the model; otherwise ``question`` is asked and ``note`` shown."""

    question: str
    refusal: str = ""
    note: str = ""


def judge(question: str, choices: tuple[str, ...] = ()) -> Verdict:
    """Decide what to do with a question. Choices are read as part of it."""
    text = " ".join([question, *choices])
    research = os.environ.get(RESEARCH_ENV) == "1"
    if _ETHNICITY.search(text) and not research:
        return Verdict(question, refusal=_ETHNICITY_TEXT)
    if _IDENTITY.search(text):
        return Verdict(question, refusal=_IDENTITY_TEXT)
    if _BELIEFS.search(text):
        return Verdict(question, refusal=_BELIEFS_TEXT)
    if _FEELING.search(text):
        # With choices the user has named what may be answered, and the model only compares looks.
        return Verdict(question if choices else _FEELING_QUESTION, note=_FEELING_NOTE)
    return Verdict(question)
