"""Areas that scroll to what the keyboard reaches in them, and rows that scroll sideways."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QCoreApplication, QPoint, QRect, QSize, Qt
from PySide6.QtGui import QGuiApplication, QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QApplication, QFrame, QScrollArea, QSizePolicy, QWidget

from facellm.ui.parts import Flow, named

#: Two lines: what a pane has to show in the lowest window, under all notices.
_LEAST_HEIGHT = 40


class Scroll(QScrollArea):
    """Without a frame, as wide as it is let. Tab never leads out of sight: Qt scrolls only for moves within."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        app = QApplication.instance()
        if isinstance(app, QApplication):
            app.focusChanged.connect(self._focus_moved)

    def minimumSizeHint(self) -> QSize:
        return QSize(super().minimumSizeHint().width(), _LEAST_HEIGHT)

    def focusNextPrevChild(self, onward: bool) -> bool:
        moved = super().focusNextPrevChild(onward)
        self._show_focused(QApplication.focusWidget())  # Qt went to the middle of what is larger than the view
        return moved

    def _focus_moved(self, before: QWidget | None, now: QWidget | None) -> None:
        # What is clicked is in sight and stays where it is; a window that comes back shows what it showed.
        if before is not None and QGuiApplication.mouseButtons() == Qt.MouseButton.NoButton:
            self._show_focused(now)

    def _show_focused(self, part: QWidget | None) -> None:
        """Scroll until ``part`` is seen, or its beginning where it is larger than the view; unless it is elsewhere."""
        body = self.widget()
        if part is None or body is None or not body.isAncestorOf(part):
            return
        rect = QRect(part.mapTo(body, QPoint(0, 0)), part.size().boundedTo(self.viewport().size()))
        self.ensureVisible(rect.center().x(), rect.center().y(), rect.width() // 2 + 1, rect.height() // 2 + 1)


class Sideways(Scroll):
    """A row: the wheel moves it to the sides."""

    def __init__(self) -> None:
        super().__init__()
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def wheelEvent(self, event: QWheelEvent) -> None:
        QCoreApplication.sendEvent(self.horizontalScrollBar(), event)


class Shelf(Sideways):
    """Widgets in as many rows as they need; ``set_low``: in one row, which scrolls."""

    def __init__(self, widgets: Iterable[QWidget]) -> None:
        super().__init__()
        self._flow, self._low = named(Flow(widgets), "shelfBody"), False
        self.setObjectName("shelf")
        self.setWidgetResizable(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setWidget(self._flow)

    def set_low(self, low: bool) -> None:
        """One row, or as many as are needed."""
        self._low = low
        self._place()
        self.updateGeometry()

    def heightForWidth(self, width: int) -> int:
        """The height of the rows at this width, and of the bar where there is one."""
        bar = self.horizontalScrollBar().sizeHint().height() if self._scrolls(width) else 0
        return self._flow.heightForWidth(self._row(width)) + bar

    def sizeHint(self) -> QSize:
        return QSize(200, self.heightForWidth(self.width()))

    def minimumSizeHint(self) -> QSize:
        return QSize(0, self.heightForWidth(self.width()))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place()

    def _place(self) -> None:
        row, policy = self._row(self.width()), Qt.ScrollBarPolicy
        on = self._scrolls(self.width())
        self.setHorizontalScrollBarPolicy(policy.ScrollBarAlwaysOn if on else policy.ScrollBarAlwaysOff)
        self._flow.resize(row, self._flow.heightForWidth(row))

    def _scrolls(self, width: int) -> bool:
        return self._low and self._flow.row_width() > width

    def _row(self, width: int) -> int:
        return self._flow.row_width() if self._scrolls(width) else width
