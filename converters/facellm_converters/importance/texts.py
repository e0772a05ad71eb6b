"""What an importance matrix is computed from: dialogues about faces, put together from one table.

None of them is among the texts with which the cost of a quantisation is judged (``equality.texts``), for it would look
smaller than it is. They ask for what can be seen, never for origin, and an expression is what a face shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from facellm.core.aspects import ASPECTS, aspect
from facellm.core.prompt import choice_keys, user_text

#: Written into the files; raised when the texts or pictures change.
NAME = "facellm-faces-1"
#: Conversations: as many behind no picture as behind one.
CONVERSATIONS = 8


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A question, with its options where it is a closed one, and the answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Turns:
    """What a model's kind wants before a question, between it and its answer, and after the answer."""

    before: str
    between: str
    after: str

    def text(self, dialogues: list[Dialogue]) -> str:
        """A conversation, but for what stands before its first question."""
        turns = (f"{one.question}{self.between}{one.answer}{self.after}" for one in dialogues)
        return self.before.join(turns)


_CHATML = Turns("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n")
_VICUNA = Turns("USER: ", " ASSISTANT: ", "</s>")


@dataclass(frozen=True, slots=True)
class _Row:
    """Something to see: asked how, told how (``{}``: one of the values), and why it may not be seen."""

    aspect: str
    question: str
    told: str
    values: tuple[str, ...]
    hidden: str


_ROWS = (
    _Row("attributes", "Which age range fits this face?", "The person looks {} years old.",
         ("4 to 9", "10 to 17", "18 to 29", "40 to 59", "70 or more"), "the face is too small in the picture"),
    _Row("attributes", "What jewellery is worn?", "The person wears {}.",
         ("earrings", "a thin necklace", "a nose ring", "no jewellery"), "hair falls over both ears and the neck"),
    _Row("attributes", "Which clothes can be seen at the neck?", "At the neck there is {}.",
         ("a white collar", "a striped shirt", "a woollen pullover", "a dark jacket"), "the picture ends at the chin"),
    _Row("structure", "What colour does the hair have?", "The hair is {}.",
         ("black", "reddish brown", "blond", "grey", "dyed blue"), "a cap covers all of the hair"),
    _Row("structure", "How long is the hair?", "The hair is {}.",
         ("cut very short", "chin-length", "long and tied back", "long and open"), "a hood hides it"),
    _Row("structure", "What form has the face?", "The face is {}.",
         ("oval", "round with full cheeks", "long and narrow", "square with a broad jaw"), "hands hold both cheeks"),
    _Row("skin", "Is there facial hair?", "The person has {}.",
         ("no facial hair", "some stubble", "a full beard", "a moustache only"), "a mask covers the lower half"),
    _Row("skin", "What marks does the skin have?", "The skin shows {}.",
         ("freckles on the nose", "fine lines beside the eyes", "a small scar", "no marks"), "it is overexposed"),
    _Row("skin", "What make-up is visible?", "There is {}.",
         ("red lipstick", "dark eyeliner", "rouge on the cheeks", "no make-up"), "the picture has no colours"),
    _Row("expression", "What do the lips show?", "The lips are {}.",
         ("raised at the corners", "pressed together", "parted, showing teeth", "relaxed"), "a scarf is before them"),
    _Row("expression", "How are the eyebrows held?", "The eyebrows are {}.",
         ("raised", "drawn together", "level", "uneven, the left one higher"), "a fringe falls over them"),
    _Row("expression", "Which word fits the visible expression best?", "The visible expression is {}.",
         ("a broad smile", "neutral", "a frown", "wide-eyed surprise"), "only the back of the head is shown"),
    _Row("quality", "Where does the light come from?", "The light comes from {}.",
         ("the left", "above", "a window behind the person", "a flash at the front"), "it is almost dark"),
    _Row("quality", "How sharp is the picture?", "The picture is {}.",
         ("sharp", "slightly blurred", "noisy and grainy", "full of blocks from compression"), "no face is in it"),
    _Row("quality", "What is behind the person?", "Behind the person there is {}.",
         ("a plain wall", "a street with trees", "a shelf of books", "a blurred crowd"), "the head fills the picture"),
    _Row("pose", "To which side is the head turned?", "The head is turned {}.",
         ("to its left", "to its right", "straight to the camera", "up a little", "down"), "the outline is blurred"),
    _Row("pose", "Where do the eyes look?", "The eyes look {}.",
         ("into the camera", "to the side", "at the floor", "above the camera"), "dark lenses hide the eyes"),
    _Row("pose", "Is the head tilted?", "The head is {}.",
         ("upright", "tilted to the left shoulder", "tilted to the right shoulder"), "the picture itself is rotated"),
    _Row("forensic", "Which part is covered?", "Of the face, {} covered.",
         ("nothing is", "one eye is", "the mouth is", "the forehead is"), "the picture is cut through the face"),
    _Row("forensic", "What is worn on the head?", "On the head there is {}.",
         ("nothing", "a knitted cap", "a helmet", "a headband"), "the top of the head is cut off"),
    _Row("forensic", "What is before the eyes?", "Before the eyes there is {}.",
         ("nothing", "a pair of round spectacles", "a tinted lens", "a hand"), "the upper half lies in shadow"),
)  # fmt: skip


def conversations() -> list[list[Dialogue]]:
    """:data:`CONVERSATIONS` of ten dialogues each, every kind of dialogue in each of them."""
    every = [*_open(), *_closed(), *_unseen(), *_described()]
    return [every[first::CONVERSATIONS] for first in range(CONVERSATIONS)]


def turns(tokens: Callable[[str], list[int]]) -> Turns:
    """Those of the model whose vocabulary ``tokens`` cuts text by."""
    return _CHATML if len(tokens("<|im_start|>")) == 1 else _VICUNA


def _open() -> Iterator[Dialogue]:
    for number, row in enumerate(_ROWS):
        yield Dialogue(row.question, _sentence(row, number))


def _closed() -> Iterator[Dialogue]:
    for number, row in enumerate(_ROWS):
        options = (*row.values, "cannot tell")
        yield Dialogue(user_text(row.question, options), choice_keys(options)[number % len(options)])


def _unseen() -> Iterator[Dialogue]:
    for row in _ROWS:
        yield Dialogue(row.question, f"That cannot be seen: {row.hidden}.")


def _described() -> Iterator[Dialogue]:
    """Each aspect twice as the product asks for it, and three times all of a picture."""
    for turn in range(2):
        for one in ASPECTS[:-1]:
            rows = [row for row in _ROWS if row.aspect == one.key]
            yield Dialogue(one.question, " ".join(_sentence(row, turn + place) for place, row in enumerate(rows)))
    for turn in range(3):
        yield Dialogue(aspect("detail").question, " ".join(_sentence(row, turn) for row in _ROWS[turn::3]))


def _sentence(row: _Row, number: int) -> str:
    return row.told.format(row.values[number % len(row.values)])
