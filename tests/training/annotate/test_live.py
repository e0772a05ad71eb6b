"""Live mode against a real server: asked once, paid once, at the agreed rate, within the budget."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facellm_training.annotate.money import BudgetReached
from facellm_training.annotate.recipe import AnnotateRecipe
from facellm_training.annotate.run import ConsentNeeded, annotate
from facellm_training.annotate.server import ModelMissing, NoKey, ServerError, ServerGone, WrongKey
from tests.training.teacher_server import KEY, TeacherServer

Run = Callable[..., dict[str, Any]]
#: 6 pictures, 8 aspects and one object each; repairs come on top.
ASKED = 6 * 9


def test_everything_is_asked_once_and_nothing_again(run: Run, teacher: TeacherServer) -> None:
    counts = run()
    asked = counts["requests"]
    assert asked > ASKED, "the broken objects were not repaired"
    assert teacher.paid.total() == asked == len(teacher.paid)
    assert counts["unanswered"] == 0
    assert counts["answered"] == counts["kept"] + sum(counts["dropped"].values())
    assert counts["dollars"] == pytest.approx(asked * (400 * 2.5 + 40 * 10) / 1e6, abs=1e-4)
    again = run(yes=False)  # nothing is left to send, so no consent is needed
    assert teacher.paid.total() == asked
    assert again["conversations"] == counts["conversations"]


def test_without_yes_nothing_leaves_and_the_server_is_named(
    recipe_of: Callable[..., AnnotateRecipe], teacher: TeacherServer
) -> None:
    said: list[str] = []
    with pytest.raises(ConsentNeeded) as caught:
        annotate(recipe_of(), said.append, said.append)
    assert teacher.asked.total() == 0
    assert "6 pictures" in str(caught.value)
    assert f"http://127.0.0.1:{teacher.server_address[1]} (this computer)" in str(caught.value)
    assert any("54 requests" in line for line in said)
    assert any("Estimate: $" in line and "budget: $100.00" in line for line in said)


def test_with_yes_the_server_is_named_before_anything_leaves(
    recipe_of: Callable[..., AnnotateRecipe], teacher: TeacherServer
) -> None:
    asked_when_said: dict[str, int] = {}

    def say(line: str) -> None:
        asked_when_said[line] = teacher.asked.total()

    annotate(recipe_of(source={"limit": 2}), say, lambda _: None, yes=True)
    line = f"Sending 2 pictures to http://127.0.0.1:{teacher.server_address[1]} (this computer)."
    assert asked_when_said[line] == 0


def test_known_labels_are_told_to_the_teacher_and_never_stored(
    run: Run, teacher: TeacherServer, tmp_path: Path
) -> None:
    run()
    told = json.dumps(teacher.bodies)
    assert "this is a baby or toddler, a boy, 0 to 2 years" in told
    assert "this is a child, a girl, 3 to 9 years" in told
    assert "this is a young person, male, 10 to 19 years" in told
    for line in (tmp_path / "out" / "conversations.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert "this is a" not in row["messages"][0]["content"]
        assert "For you only" not in line


def test_the_key_is_stored_nowhere(run: Run, tmp_path: Path) -> None:
    run()
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("fault", ["throttle", "busy", "drop early", "drop late", "hang", "broken"])
def test_what_goes_wrong_once_is_answered_and_paid_once(fault: str, run: Run, teacher: TeacherServer) -> None:
    teacher.faults = lambda digest, number: fault if number == 0 and int(digest, 16) % 4 == 0 else ""
    counts = run(pace={"timeout_s": 0.8})
    assert counts["unanswered"] == 0
    assert set(teacher.paid.values()) == {1}
    assert teacher.paid.total() == counts["requests"]


def test_a_server_that_stores_nothing_may_be_paid_twice_and_the_report_says_so(
    run: Run, teacher: TeacherServer
) -> None:
    teacher.faults = lambda digest, number: "broken" if number == 0 and int(digest, 16) % 4 == 0 else ""
    counts = run(teacher={"store": False})
    twice = sum(paid > 1 for paid in teacher.paid.values())
    assert twice > 0
    assert counts["requests_perhaps_paid_twice"] == twice
    assert counts["dollars_perhaps_paid_without_an_answer"] > 0


def test_retry_after_is_honoured(run: Run, teacher: TeacherServer) -> None:
    teacher.retry_after = "1"
    teacher.faults = lambda _digest, number: "throttle" if number == 0 and not teacher.paid else ""
    begun = time.monotonic()
    run(source={"limit": 1}, questions={"aspects": ["pose"], "facts": False})
    assert 1.0 <= time.monotonic() - begun < 4
    assert teacher.asked.total() == 2


def test_requests_keep_to_the_rate_and_to_the_concurrency(run: Run, teacher: TeacherServer) -> None:
    teacher.seconds = 0.05
    begun = time.monotonic()
    run(pace={"concurrency": 3, "per_minute": 1200}, source={"limit": 3})
    assert time.monotonic() - begun >= (teacher.asked.total() - 1) * 60 / 1200
    assert teacher.most_running <= 3


def test_the_budget_is_never_passed(run: Run, teacher: TeacherServer, tmp_path: Path) -> None:
    with pytest.raises(BudgetReached) as caught:
        run(prices={"budget": 0.05})
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert 0 < report["dollars"] <= 0.05
    assert report["answered"] == teacher.paid.total()
    assert "requests are left" in str(caught.value)
    assert run(prices={"budget": 100.0})["unanswered"] == 0
    assert set(teacher.paid.values()) == {1}


def test_a_wrong_key_stops_before_any_picture_is_sent(
    run: Run, teacher: TeacherServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "another")
    with pytest.raises(WrongKey, match="401") as caught:
        run()
    assert "TEACHER_KEY" in caught.value.hint
    assert teacher.asked.total() == 0


def test_without_a_key_it_says_which_variable_to_set(
    run: Run, teacher: TeacherServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(NoKey, match="TEACHER_KEY"):
        run()
    assert teacher.asked.total() == 0


def test_a_missing_model_is_named_with_those_that_are_there(run: Run, teacher: TeacherServer) -> None:
    with pytest.raises(ModelMissing, match="teacher-2") as caught:
        run(teacher={"model": "teacher-2"})
    assert "teacher-1" in caught.value.hint
    assert teacher.asked.total() == 0


def test_a_model_that_only_the_request_finds_missing_stops_at_once(run: Run, teacher: TeacherServer) -> None:
    teacher.models = []
    with pytest.raises(ModelMissing):
        run()
    assert teacher.asked.total() <= 4


def test_a_server_that_is_not_there_is_said(run: Run) -> None:
    with pytest.raises(ServerGone, match="cannot be reached"):
        run(teacher={"base_url": "http://127.0.0.1:9/v1"})


def test_no_credit_stops_at_once(run: Run, teacher: TeacherServer, tmp_path: Path) -> None:
    teacher.faults = lambda _digest, _number: "quota"
    with pytest.raises(ServerError, match="no credit"):
        run()
    assert not (tmp_path / "out/conversations.jsonl").exists(), "a data set without a single answer"
    assert teacher.asked.total() <= 4


def test_a_server_that_always_fails_ends_the_run_and_keeps_what_was_answered(run: Run, teacher: TeacherServer) -> None:
    teacher.faults = lambda _digest, _number: "busy" if teacher.paid.total() >= 10 else ""
    with pytest.raises(ServerError, match="overloaded"):
        run(pace={"tries": 2})
    paid = teacher.paid.total()
    teacher.faults = lambda _digest, _number: ""
    assert run()["unanswered"] == 0
    assert paid >= 10
    assert set(teacher.paid.values()) == {1}


def test_a_refused_picture_is_counted_and_not_asked_again(run: Run, teacher: TeacherServer) -> None:
    teacher.faults = lambda digest, _number: "reject" if int(digest, 16) % 7 == 0 else ""
    counts = run()
    assert counts["rejected_by_the_server"] > 0
    asked = teacher.asked.total()
    run(yes=False)
    assert teacher.asked.total() == asked


def test_a_server_without_schemas_is_asked_without(run: Run, teacher: TeacherServer) -> None:
    teacher.schema = False
    counts = run()
    assert counts["unanswered"] == 0
    assert sum("response_format" in body for body in teacher.bodies) <= 4
    assert set(teacher.paid.values()) == {1}


def test_a_server_that_does_not_know_store_is_asked_without(run: Run, teacher: TeacherServer) -> None:
    teacher.knows_store = False
    counts = run()
    assert counts["unanswered"] == counts["rejected_by_the_server"] == 0
    assert sum("store" in body for body in teacher.bodies) <= 4


def test_a_redirect_takes_no_picture_elsewhere(run: Run, teacher: TeacherServer) -> None:
    with TeacherServer() as elsewhere:
        teacher.redirect = elsewhere.url
        with pytest.raises(ServerError):
            run()
        assert elsewhere.asked.total() == 0
