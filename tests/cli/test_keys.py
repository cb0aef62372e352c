"""The line editor: bytes as a terminal sends them, lines as one meant them."""

import pytest

from sessile.cli.keys import LINE_CHARS_MAX, Editor, Leave, Line

LEFT, RIGHT, UP, DOWN = b"\x1b[D", b"\x1b[C", b"\x1b[A", b"\x1b[B"


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (b"hello", "hello"),
        ("Grüße, 世界".encode(), "Grüße, 世界"),
        (b"helo" + LEFT + b"l", "hello"),
        (b"ab" + LEFT + LEFT + LEFT + b"x", "xab"),
        (b"ab" + LEFT + RIGHT + RIGHT + b"x", "abx"),
        (b"abc\x7f", "ab"),
        (b"\x7fabc" + LEFT + b"\x08", "ac"),
        (b"abc" + LEFT + b"\x1b[3~", "ab"),
        (b"bc\x01a\x05d", "abcd"),
        (b"bc\x1b[Ha\x1b[Fd", "abcd"),
        (b"one two\x17", "one "),
        (b"one two  \x1b\x7f", "one "),
        (b"one two\x15three", "three"),
        (b"one two" + LEFT * 4 + b"\x0b", "one"),
        (b"one two\x1b[1;5Dx", "one xtwo"),
        (b"one two\x01\x1b[1;5Cx", "onex two"),
        (b"one\x1b\rtwo", "one\ntwo"),
        (b"\x1b[200~one\ntwo\x1b[201~ three", "one\ntwo three"),
        (b"a\tb", "a    b"),
        (b"a\x1b[5~\x1b[99;9u\x1bOZ\x00\x1fb", "ab"),
        (b"abc" + LEFT + b"\x04", "ab"),
    ],
)
def test_keys_make_the_line_that_one_meant(typed: bytes, text: str) -> None:
    editor = Editor()

    assert editor.feed(typed) == []

    assert editor.text == text


@pytest.mark.parametrize("typed", [LEFT, "世".encode(), b"\x1b[200~", b"\x1b[1;5D"])
def test_a_key_may_come_in_pieces(typed: bytes) -> None:
    whole, pieces = Editor(), Editor()
    whole.feed(b"ab" + typed + b"c")

    for byte in b"ab" + typed + b"c":
        pieces.feed(bytes([byte]))

    assert (pieces.text, pieces.place) == (whole.text, whole.place)


def test_enter_hands_over_the_line_and_begins_another() -> None:
    editor = Editor()

    wishes = editor.feed(b"one\rtwo\nthree")

    assert wishes == [Line("one"), Line("two")]
    assert editor.text == "three"


def test_lines_that_were_entered_come_back() -> None:
    editor = Editor()
    editor.feed(b"one\rtwo\rtwo\r")

    def after(key: bytes) -> str:
        editor.feed(key)
        return editor.text

    assert [after(UP), after(UP), after(UP), after(DOWN), after(DOWN), after(DOWN)] == [
        "two", "one", "one", "two", "", "",
    ]  # fmt: skip


def test_end_of_input_leaves_where_nothing_is_typed() -> None:
    editor = Editor()

    assert editor.feed(b"\x04") == [Leave()]
    assert editor.feed(b"a\x04") == []


def test_a_line_is_bounded() -> None:
    editor = Editor()

    for _ in range(12):
        editor.feed(b"\x1b[200~" + b"a" * 10_000 + b"\x1b[201~")

    assert len(editor.text) == LINE_CHARS_MAX
