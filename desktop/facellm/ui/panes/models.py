"""The button that says which model answers, and its menu: the models on this computer, and the way to more."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QPoint, QSize, Qt, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QHBoxLayout, QMenu, QWidget

from facellm.core.sizes import bytes_text
from facellm.ui.parts import Button, Elided, IconLabel
from facellm.ui.ports import ModelEntry
from facellm.ui.theme import Theme

IMPORT_KEYS = "Ctrl+Shift+M"
_WIDEST_TITLE = 360


class ModelButton(Button):
    """A dot, one line that is shortened where there is no room, and a chevron."""

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme, kind="flat", name="Models")
        self._dot = IconLabel(theme, "dot", "secondary", 12)
        self.line = Elided("")
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 0, 6, 0)
        row.setSpacing(6)
        for part in (self._dot, self.line, IconLabel(theme, "open-down", "secondary", 14)):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            row.addWidget(part)

    def show_line(self, line: str, details: str, token: str) -> None:
        """``token``: the dot's colour."""
        self.line.set_full(line)
        self._dot.show_icon("dot", token)
        self.setToolTip(details or line)
        self.setAccessibleName(f"Models: {line}")
        self.updateGeometry()

    def sizeHint(self) -> QSize:
        return self._fitting(self.line.sizeHint().width())

    def minimumSizeHint(self) -> QSize:
        return self._fitting(0)

    def _fitting(self, line: int) -> QSize:
        layout = self.layout()
        assert layout is not None
        rest = layout.minimumSize().width() - self.line.minimumSizeHint().width()
        return QSize(rest + min(line, self.line.maximumWidth()), super().sizeHint().height())


class ModelsMenu(QMenu):
    """Opened below the button; ``show_models`` renews it, also while it is open."""

    chosen = Signal(str)
    import_wanted = Signal()
    folder_wanted = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAccessibleName("Models")
        self._shown: tuple[object, ...] = ()
        self._group: QActionGroup | None = None
        self._import = self.addAction("")
        self._import.triggered.connect(self.import_wanted)
        self._folder = self.addAction("Open the models folder")
        self._folder.triggered.connect(self.folder_wanted)
        self._first = self.insertSeparator(self._import)
        self.show_import("")

    def show_models(self, entries: Iterable[ModelEntry], current: str) -> None:
        """List these, and mark the one that answers."""
        shown = (*entries, current)
        if shown == self._shown:
            return  # what the keyboard has reached stays so
        self._shown = shown
        for action in self.actions()[: self.actions().index(self._first)]:
            self.removeAction(action)
            action.deleteLater()
        if self._group is not None:
            self._group.deleteLater()
        self._group = QActionGroup(self)
        self._group.triggered.connect(self._choose)
        for entry in entries:
            title = self.fontMetrics().elidedText(entry.title, Qt.TextElideMode.ElideMiddle, _WIDEST_TITLE)
            action = self._group.addAction(f"{title.replace('&', '&&')}\t{bytes_text(entry.bytes)}")
            action.setCheckable(True)
            action.setChecked(entry.name == current)
            action.setData(entry.name)
            self.insertAction(self._first, action)
        if not self._group.actions():
            nothing = self._group.addAction("No model on this computer yet")
            nothing.setEnabled(False)
            self.insertAction(self._first, nothing)

    def show_import(self, progress: str) -> None:
        """``progress``: of the import that runs, or nothing."""
        self._import.setText(progress.replace("&", "&&") if progress else f"Import a model…\t{IMPORT_KEYS}")

    def open_below(self, button: QWidget) -> None:
        """With its right edge at the button's, as far as the screen lets it."""
        corner = button.mapToGlobal(QPoint(button.width(), button.height() + 2))
        self.popup(corner - QPoint(self.sizeHint().width(), 0))

    def _choose(self, action: QAction) -> None:
        self.chosen.emit(action.data())
