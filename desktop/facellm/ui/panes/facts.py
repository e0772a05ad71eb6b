"""The chosen face: its crop and what was measured; unfolded, exactly what the model received."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QFontDatabase,
    QGuiApplication,
    QImage,
    QPainter,
    QPainterPath,
    QPixmap,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from facellm.core.faces import RgbImage
from facellm.ui import words
from facellm.ui.parts import Button, Flow, label, named
from facellm.ui.pixels import HeldImage
from facellm.ui.presenters.conversation import Exchange
from facellm.ui.scrolling import Scroll
from facellm.ui.theme import GRID, Theme

_THUMB, _CROP, _PROMPT_ROWS, _MEASURED_WIDTH = 72, 160, 5, 232
_NOT_ASKED = "The exact prompt and the timings stand here after the first question."


class FactsPane(Scroll):
    """As high as its content, up to what the layout gives; then it scrolls."""

    save_crop = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("facts")
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._image: QImage | None = None
        self._body = named(QWidget(), "factsBody")
        column = QVBoxLayout(self._body)
        column.setContentsMargins(2 * GRID, 2 * GRID, 2 * GRID, GRID)
        column.setSpacing(GRID)
        column.addLayout(self._make_head())
        self.fold = Button(theme, "What the model received", "closed-right", "fold")
        self.fold.setCheckable(True)
        self.fold.toggled.connect(self._show_details)
        row = QHBoxLayout()
        row.addWidget(self.fold)
        row.addStretch(1)
        column.addLayout(row)
        self._details = self._make_details(theme)
        column.addWidget(self._details)
        column.addStretch(1)
        self._details.hide()
        self.setWidget(self._body)

    @property
    def crop(self) -> QImage | None:
        """What the model receives, pixel by pixel."""
        return self._image

    def show_face(self, title: str, facts: str) -> None:
        """Title and measured facts of the chosen face or picture."""
        self._title.setText(title)
        self._facts.setText(facts)
        self.updateGeometry()

    def show_crop(self, tile: RgbImage | None) -> None:
        """What the model receives, uint8 RGB ``[side, side, 3]``; ``None`` while it is being made."""
        self._image = None if tile is None else HeldImage(tile)
        self.save.setEnabled(tile is not None)
        if self._image is None:
            return
        ratio = self.devicePixelRatioF()
        side = min(self._image.width(), round(_CROP * ratio))  # all of it, and not all of the conversation's room
        actual = QPixmap.fromImage(self._image.scaled(side, side, mode=Qt.TransformationMode.SmoothTransformation))
        actual.setDevicePixelRatio(ratio)
        self._actual.setPixmap(actual)
        self._actual.setAccessibleName(f"The picture as the model receives it, {self._image.width()} pixels a side")
        self._thumb.setPixmap(_rounded(self._image, _THUMB, ratio))
        self.updateGeometry()

    def show_received(self, exchange: Exchange | None) -> None:
        """Prompt and timings of the newest finished answer about this face."""
        answer = exchange.answer if exchange is not None else None
        rows = words.received_rows(answer.timings, self._side()) if answer and exchange and exchange.prompt else []
        while (item := self._rows.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.deleteLater()
        for number, (name, value) in enumerate(rows):
            self._rows.addWidget(label(name, role="caption"), number, 0)
            self._rows.addWidget(label(value, role="value"), number, 1)
        self._rows.setColumnStretch(1, 1)
        self._not_asked.setVisible(not rows)
        prompt = exchange.prompt if exchange is not None else ""
        self._prompt_title.setVisible(bool(rows))
        self._prompt.setVisible(bool(rows))
        self.copy.setVisible(bool(rows))
        if prompt != self._prompt.toPlainText():
            self._prompt.setPlainText(prompt)
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        width = max(self.width(), 280)
        return QSize(width, self._body.heightForWidth(width) if self._body.hasHeightForWidth() else 200)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()

    def _side(self) -> int:
        return self._image.width() if self._image is not None else 0

    def _make_head(self) -> QHBoxLayout:
        self._thumb = QLabel()
        self._thumb.setFixedSize(_THUMB, _THUMB)
        self._title = label(role="title")
        self._facts = label(role="secondary", wrap=True)
        text = QVBoxLayout()
        text.setSpacing(4)
        text.addWidget(self._title)
        text.addWidget(self._facts)
        text.addStretch(1)
        row = QHBoxLayout()
        row.setSpacing(12)
        row.addWidget(self._thumb, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(text, 1)
        return row

    def _make_details(self, theme: Theme) -> QWidget:
        self._actual = QLabel()
        self._actual.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self._rows = QGridLayout()
        self._rows.setHorizontalSpacing(12)
        self._rows.setVerticalSpacing(6)
        self._not_asked = label(_NOT_ASKED, role="caption", wrap=True)
        self.save = Button(theme, "Save crop…", "save")
        self.save.clicked.connect(self.save_crop)
        self.copy = Button(theme, icon="copy", kind="icon", name="Copy the prompt")
        self.copy.clicked.connect(self._copy_prompt)
        self._prompt_title = label("The prompt, to the letter", role="caption")
        self._prompt = self._make_prompt()
        measured = QWidget()
        measured.setFixedWidth(_MEASURED_WIDTH)
        side = QVBoxLayout(measured)
        side.setContentsMargins(0, 0, 0, 0)
        side.setSpacing(GRID)
        side.addWidget(self._not_asked)
        side.addLayout(self._rows)
        side.addSpacing(4)
        side.addWidget(self.save, 0, Qt.AlignmentFlag.AlignLeft)
        side.addStretch(1)
        head = QHBoxLayout()
        head.addWidget(self._prompt_title)
        head.addStretch(1)
        head.addWidget(self.copy)
        details = QWidget()
        column = QVBoxLayout(details)
        column.setContentsMargins(0, 0, 0, GRID)
        column.setSpacing(GRID)
        column.addWidget(Flow((self._actual, measured), 2 * GRID))
        column.addLayout(head)
        column.addWidget(self._prompt)
        return details

    def _make_prompt(self) -> QPlainTextEdit:
        prompt = named(QPlainTextEdit(), "prompt")
        prompt.setReadOnly(True)
        font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
        prompt.setFont(font)
        prompt.setTabChangesFocus(True)
        prompt.setFocusPolicy(Qt.FocusPolicy.StrongFocus)  # not by the wheel
        prompt.setFixedHeight(_PROMPT_ROWS * prompt.fontMetrics().lineSpacing() + 3 * GRID)
        prompt.setAccessibleName("The exact prompt")
        return prompt

    def _show_details(self, shown: bool) -> None:
        self.fold.set_icon("open-down" if shown else "closed-right")
        self._details.setVisible(shown)
        self.updateGeometry()

    def _copy_prompt(self) -> None:
        QGuiApplication.clipboard().setText(self._prompt.toPlainText())


def _rounded(image: QImage, side: int, ratio: float) -> QPixmap:
    """``image`` as a square with round corners, ``side`` logical pixels."""
    length = round(side * ratio)
    small = image.scaled(length, length, mode=Qt.TransformationMode.SmoothTransformation)
    result = QPixmap(length, length)
    result.fill(Qt.GlobalColor.transparent)
    painter = QPainter(result)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    path = QPainterPath()
    path.addRoundedRect(QRectF(0, 0, length, length), GRID * ratio, GRID * ratio)
    painter.setClipPath(path)
    painter.drawImage(0, 0, small)
    painter.end()
    result.setDevicePixelRatio(ratio)
    return result
