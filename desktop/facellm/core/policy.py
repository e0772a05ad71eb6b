"""What the product does not infer from a face, and what it says instead. All of it is in this file.

By which words a question is known is in ``policy_rules``.

* Ethnicity, race, origin, nationality, and skin colour, which stands in for them: not inferred
  (EU AI Act Art. 5(1)(g); GDPR Art. 9). Evaluation measures the model's racial *bias* and
  therefore has ``RESEARCH_ENV``; nothing else may use it.
* Who a person is, where they live, whether two pictures show the same person or kin: not answered;
  there is no identification in this product.
* Religion, politics, sexuality, character, intelligence, health, and verdicts on a person
  (attractive, rich, fit to hire): cannot be seen, not inferred.
* Inner feelings: the question is turned towards the visible expression (Art. 5(1)(f)).
* Age: answered, as a range and with a note that it is not an age check.

The rules, in ``core.policy_rules``, are patterns over the question's words: simple, readable, and testable. They err
towards explaining; an explanation costs the user one more sentence, an inference can harm.
They know English well and the commonest German, French and Spanish words; they are a
signpost for people who ask in good faith, not a wall against people who do not.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from facellm.core.aspects import aspect
from facellm.core.policy_rules import (
    AGE,
    BELIEFS,
    COLOUR,
    COLOURED_THING,
    COMPARED,
    DEMOGRAPHICS,
    ETHNICITY,
    FEELING,
    IDENTITY,
    INNER,
    NAMED,
    NATION,
    RANGE,
    plain_words,
)

#: Set to "1" for evaluation only; documented in docs/privacy.md.
RESEARCH_ENV = "FACELLM_RESEARCH_ETHNICITY"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``refusal``: what is said instead of asking the model; otherwise ``question`` is asked and ``note`` shown.

    ``topic``: the rule that spoke ("ethnicity", "identity", "beliefs", "feeling", "demographics", "age"), or "".
    """

    question: str
    refusal: str = ""
    note: str = ""
    topic: str = ""


def judge(question: str, choices: tuple[str, ...] = ()) -> Verdict:
    """Decide what to do with a question. Choices are read as part of it."""
    words = plain_words(question) + "".join(f" option {plain_words(choice)}" for choice in choices)
    if _asks_ethnicity(words, plain_words(question), choices) and os.environ.get(RESEARCH_ENV) != "1":
        return Verdict(question, refusal=_ETHNICITY_TEXT, topic="ethnicity")
    if BELIEFS.search(words):
        return Verdict(question, refusal=_BELIEFS_TEXT, topic="beliefs")
    if IDENTITY.search(words) or NAMED.search(question):
        return Verdict(question, refusal=_IDENTITY_TEXT, topic="identity")
    if FEELING.search(words):
        return _about_feeling(question, words, choices)
    if DEMOGRAPHICS.search(words):
        return Verdict(aspect("attributes").question, note=_DEMOGRAPHICS_NOTE, topic="demographics")
    if AGE.search(words) and not RANGE.search(words):
        return Verdict(question, note=_AGE_NOTE, topic="age")
    return Verdict(question)


def _about_feeling(question: str, words: str, choices: tuple[str, ...]) -> Verdict:
    """Open questions become a description; closed ones stay if their choices are names of expressions."""
    if choices and INNER.search(words):
        return Verdict(question, refusal=_FEELING_TEXT, topic="feeling")
    if not COMPARED.search(words) and {choice.strip().lower() for choice in choices} != {"yes", "no"}:
        question = "Which expression can be seen?" if choices else aspect("expression").question
    return Verdict(question, note=_FEELING_NOTE, topic="feeling")


def _asks_ethnicity(words: str, question: str, choices: tuple[str, ...]) -> bool:
    """``words``: question and choices; ``question``: the question's own words."""
    if ETHNICITY.search(words):
        return True
    named = [plain_words(choice) for choice in choices]
    if any(NATION.fullmatch(choice) for choice in named):
        return True
    # "Which fits? black / white" is about the person unless the question names a thing that has a colour.
    colours = [choice for choice in named if re.fullmatch(COLOUR, choice)]
    return len(colours) > 1 and not re.search(rf"\b(?:{COLOURED_THING}|colou?rs?)\b", question)


# --- The explanations ---------------------------------------------------------------------------------------------

_VISIBLE = "You can ask about what is visible instead: hair, glasses, expression, pose, light."
_ETHNICITY_TEXT = (
    "FaceLLM does not infer ethnicity, race or origin from a face: a face does not show them reliably, and "
    f"inferring them can harm people. {_VISIBLE}"
)
_BELIEFS_TEXT = (
    "FaceLLM does not infer beliefs, orientation, character or health from a face and does not rate people: "
    f"such things cannot be seen. {_VISIBLE}"
)
_IDENTITY_TEXT = (
    "FaceLLM does not say who a person is and keeps no faces to compare with. "
    "You can ask what the person looks like instead."
)
_FEELING_TEXT = (
    "FaceLLM does not choose between feelings: a face shows movement, not what a person feels. "
    "You can ask about the visible expression instead: a smile, a frown, open or closed eyes, the mouth."
)
_FEELING_NOTE = "A face shows movement, not feelings: the answer describes the visible expression."
_DEMOGRAPHICS_NOTE = "FaceLLM describes the visible age range and attributes; it does not infer ethnicity or origin."
_AGE_NOTE = "An age is estimated from looks: read it as a range, and never as an age check."
