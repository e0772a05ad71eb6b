"""What is asked when a pair is compared with its checkpoint: computed pictures, and fixed texts about faces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facellm.core.canary import waves
from facellm_converters.equality.tower import Picture

#: A text's tokens.
Tokens = Callable[[str], list[int]]

_LETTERS = "ABC"


@dataclass(frozen=True, slots=True)
class Text:
    """``picture``: number of the picture that it follows, or none.

    ``options``: none for a text in which every token is compared; else it is a closed question, and only the answer is.
    """

    content: str
    picture: int | None = None
    options: tuple[str, ...] = ()

    @property
    def letters(self) -> str:
        """Those of the options."""
        return _LETTERS[: len(self.options)]


_DESCRIBED = (
    "The photo shows the face of a person of about thirty to forty years. The head is turned slightly to the left, the "
    "eyes are open and look into the camera. The hair is dark brown and falls over the forehead; there is no headwear. "
    "The person wears eyeglasses with a thin frame and smiles with closed lips. Light comes from the front, the "
    "background is plain and out of focus. Question: Is this person wearing glasses? Answer: Yes, eyeglasses with a "
    "thin frame. Question: Which age group? Answer: 30 to 39 years. Question: Is the mouth open? Answer: No, it is "
    "closed. Question: Describe the expression. Answer: A slight smile; the eyes are relaxed. Question: Is the person "
    "wearing a hat? Answer: No. Question: Which hair colour? Answer: Brown."
)
_EXPLAINED = (
    "A face can be described by its parts: the forehead, two eyebrows, the eyes, the nose, two cheeks, the mouth and "
    "the chin. Age shows in the skin around the eyes and in the hair; an expression shows in the eyebrows and in the "
    "corners of the mouth. When lips are pressed together, a person may be angry or only thinking. Glasses, a beard, a "
    "hat or a scarf hide parts of a face, and then less can be said with certainty. If the picture is dark or blurred, "
    "the right answer is that it cannot be seen."
)
_QUESTIONS = (
    ("Is this person wearing glasses?", "none", "eyeglasses", "sunglasses"),
    ("Is the person smiling?", "no", "slightly", "broadly"),
    ("Is the mouth open?", "closed", "teeth visible", "open"),
    ("How old does the person look?", "a child", "20 to 39", "over 60"),
    ("Where does the head turn?", "left", "to the front", "right"),
    ("Which headwear?", "none", "a hat or cap", "a scarf or hood"),
)

#: Half of the questions after one picture and half after another: whatever both share is computed once.
TEXTS = (
    Text(_DESCRIBED, 0),
    Text(_EXPLAINED),
    *(Text(question, number % 2, tuple(options)) for number, (question, *options) in enumerate(_QUESTIONS)),
)


def pictures(side: int) -> list[Picture]:
    """Three pictures ``[side, side, 3]``: the canary, the same turned round in other colours, and a faint one."""
    first = waves(side)
    return [first, np.ascontiguousarray(first[::-1, :, ::-1]), np.ascontiguousarray(first.transpose(1, 0, 2) // 3 + 80)]


def rendered(text: Text, tokens: Tokens) -> list[int]:
    """Ids of the text; a closed question up to its answer, as the model's kind is asked."""
    if not text.options:
        return tokens(text.content)
    lines = [f"{letter}) {option}" for letter, option in zip(text.letters, text.options, strict=True)]
    asked = "\n".join([text.content, *lines, "Answer with the letter."])
    if len(tokens("<|im_start|>")) == 1:
        return tokens(f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n")
    return tokens(f"USER: {asked} ASSISTANT:")
