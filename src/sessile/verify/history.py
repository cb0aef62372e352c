"""What was asked of a backend and what it answered: the one thing that the checker reads.

A history is JSON Lines. The first line says what was tested (`Run`); each other line is one `Op`: a
request with its reply, or one event of a stream. All times are seconds of one clock, from the
run's beginning; an operation took place somewhere between `began` and `ended`.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TextIO, cast

from sessile.verify import shape

VERSION = 1

Kind = Literal[
    "open", "send", "press", "read", "turn", "cancel", "close", "delete", "list", "stream", "event",
    "restart", "pause", "resume", "grant", "revoke", "tools", "pending", "approve",
]  # fmt: skip
Outcome = Literal["ok", "busy", "refused", "failed", "unknown"]
"""`ok`: 2xx, or an event that came. `busy`: 409, 429 or 503, or as the mapping says. `refused`:
another 4xx. `failed`: another 5xx. `unknown`: no answer came, so it may have been done or not."""


class NoHistory(ValueError):
    """The file is none, or of another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`url`: without a password. `can`: what the mapping has, so that a check whose need is missing
    is not taken as passed.
    `limits`: the thresholds by name, in seconds or as ratios."""

    target: str
    can: tuple[str, ...]
    limits: Mapping[str, float]
    seed: int
    url: str = ""
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """`part`: the part of the workload that did it. `client`: does one thing after another.
    `session`: as the request named it. `nonce`: what was posted, a word that stands nowhere else.
    `settled`: nothing of the session was under way when it began. `said`: the reply in the
    checker's words, by kind:

    open, send, press   session, turn, reply
    read                path, items [{id, role, text, turn}]
    turn                turn, state (queued, running, completed, failed, cancelled, other), progress
    list                sessions
    tools, pending      names: of tools, or the ids of calls that wait for an approval
    stream              stream (a number), cursor, end (cut, ended, refused, left, broken), opened,
                        silence (the longest while a turn ran, in seconds)
    restart, pause, resume
                        nothing; its request is the command, its reply what that said
    event               stream, id, seq, name, session, turn, is (started, text, ended, gap,
                        other), state; and where it has them text, message, progress, call, over
    """

    number: int
    kind: Kind
    part: str
    client: str
    principal: str
    began: float
    ended: float
    outcome: Outcome
    session: str | None = None
    turn: str | None = None
    nonce: str | None = None
    key: str | None = None
    status: int | None = None
    settled: bool = False
    said: Mapping[str, Any] = field(default_factory=dict[str, Any])
    request: str = ""
    reply: str = ""

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"


@dataclass(frozen=True, slots=True)
class History:
    run: Run
    ops: tuple[Op, ...]


def write(history: History, to: TextIO) -> None:
    to.write(json.dumps(asdict(history.run)) + "\n")
    for op in history.ops:
        to.write(json.dumps(_brief(op)) + "\n")


def read(lines: Iterable[str]) -> History:
    """Raises NoHistory, with the line."""
    number = 0
    try:
        numbered = enumerate(lines, start=1)
        number, first = next(numbered)
        head = _known(json.loads(first))
        if head.get("version", VERSION) != VERSION:
            raise NoHistory(f"a history of version {head['version']!r}; this one reads {VERSION}")
        shape.check_run(head)
        run = Run(**head)
        ops: list[Op] = []
        for number, line in numbered:  # noqa: B007  (what it is when a line fails)
            told = _known(json.loads(line))
            shape.check_op(told)
            ops.append(Op(**told))
        if len({op.number for op in ops}) != len(ops):
            raise NoHistory("two operations have one number")
    except StopIteration:
        raise NoHistory("the history is empty") from None
    except RecursionError:
        raise NoHistory(f"line {number} is no line of a history: it is too deep") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, NoHistory):
            raise
        raise NoHistory(f"line {number} is no line of a history: {error}") from None
    return History(run, tuple(ops))


def _brief(op: Op) -> dict[str, Any]:
    """Without what is as it is anyway."""
    defaults = {each.name: each.default for each in fields(Op)}
    values = {each.name: getattr(op, each.name) for each in fields(Op)}
    return {
        name: value
        for name, value in values.items()
        if value != defaults[name] and not (name == "said" and not value)
    }


def _known(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise TypeError("not an object")
    given = cast(Mapping[str, Any], values)
    return {name: tuple(each) if name == "can" else each for name, each in given.items()}
