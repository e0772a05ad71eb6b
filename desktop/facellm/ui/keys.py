"""Keys to intents. Those with a modifier work everywhere; single keys only where no text is being typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QKeySequence, QShortcut

from facellm.core.aspects import ASPECTS
from facellm.ui.panes.models import IMPORT_KEYS

if TYPE_CHECKING:
    from facellm.ui.intents import Intents
    from facellm.ui.window import MainWindow

_NO_MODIFIER = (Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.KeypadModifier, Qt.KeyboardModifier.ShiftModifier)


def preset_of(event: QKeyEvent) -> int:
    """1…8 for a preset's key, else 0."""
    text = event.text()
    plain = event.modifiers() in _NO_MODIFIER[:2]
    return int(text) if plain and text in map(str, range(1, len(ASPECTS) + 1)) and text else 0


def letter_of(event: QKeyEvent) -> str:
    """The letter (or 0, for the whole picture) that chooses a face, else nothing."""
    text = event.text()
    chooses = len(text) == 1 and text.isascii() and (text.isalpha() or text == "0")
    return text.upper() if chooses and event.modifiers() in _NO_MODIFIER else ""


def add_shortcuts(window: MainWindow, intents: Intents) -> None:
    """The keys that work everywhere in ``window``."""
    standard = QKeySequence.StandardKey
    table = {
        QKeySequence(standard.Open): intents.open_photo,
        QKeySequence(standard.Paste): intents.paste_photo,
        QKeySequence(standard.Quit) if QKeySequence(standard.Quit).count() else QKeySequence("Ctrl+Q"): window.close,
        QKeySequence("Esc"): intents.escape,
        QKeySequence("F1"): intents.show_keys,
        QKeySequence("Ctrl+L"): intents.to_question,
        QKeySequence("Ctrl+I"): intents.toggle_received,
        QKeySequence("Ctrl+B"): intents.draw_box,
        QKeySequence("Ctrl+PgDown"): intents.choose_next,
        QKeySequence("Ctrl+PgUp"): intents.choose_previous,
        QKeySequence("Alt+0"): intents.choose_whole,
        QKeySequence(IMPORT_KEYS): intents.import_model,
    }
    for keys, intent in table.items():
        QShortcut(keys, window).activated.connect(intent)
    for number in range(1, len(ASPECTS) + 1):
        shortcut = QShortcut(QKeySequence(f"Alt+{number}"), window)
        shortcut.setProperty("preset", number)
        shortcut.activated.connect(intents.ask_preset_of_shortcut)
