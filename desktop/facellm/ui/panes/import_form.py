"""What a model is to be brought in from, and how: the fields of the card, which shows only what the source needs."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from facellm.core.sizes import bytes_text
from facellm.ui.aloud import say
from facellm.ui.fields import Choice, Line, Tick, field, rows
from facellm.ui.parts import Button, IconLabel, Text, label
from facellm.ui.presenters.importing import Looked, hub_server
from facellm.ui.theme import GRID, Theme

#: Shorter pauses are part of the typing.
PAUSE_MS = 250
SOURCE = "Folder, GGUF file, or hub id (owner/name)"
_HINT = "Or drop it on this window. A GGUF pair is copied; a checkpoint is converted on this computer."


class ImportForm(QWidget):
    """``look`` asks what the source is; ``changed``: perhaps it can be started now, or no more."""

    look = Signal(str)
    changed = Signal()
    entered = Signal()

    def __init__(self, theme: Theme, taken: Callable[[str], bool]) -> None:
        """``taken``: whether the list has a model of this name."""
        super().__init__()
        self._taken, self._looked, self._running = taken, Looked(), False
        self._pause = QTimer(self, singleShot=True, interval=PAUSE_MS)
        self._pause.timeout.connect(self._look)
        self.source = Line(SOURCE)
        self.source.textChanged.connect(self._typed)
        self.folder = Button(theme, "Folder…", name="Choose a folder with a model")
        self.folder.clicked.connect(self._choose_folder)
        self.file = Button(theme, "File…", name="Choose a GGUF file")
        self.file.clicked.connect(self._choose_file)
        self._icon = IconLabel(theme, "check", "good", 16)
        self._what = Text()
        self._hint = label(_HINT, role="secondary", wrap=True)
        self._about_hub = label(role="secondary", wrap=True)
        self.quant = Choice(theme, "Quantisation")
        self.adapter = Line("LoRA adapter folder (optional)")
        self.adapter_folder = Button(theme, "Folder…", name="Choose a folder with a LoRA adapter")
        self.adapter_folder.clicked.connect(self._choose_adapter)
        self.name = Line("Name in the list of models")
        self.name.textChanged.connect(self.renew)
        for line in (self.source, self.adapter, self.name):
            line.returnPressed.connect(self.entered)
        self.replace = Tick(theme, "Replace the model of this name")
        self.replace.toggled.connect(self.renew)
        self._arrange()
        self.show_looked(Looked())

    @property
    def complete(self) -> bool:
        """Whether there is all that an import needs."""
        found = self._looked.found is not None and self._looked.source == self.source.text().strip()
        name = self.name.text().strip()
        return found and bool(name) and (self.replace.isChecked() or not self._taken(name))

    @property
    def fetches(self) -> bool:
        """Whether what was recognised comes from a hub."""
        return self._kind == "hub"

    def order(self) -> object:
        """What is to be imported, as an ``ImportOrder``."""
        from facellm.models.importing import ImportOrder

        source, name = self._looked.source, self.name.text().strip()
        replace = self._taken(name) and self.replace.isChecked()
        if self._kind == "pair":
            return ImportOrder(source, name, replace=replace)
        adapter = self.adapter.text().strip()
        return ImportOrder(source, name, quant=self.quant.currentData(), adapter=adapter, replace=replace)

    def clear(self) -> None:
        """Empty for the next model."""
        for line in (self.source, self.adapter, self.name):
            line.clear()
        self.name.setModified(False)
        self.replace.setChecked(False)

    def show_looked(self, looked: Looked) -> None:
        """What the source is, or why it is of no use."""
        self._looked = looked
        found = looked.found
        if found is not None:
            self._offer_quants()
            size = bytes_text(found.bytes) if found.bytes else ""
            self._what.show_text(" · ".join(filter(None, (found.title, found.detail, size))))
            if not self.name.isModified():
                self.name.setText(found.name)
        else:
            self._what.show_text(f"{looked.message} {looked.hint}".strip())
        self._icon.show_icon(*(("check", "good") if found is not None else ("warning", "warning")))
        self.renew()
        say(self._what, self._what.toPlainText())

    def show_running(self, running: bool) -> None:
        """While it runs only what is imported is shown; what was typed is there again afterwards."""
        if running != self._running:
            self._running = running
            self.renew()

    @property
    def _kind(self) -> str:
        return self._looked.found.kind.value if self._looked.found is not None else ""

    def renew(self) -> None:
        """Show the fields that this source needs."""
        kind = self._kind
        known, open_ = bool(kind or self._looked.message), not self._running
        self._asking.setVisible(open_)
        for part in (self._icon, self._what):
            part.setVisible(known)
        self._hint.setVisible(not known)
        fetched = "is being" if self._running else "will be"
        self._about_hub.setText(f"It {fetched} fetched from {hub_server()}. Photos stay on this computer.")
        self._about_hub.setVisible(kind == "hub")
        self._converting.setVisible(open_ and kind in ("checkpoint", "hub"))
        self._naming.setVisible(open_ and bool(kind))
        self.replace.setVisible(self._taken(self.name.text().strip()))
        self.changed.emit()

    def _arrange(self) -> None:
        self._asking = field(SOURCE, self.source, self.folder, self.file)
        self._converting = rows(
            field("Quantisation", self.quant), field(self.adapter.accessibleName(), self.adapter, self.adapter_folder)
        )
        self._naming = rows(field(self.name.accessibleName(), self.name), self.replace)
        told = QHBoxLayout()
        told.setSpacing(GRID)
        told.addWidget(self._icon)
        told.addWidget(self._what, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(12)
        column.addWidget(self._asking)
        column.addLayout(told)
        for part in (self._hint, self._about_hub, self._converting, self._naming):
            column.addWidget(part)

    def _offer_quants(self) -> None:
        if self.quant.count():
            return
        from facellm.models.importing import QUANTS, ImportOrder

        for kind, what in QUANTS:
            self.quant.addItem(f"{kind}: {what}", kind)
        self.quant.setCurrentIndex(self.quant.findData(ImportOrder("").quant))

    def _typed(self) -> None:
        self._pause.start()
        self.changed.emit()

    def _look(self) -> None:
        self.look.emit(self.source.text())

    def _choose_folder(self) -> None:
        self._take(QFileDialog.getExistingDirectory(self, "Import a model from a folder"))

    def _choose_file(self) -> None:
        self._take(QFileDialog.getOpenFileName(self, "Import a model from a GGUF file", "", "GGUF models (*.gguf)")[0])

    def _choose_adapter(self) -> None:
        if path := QFileDialog.getExistingDirectory(self, "The folder of a LoRA adapter"):
            self.adapter.setText(path)

    def _take(self, path: str) -> None:
        if path:
            self.source.setText(path)
            self._pause.stop()
            self._look()
