"""A session's log as server-sent events, or as JSON pages."""

import asyncio
import random
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request
from starlette.types import Message, Receive, Scope, Send

from sessile.core.codec import entry_json, to_json
from sessile.core.context import Principal
from sessile.core.errors import InvalidInput, SessileError
from sessile.core.events import Entry
from sessile.core.ids import SessionId
from sessile.http import schemas
from sessile.http.problems import problem
from sessile.http.reply import Header as HeaderPair
from sessile.http.reply import Reply
from sessile.http.route import Caller, Exchange, SessionPath, exchange
from sessile.http.served import SESSION_PROBLEMS, Served, declare
from sessile.http.sessions import ItemsMax
from sessile.http.wire import message_wire, session_wire, turn_wire
from sessile.ports.store import Found
from sessile.runtime.feed import Ended, FeedItem, Grown, Reader, Reset

SSE_HEADERS: list[HeaderPair] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
RETRY_MS = 1_000
RETRY_SPREAD_MS = 4_000
FRAMES_MAX = 1_024
FRAME_BYTES_MAX = 16_384
AHEAD_OF_ALL = 2**62
_CURSOR = re.compile(r"[0-9]{1,18}", re.ASCII)


class Frames:
    """Entries as frames. Many readers are fed the same entry; it is encoded once for all."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Entry, bytes]] = {}

    def of(self, entry: Entry) -> bytes:
        known = self._known.get(id(entry))
        if known is not None and known[0] is entry:
            return known[1]
        frame = (f"id: {entry.seq}\nevent: {entry.kind}\ndata: {entry_json(entry)}\n\n").encode()
        if len(frame) <= FRAME_BYTES_MAX:
            if len(self._known) >= FRAMES_MAX:
                del self._known[next(iter(self._known))]
            self._known[id(entry)] = (entry, frame)
        return frame


class Streams:
    """The open streams of this node."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.frames = Frames()
        self.draining = False
        self._open: dict[object, Callable[[], None]] = {}

    @property
    def full(self) -> bool:
        return len(self._open) >= self.served.settings.streams_max

    def drain(self) -> None:
        """Each stream says goodbye, and its reader comes back elsewhere after a while of its
        own. From here on every new one is sent away in the same way."""
        self.draining = True
        for stop in tuple(self._open.values()):
            stop()

    def enter(self, stream: object, stop: Callable[[], None]) -> None:
        self._open[stream] = stop

    def leave(self, stream: object) -> None:
        del self._open[stream]


class EventRoutes:
    def __init__(self, served: Served, streams: Streams) -> None:
        self._served = served
        self._streams = streams

    def declare(self, app: FastAPI) -> None:
        page = schemas.Page[schemas.Entry]
        stream: dict[str, Any] = {
            "description": "A page of JSON, or a stream: `id` is the seq, `event` the kind, `data` "
            "the entry. Beside entries: `reset` (data: a snapshot; forget what you have), and "
            "`end` (nothing more can come; the next request gets 204).",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": "id: 7\nevent: turn.completed\ndata: {…}\n\n",
                }
            },
        }
        declare(
            app,
            "GET",
            "/v1/sessions/{session_id}/events",
            self.read_events,
            tag="events",
            status=200,
            model=page,
            problems=(*SESSION_PROBLEMS, 400, 422),
            replies={200: stream, 204: {"description": "Nothing more can come."}},
        )

    async def read_events(
        self,
        request: Request,
        caller: Caller,
        session_id: SessionPath,
        after: Annotated[str | None, Query(description="A seq; entries behind it.")] = None,
        limit: ItemsMax = 200,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        last_event_id: Annotated[
            str | None, Header(alias="Last-Event-ID", description="Wins over `after`.")
        ] = None,
    ) -> Any:
        """The session's log behind a cursor: a stream, or a page where JSON is asked for."""
        if "application/json" in accept and "text/event-stream" not in accept:
            return await self._page(caller, session_id, _cursor(after), limit)
        cursor = _cursor(after)
        if last_event_id:
            known = _CURSOR.fullmatch(last_event_id)
            cursor = int(last_event_id) if known else AHEAD_OF_ALL
        return Stream(self._streams, caller, session_id, cursor, exchange(request.scope))

    async def _page(
        self, caller: Principal, session_id: SessionId, after: int, limit: int
    ) -> Reply:
        most = self._served.settings.page_entries_max
        if limit > most:
            raise InvalidInput(f"limit is at most {most}", field="limit")
        entries = await self._served.reads.entries(caller, session_id, after=after, limit=limit)
        last = str(entries[-1].seq) if len(entries) == limit else "null"
        items = ",".join(map(entry_json, entries))
        return Reply(200, f'{{"items":[{items}],"next":{last}}}'.encode())


def _cursor(text: str | None) -> int:
    if text is None:
        return 0
    if not _CURSOR.fullmatch(text):
        raise InvalidInput("after is a whole number", field="after")
    return int(text)


class Stream:
    """One reader's stream. It ends itself: when its client leaves or is too slow, when nothing
    more can come, when its access ends, and when the node drains."""

    def __init__(
        self,
        streams: Streams,
        principal: Principal,
        session_id: SessionId,
        cursor: int,
        here: Exchange,
    ) -> None:
        self._streams = streams
        self._settings = streams.served.settings
        self._principal = principal
        self._session_id = session_id
        self._cursor = cursor
        self._here = here
        self._gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._streams.draining or self._streams.full:
            await _start(send)
            await _end(send, _goodbye("this node takes no more streams"))
            return
        try:
            async with self._streams.served.feed.subscribe(
                self._principal, self._session_id, after=self._cursor
            ) as reader:
                await self._attended(reader, receive, send, scope)
        except SessileError as error:
            await problem(error, request_id=self._here.request_id)(scope, receive, send)

    async def _attended(self, reader: Reader, receive: Receive, send: Send, scope: Scope) -> None:
        """Writes until the client is gone, or the node drains."""
        loop = asyncio.get_running_loop()
        until = asyncio.timeout(None)

        def stop() -> None:
            if not until.expired():
                until.reschedule(loop.time())

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._gone = True
            stop()

        async with asyncio.TaskGroup() as tasks:
            try:
                async with until:
                    self._streams.enter(self, stop)
                    watcher = tasks.create_task(watch())
                    try:
                        await self._write(reader, send, scope)
                    finally:
                        watcher.cancel()
                        self._streams.leave(self)
            except TimeoutError:
                if until.expired() and not self._gone:
                    await _end(send, _goodbye("this node is stopping"))

    async def _write(self, reader: Reader, send: Send, scope: Scope) -> None:
        first = await reader.read(timeout_seconds=0)
        if isinstance(first, Ended) and first.reason == "closed":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await _end(send, b"")
            return
        await _start(send)
        body = f"retry: {RETRY_MS}\n\n".encode()
        item: FeedItem | None = first
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        while True:
            if item is not None:
                body += await self._frames(item)
            elif loop.time() - sent_at >= self._settings.heartbeat_seconds:
                body += b":\n\n"
            if isinstance(item, Ended):
                await _end(send, body)
                return
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
                body, sent_at = b"", loop.time()
            item = await reader.read(timeout_seconds=self._settings.heartbeat_seconds)

    async def _frames(self, item: FeedItem) -> bytes:
        match item:
            case Grown(entries):
                of = self._streams.frames.of
                return b"".join([of(entry) for entry in entries])
            case Reset(found):
                data = to_json(await self._snapshot(found))
                return f"id: {found.head.head}\nevent: reset\ndata: {data}\n\n".encode()
            case Ended(reason):
                return f'event: end\ndata: {{"reason":"{reason}"}}\n\n'.encode()

    async def _snapshot(self, found: Found) -> dict[str, Any]:
        """The state as of `found`, as far as the records, which go on, can still tell it."""
        reads, head = self._streams.served.reads, found.head
        who, most = self._principal, self._settings.page_items_max
        running = None
        if head.running_turn_id is not None:
            running = await reads.turn(who, self._session_id, head.running_turn_id)
        queued = await reads.turns(who, self._session_id, queued=True, limit=most)
        said = await reads.messages(who, self._session_id, before=head.head + 1, limit=most)
        return {
            "session": session_wire(found),
            "running_turn": None if running is None else turn_wire(running),
            "queued_turns": [turn_wire(turn) for turn in queued if turn.seq <= head.head],
            "messages": [message_wire(message) for message in said],
        }


async def _start(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": SSE_HEADERS})


async def _end(send: Send, body: bytes) -> None:
    message: Message = {"type": "http.response.body", "body": body, "more_body": False}
    await send(message)


def _goodbye(why: str) -> bytes:
    retry_ms = RETRY_MS + random.randrange(RETRY_SPREAD_MS)
    return f": {why}\nretry: {retry_ms}\n\n".encode()
