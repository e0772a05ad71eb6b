"""The window's look in one place: colours for light and dark, type sizes, the 8 px grid; applied and switched live.

Contrast is computed by WCAG 2.2 (relative luminance); ``tests/ui/test_theme.py`` holds every pair used to >= 4.5.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from string import Template

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory

RESOURCES = Path(__file__).resolve().parent.parent / "resources"

GRID = 8
RADIUS = 8
STRIP_HEIGHT = 48
BODY_PX, CAPTION_PX, TITLE_PX, HERO_PX = 13, 11, 17, 22
LINE_HEIGHT = 145  # per cent
ICON_PX = 20


@dataclass(frozen=True, slots=True)
class Colours:
    """One scheme. ``on_*`` is text over that colour; ``stage`` lies behind the picture,
    ``quiet`` fills bubbles, ``frame`` is for dashes.
    """

    window: str
    surface: str
    stage: str
    quiet: str
    hover: str
    border: str
    frame: str
    text: str
    secondary: str
    accent: str
    accent_hover: str
    on_accent: str
    accent_soft: str
    warning: str
    warning_soft: str
    danger: str
    danger_soft: str
    good: str


LIGHT = Colours(
    window="#f5f6f8",
    surface="#ffffff",
    stage="#e9ecf1",
    quiet="#eef1f6",
    hover="#e6eaf1",
    border="#d5dae3",
    frame="#b9c1ce",
    text="#161a22",
    secondary="#535d6e",
    accent="#2563eb",
    accent_hover="#1d4fd0",
    on_accent="#ffffff",
    accent_soft="#e3ecfe",
    warning="#8a4b08",
    warning_soft="#fdf1dd",
    danger="#b3261e",
    danger_soft="#fdeceb",
    good="#1a7f46",
)
DARK = Colours(
    window="#16191e",
    surface="#1d2127",
    stage="#0f1115",
    quiet="#282d36",
    hover="#2d333d",
    border="#363d48",
    frame="#454e5c",
    text="#e8ebf0",
    secondary="#a5aebc",
    accent="#60a5fa",
    accent_hover="#82b8fb",
    on_accent="#0b1526",
    accent_soft="#1f3352",
    warning="#f0b45b",
    warning_soft="#3a2d17",
    danger="#f58a82",
    danger_soft="#3f2324",
    good="#5cc98b",
)
#: Over a photo nothing is known about what lies beneath: tags bring their own ground, lines their own halo.
PHOTO_LINE, PHOTO_HALO, PHOTO_TAG, PHOTO_TAG_TEXT = "#ffffff", "#99000000", "#e0101318", "#ffffff"
PHOTO_CHOSEN = LIGHT.accent


def luminance(colour: str) -> float:
    """WCAG relative luminance 0..1 of ``#rrggbb``."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio 1..21 of two ``#rrggbb`` colours."""
    bright, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def palette(colours: Colours) -> QPalette:
    """Qt's palette for what the style paints itself (selections, placeholders, tooltips, native menus)."""
    role = QPalette.ColorRole
    pairs = {
        role.Window: colours.window,
        role.WindowText: colours.text,
        role.Base: colours.surface,
        role.AlternateBase: colours.quiet,
        role.Text: colours.text,
        role.Button: colours.surface,
        role.ButtonText: colours.text,
        role.BrightText: colours.on_accent,
        role.ToolTipBase: colours.surface,
        role.ToolTipText: colours.text,
        role.PlaceholderText: colours.secondary,
        role.Highlight: colours.accent,
        role.HighlightedText: colours.on_accent,
        role.Accent: colours.accent,
        role.Link: colours.accent,
        role.LinkVisited: colours.accent,
        role.Mid: colours.border,
        role.Dark: colours.border,
        role.Light: colours.surface,
        role.Midlight: colours.hover,
        role.Shadow: colours.stage,
    }
    result = QPalette()
    for name, colour in pairs.items():
        result.setColor(name, QColor(colour))
    for name in (role.Text, role.WindowText, role.ButtonText):
        result.setColor(QPalette.ColorGroup.Disabled, name, QColor(colours.secondary))
    return result


def stylesheet(colours: Colours) -> str:
    """``resources/window.qss`` with the tokens filled in. Raises ``KeyError`` for an unknown token."""
    tokens: dict[str, str] = dict(dataclasses.asdict(colours))
    tokens |= {"body": f"{BODY_PX}px", "caption": f"{CAPTION_PX}px", "title": f"{TITLE_PX}px", "hero": f"{HERO_PX}px"}
    tokens |= {"radius": f"{RADIUS}px"}
    return Template((RESOURCES / "window.qss").read_text(encoding="utf-8")).substitute(tokens)


class Theme(QObject):
    """The scheme in use. Follows the system; ``changed`` tells painted widgets and icons to renew themselves."""

    changed = Signal()

    def __init__(self, app: QApplication, scheme: Qt.ColorScheme = Qt.ColorScheme.Unknown) -> None:
        """``scheme`` other than ``Unknown`` is kept whatever the system says."""
        super().__init__()
        self._app, self._fixed = app, scheme
        self.colours = LIGHT
        style = QStyleFactory.create("Fusion")
        if style is not None:
            app.setStyle(style)
        font = QFont(app.font())
        font.setPixelSize(BODY_PX)
        app.setFont(font)
        app.styleHints().colorSchemeChanged.connect(self._system_changed)
        self._system_changed(app.styleHints().colorScheme())

    def use(self, scheme: Qt.ColorScheme) -> None:
        """Show this scheme now; ``Unknown`` counts as light."""
        self.colours = DARK if scheme == Qt.ColorScheme.Dark else LIGHT
        self._app.setPalette(palette(self.colours))
        self._app.setStyleSheet(stylesheet(self.colours))
        self.changed.emit()

    def close(self) -> None:
        """Stop following the system."""
        self._app.styleHints().colorSchemeChanged.disconnect(self._system_changed)

    def _system_changed(self, scheme: Qt.ColorScheme) -> None:
        self.use(scheme if self._fixed == Qt.ColorScheme.Unknown else self._fixed)
