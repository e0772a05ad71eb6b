"""The window is there before anything heavy is imported, and a new process with a real screen answers a question."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QImage

from facellm.core.package import ModelPackage

HEAVY = {"cv2", "mediapipe", "PIL", "llama_cpp", "onnx", "gguf", "torch", "multiprocessing", "rich", "jinja2"}

UNTIL_SHOWN = """
import sys
from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtWidgets import QApplication
import facellm.ui.app as app
from facellm.ui.window import MainWindow

class FirstPaint(QObject):
    def eventFilter(self, watched, event):
        if event.type() == QEvent.Type.Paint:
            print(*sys.modules, flush=True)
            QApplication.instance().removeEventFilter(self)
            QTimer.singleShot(0, lambda: [w.close() for w in QApplication.topLevelWidgets()])
        return False

make, first = app.make_application, FirstPaint()
def watched(argv):
    application = make(argv)
    application.installEventFilter(first)
    return application
app.make_application = watched
sys.exit(app.run_window(["facellm"]))
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    path = os.pathsep.join(part for part in sys.path if part)
    return os.environ | {"PYTHONPATH": path, "FACELLM_HOME": str(home), "XDG_CONFIG_HOME": str(home)} | more


def test_nothing_heavy_is_imported_before_the_first_paint(tmp_path: Path) -> None:
    env = environment(tmp_path, QT_QPA_PLATFORM="offscreen")
    found = subprocess.run(
        [sys.executable, "-c", UNTIL_SHOWN], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    modules = set(found.stdout.split())
    assert "PySide6.QtWidgets" in modules
    assert not modules & HEAVY


@pytest.fixture
def screen() -> Iterator[str]:
    """A real X screen, 1440 × 900, of our own."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1440x900x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=(write,), stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
        server.terminate()


def test_a_real_window_answers_a_question_about_a_real_photo(
    screen: str, nano: ModelPackage, astronaut: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "window.png"
    script = Path(__file__).with_name("screenshot.py")
    env = environment(nano.llm.parents[2], QT_QPA_PLATFORM="xcb", DISPLAY=screen, XDG_CONFIG_HOME=str(tmp_path))
    started = time.monotonic()
    options = ["--ask", "Is this person smiling?", "--threads", "1"]  # as in conftest.py: two would spin
    done = subprocess.run(
        [sys.executable, str(script), str(astronaut), str(picture), *options],
        capture_output=True, text=True, env=env, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "answered:" in done.stdout
    image = QImage(str(picture))
    assert (image.width(), image.height()) == (1440, 900)
    colours = {image.pixel(x, y) for x in range(0, 1440, 7) for y in range(0, 900, 7)}
    assert len(colours) > 150, "the picture of the window is as good as blank"
    assert time.monotonic() - started < 240
