"""Opens the window. Nothing heavy is imported before it is on the screen."""

from __future__ import annotations

import logging

from PySide6.QtCore import QSettings, QTimer
from PySide6.QtGui import QIcon
from PySide6.QtWidgets import QApplication

from facellm import __version__
from facellm.ui.backend import LocalBackend
from facellm.ui.interrupt import on_interrupt
from facellm.ui.ports import Backend
from facellm.ui.presenters.studio import Studio
from facellm.ui.tasks import PoolRunner
from facellm.ui.theme import RESOURCES, Theme
from facellm.ui.window import MainWindow


def make_application(argv: list[str]) -> QApplication:
    """``argv[0]`` is the program. The Qt application, named so that settings and windows carry the product's name."""
    app = QApplication(argv)
    app.setApplicationName("FaceLLM")
    app.setOrganizationName("FaceLLM")
    app.setApplicationVersion(__version__)
    app.setDesktopFileName("facellm")
    app.setWindowIcon(QIcon(str(RESOURCES / "icons" / "app.svg")))
    return app


def make_window(backend: Backend, theme: Theme, settings: QSettings | None = None) -> MainWindow:
    """The window over these parts: one thread for the engine, two for photos, two for what builds and imports."""
    studio = Studio(backend, PoolRunner(1), PoolRunner(4))
    return MainWindow(studio, theme, settings or QSettings())


def run_window(argv: list[str]) -> int:
    """Show the window until it is closed. ``argv`` as ``sys.argv``: the program, then perhaps a photo's path.

    Returns the exit code.
    """
    logging.basicConfig(level=logging.WARNING)
    app = make_application(argv)
    theme = Theme(app)
    window = make_window(LocalBackend(), theme)
    window.show()
    paths = app.arguments()[1:]  # without what Qt took for itself
    QTimer.singleShot(0, window, lambda: window.begin(paths))
    with on_interrupt(app.closeAllWindows):
        code = app.exec()
    theme.close()
    return code
