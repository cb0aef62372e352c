"""Log lines: text on a terminal, else a JSON object each. Messages are constant, ids are fields."""

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from sessile.cli.plain import one_line

QUIET = (
    "alembic", "anthropic", "asyncio", "httpcore", "httpcore2", "httpx", "httpx2", "openai",
    "sqlalchemy", "uvicorn.error", "websockets",
)  # fmt: skip
"""They log a line a request, or what a request had in it."""
OWN = "sessile"


def configure(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream`, or stderr. `form`: text, json or auto.

    `debug` is Sessile's own: what a library says for those who debug it may have a message or a
    token in it.
    """
    out: TextIO = sys.stderr if stream is None else stream
    text = form == "text" or (form == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.addFilter(_is_for_operators)
    handler.setFormatter(_formatter(text=text, colors=text and out.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)


def _is_for_operators(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or record.name.partition(".")[0] == OWN


def _formatter(*, text: bool, colors: bool) -> logging.Formatter:
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if text:
        last += [
            structlog.processors.format_exc_info,
            _escape,
            structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="at"),
        ]
    else:
        last += [
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)


def _escape(_logger: Any, _method: str, fields: EventDict) -> EventDict:
    """So that no value can write a line of its own, or move a terminal's cursor."""
    return {
        name: (_indented(value) if name == "exception" else one_line(value))
        if isinstance(value, str)
        else value
        for name, value in fields.items()
    }


def _indented(text: str) -> str:
    """Lines that cannot be taken for a record's first."""
    return "\n".join(f"    {one_line(line)}" for line in text.splitlines())
