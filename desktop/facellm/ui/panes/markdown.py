"""Text of a model, shown as Markdown: no HTML, no pictures, no opened links, nothing fetched; as high as its text."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import (
    QImage,
    QResizeEvent,
    QTextBlockFormat,
    QTextCursor,
    QTextDocument,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QTextBrowser, QWidget

from facellm.ui.parts import part_of_page
from facellm.ui.theme import LINE_HEIGHT

CARET = " ▍"
_PARAGRAPH_GAP, _LIST_GAP, _INDENT = 6, 1, 20
_FEATURES = QTextDocument.MarkdownFeature.MarkdownDialectGitHub | QTextDocument.MarkdownFeature.MarkdownNoHTML


class MarkdownView(QTextBrowser):
    """Read-only, selectable with mouse and keyboard. The text is not trusted: it comes from a model."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("answer")
        part_of_page(self)
        self.setOpenLinks(False)
        self.setOpenExternalLinks(False)
        self.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.document().setIndentWidth(_INDENT)
        self._nothing = QImage(1, 1, QImage.Format.Format_ARGB32)
        self._nothing.fill(Qt.GlobalColor.transparent)
        self.setFixedHeight(0)

    def loadResource(self, kind: int, name: QUrl | str) -> object:
        """Whatever the text refers to, a web picture or a file of this computer, is not loaded.

        An answer of ``None`` would not do: Qt then looks for a file of that name by itself.
        """
        return self._nothing

    def show_text(self, text: str, caret: bool = False) -> None:
        """Show ``text``; with ``caret``, more is to come."""
        self.document().setMarkdown(text + CARET if caret else text, _FEATURES)
        self._space_blocks()
        self._fit()

    def sizeHint(self) -> QSize:
        return QSize(200, self.height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if event.size().width() != event.oldSize().width():
            self._fit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # the thread scrolls, not the answer in it

    def _space_blocks(self) -> None:
        """Line height, air between paragraphs, and code that wraps: Markdown import leaves none of them."""
        block, last = self.document().begin(), self.document().lastBlock()
        while block.isValid():
            spacing = QTextBlockFormat()
            spacing.setNonBreakableLines(False)
            spacing.setLineHeight(LINE_HEIGHT, QTextBlockFormat.LineHeightTypes.ProportionalHeight.value)
            in_list = block.textList() is not None and block.next().textList() is not None
            spacing.setBottomMargin(0 if block == last else _LIST_GAP if in_list else _PARAGRAPH_GAP)
            QTextCursor(block).mergeBlockFormat(spacing)
            block = block.next()

    def _fit(self) -> None:
        self.document().setTextWidth(self.viewport().width())
        height = round(self.document().size().height() + 0.5)
        if height != self.height():
            self.setFixedHeight(height)
