"""A backend that is spoken to by a mapping, with each request and reply written down."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import quote, urlencode

import httpx2

from sessile.verify import paths
from sessile.verify.history import Kind, Op, Outcome
from sessile.verify.mapping import Events, Read, Request
from sessile.verify.mapping import Mapping as Target
from sessile.verify.recorder import Recorder, as_reply, as_request, hider
from sessile.verify.saying import parsed, said_by, said_of
from sessile.verify.sse import Event, Reader, TooLong

REPLY_SECONDS_MAX = 30.0
REPLY_BYTES_MAX = 32 * 1024 * 1024
STREAM_EVENTS_MAX = 20_000
GATEWAY = (502, 504)
"""A gateway's way to say that nothing answered behind it."""
BROKEN = (httpx2.HTTPError, httpx2.InvalidURL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Does one thing after another. `user`: a name that the mapping may put into requests."""

    client: str
    principal: str
    user: str
    headers: Mapping[str, str]
    part: str


@dataclass(slots=True)
class Followed:
    """A stream that is read in the background. `events` grows; `changed` tells that it did."""

    number: int
    session: str
    cursor: str | None
    events: list[Op] = field(default_factory=list[Op])
    bytes_read: int = 0
    status: int | None = None
    settled: bool = False
    opened: float | None = None
    silence: float = 0.0
    running: int = 0
    end: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _ends: set[str | None] = field(default_factory=set[str | None])

    def heard(self, op: Op) -> None:
        self.events.append(op)
        if op.said["is"] == "started":
            self.running += 1
        elif op.said["is"] == "ended":
            self.running = max(0, self.running - 1)
            self._ends.add(op.said["turn"])
        self.changed.set()

    @property
    def first_id(self) -> str | None:
        return next((str(op.said["id"]) for op in self.events if op.said["id"] is not None), None)

    @property
    def last_id(self) -> str | None:
        for op in reversed(self.events):
            if op.said["id"] is not None:
                return str(op.said["id"])
        return self.cursor

    def ended(self, turn: str | None) -> bool:
        """Whether a turn's end was told; of any, where events do not name theirs."""
        return bool(self._ends) if turn is None else not self._ends.isdisjoint((turn, None))


class TooMuch(Exception):
    """A reply or a stream that has no end in sight."""


class Backend:
    def __init__(self, target: Target, recorder: Recorder, client: httpx2.AsyncClient) -> None:
        self.target = target
        self.recorder = recorder
        self._client = client
        self._streams = count(1)
        recorder.hide = hider(target.principals.values())

    # -- requests

    async def open(self, who: Who) -> Op:
        opened = self.target.open
        assert opened is not None
        if opened.request is None:
            now, name = self.recorder.now(), f"session-{Recorder.nonce().removeprefix('vq')}"
            return self.recorder.add(
                kind="open", part=who.part, client=who.client, principal=who.principal, began=now,
                ended=now, outcome="ok", said={"session": name},
            )  # fmt: skip
        said = {"session": opened.session}
        return await self._ask(who, "open", opened.request, said_at=said, values={"key": None})

    async def send(
        self, who: Who, session: str | None, nonce: str, text: str = "", *, key: str | None = None
    ) -> Op:
        """`text`: with the nonce in it; else the nonce alone."""
        send = self.target.send
        values = {"session": session, "text": text or nonce, "key": key}
        said = {"session": send.session, "turn": send.turn, "reply": send.reply}
        return await self._ask(
            who, "send", send.request, said_at=said, values=values, session=session, nonce=nonce,
            key=key, events=send.events,
        )  # fmt: skip

    async def press(self, who: Who) -> Op:
        pressed = self.target.press
        assert pressed is not None
        said = {"session": pressed.session}
        return await self._ask(who, "press", pressed.request, said_at=said, values={})

    async def read(self, who: Who, session: str, path: str, *, settled: bool = False) -> Op:
        read = self.target.reads[path]
        return await self._ask(
            who, "read", read.request, values={"session": session}, session=session,
            settled=settled, read=(path, read),
        )  # fmt: skip

    async def turn(self, who: Who, session: str, turn: str) -> Op:
        asked = self.target.turn
        assert asked is not None
        return await self._ask(
            who, "turn", asked.request, values={"session": session, "turn": turn},
            session=session, turn=turn,
        )  # fmt: skip

    async def simple(self, who: Who, what: str, session: str, turn: str | None = None) -> Op:
        """cancel, close or delete."""
        request: Request = getattr(self.target, what)
        values = {"session": session, "turn": turn}
        return await self._ask(who, what, request, values=values, session=session, turn=turn)

    async def list(self, who: Who) -> Op:
        assert self.target.list is not None
        return await self._ask(who, "list", self.target.list.request, values={})

    async def gate(
        self, who: Who, kind: Kind, session: str, *, call: str | None = None,
        turn: str | None = None,
    ) -> Op:  # fmt: skip
        """grant, revoke, tools, pending or approve."""
        grants, approvals = self.target.grants, self.target.approvals
        asked: dict[str, tuple[Request | None, str | None]] = {}
        if grants is not None:
            asked |= {"grant": (grants.give, None), "revoke": (grants.take, None)}
            asked["tools"] = (grants.tools, grants.names)
        if approvals is not None:
            asked["pending"] = (approvals.pending, approvals.calls)
            asked["approve"] = (approvals.approve, None)
        request, names = asked[kind]
        assert request is not None
        return await self._ask(
            who, kind, request, values={"session": session, "turn": turn, "call": call},
            session=session, turn=turn, said_at={} if names is None else {"names": names},
        )  # fmt: skip

    # -- streams

    @asynccontextmanager
    async def follow(
        self, who: Who, session: str, cursor: str | None = None, *, cut_after: int | None = None
    ) -> AsyncGenerator[Followed]:
        """Read the stream until the block is left, or `cut_after` bytes came. It has been answered
        when the block begins."""
        followed = Followed(next(self._streams), session, cursor)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._follow(who, followed, cut_after))
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(REPLY_SECONDS_MAX):
                        while followed.opened is None and not followed.end:
                            await followed.changed.wait()
                            followed.changed.clear()
                yield followed
            finally:
                reading.cancel()

    async def _follow(self, who: Who, followed: Followed, cut_after: int | None) -> None:
        stream = self.target.stream
        assert stream is not None
        method, path, headers, body = self._filled(
            who, stream.request, {"session": followed.session}
        )
        if followed.cursor is not None:
            if stream.resume_header:
                headers[stream.resume_header] = followed.cursor
            elif stream.resume_query:
                mark = "&" if "?" in path else "?"
                path += f"{mark}{stream.resume_query}={quote(followed.cursor, safe='')}"
        began, told = self.recorder.now(), as_request(method, path, headers, body)
        reader, end = Reader(), "left"
        try:
            timeout = httpx2.Timeout(REPLY_SECONDS_MAX, read=None)
            async with self._client.stream(
                method, path, headers=_wire(headers), content=body, timeout=timeout
            ) as reply:
                followed.status = reply.status_code
                heard = followed.opened = self.recorder.now()
                followed.changed.set()
                if not reply.is_success:
                    end = "refused"
                    return
                async for data in reply.aiter_bytes():
                    if cut_after is not None and followed.bytes_read + len(data) >= cut_after:
                        data, end = data[: cut_after - followed.bytes_read], "cut"
                    followed.bytes_read += len(data)
                    if followed.running:
                        followed.silence = max(followed.silence, self.recorder.now() - heard)
                    heard = self.recorder.now()
                    for event in reader.feed(data):
                        self._heard(who, followed, event, stream.events)
                    if end == "cut":
                        return
                end = "ended"
        except (*BROKEN, TooLong, TooMuch):
            end = "broken"
        finally:
            followed.end = end
            followed.changed.set()
            self.recorder.add(
                kind="stream", part=who.part, client=who.client, principal=who.principal,
                began=began, ended=self.recorder.now(), outcome=self._outcome(followed.status),
                session=followed.session, status=followed.status, settled=followed.settled,
                request=told, reply=_as_told(followed),
                said={"stream": followed.number, "cursor": followed.cursor, "end": end,
                      "opened": followed.opened, "silence": round(followed.silence, 3)},
            )  # fmt: skip

    def _heard(self, who: Who, followed: Followed, event: Event, events: Events) -> None:
        if len(followed.events) == STREAM_EVENTS_MAX:
            raise TooMuch
        now = self.recorder.now()
        said = {"stream": followed.number, **said_by(event, events)}
        op = self.recorder.add(
            kind="event", part=who.part, client=who.client, principal=who.principal, began=now,
            ended=now, outcome="ok", session=followed.session, said=said,
            reply=f"event: {event.name}\nid: {event.id}\ndata: {event.data}",
        )  # fmt: skip
        followed.heard(op)

    # -- one request

    def _filled(
        self, who: Who, request: Request, values: Mapping[str, str | None]
    ) -> tuple[str, str, dict[str, str], str | None]:
        known = {"user": who.user, **values}
        method, _, path = request.call.partition(" ")
        headers = {**who.headers, **paths.put_in(dict(request.headers), known)}
        path = paths.put_in(path, known, for_url=True)
        body = None
        if request.json is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(paths.put_in(request.json, known), ensure_ascii=False)
        elif request.form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(paths.put_in(request.form, known))
        return method, path, headers, body

    async def _ask(
        self, who: Who, kind: Any, request: Request, *, values: Mapping[str, str | None],
        said_at: Mapping[str, Any] | None = None, session: str | None = None,
        turn: str | None = None, nonce: str | None = None, key: str | None = None,
        settled: bool = False, read: tuple[str, Read] | None = None, events: Events | None = None,
    ) -> Op:  # fmt: skip
        method, path, headers, body = self._filled(who, request, values)
        began = self.recorder.now()
        status: int | None = None
        text = ""
        try:
            async with asyncio.timeout(REPLY_SECONDS_MAX):
                status, text = await self._reply(method, path, headers, body)
        except (*BROKEN, TimeoutError, TooMuch) as error:
            text = f"{type(error).__name__}: {error}"
        outcome = self._outcome(status, text)
        said: dict[str, Any] = {}
        if outcome == "ok":
            said = said_of(self.target, kind, text, said_at or {}, read, events)
        return self.recorder.add(
            kind=kind, part=who.part, client=who.client, principal=who.principal, began=began,
            ended=self.recorder.now(), outcome=outcome, session=session, turn=turn, nonce=nonce,
            key=key, status=status, settled=settled and not said.get("more"), said=said,
            request=as_request(method, path, headers, body),
            reply=as_reply(status, text) if status else text,
        )  # fmt: skip

    async def _reply(
        self, method: str, path: str, headers: dict[str, str], body: str | None
    ) -> tuple[int, str]:
        """Raises HTTPError, TooMuch."""
        asked = self._client.stream(
            method, path, headers=_wire(headers), content=body, timeout=REPLY_SECONDS_MAX
        )
        async with asked as reply:
            parts: list[bytes] = []
            size = 0
            async for data in reply.aiter_bytes():
                parts.append(data)
                size += len(data)
                if size > REPLY_BYTES_MAX:
                    raise TooMuch(f"more than {REPLY_BYTES_MAX} bytes")
            return reply.status_code, b"".join(parts).decode("utf-8-sig", errors="replace")

    def _outcome(self, status: int | None, text: str = "") -> Outcome:
        """Behind another address, and behind a gateway, nobody knows what was done."""
        if status is None or 300 <= status < 400 or status in GATEWAY:
            return "unknown"
        if status < 300:
            return "ok"
        says = self.target.busy_says.items()
        value = parsed(text) if says else None
        if status in self.target.busy or any(paths.text(value, at) == it for at, it in says):
            return "busy"
        return "failed" if status >= 500 else "refused"


def _wire(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """What a backend named may have any characters."""
    return {name.encode(): value.encode() for name, value in headers.items()}


def _as_told(followed: Followed) -> str:
    """The events themselves are operations of their own."""
    ids = [str(op.said["id"] or op.said["name"]) for op in followed.events]
    return (
        as_reply(followed.status, f"events: {', '.join(ids) or 'none'}") if followed.status else ""
    )
