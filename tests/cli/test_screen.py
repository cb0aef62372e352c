"""What the chat draws, on a terminal that is a string."""

import io
import re

import pytest
from rich.console import Console
from tests.cli.test_view import NUMBERS, Log

from sessile.cli.keys import Editor
from sessile.cli.screen import Screen

WIDTH, HEIGHT = 60, 14


class Shown:
    """A screen, and what it wrote since it was last looked at."""

    def __init__(self) -> None:
        self._file = io.StringIO()
        console = Console(
            file=self._file, width=WIDTH, height=HEIGHT, force_terminal=True, color_system=None
        )
        self.log = Log()
        self.editor = Editor()
        self.screen = Screen(console, self.log.view, self.editor)

    def scrolled(self) -> str:
        """What a refresh printed for good."""
        self._file.seek(0)
        self._file.truncate()
        self.screen.refresh()
        return plain(self._file.getvalue())

    def bottom(self) -> list[str]:
        """What stays at the bottom, line by line."""
        console = self.screen.console
        with console.capture() as captured:
            console.print(self.screen)
        return [line.rstrip() for line in plain(captured.get()).splitlines()]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def shown() -> Shown:
    return Shown()


def test_a_card_turns_into_its_outcome_where_it_stands(shown: Shown) -> None:
    shown.log.started()
    shown.log.tool("started")
    before = shown.bottom()
    shown.log.tool("completed", result="shipped")

    after = shown.scrolled()

    assert re.search(r"^  \S look n=7$", before[0])
    assert "  ✓ look n=7 → shipped" in after


def test_failed_refused_and_interrupted_cards_say_so(shown: Shown) -> None:
    shown.log.tool("failed", "call_1", error="no such order")
    shown.log.tool("refused", "call_2", reason="not allowed", verdict="denied")
    shown.log.tool("interrupted", "call_3", reason="the server was lost")

    printed = shown.scrolled()

    assert "✗ look n=7 failed: no such order" in printed
    assert "⊘ look n=7 refused: not allowed" in printed
    assert "! look n=7 interrupted: the server was lost" in printed


def test_a_call_that_waits_asks_for_an_answer(shown: Shown) -> None:
    shown.log.started()
    shown.log.approval("requested")

    assert shown.bottom()[0] == "  ? look n=7 may it run? y or n"
    assert shown.scrolled().strip() == ""


def test_progress_is_a_bar_with_iterations_and_tokens(shown: Shown) -> None:
    shown.log.started()
    numbers = NUMBERS | {"current_iteration": 3, "total_iterations": 10, "tokens_used": 1234}

    shown.log.add("turn.progress", **numbers, note="reading")

    assert re.search(r"━+ +3/10 · 1,234 tokens · reading", shown.bottom()[0])


def test_what_waits_is_shown_and_counted(shown: Shown) -> None:
    for number in range(7):
        shown.log.queued(f"trn_{number}", f"text {number}")

    lines = shown.bottom()

    assert lines[0] == "  queued 1: text 0"
    assert lines[4] == "  queued 5: text 4"
    assert lines[5] == "  … and 2 more"


def test_a_message_is_printed_line_by_line_while_it_is_written(shown: Shown) -> None:
    shown.log.delta("one\ntwo\nthr", 0)
    assert "  one\n  two\n" in shown.scrolled()
    assert shown.bottom()[0] == "  thr"

    shown.log.delta("ee\nfour", 11)
    assert "  three\n" in shown.scrolled()
    shown.log.added("one\ntwo\nthree\nfour")
    printed = shown.scrolled()

    assert "  four\n" in printed
    assert "three" not in printed


def test_a_reply_that_changed_after_it_was_printed_is_printed_again(shown: Shown) -> None:
    shown.log.delta("one\ntw", 0)
    shown.scrolled()

    shown.log.added("another\nreply")

    assert "  another\n  reply\n" in shown.scrolled()


def test_what_stays_is_never_higher_than_the_screen(shown: Shown) -> None:
    shown.log.started()
    shown.log.delta("word " * 2_000, 0)
    shown.editor.feed(b"typed " * 500)
    shown.screen.status = "where one is"

    lines = shown.bottom()

    assert len(lines) < HEIGHT
    assert lines[-1] == "where one is"
    assert "typed" in lines[-2]
    assert "word" in lines[0]


def test_thinking_comes_before_what_is_said(shown: Shown) -> None:
    shown.log.delta("Hm.", 0, channel="thinking")
    shown.log.delta("Yes.", 0)

    assert shown.bottom()[:2] == ["  Hm.", "  Yes."]


def test_trouble_and_the_status_stand_beside_the_input(shown: Shown) -> None:
    shown.screen.trouble = "connection lost, reconnecting"
    shown.screen.status = "demo"
    shown.editor.feed(b"hello")

    assert shown.bottom() == ["connection lost, reconnecting", "> hello", "demo"]


def test_nothing_that_was_said_moves_the_cursor(shown: Shown) -> None:
    shown.log.added("\x1b[2Jgone\x9b1A", role="user")
    shown.log.tool("completed", result="\x1b]0;title\x07")
    shown.log.add(
        "message.added",
        message_id="msg_2",
        role="assistant",
        state="complete",
        parts=[{"type": "text", "text": "\x1b[5A\x07"}],
    )
    shown.log.add(
        "message.delta", message_id="msg_3", offset=0, text="\x1b[6A\x07", channel="thinking"
    )
    shown.log.add("turn.failed", output="", error={"code": "x", "message": "\x1b[7A"}, **NUMBERS)
    shown.screen.refresh()
    written = shown.screen.console.file.getvalue()  # type: ignore[attr-defined]

    assert "\x1b[2J" not in written
    assert "\x1b]0" not in written
    assert not re.search(r"\x1b\[[567]A|\x07", written)
    assert "\x9b" not in written
    assert "\\x1b[2Jgone" in written


def test_markup_in_what_is_said_is_text(shown: Shown) -> None:
    shown.log.added("[bold]hello[/bold] :smile:")

    assert "[bold]hello[/bold] :smile:" in shown.scrolled()
