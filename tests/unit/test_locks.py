"""What the environment is made of: every lock is pinned and hashed, and they agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def entries(lock: str) -> dict[str, set[str]]:
    """Package → its locked lines' versions; fails on a line that is not pinned and hashed."""
    found: dict[str, set[str]] = {}
    for entry in re.split(r"\n(?=[a-z])", (ROOT / "requirements" / lock).read_text("utf-8").strip()):
        match = re.match(r"([a-z0-9._-]+)={2,3}([^ ]+)", entry)
        assert match, entry
        assert "--hash=sha256:" in entry, entry
        found.setdefault(match[1], set()).add(match[2])
    return found


LOCKS = sorted(path.name for path in (ROOT / "requirements").glob("*.txt"))


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_and_hashed_and_no_index_is_named(lock: str) -> None:
    assert entries(lock)
    text = (ROOT / "requirements" / lock).read_text("utf-8")
    assert not re.search(r"://|--(extra-)?index-url|--find-links|\s-[if]\s", text)


@pytest.mark.parametrize(("inner", "outer"), [("desktop.txt", "dev.txt"), ("dev.txt", "training.txt")])
def test_a_wider_lock_holds_the_narrower_one_unchanged(inner: str, outer: str) -> None:
    wide = entries(outer)
    assert {name: versions for name, versions in wide.items() if name in entries(inner)} == entries(inner)


def test_pytorch_and_its_cuda_libraries_are_locked_apart() -> None:
    assert not [
        name for name in entries("training.txt") if name == "torch" or name.startswith(("nvidia", "cuda", "triton"))
    ]
    assert entries("torch-cpu.txt")["torch"] == {f"{version}+cpu" for version in entries("torch.txt")["torch"]}


def test_the_pins_that_decide_everything() -> None:
    desktop = entries("desktop.txt")
    assert desktop["mediapipe"] == {"0.10.31"}  # later ones report their use
    assert entries("engine.txt") == {"llama-cpp-python": {"0.3.36"}}
    assert "llama-cpp-python" not in desktop
    assert not [name for name in desktop if name.startswith("opencv") and name != "opencv-python-headless"]
