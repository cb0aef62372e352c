"""A log line is one line, whatever its fields hold."""

import io
import json
import logging

from sessile.cli.logs import configure
from sessile.cli.plain import cut, lines, one_line


def logged(form: str, message: str, *, exception: bool = False, **fields: object) -> str:
    stream = io.StringIO()
    configure(level="info", form=form, stream=stream)
    if exception:
        try:
            raise ValueError("first\x1b[2J\nsecond")
        except ValueError:
            logging.getLogger("mine").exception(message, extra=fields)
    else:
        logging.getLogger("mine").info(message, extra=fields)
    return stream.getvalue()


HOSTILE = "a\nb\r\x1b[2J\x00\x9b1A\u2028\u202e"


def test_a_json_line_has_its_fields_and_no_control_character() -> None:
    line = logged("json", "turn ended", session_id="ses_1", seq=7, text=HOSTILE)

    assert line.count("\n") == 1
    assert line.isascii()
    fields = json.loads(line)
    assert fields.pop("at").endswith("Z")
    assert fields == {
        "level": "info",
        "logger": "mine",
        "message": "turn ended",
        "session_id": "ses_1",
        "seq": 7,
        "text": HOSTILE,
    }


def test_a_text_line_is_one_line_too() -> None:
    line = logged("text", "turn ended", session_id="ses_1", text=HOSTILE)

    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert "turn ended" in line
    assert "session_id=ses_1" in line


def test_an_exception_keeps_its_lines_and_nothing_else_of_what_controls() -> None:
    text = logged("text", "agent raised", exception=True)
    of_json = logged("json", "agent raised", exception=True)

    assert "\x1b" not in text
    assert "\\x1b[2J" in text
    assert of_json.count("\n") == 1
    assert "ValueError" in json.loads(of_json)["exception"]


def test_text_is_for_terminals_unless_it_is_asked_for() -> None:
    assert logged("auto", "hello").startswith("{")


def test_the_level_is_what_was_asked_for() -> None:
    stream = io.StringIO()
    configure(level="warning", form="json", stream=stream)

    logging.getLogger("mine").info("not told")
    logging.getLogger("uvicorn.error").warning("told")
    logging.getLogger("mine").warning("told too")

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "told",
        "told too",
    ]


def test_warnings_of_python_are_log_lines() -> None:
    import warnings

    stream = io.StringIO()
    configure(level="info", form="json", stream=stream)

    logging.captureWarnings(capture=False)  # whatever an earlier test left: it is set but once
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", stacklevel=1)
        logging.captureWarnings(capture=False)

    assert "old" in json.loads(stream.getvalue())["message"]


def test_text_from_elsewhere_is_made_plain() -> None:
    assert one_line("a\tb\n") == "a\\tb\\n"
    assert lines("a\tb\r\nc\x07") == "a\tb\nc\\x07"
    assert one_line("Grüße 世界 👋") == "Grüße 世界 👋"
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"
