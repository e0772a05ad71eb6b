"""What commands write, on terminals and in pipes."""

from __future__ import annotations

import io
import json
import math

import pytest

from facellm.cli.output import Progress, box_row, facts_row, number, printable, show_error, write_json
from facellm.core.errors import FaceLLMError
from facellm.core.faces import FaceBox, Facts
from facellm.engine.protocol import Loading


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_error_is_one_sentence_and_a_hint_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(FaceLLMError("It broke.", "Mend it."), about="photo.jpg")
    assert capsys.readouterr() == ("", "photo.jpg: It broke.\nMend it.\n")


def test_escape_sequences_never_reach_a_terminal() -> None:
    assert printable("a\x1b[31mb\x9b0m\x07\r\n\tü “x” \u202e漢👩‍🚀") == "a[31mb0m\n\tü “x” 漢👩‍🚀"


def test_json_is_one_ascii_line(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"image": "Zoë\nfoto.jpg", "faces": []})
    out = capsys.readouterr().out
    assert out.isascii()
    assert out.count("\n") == 1
    assert json.loads(out)["image"] == "Zoë\nfoto.jpg"


def test_not_a_number_becomes_null() -> None:
    assert (number(math.nan), number(None), number(0.123456)) == (None, None, 0.1235)


def test_a_box_and_facts_as_rows() -> None:
    assert box_row(FaceBox(1.04, 2.06, 30, 40.55, 0.9)) == [1.0, 2.1, 30.0, 40.5]
    row = facts_row(Facts(40, 0.5, 0.25, 30, yaw=-12.34567))
    assert row["yaw"] == -12.3457
    assert row["smile"] is None
    assert set(row) == set(Facts.__slots__)


def test_progress_into_a_pipe_is_one_line_a_stage_without_escapes() -> None:
    stream = io.StringIO()
    with Progress(stream) as progress:
        for stage, fraction in [("language model", 0.1), ("language model", 0.9), ("image tower", 0.5)]:
            progress.loading(Loading(stage, fraction))
        progress.say("2 faces")
    assert stream.getvalue() == "Loading the model: language model\nLoading the model: image tower\n2 faces\n"


def test_progress_on_a_terminal_is_taken_away_and_what_is_said_stays() -> None:
    stream = Terminal()
    with Progress(stream) as progress:
        progress.loading(Loading("image tower", 0.5))
        progress.say("2 faces")
        progress.doing("[not a markup tag]")
    text = stream.getvalue()
    assert "image tower 50%" in text
    assert "2 faces\n" in text
    assert "[not a markup tag]" in text
    assert text.rstrip("\n").endswith(("\x1b[2K", "\x1b[?25h"))  # the last line was erased, the cursor shown
