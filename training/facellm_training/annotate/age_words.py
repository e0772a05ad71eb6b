"""Words and numbers by which a text says an age, and whether they fit FairFace's bin."""

from __future__ import annotations

import re

from facellm_training.data.fairface import AGES

#: Word → years in which a person may be called so; generous, since only contradictions are dropped.
_WORDS: tuple[tuple[str, int, int], ...] = (
    (r"newborn|infant|infants", 0, 2),
    (r"baby|babies|baby's", 0, 2),
    (r"toddler|toddler's", 0, 4),
    (r"(?:young |small |little )?(?:child|kid)(?:'s)?|childhood|childlike|preschooler", 0, 12),
    (r"(?:little|small) (?:boy|girl)(?:'s)?", 0, 9),
    # Mends the method's defect: babies and children were men and women.
    (r"boy|girl|boy's|girl's", 0, 19),
    (r"teen|teens|teenage|teenaged|teenager|adolescent|adolescence|preteen", 10, 19),
    (r"man|woman|men|women|man's|woman's|gentleman|lady", 20, 120),
    (r"young adult|young adulthood|early adulthood", 16, 39),
    (r"young (?:man|woman)(?:'s)?", 20, 39),
    (r"middle[- ]aged?|midlife", 35, 65),
    (r"adult|adults|adulthood|grown[- ]up", 16, 120),
    (
        r"elderly|senior|seniors|pensioner|octogenarian|old age|(?:old|older|elderly) (?:man|woman|adult|person)",
        50,
        120,
    ),
)
_PATTERNS = [(re.compile(rf"\b(?:{words})(?!\w)", re.IGNORECASE), low, high) for words, low, high in _WORDS]
_DECADES = {"twent": 20, "thirt": 30, "fort": 40, "fift": 50, "sixt": 60, "sevent": 70, "eight": 80, "ninet": 90}
_DECADE = re.compile(
    r"\b(?:(?P<words>" + "|".join(_DECADES) + r")ies|(?P<tens>[2-9])0'?s)\b(?!\s*(?:style|film|fashion))",
    re.IGNORECASE,
)
_SPAN = re.compile(
    r"\b(?P<low>\d{1,3})\s*(?:-|–|to|and|or)\s*(?P<high>\d{1,3})\b(?=[^.]{0,12}\byears?\b|\s*years?|[- ]year)|"
    r"\b(?:aged?|ages)(?: range)?(?: \w+){0,2}? (?P<low2>\d{1,3})\s*(?:-|–|to|and)\s*(?P<high2>\d{1,3})\b",
    re.IGNORECASE,
)
_YEARS = re.compile(r"(?<![-–\d])\b(?P<years>\d{1,3})(?:[- ]years?[- ]old| years? of age)", re.IGNORECASE)
#: A stated age may miss the bin by so many years: looks are not birthdays.
_TOLERANCE = 1


def bin_years(name: str) -> tuple[int, int]:
    """First and last year of a bin."""
    assert name in AGES
    low, _, high = name.rstrip("+").partition("-")
    return int(low), int(high) if high else 120


def contradicts_age(text: str, name: str) -> bool:
    """Whether the text says an age outside of bin ``name``; negated words do not count."""
    low, high = bin_years(name)
    return any(first > high or last < low for first, last in _said(text))


def _said(text: str) -> list[tuple[int, int]]:
    """Every span of years that the text states."""
    spans = []
    for pattern, low, high in _PATTERNS:
        spans += [(low, high) for found in pattern.finditer(text) if not _negated(text, found.start())]
    decades = []
    for found in _DECADE.finditer(text):
        start = _DECADES[found["words"].lower()] if found["words"] else 10 * int(found["tens"])
        decades.append((start, start + 9 if start < 70 else 120))
    if decades:  # "in the thirties or forties" is one span
        spans.append((min(low for low, _ in decades), max(high for _, high in decades)))
    for found in _SPAN.finditer(text):
        low, high = int(found["low"] or found["low2"]), int(found["high"] or found["high2"])
        spans.append((low - _TOLERANCE, high + _TOLERANCE))
    years = (int(found["years"]) for found in _YEARS.finditer(_SPAN.sub(" ", text)))
    return spans + [(year - _TOLERANCE, year + _TOLERANCE) for year in years]


def _negated(text: str, place: int) -> bool:
    return bool(re.search(r"\b(?:not|no|neither|nor|rather than|than) (?:an? |the |yet an? )?$", text[:place]))
