"""The Batch API: parts under the limits, submitted once, failed and missing lines asked again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facellm_training.annotate.batch import Batch, BatchFailed
from facellm_training.annotate.money import BudgetReached
from tests.training.teacher_server import TeacherServer

Run = Callable[..., dict[str, Any]]


def test_a_batch_brings_the_same_data_set_as_live_mode_at_half_the_price(
    run: Run, teacher: TeacherServer, tmp_path: Path
) -> None:
    live = run(out="live")
    with TeacherServer() as other:
        batch = run(out="batch", mode="batch", teacher={"base_url": other.url})
        assert set(other.paid.values()) == {1}
    for name in ("conversations.jsonl", "conversations.parquet"):
        assert (tmp_path / "batch" / name).read_bytes() == (tmp_path / "live" / name).read_bytes()
    assert batch["dollars"] == pytest.approx(live["dollars"] / 2, abs=1e-4)


def test_parts_keep_to_the_limits_of_a_file(run: Run, teacher: TeacherServer) -> None:
    run(mode="batch", batches={"part_requests": 10, "part_mb": 0.05})
    uploads = [teacher.files[batch["input_file_id"]] for batch in teacher.batches.values()]
    assert len(uploads) >= 6
    assert all(len(text) <= 50_000 and text.count("\n") <= 10 for text in uploads)


def test_failed_missing_and_broken_lines_are_asked_again(run: Run, teacher: TeacherServer) -> None:
    faults = {0: "429", 1: "500", 2: "missing"}
    teacher.line_fault = lambda digest, number: faults.get(int(digest, 16) % 6, "") if number == 0 else ""
    teacher.batch_end = "expired"
    counts = run(mode="batch")
    assert counts["unanswered"] == 0
    assert teacher.paid.total() == counts["requests"]
    assert set(teacher.paid.values()) == {1}
    assert len(teacher.batches) > 2


def test_a_refused_line_is_counted(run: Run, teacher: TeacherServer) -> None:
    teacher.line_fault = lambda digest, _number: "400" if int(digest, 16) % 6 == 0 else ""
    counts = run(mode="batch")
    assert counts["rejected_by_the_server"] > 0
    assert counts["answered"] + counts["rejected_by_the_server"] == counts["requests"]


def test_a_batch_whose_creation_was_not_heard_of_is_found_again(run: Run, teacher: TeacherServer) -> None:
    teacher.drop_after_create = 1
    counts = run(mode="batch", questions={"facts": False})
    assert len(teacher.batches) == 1
    assert counts["unanswered"] == 0


@pytest.mark.parametrize("after", ["upload", "create"])
def test_killed_between_two_steps_nothing_is_submitted_twice(
    after: str, run: Run, teacher: TeacherServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real kill is in the fault drill; here it comes exactly between the service's answer and the journal."""

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch:
        keep = Batch._create

        async def create(self: Batch, file_id: str, mark: dict[str, str]) -> str:
            if after == "create":
                await keep(self, file_id, mark)
            raise Killed

        patch.setattr(Batch, "_create", create)
        with pytest.raises(Killed):
            run(mode="batch", questions={"facts": False})
    counts = run(mode="batch", questions={"facts": False})
    assert len(teacher.batches) == 1
    assert counts["unanswered"] == 0
    assert set(teacher.paid.values()) == {1}


def test_the_budget_holds_for_what_is_submitted(run: Run, teacher: TeacherServer, tmp_path: Path) -> None:
    with pytest.raises(BudgetReached):
        run(mode="batch", prices={"budget": 0.04}, batches={"part_requests": 5})
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert 0 < report["dollars"] <= 0.04
    assert run(mode="batch")["unanswered"] == 0
    assert set(teacher.paid.values()) == {1}


def refused(code: str, message: str) -> Callable[[dict[str, Any]], None]:
    def end(batch: dict[str, Any]) -> None:
        batch["status"] = "failed"
        batch["errors"] = {"object": "list", "data": [{"code": code, "message": message}]}

    return end


@pytest.mark.parametrize(
    ("code", "said"), [("invalid_json_line", "does not parse"), ("token_limit_exceeded", "queue is full")]
)
def test_a_part_that_the_service_does_not_take_is_said_and_costs_nothing(
    run: Run, teacher: TeacherServer, code: str, said: str
) -> None:
    keep, teacher.finish_batch = teacher.finish_batch, refused(code, said)  # type: ignore[method-assign]
    with pytest.raises(BatchFailed, match=said):
        run(mode="batch")
    teacher.finish_batch = keep  # type: ignore[method-assign]
    assert run(mode="batch")["unanswered"] == 0
    assert set(teacher.paid.values()) == {1}


def test_parts_wait_for_their_turn_in_a_full_queue(run: Run, teacher: TeacherServer) -> None:
    """One part at a time is all that the account may have waiting: more rounds than ``batches.rounds`` are needed."""
    keep, full = teacher.finish_batch, refused("token_limit_exceeded", "Enqueued token limit reached")

    def one_at_a_time(batch: dict[str, Any]) -> None:
        waiting = [each for each in teacher.batches.values() if each["status"] == "in_progress"]
        (keep if batch is waiting[0] else full)(batch)

    teacher.finish_batch = one_at_a_time  # type: ignore[method-assign]
    counts = run(mode="batch", batches={"part_requests": 4, "rounds": 2})
    assert counts["unanswered"] == 0
    assert len([batch for batch in teacher.batches.values() if batch["status"] == "completed"]) > 2
    assert set(teacher.paid.values()) == {1}
