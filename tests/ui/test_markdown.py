"""The model's text is shown, not obeyed: no HTML, no pictures, no links, and its full height."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices, QTextImageFormat
from PySide6.QtTest import QTest

from facellm.ui.panes.markdown import CARET, MarkdownView


@pytest.fixture
def view(qtbot, theme) -> MarkdownView:
    view = MarkdownView()
    qtbot.addWidget(view)
    view.resize(300, 10)
    view.show()
    return view


def test_markdown_is_rendered(view: MarkdownView) -> None:
    view.show_text("The person looks **40 to 49**.\n\n- glasses\n- a beard")
    assert view.toPlainText().split("\n") == ["The person looks 40 to 49.", "glasses", "a beard"]
    assert "font-weight:7" in view.toHtml() or "font-weight:6" in view.toHtml()


def test_html_is_shown_as_text(view: MarkdownView) -> None:
    view.show_text('A <b>bold</b> claim <img src="file:///etc/hostname"> <script>x</script>')
    assert "<b>bold</b>" in view.toPlainText()
    assert not list(_pictures(view))


def test_no_picture_is_loaded_from_the_web_or_from_this_computer(view: MarkdownView, tmp_path: Path) -> None:
    from PIL import Image

    local = tmp_path / "local.png"
    Image.new("RGB", (64, 64), "red").save(local)
    view.show_text(f"![a]({QUrl.fromLocalFile(str(local)).toString()}) ![b](http://127.0.0.1:9/x.png)")
    assert len(list(_pictures(view))) == 2  # they are in the text
    view.repaint()
    shown = view.grab().toImage()
    reds = [shown.pixelColor(x, y) for x in range(0, shown.width(), 2) for y in range(0, shown.height(), 2)]
    assert not any(colour.red() > 200 and colour.green() < 60 for colour in reds)


def test_links_are_not_opened(view: MarkdownView, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    view.show_text("[a very long link to press, over the whole of the line](https://example.org)")
    text = view.toPlainText()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=view.cursorRect().center())
    assert opened == []
    assert view.toPlainText() == text
    assert view.source().isEmpty()


def test_the_view_is_as_high_as_its_text(view: MarkdownView) -> None:
    view.show_text("one line")
    low = view.height()
    view.show_text("a sentence that goes on. " * 40)
    high = view.height()
    view.resize(800, high)
    assert low < 40 < high
    assert view.height() < high
    assert not view.verticalScrollBar().isVisible()


def test_code_that_is_wider_than_the_view_wraps(view: MarkdownView) -> None:
    view.show_text("So:\n\n```\nx = measure(image, margin=0.25, upright=True, tile=224, mode='bilinear')\n```\n\nDone.")
    assert view.document().size().width() <= view.viewport().width()
    assert view.horizontalScrollBar().maximum() == 0


def test_while_streaming_a_caret_stands_at_the_end(view: MarkdownView) -> None:
    view.show_text("The face", caret=True)
    assert view.toPlainText().endswith(CARET.strip())
    view.show_text("The face", caret=False)
    assert view.toPlainText() == "The face"


def _pictures(view: MarkdownView):
    block = view.document().begin()
    while block.isValid():
        iterator = block.begin()
        while not iterator.atEnd():
            if isinstance(iterator.fragment().charFormat().toImageFormat(), QTextImageFormat) and (
                iterator.fragment().charFormat().isImageFormat()
            ):
                yield iterator.fragment()
            iterator += 1
        block = block.next()
