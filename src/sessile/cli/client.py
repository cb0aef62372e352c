"""A server's /v1 as the command line uses it: the public API and nothing else."""

import asyncio
import json
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx2

from sessile.cli.failure import FAILED, MISUSED, CommandFailed

JsonObject = Mapping[str, Any]

CONNECT_SECONDS_MAX = 5.0
REPLY_SECONDS_MAX = 30.0
SILENCE_SECONDS_MAX = 60.0
"""A stream that sends not even a heartbeat for so long is taken for dead."""
RETRY_SECONDS = 1.0
RETRY_SECONDS_MAX = 15.0
TRIES = 3
EVENT_BYTES_MAX = 16 * 1024 * 1024
PAGE = 200


class Refused(Exception):
    """The server's answer is no: a problem document."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class Unreachable(Exception):
    """No answer came; whether the request was carried out is not known."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log, as it came over the wire."""

    seq: int
    kind: str
    turn_id: str | None
    at: str
    body: JsonObject

    @classmethod
    def of(cls, wire: JsonObject) -> Self:
        return cls(wire["seq"], wire["kind"], wire["turn_id"], wire["at"], wire["body"])


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream is there."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream is gone, and will be asked for again in a while."""

    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """The cursor was not of this log any more: forget what you have, and go on from here."""

    snapshot: JsonObject


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more can come."""

    reason: str


Followed = Entry | Connected | Lost | Reset | Ended


class Client:
    """Each method raises Refused or Unreachable."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def open(self, assistant: str | None) -> JsonObject:
        return await self._ask("POST", "/v1/sessions", {"assistant": assistant}, headers=_key())

    async def session(self, session_id: str) -> JsonObject:
        return await self._ask("GET", f"{_at(session_id)}")

    async def sessions(self, *, limit: int) -> list[JsonObject]:
        return await self._items(f"/v1/sessions?limit={limit}")

    async def messages(self, session_id: str, *, limit: int) -> list[JsonObject]:
        return await self._items(f"{_at(session_id)}/messages?limit={limit}")

    async def queued(self, session_id: str) -> list[JsonObject]:
        return await self._items(f"{_at(session_id)}/turns?queued=true&limit={PAGE}")

    async def turn(self, session_id: str, turn_id: str) -> JsonObject:
        return await self._ask("GET", f"{_at(session_id)}/turns/{turn_id}")

    async def submit(self, session_id: str, text: str, *, when_busy: str = "enqueue") -> JsonObject:
        body = {"input": {"type": "message", "text": text}, "when_busy": when_busy}
        return await self._ask("POST", f"{_at(session_id)}/turns", body, headers=_key())

    async def cancel(self, session_id: str, turn_id: str) -> JsonObject:
        return await self._ask("POST", f"{_at(session_id)}/turns/{turn_id}/cancel", {})

    async def answer(
        self, session_id: str, call_id: str, *, granted: bool, reason: str = ""
    ) -> JsonObject:
        """Approve or deny a call that waits."""
        call = f"{_at(session_id)}/calls/{quote(call_id, safe='')}"
        if granted:
            return await self._ask("POST", f"{call}/approve", {})
        return await self._ask("POST", f"{call}/deny", {"reason": reason})

    async def entries(self, session_id: str, *, after: int) -> AsyncIterator[Entry]:
        """The log behind the entry `after`, as far as it goes now."""
        behind = str(after)
        while True:
            place = f"{_at(session_id)}/events?after={behind}&limit={PAGE}"
            page = await self._ask("GET", place)
            for item in page["items"]:
                yield Entry.of(item)
            if page["next"] is None:
                return
            behind = page["next"]

    async def follow(self, session_id: str, *, after: int) -> AsyncGenerator[Followed, None]:
        """The log from the entry `after` on, for as long as it may grow; lost connections are made
        again, and then it goes on where it was. Raises Refused."""
        seq, last_id, retry, lost = after, "", RETRY_SECONDS, 0
        while True:
            why = "the server ended the stream"
            try:
                async with self._stream(session_id, after, last_id) as events:
                    if events is None:
                        yield Ended("closed")
                        return
                    yield Connected()
                    async for event in events:
                        lost = 0
                        retry = retry if event.retry is None else event.retry / 1000
                        match event.event:
                            case "reset":
                                snapshot = json.loads(event.data)
                                seq, last_id = snapshot["session"]["head"], event.id
                                yield Reset(snapshot)
                            case "end":
                                yield Ended(json.loads(event.data)["reason"])
                                return
                            case _ if event.data:
                                entry = Entry.of(json.loads(event.data))
                                if entry.seq > seq:
                                    seq, last_id = entry.seq, event.id
                                    yield entry
                            case _:
                                pass
            except Unreachable as error:
                why = str(error)
            # Each reader waits a while of its own, so that all of a server's do not come at once.
            spread = random.uniform(0.75, 1.25)  # of load: no secret  # nosec B311
            seconds = min(retry * 2**lost, RETRY_SECONDS_MAX) * spread
            lost = min(lost + 1, 10)
            yield Lost(why, seconds)
            await asyncio.sleep(seconds)

    @asynccontextmanager
    async def _stream(
        self, session_id: str, after: int, last_id: str
    ) -> AsyncGenerator[AsyncIterator[httpx2.ServerSentEvent] | None, None]:
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id  # it leads `after`
        timeout = httpx2.Timeout(SILENCE_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
        place = f"{_at(session_id)}/events?after={after}"
        try:
            async with self._http.stream("GET", place, headers=headers, timeout=timeout) as reply:
                if reply.status_code == 204:
                    yield None
                    return
                if reply.status_code in (502, 503, 504):
                    raise Unreachable(f"the server answers {reply.status_code}")
                if reply.status_code != 200:
                    await reply.aread()
                    raise _refused(reply)
                yield aiter(httpx2.EventSource(reply, max_event_size=EVENT_BYTES_MAX))
        except httpx2.TransportError as error:
            raise Unreachable(_why(error)) from error

    async def _items(self, place: str) -> list[JsonObject]:
        items: list[JsonObject] = (await self._ask("GET", place))["items"]
        return items

    async def _ask(
        self,
        method: str,
        place: str,
        body: JsonObject | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> JsonObject:
        """What changes something is asked again where no answer came, or a busy one: with its
        key, or by what it is, it is done once."""
        tries = 1 if method == "GET" else TRIES
        asked = {"Accept": "application/json", **(headers or {})}
        for tried in count(1):
            try:
                reply = await self._http.request(method, place, json=body, headers=asked)
                if reply.is_success:
                    return _object(reply)
                if reply.status_code != 503 or tried == tries:
                    raise _refused(reply)
            except httpx2.TransportError as error:
                if tried == tries:
                    raise Unreachable(_why(error)) from error
            await asyncio.sleep(RETRY_SECONDS * tried)
        raise AssertionError("the last try answers or raises")


@asynccontextmanager
async def connected(url: str, token: str) -> AsyncGenerator[Client, None]:
    """A client of the server at `url`."""
    timeout = httpx2.Timeout(REPLY_SECONDS_MAX, connect=CONNECT_SECONDS_MAX)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        base = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise CommandFailed(f"--url: {url!r} is no address: {error}") from None
    if base.scheme not in ("http", "https") or not base.host:
        raise CommandFailed(f"--url: {url!r} is no address; one begins with http:// or https://")
    async with httpx2.AsyncClient(base_url=base, headers=headers, timeout=timeout) as http:
        yield Client(http)


def token_of(given: str | None, data_dir: Path, user: str | None) -> str:
    """The flag's, the variable's, or that of `user`, else the first, in the data directory."""
    if given:
        return given
    if user is None and (variable := os.environ.get("SESSILE_DEV_TOKEN")):
        return variable
    path = data_dir / "dev-tokens"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CommandFailed(
            f"there is no token: cannot read {path} ({error.strerror}); give --token, or the"
            " server's --data-dir"
        ) from None
    logins = [fields for line in lines if len(fields := line.partition("#")[0].split()) == 4]
    for token, _, name, _ in logins:
        if user is None or name == user:
            return token
    known = ", ".join(name for _, _, name, _ in logins) or "nobody"
    raise CommandFailed(f"{path} has no token of {user!r}; it has those of {known}")


def told(error: Refused | Unreachable, url: str) -> CommandFailed:
    """As the end of a command: what happened, and what to do about it."""
    if isinstance(error, Unreachable):
        return CommandFailed(
            f"no server answers at {url}: {error}; start one by `sessile serve`, or give --url",
            code=FAILED,
        )
    if error.status == 401:
        return CommandFailed(f"{url} does not know this token; give another by --token or --user")
    return CommandFailed(f"{error.detail} ({error.code})", code=MISUSED)


def _at(session_id: str) -> str:
    return f"/v1/sessions/{quote(session_id, safe='')}"


def _key() -> dict[str, str]:
    key = random.getrandbits(128)  # which tells repeats apart: no secret  # nosec B311
    return {"Idempotency-Key": f"{key:032x}"}


def _refused(reply: httpx2.Response) -> Refused:
    try:
        problem = _object(reply)
        return Refused(reply.status_code, str(problem["code"]), str(problem["detail"]))
    except (ValueError, KeyError, TypeError):
        return Refused(reply.status_code, "http", f"the server answers {reply.status_code}")


def _object(reply: httpx2.Response) -> JsonObject:
    value: JsonObject = reply.json()
    return value


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
