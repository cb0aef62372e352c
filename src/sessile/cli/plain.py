"""Text from elsewhere, made safe for a terminal and for a line of a log."""

import re

# C0 and C1 controls, line and paragraph separators, and what turns the direction of text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_IN_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """The text with each control character, line ends too, as its escape."""
    return _CONTROL.sub(_escaped, text)


def lines(text: str) -> str:
    """The text with each control character but line ends and tabs as its escape."""
    return _CONTROL_IN_TEXT.sub(_escaped, text.replace("\r\n", "\n"))


def cut(text: str, most: int) -> str:
    """At most so many characters; an ellipsis where some were left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
