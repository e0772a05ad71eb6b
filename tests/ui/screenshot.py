"""Takes a picture of the real window while it answers: ``python3 run.py python tests/ui/screenshot.py``.

    tests/ui/screenshot.py PHOTO PICTURE.png [--ask QUESTION]… [--face B] [--unfold] [--dark]

``--help`` has more. Without arguments it renews ``docs/window.png`` and ``docs/window-dark.png`` from portraits of
people who do not exist (CC0, ``../shared/data/portraits/synthetic``). Needs a screen: start it under ``xvfb-run``
where there is none.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QEventLoop, QSettings, Qt, QTimer
from PySide6.QtWidgets import QApplication

from facellm.core.aspects import ASPECTS
from facellm.engine.protocol import EngineOptions
from facellm.ui.app import make_application, make_window
from facellm.ui.backend import LocalBackend
from facellm.ui.presenters.engine import Phase
from facellm.ui.theme import Theme
from facellm.ui.window import MainWindow

ROOT = Path(__file__).resolve().parents[2]
PORTRAITS = ROOT.parent / "shared" / "data" / "portraits" / "synthetic"
#: In two rows of three.
SIX = ("female_003", "male_010", "female_020", "male_050", "female_040", "male_070")
WAIT_S = 180


def wait_until(done: Callable[[], bool], seconds: float = WAIT_S) -> None:
    """Let the window live until ``done``. Ends the program when that takes too long."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            sys.exit("the window took too long")
        pause(20)


def pause(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def group_photo(folder: Path) -> Path:
    """Six portraits as one photo."""
    from PIL import Image

    photo = Image.new("RGB", (3 * 512, 2 * 512))
    for index, name in enumerate(SIX):
        with Image.open(PORTRAITS / f"{name}.jpg") as portrait:
            photo.paste(portrait.convert("RGB").resize((512, 512)), (index % 3 * 512, index // 3 * 512))
    path = folder / "six-people.jpg"
    photo.save(path, quality=92)
    return path


def shrink(picture: Path) -> None:
    """256 colours: a third of the bytes in the repository, at the cost of a little grain."""
    from PIL import Image

    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG)
    small.save(picture, optimize=True)


def take(app: QApplication, options: argparse.Namespace, photo: Path, picture: Path, dark: bool) -> None:
    """One window from opening to closing; ``picture`` is what the screen showed."""
    theme = Theme(app, Qt.ColorScheme.Dark if dark else Qt.ColorScheme.Light)
    with tempfile.TemporaryDirectory() as folder:
        settings = QSettings(f"{folder}/settings.ini", QSettings.Format.IniFormat)
        window = make_window(LocalBackend(options=EngineOptions(threads=options.threads)), theme, settings)
        width, height = map(int, options.size.split("x"))
        window.setGeometry(0, 0, width, height)
        window.show()
        window.begin([str(photo)])
        show_answers(window, options)
        pause(200)
        rect = window.geometry()
        screen = window.screen()
        screen.grabWindow(0, rect.x(), rect.y(), rect.width(), rect.height()).save(str(picture))
        shrink(picture)
        window.close()
    theme.close()


def show_answers(window: MainWindow, options: argparse.Namespace) -> None:
    studio = window.studio
    wait_until(lambda: studio.photo.opened is not None and studio.engine.state.phase is Phase.READY)
    studio.photo.choose_key(options.face)
    window.facts.fold.setChecked(options.unfold)
    for question in options.ask:
        studio.ask(question)
    wait_until(lambda: not studio.conversation.running)
    for exchange in studio.exchanges():
        sys.stdout.write(f"answered: {exchange.question} -> {exchange.text}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("photo", nargs="?", type=Path)
    parser.add_argument("picture", nargs="?", type=Path)
    parser.add_argument("--ask", action="append", default=[])
    parser.add_argument("--face", default="A")
    parser.add_argument("--unfold", action="store_true")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--size", default="1440x900")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if "DISPLAY" not in os.environ and sys.platform.startswith("linux"):
        parser.error("there is no screen; start this under xvfb-run -s '-screen 0 1440x900x24'")
    app = make_application(["facellm"])
    if options.photo is not None and options.picture is not None:
        take(app, options, options.photo, options.picture, options.dark)
        return 0
    options.ask = options.ask or ["Is this person wearing glasses?", ASPECTS[0].question, ASPECTS[3].question]
    options.face = "C"
    with tempfile.TemporaryDirectory() as folder:
        photo = group_photo(Path(folder))
        take(app, options, photo, ROOT / "docs" / "window.png", dark=False)
        options.unfold = True
        take(app, options, photo, ROOT / "docs" / "window-dark.png", dark=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
