"""Log lines: text on a terminal, else a JSON object each. Messages are constant, ids are fields."""

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from sessile.cli.plain import lines, one_line

# What logs a line a request, or what a request asked for, is told apart from Sessile's own.
QUIET = dict.fromkeys(
    ("alembic", "asyncio", "httpcore2", "httpx2", "sqlalchemy", "uvicorn.error", "websockets"),
    logging.WARNING,
)


def configure(*, level: str, form: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream`, or stderr. `form`: text, json or auto."""
    out: TextIO = sys.stderr if stream is None else stream
    text = form == "text" or (form == "auto" and out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(_formatter(text=text, colors=text and out.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(max(least, root.level))
    logging.captureWarnings(capture=True)


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
        name: (lines(value) if name == "exception" else one_line(value))
        if isinstance(value, str)
        else value
        for name, value in fields.items()
    }
