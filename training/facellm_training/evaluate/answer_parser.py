"""The letter that FaceXBench's own scoring finds in a free answer: reimplemented, hazards included.

Its cascade looks for a letter at the start in several spellings ("A", "(A)", "Option A", "A.", "A:", "A -"), then for
one anywhere, then for the text of an option. Every spelling is a capital option letter that stands alone as a word, so
the cascade always finds the leftmost of those. "A man in his thirties, so the answer is C." therefore means A.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence


def official_letter(answer: str, options: Sequence[object]) -> str | None:
    """The option letter that counts as the answer; ``None`` (wrong) where there is none.

    Upper and lower case differ in letters and in the options' texts, as in the original.
    """
    letters = string.ascii_uppercase[: len(options)]
    found = re.search(rf"\b[{letters}]\b", answer)
    if found:
        return found.group()
    for letter, option in zip(letters, options, strict=True):
        if str(option).strip() in answer:
            return letter
    return None
