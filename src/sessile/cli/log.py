"""`sessile log`: a session's entries, as rows to read or as JSON lines."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sessile.cli.client import (
    Connected,
    Ended,
    Entry,
    JsonObject,
    Lost,
    Refused,
    Reset,
    Unreachable,
    connected,
    token_of,
    told,
)
from sessile.cli.failure import FAILED, CommandFailed
from sessile.cli.plain import cut, one_line

if TYPE_CHECKING:
    from sessile.settings import Settings

WHAT_CHARS_MAX = 100
TURN_CHARS = 8
"""The end of an id is chance, and tells turns apart; its beginning is the time."""
ENDS = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"})


CANCEL_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line said. `url` is None where the database is read itself."""

    session_id: str
    url: str | None
    token: str | None
    user: str | None
    settings: "Settings"
    after: int
    follow: bool
    as_json: bool


def log(asked: Asked) -> None:
    """Print the log. Raises CommandFailed."""
    printer = _Printer(as_json=asked.as_json)
    if asked.url is None:
        asyncio.run(_from_database(asked, printer))
    else:
        asyncio.run(_until_interrupted(_from_server(asked, asked.url, printer)))


async def _until_interrupted(work: Coroutine[Any, Any, None]) -> None:
    """Ctrl-C cancels it, again and again: a cancellation that meets the end of a time-out inside
    may be taken for that, and be lost."""
    loop = asyncio.get_running_loop()
    failed: list[CommandFailed] = []

    async def contained() -> None:
        try:
            await work
        except CommandFailed as failure:
            failed.append(failure)

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(contained())
        interrupted = asyncio.Event()
        loop.add_signal_handler(signal.SIGINT, interrupted.set)
        waiting = tasks.create_task(interrupted.wait())
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        while not working.done():
            working.cancel()
            await asyncio.wait({working}, timeout=CANCEL_AGAIN_SECONDS)
    loop.remove_signal_handler(signal.SIGINT)
    for failure in failed:
        raise failure


async def _from_database(asked: Asked, printer: "_Printer") -> None:
    from sessile.cli.broken import looking_at  # noqa: PLC0415
    from sessile.core.codec import timestamp  # noqa: PLC0415
    from sessile.core.ids import SessionId  # noqa: PLC0415
    from sessile.wiring import open_archive  # noqa: PLC0415

    if asked.follow:
        raise CommandFailed(
            "--follow asks a server; leave out --data-dir and --store-url, or --follow"
        )
    with looking_at(asked.settings):
        async with open_archive(asked.settings) as archive:
            keys = await archive.keys(SessionId(asked.session_id))
            if not keys:
                raise CommandFailed(f"there is no session {one_line(asked.session_id)}")
            async for entry in archive.entries(keys[0], after=asked.after):
                at = timestamp(entry.at_ms)
                try:
                    body = json.loads(entry.body)
                except ValueError as error:
                    told = f"cannot read entry {entry.seq}: {error}; ask `sessile doctor`"
                    raise CommandFailed(told, code=FAILED) from None
                printer.show(Entry(entry.seq, entry.kind, entry.turn_id, at, body))


async def _from_server(asked: Asked, url: str, printer: "_Printer") -> None:
    token = token_of(asked.token, asked.settings.data_dir, asked.user)
    try:
        async with connected(url, token) as client:
            cursor = asked.after
            async for entry in client.entries(asked.session_id, after=cursor):
                printer.show(entry)
                cursor = entry.seq
            if not asked.follow:
                return
            async for followed in client.follow(asked.session_id, after=cursor):
                match followed:
                    case Entry():
                        printer.show(followed)
                    case Lost(why, seconds):
                        _err(f"connection lost ({one_line(why)}); again in {seconds:.1f} s")
                    case Reset(snapshot):
                        _err(f"the log was reset; it goes on behind {snapshot['session']['head']}")
                    case Ended(reason):
                        _err(f"the session is {reason}")
                    case Connected():
                        pass
    except (Refused, Unreachable) as error:
        raise told(error, url) from error
    except asyncio.CancelledError:
        pass  # Ctrl-C: what was shown was all that was wished for


class _Printer:
    """Rows keep their columns whatever comes: a log is read while it grows."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._attempts: dict[str, int] = {}
        self._headed = False

    def show(self, entry: Entry) -> None:
        if self._as_json:
            _out(json.dumps(asdict(entry), ensure_ascii=False, separators=(",", ":")))
            return
        if not self._headed:
            self._headed = True
            _out(_row("seq", "time", "turn", "att", "kind", "what"))
        turn_id = entry.turn_id or ""
        if entry.kind == "turn.started":
            self._attempts[turn_id] = entry.body["attempt"]
        attempt = self._attempts.get(turn_id, "")
        if entry.kind in ENDS:
            self._attempts.pop(turn_id, None)
        at = entry.at.removesuffix("Z").replace("T", " ")
        what = cut(one_line(_what(entry)), WHAT_CHARS_MAX)
        turn = turn_id[-TURN_CHARS:]
        _out(_row(str(entry.seq), at, turn, str(attempt), one_line(entry.kind), what))


def _row(seq: str, at: str, turn: str, attempt: str, kind: str, what: str) -> str:
    return f"{seq:>6}  {at:<23}  {turn:<{TURN_CHARS}}  {attempt:>3}  {kind:<19}  {what}".rstrip()


def _what(entry: Entry) -> str:
    """What it says, in a few words; of a kind that is not known here, its body."""
    body = entry.body
    try:
        match entry.kind.split("."):
            case ["session", "opened"]:
                return f"{body['assistant']} for {body['user_id']}"
            case ["turn", "queued" | "steered" | "edited"]:
                return str(body["input"].get("text", ""))
            case ["turn", "started"]:
                return f"fence {body['fence']} on {body['node']}"
            case ["turn", "progress"]:
                done = f"{body['current_iteration']}/{body['total_iterations']}"
                return f"{done}, {body['tokens_used']} tokens {body['note']}"
            case ["turn", "completed"]:
                return str(body["output"])
            case ["turn", "failed"]:
                return f"{body['error'].get('code')}: {body['error'].get('message')}"
            case ["turn", "cancelled" | "interrupted" | "cancel_requested"]:
                return str(body["reason"])
            case ["message", "added"]:
                return f"{body['role']}: {' '.join(map(_part, body['parts']))}"
            case ["message", "delta"]:
                return f"+{body['offset']} {body['text']}"
            case ["tool", "completed"]:
                return f"{body['name']} -> {_json(body['result'])}"
            case ["tool", "failed"]:
                return f"{body['name']}: {body['error']}"
            case ["tool", "interrupted" | "refused"]:
                return f"{body['name']}: {body['reason']}"
            case ["tool", "started"]:
                return f"{body['name']} {_json(body['arguments'])}"
            case _:
                return _json(body)
    except (KeyError, TypeError, AttributeError):
        return _json(body)


def _part(part: JsonObject) -> str:
    if part["type"] == "tool_call":
        return f"[{part['name']} {_json(part['arguments'])}]"
    return str(part.get("text", ""))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _out(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _err(line: str) -> None:
    sys.stderr.write(f"{line}\n")
