"""A streaming answer: what is read stays where it is, refreshed in bounded steps, and spoken sentence by sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PySide6.QtGui import QAccessible, QGuiApplication

from facellm.core.ask import Answer, Timings
from facellm.ui.panes import conversation
from facellm.ui.panes.conversation import REFRESH_MS, ConversationPane
from facellm.ui.panes.markdown import MarkdownView
from facellm.ui.presenters.conversation import Exchange, Status

SENTENCE = "The head is turned a little to the right. "


@pytest.fixture
def pane(qtbot, theme) -> ConversationPane:
    pane = ConversationPane(theme)
    qtbot.addWidget(pane)
    pane.resize(400, 300)
    pane.show()
    return pane


@pytest.fixture
def answering(pane: ConversationPane) -> Exchange:
    """A finished long answer, and below it one that is on its way."""
    done = Exchange("A", "Describe the pose.", Status.DONE, SENTENCE * 40)
    done.answer = Answer(done.text, Timings(tokens=400, tokens_per_s=60))
    running = Exchange("A", "And the light?", Status.ANSWERING)
    pane.show_thread((done, running), "")
    return running


def stream(pane: ConversationPane, exchange: Exchange, text: str) -> None:
    exchange.text += text
    exchange.tokens += 1
    pane.renew(exchange)


def test_at_the_end_the_newest_words_stay_in_sight(qtbot, pane: ConversationPane, answering: Exchange) -> None:
    bar = pane.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0 and bar.value() == bar.maximum())
    before = bar.maximum()
    for _ in range(12):
        stream(pane, answering, SENTENCE)
    qtbot.waitUntil(lambda: bar.maximum() > before)
    assert bar.value() == bar.maximum()


def test_whoever_reads_further_up_is_left_there(qtbot, pane: ConversationPane, answering: Exchange) -> None:
    bar = pane.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 100)
    bar.setValue(50)
    before = bar.maximum()
    for _ in range(12):
        stream(pane, answering, SENTENCE)
    qtbot.waitUntil(lambda: bar.maximum() > before)
    assert bar.value() == 50


def test_a_new_question_brings_the_end_into_sight(qtbot, pane: ConversationPane, answering: Exchange) -> None:
    bar = pane.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 100)
    bar.setValue(0)
    pane.show_thread((*[view.exchange for view in pane.views], Exchange("A", "Any glasses?")), "")
    qtbot.waitUntil(lambda: bar.value() == bar.maximum())
    assert bar.value() > 100
    asked = pane.views[-1]._question
    assert asked.toPlainText() == "Any glasses?"
    assert asked.visibleRegion().boundingRect() == asked.rect()  # all of it is seen


def test_many_tokens_cost_few_refreshes(
    qtbot, pane: ConversationPane, answering: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    show = MarkdownView.show_text
    monkeypatch.setattr(
        MarkdownView, "show_text", lambda view, text, caret=False: (texts.append(text), show(view, text, caret))[1]
    )
    for _ in range(200):
        stream(pane, answering, "word ")
    qtbot.waitUntil(lambda: bool(texts))
    qtbot.wait(2 * REFRESH_MS)
    assert texts == ["word " * 200]


def test_an_ended_answer_is_shown_at_once(pane: ConversationPane, answering: Exchange) -> None:
    stream(pane, answering, "Soft daylight.")
    answering.status = Status.DONE
    pane.renew(answering)
    assert pane.views[1].findChild(MarkdownView).toPlainText() == "Soft daylight."


LONG = "https://example.org/" + "averylongpathwithoutanyspaces" * 6


def test_a_long_word_wraps_and_does_not_make_the_thread_wider(qtbot, pane: ConversationPane) -> None:
    failed = Exchange("A", "Short?", Status.FAILED, error=f"There is no file {LONG}.", hint="Check the path.")
    noted = Exchange("A", f"Is {LONG} this person?", Status.DONE, f"No, {LONG} is not.", note=f"See {LONG}.")
    pane.show_thread((failed, noted), "")
    for width in (400, 900, 335):
        pane.resize(width, 300)
        qtbot.wait(50)
        assert pane._body.width() == pane.viewport().width() <= width
        asked = [view._question for view in pane.views]
        assert asked[0].width() < 100  # as narrow as its text
        assert asked[1].width() <= 0.86 * pane.views[1].width()
        for text in (asked[1], pane.views[0]._card_text, pane.views[1]._answer):
            assert text.document().idealWidth() <= text.viewport().width()
            assert text.document().size().height() <= text.viewport().height() + 1  # all of it is seen


def test_a_question_is_copied_as_it_was_written(pane: ConversationPane) -> None:
    question = f"Is {LONG} this person?"
    pane.show_thread((Exchange("A", question),), "")
    bubble = pane.views[0]._question
    bubble.selectAll()
    bubble.copy()
    assert QGuiApplication.clipboard().text() == question


def test_the_line_under_an_answer_does_not_make_a_narrow_thread_wider(qtbot, pane: ConversationPane) -> None:
    cut = Exchange("A", "Describe the pose.", Status.LENGTH, SENTENCE)
    cut.answer = Answer(SENTENCE, Timings(first_token_s=12.3, tokens=4000, tokens_per_s=0.4))
    pane.show_thread((cut,), "")
    pane.resize(240, 300)
    qtbot.wait(50)
    assert pane._body.width() == pane.viewport().width() <= 240
    assert pane.views[0]._copy.visibleRegion().boundingRect() == pane.views[0]._copy.rect()


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a screen reader would be told."""
    texts: list[str] = []
    monkeypatch.setattr(conversation, "QAccessibleAnnouncementEvent", lambda widget, text: text)
    monkeypatch.setattr(QAccessible, "isActive", lambda: True)
    monkeypatch.setattr(QAccessible, "updateAccessibility", texts.append)
    return texts


def test_each_sentence_is_spoken_once_when_it_is_complete(
    pane: ConversationPane, answering: Exchange, spoken: list[str]
) -> None:
    refresh: Callable[[], None] = pane._refresh_stale
    for text in ("The light ", "is soft. It ", "comes from the left", ".", " Nothing is"):
        stream(pane, answering, text)
        refresh()
    stream(pane, answering, " covered.")
    answering.status = Status.DONE
    pane.renew(answering)
    assert spoken == ["The light is soft.", "It comes from the left.", "Nothing is covered."]


def test_the_next_answer_is_spoken_from_its_beginning(
    pane: ConversationPane, answering: Exchange, spoken: list[str]
) -> None:
    stream(pane, answering, "The light is soft.")
    answering.status = Status.DONE
    pane.renew(answering)
    following = Exchange("A", "Any glasses?", Status.REFUSED, "This is not answered.")
    pane.show_thread((*[view.exchange for view in pane.views], following), "")
    pane.renew(following)
    assert spoken == ["The light is soft.", "This is not answered."]
