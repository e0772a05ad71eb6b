"""Both schemes are legible, complete, and switched while the window is open."""

from __future__ import annotations

import re

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QApplication

from facellm.ui import theme as themes
from facellm.ui.parts import Button
from facellm.ui.theme import DARK, LIGHT, Colours, Theme, contrast, stylesheet

#: Every pair of text and ground that the window draws.
TEXT_ON_GROUND = [
    ("text", "window"),
    ("text", "surface"),
    ("text", "stage"),
    ("text", "quiet"),
    ("text", "hover"),
    ("text", "accent_soft"),
    ("text", "warning_soft"),
    ("text", "danger_soft"),
    ("secondary", "window"),
    ("secondary", "surface"),
    ("secondary", "stage"),
    ("secondary", "quiet"),
    ("window", "secondary"),
    ("on_accent", "accent"),
    ("on_accent", "accent_hover"),
    ("danger", "surface"),
]
#: Icons and rings need 3:1 (WCAG 1.4.11).
SHAPE_ON_GROUND = [
    ("accent", "surface"),
    ("accent", "window"),
    ("accent", "stage"),
    ("accent", "accent_soft"),
    ("danger", "danger_soft"),
    ("warning", "warning_soft"),
    ("warning", "quiet"),
    ("good", "surface"),
    ("good", "quiet"),
]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT_ON_GROUND)
def test_text_has_a_contrast_of_at_least_4_5(colours: Colours, text: str, ground: str) -> None:
    assert contrast(getattr(colours, text), getattr(colours, ground)) >= 4.5


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("shape", "ground"), SHAPE_ON_GROUND)
def test_icons_and_rings_have_a_contrast_of_at_least_3(colours: Colours, shape: str, ground: str) -> None:
    assert contrast(getattr(colours, shape), getattr(colours, ground)) >= 3.0


def test_tags_over_a_photo_bring_their_own_ground() -> None:
    assert contrast(themes.PHOTO_TAG_TEXT, themes.PHOTO_CHOSEN) >= 4.5
    # The tag's ground is a little transparent: at its worst, over white.
    alpha, ground = int(themes.PHOTO_TAG[1:3], 16) / 255, themes.PHOTO_TAG[3:]
    mixed = [round(int(ground[i : i + 2], 16) * alpha + 255 * (1 - alpha)) for i in (0, 2, 4)]
    assert contrast(themes.PHOTO_TAG_TEXT, "#{:02x}{:02x}{:02x}".format(*mixed)) >= 4.5


def test_contrast_is_wcag_s() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # the well-known limit


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_the_stylesheet_has_no_token_left_and_no_colour_of_its_own(colours: Colours) -> None:
    assert "$" not in stylesheet(colours)
    template = (themes.RESOURCES / "window.qss").read_text(encoding="utf-8")
    assert not re.findall(r"#[0-9a-fA-F]{6}\b|\brgba?\(", template)


def test_the_window_follows_the_system_while_it_is_open(qapp: QApplication, qtbot) -> None:
    theme = Theme(qapp)
    try:
        button = Button(theme, "Open", "open")
        qtbot.addWidget(button)
        before = button.icon().pixmap(20).toImage()
        qapp.styleHints().colorSchemeChanged.emit(Qt.ColorScheme.Dark)
        assert theme.colours is DARK
        assert qapp.palette().color(QPalette.ColorRole.Window).name() == DARK.window
        assert DARK.surface in qapp.styleSheet()
        assert button.icon().pixmap(20).toImage() != before
        qapp.styleHints().colorSchemeChanged.emit(Qt.ColorScheme.Light)
        assert theme.colours is LIGHT
    finally:
        theme.close()


def test_a_fixed_scheme_does_not_follow_the_system(qapp: QApplication) -> None:
    theme = Theme(qapp, Qt.ColorScheme.Dark)
    try:
        qapp.styleHints().colorSchemeChanged.emit(Qt.ColorScheme.Light)
        assert theme.colours is DARK
    finally:
        theme.close()
