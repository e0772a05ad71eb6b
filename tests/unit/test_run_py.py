"""What ``python3 run.py`` does with the environment: real processes, real files, no network."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import run
from bootstrap import assets, engine, environment, packages, places

ROOT = Path(__file__).resolve().parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has neither this call nor this account")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment in a folder of the test's, whose name has a space and a letter outside ASCII."""
    folder = tmp_path / "Büro 1"
    folder.mkdir()
    venv = folder / ".venv"
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "UNFINISHED", venv / ".unfinished")
    monkeypatch.setattr(environment, "TURN", folder / "lock")
    for module in (environment, packages):
        monkeypatch.setattr(module, "LOG", folder / "log.txt")
        monkeypatch.setattr(module, "venv_python", lambda: places.venv_python(venv))
    for module in (environment, engine):
        monkeypatch.setattr(module, "FLAGS_FILE", venv / ".cmake-args")
    monkeypatch.delenv(engine.FLAGS_ENV, raising=False)
    return folder


# --- which Python


@pytest.mark.parametrize("version", [(3, 9, 2), (3, 10, 13), (3, 14, 0)])
def test_another_python_is_told_which_ones_will_do(version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SystemExit, match=rf"3\.11, 3\.12 or 3\.13; this is {version[0]}\.{version[1]}"):
        runpy.run_path(str(ROOT / "bootstrap" / "__init__.py"))


# --- the engine's wheel


def test_a_folder_with_spaces_reaches_cmake_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    prelude = Path("/home/José Pérez/face llm/llama_prelude.cmake")
    monkeypatch.setattr(engine, "PRELUDE", prelude)
    monkeypatch.setenv(engine.FLAGS_ENV, "-DGGML_VULKAN=ON")
    words = shlex.split(engine.cmake_args())
    assert words[0] == f"-DCMAKE_PROJECT_llama_cpp_INCLUDE={prelude.as_posix()}"
    assert "-DGGML_NATIVE=OFF" in words
    assert words[-1] == "-DGGML_VULKAN=ON"


def test_other_flags_mean_another_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(engine.FLAGS_ENV, raising=False)
    plain = engine.build_key()
    assert plain == engine.build_key()
    monkeypatch.setenv(engine.FLAGS_ENV, "-DGGML_CUDA=ON")
    assert engine.build_key() != plain


def test_flags_are_kept_for_starts_that_name_none(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = engine.build_key()
    monkeypatch.setenv(engine.FLAGS_ENV, " -DGGML_CUDA=ON")
    gpu = engine.build_key()
    (workplace / ".venv").mkdir()
    engine.FLAGS_FILE.write_text(engine.extra_flags())
    monkeypatch.delenv(engine.FLAGS_ENV)
    assert engine.build_key() == gpu != plain
    assert shlex.split(engine.cmake_args())[-1] == "-DGGML_CUDA=ON"
    monkeypatch.setenv(engine.FLAGS_ENV, "")  # said: none
    assert engine.build_key() == plain


def test_a_wheel_built_before_is_taken_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert engine.built_wheel() is None
    wheel = engine.wheel_folder() / "llama_cpp_python-0.3.36-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"")
    monkeypatch.setenv("PATH", "")
    assert engine.engine_wheel() == wheel


@posix
def test_an_empty_home_is_the_accounts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    own = pwd.getpwuid(os.getuid()).pw_dir
    assert places.cache_folder().is_relative_to(own)
    assert places.inner_environment()["HOME"] == own


# --- the environment


def make_small_venv(folder: Path) -> None:
    """Without pip, which takes most of the time that making one takes."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)


def test_an_environment_is_ready_only_when_set_up_to_the_end_from_this_lock(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks = workplace / "requirements"
    locks.mkdir()
    (locks / "desktop.txt").write_text("a==1\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", locks)
    python = places.venv_python(workplace / ".venv")
    python.parent.mkdir(parents=True)
    assert not environment.is_ready("desktop.txt")
    python.touch()
    assert not environment.is_ready("desktop.txt")
    environment._stamp("desktop.txt")
    assert environment.is_ready("desktop.txt")
    environment.UNFINISHED.touch()
    assert not environment.is_ready("desktop.txt")
    environment.UNFINISHED.unlink()
    (locks / "desktop.txt").write_text("a==2\n")
    assert not environment.is_ready("desktop.txt")


def test_a_set_up_that_was_cut_off_is_started_anew(workplace: Path) -> None:
    make_small_venv(workplace / ".venv")
    made = (workplace / ".venv") / "pyvenv.cfg"
    first = made.stat().st_mtime_ns
    environment._make_venv()
    assert made.stat().st_mtime_ns == first
    with pytest.raises(KeyboardInterrupt), environment._changing():
        raise KeyboardInterrupt
    ((workplace / ".venv") / "half a package").touch()
    environment._make_venv()
    assert not ((workplace / ".venv") / "half a package").exists()
    done = subprocess.run(
        [places.venv_python(workplace / ".venv"), "-m", "pip", "--version"], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_our_packages_are_found_from_any_folder_when_the_project_is_moved(workplace: Path) -> None:
    make_small_venv(workplace / ".venv")
    environment._write_paths()
    (path_file,) = (workplace / ".venv").rglob("facellm-sources.pth")
    lines = path_file.read_text("utf-8").splitlines()
    assert not [line for line in lines if Path(line).is_absolute()]
    ask = "import facellm, facellm_training, facellm_converters; print(facellm.__file__)"
    command, inner = [str(places.venv_python(workplace / ".venv")), "-c", ask], places.inner_environment()
    found = subprocess.run(
        command, env=inner, capture_output=True, encoding="utf-8", check=True, cwd=workplace
    ).stdout.strip()
    assert Path(found).resolve().is_relative_to(ROOT)


def test_variables_that_would_change_which_code_runs_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PYTHONHOME", "/somewhere")
    assert not {"PYTHONPATH", "PYTHONHOME"} & places.inner_environment().keys()


# --- the models


def test_models_are_looked_at_again_when_one_of_them_or_the_data_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stamp = tmp_path / "model.gguf", tmp_path / "stamp"
    model.write_bytes(b"GGUF")
    monkeypatch.setattr(assets, "STAMP", stamp)
    assert not assets.looked_at()
    stamp.write_text(json.dumps({"files": [str(model)], "state": assets._state([model])}))
    assert assets.looked_at()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("FACELLM_HOME", str(tmp_path))
        assert not assets.looked_at()
    model.write_bytes(b"GGUF, cut off")
    assert not assets.looked_at()
    model.unlink()
    assert not assets.looked_at()
    stamp.write_text("{")
    assert not assets.looked_at()


def test_the_models_depend_on_the_manifest_and_the_trained_deltas() -> None:
    names = {path.name for pattern in assets.INPUTS for path in ROOT.glob(pattern)}
    assert {"catalogue.toml", "deltas.safetensors", "build.py"} <= names


# --- words


def test_set_up_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["setup", "everything"]) == 1
    assert "training" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "need"),
    [([], "window"), (["{photo}"], "window"), (["no such file"], "offscreen"), (["faces", "{photo}"], "offscreen")],
)
def test_the_window_has_its_libraries_and_the_program_knows_its_command(
    arguments: list[str], need: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.jpg").touch()
    arguments = [word.format(photo=tmp_path / "photo.jpg") for word in arguments]
    monkeypatch.setenv("FACELLM_COMMAND", "")  # so that it is as before when the test is over
    monkeypatch.delenv("FACELLM_COMMAND")
    monkeypatch.setattr(sys, "orig_argv", ["python3", "run.py", *arguments])
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    seen: list[object] = []
    monkeypatch.setattr(run, "prepare", lambda lock, need: seen.append((lock, need)))
    monkeypatch.setattr(run, "ensure_assets", lambda: seen.append(os.environ["FACELLM_COMMAND"]))

    def run_inside(inner: list[str]) -> int:
        seen.append(inner)
        return 0

    monkeypatch.setattr(run, "run_inside", run_inside)
    assert run.main(arguments) == 0
    assert seen == [("desktop.txt", need), "python3 run.py", ["-P", "-m", "facellm.cli.app", *arguments]]
    monkeypatch.setenv("FACELLM_COMMAND", "facellm")
    run.main(arguments)
    assert seen[4] == "facellm"


@pytest.mark.parametrize(
    ("platform", "python", "script", "command"),
    [
        ("linux", "/usr/bin/python3", "my faces/run.py", "/usr/bin/python3 'my faces/run.py'"),
        ("win32", "python", "run.py", "python run.py"),
        ("win32", "C:\\Python312\\python.exe", "my faces\\run.py", 'py "my faces\\run.py"'),
    ],
)
def test_the_command_can_be_typed_again(
    platform: str, python: str, script: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", [python, script])
    monkeypatch.setattr(sys, "argv", [script])
    monkeypatch.setattr(sys, "platform", platform)
    assert run.started_as() == command


@pytest.mark.skipif(not environment.is_ready("dev.txt"), reason="this checkout's environment was not made by run.py")
class TestInside:
    def test_an_unknown_benchmark_is_answered_with_those_there_are(self) -> None:
        done = subprocess.run([sys.executable, ROOT / "run.py", "bench", "nothing"], capture_output=True, check=False)
        assert done.returncode == 1
        assert b"Which benchmark? There are:" in done.stderr

    def test_arguments_exit_code_and_input_pass_through(self, tmp_path: Path) -> None:
        script = tmp_path / "eine Übung.py"
        script.write_text("import sys\nprint(sys.argv[1:], sys.stdin.read())\nsys.exit(7)\n")
        command = [sys.executable, str(ROOT / "run.py"), "python", str(script), "a b", "--flag"]
        done = subprocess.run(command, input="from outside", capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == 7
        assert done.stdout == "['a b', '--flag'] from outside\n"
        assert not done.stderr

    @posix
    def test_a_second_start_costs_less_than_three_tenths_of_a_second(self) -> None:
        """Processor time, which a busy machine does not change much."""

        def seconds(*command: str | Path) -> float:
            costs = []
            for _ in range(3):
                before = os.times()
                subprocess.run([*command, "-c", "pass"], check=True)
                after = os.times()
                costs.append(
                    after.children_user + after.children_system - before.children_user - before.children_system
                )
            return min(costs)

        direct = seconds(places.venv_python())
        assert seconds(sys.executable, ROOT / "run.py", "python") - direct < 0.3
