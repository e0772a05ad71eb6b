"""``facellm models`` and ``facellm doctor``: what they say, in which form, with which exit code."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from facellm.core.package import ModelPackage
from facellm.models.store import AssetStore
from tests.e2e.command import run


@pytest.fixture
def home(assets: AssetStore, tmp_path: Path) -> dict[str, str]:
    """An own data folder with the face models in it and no model."""
    (tmp_path / "assets").mkdir()
    for name in ("face-landmarker", "yunet"):
        shutil.copy(assets.path(name), tmp_path / "assets")
    return {"FACELLM_HOME": str(tmp_path), "FACELLM_OFFLINE": "1"}


@pytest.fixture
def home_with_nano(home: dict[str, str], assets: AssetStore, nano: ModelPackage) -> dict[str, str]:
    """The same, with the parts and the built nano linked in."""
    root = Path(home["FACELLM_HOME"])
    for name in ("smollm2-135m-q4_1", "clip-vit-b16-int8"):
        (root / "assets" / assets.asset(name).file).symlink_to(assets.file(name))
    (root / "models" / "nano").mkdir(parents=True)
    for file in nano.llm.parent.glob("[!.]*"):
        (root / "models" / "nano" / file.name).symlink_to(file)
    return home


def test_without_a_model_list_says_how_to_get_one(home: dict[str, str]) -> None:
    done = run("models", "list", env=home)
    assert done.returncode == 0
    assert "facellm models build nano" in done.stdout
    assert run("models", "list", "--json", env=home).stdout == ""


def test_the_nano_is_listed_for_people_and_for_machines(home_with_nano: dict[str, str]) -> None:
    assert "FaceLLM-nano" in run("models", "list", env=home_with_nano).stdout
    row = json.loads(run("models", "list", "--json", env=home_with_nano).stdout)
    assert (row["name"], row["tile"]) == ("nano", 224)
    assert row["llm_bytes"] + row["mmproj_bytes"] <= 310_000_000
    lines = run("models", "path", env=home_with_nano).stdout.splitlines()
    assert lines == [row["llm"], row["mmproj"]]


def test_a_name_of_a_model_cannot_write_to_the_terminal(home: dict[str, str]) -> None:
    from tests.models.test_packages import write_gguf

    folder = Path(home["FACELLM_HOME"]) / "models" / "evil"
    write_gguf(folder / "llm.gguf", general__name="\x1b[31mred [bold]x[/bold]")
    write_gguf(folder / "eyes.gguf", "clip", clip__vision__image_size=224)
    done = run("models", "list", env=home)
    assert "\x1b" not in done.stdout
    assert "[bold]x[/bold]" in done.stdout


def test_a_path_of_a_model_that_is_not_there_is_exit_code_1(home: dict[str, str]) -> None:
    done = run("models", "path", env=home)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "facellm models build nano" in done.stderr


def test_only_the_nano_can_be_built(home: dict[str, str]) -> None:
    assert run("models", "build", "internvl", env=home).returncode == 2


def test_building_offline_without_the_carriers_is_exit_code_1(home: dict[str, str]) -> None:
    done = run("models", "build", env=home)
    assert done.returncode == 1
    assert "FACELLM_OFFLINE" in done.stderr


def test_verify_tells_good_missing_and_damaged(home: dict[str, str]) -> None:
    done = run("models", "verify", "--json", env=home)
    assert done.returncode == 1
    assert "Not as they should be: nano (missing)." in done.stderr
    states = {row["name"]: row["state"] for row in map(json.loads, done.stdout.splitlines())}
    assert states == {
        "face-landmarker": "ok", "yunet": "ok", "smollm2-135m-q4_1": "missing", "clip-vit-b16-int8": "missing",
        "nano": "missing",
    }  # fmt: skip
    file = Path(home["FACELLM_HOME"]) / "assets" / "face_landmarker.task"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    done = run("models", "verify", "--json", env=home)
    assert done.returncode == 1
    assert "face-landmarker" in done.stderr
    (row,) = [row for row in map(json.loads, done.stdout.splitlines()) if row["state"] == "damaged"]
    assert "64184e22" in row["message"]


def test_verify_reads_the_nano_in_full_and_misses_no_part_that_it_was_built_of(
    home_with_nano: dict[str, str], assets: AssetStore
) -> None:
    part = Path(home_with_nano["FACELLM_HOME"]) / "assets" / assets.asset("smollm2-135m-q4_1").file
    part.unlink()  # the link, not the part
    done = run("models", "verify", "--json", env=home_with_nano)
    assert done.returncode == 0, done.stderr
    states = {row["name"]: row["state"] for row in map(json.loads, done.stdout.splitlines())}
    assert states.pop("smollm2-135m-q4_1") == "missing"
    assert set(states.values()) == {"ok"}
    llm = Path(run("models", "path", env=home_with_nano).stdout.splitlines()[0])
    data = llm.read_bytes()
    llm.unlink()  # the link, not the model
    llm.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = run("models", "verify", env=home_with_nano)
    assert done.returncode == 1
    assert "not the bytes that were built" in " ".join(done.stdout.split())


def test_ensure_with_everything_there_does_nothing_soon(home_with_nano: dict[str, str]) -> None:
    run("models", "ensure", env=home_with_nano)
    done = run("models", "ensure", "--json", env=home_with_nano)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["nano"]["name"] == "nano"


def test_ensure_adds_less_than_a_tenth_of_a_second(assets: AssetStore, nano: ModelPackage) -> None:
    from facellm.models.ensure import Console, ensure_all

    assert nano.llm.is_file()
    ensure_all(assets, Console())
    times = []
    for _ in range(5):
        began = time.perf_counter()
        ensure_all(AssetStore(assets.root), Console())
        times.append(time.perf_counter() - began)
    assert min(times) < 0.1


def test_the_doctor_finds_a_whole_installation_well(home_with_nano: dict[str, str]) -> None:
    done = run("doctor", "--json", env=home_with_nano)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["problems"] == []
    assert report["versions"]["mediapipe"] == "0.10.31"
    assert report["devices"]["llama.cpp"] == report["versions"]["llama-cpp-python"]
    assert set(report["assets"].values()) == {"verified"}
    assert len(run("doctor", env=home_with_nano).stdout.splitlines()) <= 40


def test_the_doctor_names_what_is_missing(home: dict[str, str]) -> None:
    (Path(home["FACELLM_HOME"]) / "assets" / "face_detection_yunet_2023mar.onnx").unlink()
    done = run("doctor", env=home)
    assert done.returncode == 1
    assert "facellm models build nano" in done.stdout
    assert "YuNet" in done.stdout
