"""What the teacher is told. The known labels stand here, and never in the question that is stored."""

from __future__ import annotations

from functools import cache
from random import Random

from facellm.core.aspects import aspect
from facellm.core.policy import judge
from facellm_training.annotate.facts import FACT_TASKS, UNKNOWN
from facellm_training.data.fairface import AGES
from facellm_training.data.labels import TASKS
from facellm_training.data.wording import ASPECT_PHRASINGS

SYSTEM = (
    "You describe pictures of faces for a data set. Write only what can be seen, in two to four plain, factual "
    "sentences without lists or headings. Describe the visible expression, not what the person feels. Do not name "
    "or guess ethnicity, origin, skin colour, identity, health, character or beliefs, and do not judge looks. Where "
    "something is hidden, dark or blurred, say that it cannot be seen."
)

#: Age bin → what a person of that age is called, for female and male. FairFace's bins are years.
_YOUNG = {
    "0-2": ("a baby or toddler, a girl", "a baby or toddler, a boy"),
    "3-9": ("a child, a girl", "a child, a boy"),
    "10-19": ("a young person, female", "a young person, male"),
}

#: What the answer on an aspect is to speak of.
_LOOK_AT = {
    "attributes": "the visible age range, whether the person looks male or female, glasses, headwear",
    "structure": "the shape of the face, forehead, brows, nose, jaw, and the hair: colour, length, how it is worn",
    "skin": "the texture of the skin, lines, freckles, marks, make-up, and facial hair or its absence",
    "expression": "the mouth, eyes and brows, and which expression they show",
    "quality": "brightness, direction of the light, shadows, sharpness, noise and compression",
    "pose": "how the head is turned, tilted, raised or lowered, and whether the eyes are open",
    "forensic": "what covers parts of the face, what is cut off, and what cannot be judged from the picture",
    "detail": "the whole picture: the person, hair, expression, pose, what is worn, the light, the background",
}

#: Further questions that are stored, beside the product's own and training's.
_MORE_PHRASINGS = {
    "attributes": (
        "What age range and attributes are visible?",
        "Describe the age range that is visible and what is worn.",
    ),
    "structure": ("Describe the shape of the face and the hair.", "What are the features of this face?"),
    "skin": ("What does the skin look like?", "Describe the skin and any facial hair that is visible."),
    "expression": ("What do the mouth and eyes show?", "Which expression does the face show? Describe it."),
    "quality": ("Describe the light and how sharp the picture is.", "How is the picture lit, and how good is it?"),
    "pose": ("How is the head turned and tilted?", "Describe how the head is held."),
    "forensic": ("Which parts of the face are hidden or unclear?", "What cannot be judged from this picture?"),
    "detail": ("Give a full description of this face.", "Describe everything that can be seen of this person."),
}


def known_labels(age: int, gender: int) -> str:
    """The labels in words: babies, children and young people are never men and women."""
    name, female = AGES[age], gender == 1
    years = "70 years or more" if name == "70+" else f"{name.replace('-', ' to ')} years"
    who = _YOUNG.get(name, ("a woman", "a man"))[0 if female else 1]
    return f"{who}, {years}"


def words_allowed(age: int, gender: int) -> str:
    """How the answer may call the person."""
    name, female = AGES[age], gender == 1
    if name == "0-2":
        return '"baby" or "toddler"'
    if name == "3-9":
        return '"child" or "' + ("girl" if female else "boy") + '"'
    if name == "10-19":
        return '"young person", "teenager" or "' + ("girl" if female else "boy") + '"'
    return '"person" or "' + ("woman" if female else "man") + '"'


def open_prompt(key: str, age: int, gender: int, question: str) -> str:
    """The teacher's task for one aspect; ``question`` is what its answer will be stored under."""
    return (
        f"For you only: this is {known_labels(age, gender)}. Describe one aspect of the picture: {_LOOK_AT[key]}. "
        f"Call the person {words_allowed(age, gender)}. Agree with what you were told, but write as if you saw the "
        "picture alone: never say that something was given, known, labelled or provided. Your answer "
        f'will stand under the question: "{question}"'
    )


def facts_prompt(known: str) -> str:
    """The teacher's task for the JSON object; names every key and value, for servers without a schema.

    ``known``: the labels in words, or "".
    """
    told = f"For you only: this is {known}. " if known else ""
    keys = "\n".join(f"{task}: {', '.join((*TASKS[task], UNKNOWN))}" for task in FACT_TASKS)
    return (
        f"{told}Fill in what is visible. Answer with one JSON object and "
        f'nothing else. Its keys, and the values each may have ("{UNKNOWN}" where it is hidden or unclear):\n{keys}'
    )


def repair_prompt(answer: str, problem: str) -> str:
    """One more try at an object that could not be read."""
    return (
        f"Your answer could not be read ({problem}). It was:\n{answer[:1500]}\n\nAnswer with the corrected JSON object "
        "and nothing else."
    )


def question_on(key: str, digest: str, seed: int) -> str:
    """The phrasing that is stored with the picture of this digest; always the same."""
    return Random(f"{seed} {key} {digest}").choice(questions_on(key))


@cache  # asked for every answer; what the product declines is found by many patterns
def questions_on(key: str) -> tuple[str, ...]:
    """Every phrasing in which an open aspect is stored; none holds anything that was known.

    What the product declines to answer ("Who can be seen?") is not among them: nobody will ever hear the answer.
    """
    phrasings = (aspect(key).question, *ASPECT_PHRASINGS[key], *_MORE_PHRASINGS[key])
    return tuple(text for text in phrasings if not judge(text).refusal)
