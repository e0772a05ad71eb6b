"""Reading order: which widget comes after which for the Tab key, taken from the layouts as they are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLayout, QScrollArea, QSplitter, QWidget

from facellm.ui.parts import Flow


def in_order(widget: QWidget) -> Iterator[QWidget]:
    """All widgets below ``widget`` as one reads them: by layouts, panes and pages, then whatever floats above."""
    seen: set[QWidget] = set()
    for child in _children(widget):
        if child not in seen:
            seen.add(child)
            yield child
            yield from in_order(child)


def focusable(root: QWidget) -> list[QWidget]:
    """Those below ``root`` that Tab can reach once they are shown and enabled."""
    return [widget for widget in in_order(root) if widget.focusPolicy() & Qt.FocusPolicy.TabFocus]


def set_tab_order(root: QWidget) -> None:
    """Make Tab follow the reading order."""
    for first, second in pairwise(focusable(root)):
        QWidget.setTabOrder(first, second)


def _children(widget: QWidget) -> Iterator[QWidget]:
    if isinstance(widget, QScrollArea):
        yield from filter(None, [widget.widget()])
        return
    if isinstance(widget, QSplitter):
        yield from filter(None, (widget.widget(index) for index in range(widget.count())))
        return
    if isinstance(widget, Flow):
        yield from widget.widgets
        return
    layout = widget.layout()
    if layout is not None:
        yield from _of_layout(layout)
        yield from (
            child
            for child in widget.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly)
            if layout.indexOf(child) < 0 and not child.isWindow()
        )


def _of_layout(layout: QLayout) -> Iterator[QWidget]:
    for index in range(layout.count()):
        item = layout.itemAt(index)
        if item is None:
            continue
        inner, widget = item.layout(), item.widget()
        if widget is not None:
            yield widget
        elif inner is not None:
            yield from _of_layout(inner)
