"""Which answers are dropped, and why. Every reason is a word in the report and the journal."""

from __future__ import annotations

import re

from facellm.core.policy_rules import ETHNICITY, plain_words
from facellm_training.annotate.age_words import contradicts_age
from facellm_training.annotate.journal import Reply
from facellm_training.data.fairface import AGES, GENDERS

#: Reasons in the order in which they are looked for; an answer is counted under the first that fits.
REASONS = (
    "refusal", "cut off", "too short", "betrays that labels were given", "ethnicity", "felt emotion",
    "contradicts the age", "contradicts the gender", "attribute logic", "not in one language", "not readable as JSON",
    "near duplicate",
)  # fmt: skip

_REFUSAL = re.compile(
    r"\b(?:i'?m|i am) (?:sorry|unable|not able)|\bi (?:can'?t|cannot|can not|won'?t|must decline)\b|\bas an ai\b|"
    r"\b(?:sorry|apolog\w+),? (?:but )?i\b|unable to (?:assist|help|provide|identify|comply|view|see)|"
    r"(?:can'?t|cannot) (?:assist|help|comply|provide|identify|view the|see the (?:image|picture))|"
    r"against (?:my|the) (?:policy|guidelines)|no image (?:was|is|has been) (?:provided|attached|given)",
    re.IGNORECASE,
)
_GIVEN = (
    r"(?:provided|given|known|supplied|(?:pre-?)?specified|stated|mentioned|told|indicated|described|listed|reported)"
)
_SOURCE = r"(?:labels?|annotations?|metadata|ground[- ]truth|prompt|instructions?|attributes?|information|data)"
_BETRAYS = re.compile(
    rf"\bas (?:{_GIVEN}|per the|labell?ed|annotated|noted (?:above|in the prompt)|instructed|requested)\b|"
    rf"\b(?:based on|according to|consistent with|in line with|matching|matches|given|per) (?:the |your |any )?"
    rf"(?:{_GIVEN} )?(?:demographic |age |gender )?{_SOURCE}\b|\bthe {_GIVEN} (?:{_SOURCE}|age|gender|bin|range|sex)\b|"
    r"\b(?:labell?ed|annotated) as\b|\bground[- ]truth\b|\bmetadata\b|\bfairface\b|"
    r"\bi (?:was|am|have been) (?:told|given)|\b(?:you|user) (?:told|gave|provided|said|stated|mentioned)\b|"
    r"\b(?:is|are|was|were) (?:already )?(?:known|said|reported|stated|described|identified|classified|listed) "
    r"(?:as|to be)\b|"
    r"\b(?:already|previously|earlier) (?:known|identified|described|mentioned|stated|given)\b|"
    r"\bknowing (?:that|the)\b|"
    r"\b(?:reveal|mention|disclos|stat)\w* (?:the |any |that )?(?:labels?|given)\b|"
    r"\b(?:your|the user'?s) (?:notes?|description|prompt|instructions?|information|request|hints?|labels?)\b|"
    r"\b(?:individual|person|subject) (?:mentioned|described|specified)\b|\bdata ?set\b|"
    r"\bfor you only\b|\bage (?:bin|category|class|bracket|label)\b",
    re.IGNORECASE,
)
_FELT = re.compile(
    r"\b(?:feels|is feeling|feeling of|emotional state|inner (?:state|feelings?|life)|state of mind|mood|"
    r"(?:she|he|they|person|man|woman|child|boy|girl|baby) (?:is|are|seems to be) (?:very |quite )?(?:happy|sad|angry|"
    r"afraid|scared|anxious|depressed|worried|upset|bored|proud|joyful|content|nervous))\b(?!-looking)",
    re.IGNORECASE,
)
_SEXES = {
    "male": r"\b(?:he|him|his|himself|man|men|male|masculine|boy|boys|gentleman|father|husband)\b",
    "female": r"\b(?:she|her|hers|herself|woman|women|female|feminine|girl|girls|lady|mother|wife)\b",
}
_SEX = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _SEXES.items()}
_GROWN = re.compile(
    r"\b(?:beard|bearded|stubble|mous?tache|goatee|sideburns|five o'?clock shadow|wrinkl\w+|crow'?s[- ]feet|balding|"
    r"age spots|receding|gr[ae]y(?:ing)? hair|white hair|salt[- ]and[- ]pepper)\b",
    re.IGNORECASE,
)
_BEARD = re.compile(r"\b(?:(?:full|thick|long|short|trimmed|bushy|grey|gray|dark) )?beard\b", re.IGNORECASE)
_SHAVEN = re.compile(
    r"\bclean[- ]shaven\b|\b(?:no|without(?: any)?|lacks?) (?:visible )?(?:facial hair|beard)\b", re.IGNORECASE
)
_OPPOSITES = (
    (re.compile(r"\bbald\b", re.IGNORECASE), re.compile(r"\b(?:long|curly|wavy|braided|thick) hair\b", re.IGNORECASE)),
    (
        re.compile(r"\b(?:no|without|not wearing(?: any)?) (?:eye)?glasses\b", re.IGNORECASE),
        re.compile(r"\b(?:wears|wearing) (?:\w+ ){0,3}(?:eye|sun)?glasses\b", re.IGNORECASE),
    ),
    (
        re.compile(r"\beyes are (?:fully )?closed\b", re.IGNORECASE),
        re.compile(r"\beyes are (?:wide |fully )?open\b", re.IGNORECASE),
    ),
)
_DENIED = re.compile(
    r"\b(?:no|not|without|absence of|absent|lacks?|lacking|free of|free from|neither|nor|none|never|isn'?t|aren'?t|"
    r"cannot|can'?t|rather than|if)\b",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[^\W\d_]")


def verdict(reply: Reply, age: int, gender: int, least_words: int) -> str:
    """Why an open answer is dropped, or "". ``age`` and ``gender`` index FairFace's classes."""
    text = reply.text.strip()
    if reply.finish in ("refusal", "content_filter") or _REFUSAL.search(text.replace("\u2019", "'")):
        return "refusal"
    if reply.finish == "length":
        return "cut off"
    if len(text.split()) < least_words:
        return "too short"
    checks = (
        ("betrays that labels were given", bool(_BETRAYS.search(text))),
        ("ethnicity", bool(ETHNICITY.search(plain_words(text)))),
        ("felt emotion", bool(_FELT.search(text))),
        ("contradicts the age", contradicts_age(text, AGES[age])),
        ("contradicts the gender", contradicts_gender(text, GENDERS[gender])),
        ("attribute logic", illogical(text, AGES[age])),
        ("not in one language", _mixed(text)),
    )
    return next((reason for reason, found in checks if found), "")


def contradicts_gender(text: str, gender: str) -> bool:
    """Whether the text uses a word of the other gender without denying it."""
    other = "female" if gender == "male" else "male"
    return any(not denied(text, found.start()) for found in _SEX[other].finditer(text))


def illogical(text: str, age: str) -> bool:
    """A baby with a beard, a shaven chin with one, a bald head with long hair."""
    if age in ("0-2", "3-9") and any(not denied(text, found.start()) for found in _GROWN.finditer(text)):
        return True
    beard = any(not denied(text, found.start()) for found in _BEARD.finditer(text))
    if beard and _SHAVEN.search(text):
        return True
    return any(first.search(text) and second.search(text) for first, second in _OPPOSITES)


def denied(text: str, place: int) -> bool:
    """Whether the words before ``place`` in its clause say that the thing is not there."""
    clause = re.split(r"[.;:!?]|\bbut\b|\bwith (?!no\b|out\b)", text[:place])[-1]
    return bool(_DENIED.search(clause[-60:]))


def facts_verdict(facts: dict[str, int], age: int) -> str:
    """Why a checked object of visible facts is dropped, or ""."""
    young = AGES[age] in ("0-2", "3-9")
    if young and facts.get("facial_hair", 0) > 0:
        return "attribute logic"
    if young and facts.get("hair_color") == 3:  # grey or white
        return "attribute logic"
    covered = facts.get("hair_color") == 5 or facts.get("hair_length") == 4
    if covered and facts.get("headwear") == 0:
        return "attribute logic"
    return ""


def _mixed(text: str) -> bool:
    """More than one letter in twenty is none of English's: another language, or noise."""
    letters = _LETTER.findall(text)
    return sum(letter > "\u024f" for letter in letters) * 20 > len(letters)
