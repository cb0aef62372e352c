"""A backend that is spoken to by a mapping, with each request and reply written down."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlencode

import httpx2

from sessile.verify import paths
from sessile.verify.history import Kind, Op, Outcome
from sessile.verify.mapping import Events, Read, Request
from sessile.verify.mapping import Mapping as Target
from sessile.verify.recorder import Recorder, as_reply, as_request, shortened
from sessile.verify.saying import items_of, said_by, streamed
from sessile.verify.sse import Event, Reader

REPLY_SECONDS_MAX = 30.0


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

    @property
    def last_id(self) -> str | None:
        for op in reversed(self.events):
            if op.said["id"] is not None:
                return str(op.said["id"])
        return self.cursor

    def ended(self, turn: str | None) -> bool:
        """Whether a turn's end was told; of any, where events do not name theirs."""
        return any(
            op.said["is"] == "ended" and (turn is None or op.said["turn"] in (turn, None))
            for op in self.events
        )


class Backend:
    def __init__(self, target: Target, recorder: Recorder, client: httpx2.AsyncClient) -> None:
        self.target = target
        self.recorder = recorder
        self._client = client
        self._streams = count(1)

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
                path += f"{mark}{stream.resume_query}={followed.cursor}"
        began, told = self.recorder.now(), as_request(method, path, headers, body)
        reader, end = Reader(), "left"
        try:
            async with self._client.stream(
                method, path, headers=headers, content=body, timeout=httpx2.Timeout(30, read=None)
            ) as reply:
                followed.status = reply.status_code
                heard = followed.opened = self.recorder.now()
                followed.changed.set()
                if not reply.is_success:
                    end = "refused"
                    return
                async for data in reply.aiter_raw():
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
        except httpx2.HTTPError:
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
        now = self.recorder.now()
        said = {"stream": followed.number, **said_by(event, events)}
        op = self.recorder.add(
            kind="event", part=who.part, client=who.client, principal=who.principal, began=now,
            ended=now, outcome="ok", session=followed.session, said=said,
            reply=shortened(f"event: {event.name}\nid: {event.id}\ndata: {event.data}"),
        )  # fmt: skip
        if said["is"] == "started":
            followed.running += 1
        elif said["is"] == "ended":
            followed.running = max(0, followed.running - 1)
        followed.events.append(op)
        followed.changed.set()

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
            reply = await self._client.request(
                method, path, headers=headers, content=body, timeout=REPLY_SECONDS_MAX
            )
            status, text = reply.status_code, reply.text
        except httpx2.HTTPError as error:
            text = f"{type(error).__name__}: {error}"
        outcome = self._outcome(status)
        said: dict[str, Any] = {}
        if outcome == "ok":
            said = self._said(kind, text, said_at or {}, read, events)
        return self.recorder.add(
            kind=kind, part=who.part, client=who.client, principal=who.principal, began=began,
            ended=self.recorder.now(), outcome=outcome, session=session, turn=turn, nonce=nonce,
            key=key, status=status, settled=settled, said=said,
            request=as_request(method, path, headers, body),
            reply=as_reply(status, text) if status else text,
        )  # fmt: skip

    def _outcome(self, status: int | None) -> Outcome:
        if status is None:
            return "unknown"
        if status < 300:
            return "ok"
        if status in self.target.busy:
            return "busy"
        return "failed" if status >= 500 else "refused"

    def _said(
        self, kind: str, text: str, at: Mapping[str, Any], read: tuple[str, Read] | None,
        events: Events | None,
    ) -> dict[str, Any]:  # fmt: skip
        if events is not None:
            return streamed(text, events, at)
        try:
            value = json.loads(text) if text else None
        except ValueError:
            value = None
        if read is not None:
            return {"path": read[0], "items": items_of(value, read[1])}
        if kind == "list" and self.target.list is not None:
            return {
                "sessions": [str(each) for each in paths.each(value, self.target.list.sessions)]
            }
        if kind == "turn" and self.target.turn is not None:
            asked = self.target.turn
            word = paths.as_text(paths.first(value, asked.state))
            state = next((ours for ours, all_ in asked.states.items() if word in all_), "other")
            progress = {name: paths.first(value, at) for name, at in asked.progress.items()}
            return {
                "state": state, "reply": paths.text(value, asked.reply), "progress": progress,
                "session": paths.first(value, asked.session),
            }  # fmt: skip
        said: dict[str, Any] = {}
        if "names" in at:
            said["names"] = [paths.as_text(each) for each in paths.each(value, at["names"])]
        if "session" in at:
            said["sessions"] = [paths.first(value, path) for path in at["session"]]
            said["session"] = said["sessions"][0] if said["sessions"] else None
        if "turn" in at:
            said["turn"] = paths.first(value, at["turn"])
        if "reply" in at:
            said["reply"] = paths.text(value, at["reply"])
        return said


def _as_told(followed: Followed) -> str:
    """The events themselves are operations of their own."""
    ids = [str(op.said["id"] or op.said["name"]) for op in followed.events]
    return (
        as_reply(followed.status, f"events: {', '.join(ids) or 'none'}") if followed.status else ""
    )
