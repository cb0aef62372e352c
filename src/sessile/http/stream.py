"""One reader's event stream, and all that are open on this node."""

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

from starlette.types import Receive, Scope, Send

from sessile.core.codec import entry_json, to_json
from sessile.core.context import Principal
from sessile.core.errors import NotFound, SessileError
from sessile.core.events import Entry
from sessile.core.ids import SessionId
from sessile.http.cursors import cursor
from sessile.http.exchange import Access, Exchange
from sessile.http.problems import problem
from sessile.http.reply import Header, abort
from sessile.http.served import Served
from sessile.http.wire import message_wire, session_wire, turn_wire
from sessile.ports.store import Found
from sessile.runtime.feed import Ended, FeedItem, Grown, Reader, Reset

HEADERS: list[Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
RETRY_MS = 1_000
RETRY_SPREAD_MS = 4_000
"""Readers that are sent away together do not come back together."""
HEARTBEAT = b":\n\n"
GOODBYE_SECONDS_MAX = 1.0
PIECE_BYTES = 65_536
SNAPSHOT_ITEMS_MAX = 50
LOOKS_PER_SLOW_READER = 4
FRAMES_MAX = 1_024
FRAME_BYTES_MAX = 16_384

Stop = Literal["left", "slow", "draining"]


class Frames:
    """Entries as frames. Many readers are fed the same entry: it is encoded once for all.

    What is kept is found by the identity of its entry, which is therefore kept too: as long as
    it lives, no other object has its id.
    """

    def __init__(self, *, epoch: int) -> None:
        self._epoch = epoch
        self._known: dict[int, tuple[Entry, bytes]] = {}

    def of(self, entry: Entry) -> bytes:
        known = self._known.get(id(entry))
        if known is not None:
            return known[1]
        data = entry_json(entry)
        behind = cursor(entry.seq, epoch=self._epoch)
        frame = f"id: {behind}\nevent: {entry.kind}\ndata: {data}\n\n".encode()
        if len(frame) <= FRAME_BYTES_MAX:
            if len(self._known) >= FRAMES_MAX:
                del self._known[next(iter(self._known))]
            self._known[id(entry)] = (entry, frame)
        return frame

    def pieces(self, entries: Sequence[Entry]) -> Iterator[bytes]:
        """The frames of the entries, as few pieces as their size allows. Each is made when it is
        asked for: of what a slow reader has not taken, one is kept."""
        piece: list[bytes] = []
        size = 0
        for entry in entries:
            frame = self.of(entry)
            piece.append(frame)
            size += len(frame)
            if size >= PIECE_BYTES:
                yield b"".join(piece)
                piece, size = [], 0
        if piece:
            yield b"".join(piece)


class Streams:
    """The open streams of this node."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.draining = False
        self._open: set[Stream] = set()
        self._looks: asyncio.TimerHandle | None = None

    @cached_property
    def frames(self) -> Frames:
        """Made when the server is open: before, it does not know its database's epoch."""
        return Frames(epoch=self.served.epoch)

    def drain(self) -> None:
        """Each stream says goodbye, and its reader comes back elsewhere. From here on every new
        one is sent away in the same manner."""
        self.draining = True
        for stream in tuple(self._open):
            stream.stop("draining")

    def enter(self, stream: "Stream") -> str | None:
        """`leave` is owed for it, unless this says why there is no place."""
        if self.draining or len(self._open) >= self.served.settings.streams_max:
            return "this node takes no more streams"
        if (limit := self.served.places.enter(stream.principal)) is not None:
            return f"limit_reached {limit}"
        self._open.add(stream)
        if self._looks is None:
            self._look()
        return None

    def leave(self, stream: "Stream") -> None:
        self._open.discard(stream)
        self.served.places.leave(stream.principal)
        if not self._open and self._looks is not None:
            self._looks.cancel()
            self._looks = None

    def _look(self) -> None:
        """One timer for all: a timer for each frame of each reader would cost as much as the
        frame."""
        loop = asyncio.get_running_loop()
        most = self.served.settings.slow_reader_seconds_max
        for stream in tuple(self._open):
            if stream.sending_since is not None and loop.time() - stream.sending_since >= most:
                stream.stop("slow")
        self._looks = loop.call_later(most / LOOKS_PER_SLOW_READER, self._look)


class Stream:
    """An ASGI application for one reader. It ends when nothing more can come, when its client has
    left or is too slow, when its access ends, and when the node drains; no turn notices."""

    def __init__(
        self,
        streams: Streams,
        principal: Principal,
        session_id: SessionId,
        cursor: int,
        asked: Exchange,
    ) -> None:
        self._streams = streams
        self.principal = principal
        self._session_id = session_id
        self._cursor = cursor
        self._asked = asked
        self._until = asyncio.timeout(None)
        self._stopped: Stop | None = None
        self._attended = self._begun = self._done = False
        self.sending_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = self._streams
        # At once: behind the next await, others would find the same place free.
        if (why := streams.enter(self)) is not None:
            await self._sent_away(send, why)
            return
        try:
            async with streams.served.feed.subscribe(
                self.principal, self._session_id, after=self._cursor
            ) as reader:
                await self._attend(reader, receive, send)
        except NotFound as error:
            await problem(error, request_id=self._asked.request_id)(scope, receive, send)
        except SessileError:
            await self._sent_away(send, "this node's database does not answer")
        finally:
            streams.leave(self)
        if self._stopped == "slow":
            abort(scope)

    def stop(self, why: Stop) -> None:
        """Before it is fed it ends when it would be; and one that has its end gets no other."""
        if self._stopped is None:
            self._stopped = why
            if self._attended:
                self._until.reschedule(asyncio.get_running_loop().time())

    async def _attend(self, reader: Reader, receive: Receive, send: Send) -> None:
        """Feed the reader until something ends it. What is sent is sent in whole frames."""

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.stop("left")

        async with asyncio.TaskGroup() as tasks:
            try:
                async with self._until:
                    self._attended = True
                    if self._stopped is not None:
                        self._until.reschedule(asyncio.get_running_loop().time())
                    watcher = tasks.create_task(watch())
                    try:
                        await self._feed(reader, send)
                    finally:
                        self._attended = False
                        watcher.cancel()
            except TimeoutError:
                assert self._stopped is not None, "only `stop` sets the time"
            except NotFound:
                await self._send(send, _end_frame("gone"), more=False)
            except SessileError:
                await self._sent_away(send, "this node's database does not answer")
        if self._stopped == "draining":
            await self._sent_away(send, "this node is stopping")

    async def _feed(self, reader: Reader, send: Send) -> None:
        loop, settings = asyncio.get_running_loop(), self._streams.served.settings
        item = await reader.read(timeout_seconds=0)
        if isinstance(item, Ended) and item.reason == "closed":
            self._begun = self._done = True
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        await self._begin(send)
        greeting = f"retry: {RETRY_MS}\n\n".encode()
        # The feed asks for the session itself.
        access = Access(self._asked, self.principal, seconds=settings.access_check_seconds)
        sent_at = loop.time()
        while True:
            pieces: Iterable[bytes] = () if item is None else await self._encoded(item)
            if item is None and loop.time() - sent_at >= settings.heartbeat_seconds:
                pieces = (HEARTBEAT,)
            for piece in pieces or ((b"",) if greeting else ()):
                # Who takes little at a time is asked between, too.
                if not await access.holds():
                    await self._send(send, b"", more=False)
                    return
                await self._send(send, greeting + piece, more=not isinstance(item, Ended))
                greeting = b""
                sent_at = loop.time()
            if isinstance(item, Ended):
                return
            if not await access.holds():
                await self._send(send, b"", more=False)
                return
            due = min(sent_at + settings.heartbeat_seconds, access.due)
            item = await reader.read(timeout_seconds=max(0, due - loop.time()))

    async def _encoded(self, item: FeedItem) -> Iterable[bytes]:
        """In pieces of whole frames: what a reader has not taken of one holds back the next."""
        match item:
            case Grown(entries):
                return self._streams.frames.pieces(entries)
            case Reset(found):
                data = to_json(await self._snapshot(found))
                behind = cursor(found.head.head, epoch=self._streams.served.epoch)
                return [f"id: {behind}\nevent: reset\ndata: {data}\n\n".encode()]
            case Ended(reason):
                return [_end_frame(reason)]

    async def _snapshot(self, found: Found) -> dict[str, Any]:
        """The state at `found`; of a record that has gone on since, the later one."""
        reads, head = self._streams.served.reads, found.head
        who, most = self.principal, SNAPSHOT_ITEMS_MAX
        running = None
        if head.running_turn_id is not None:
            running = await reads.turn(who, self._session_id, head.running_turn_id)
        queued = await reads.turns(who, self._session_id, queued=True, limit=most)
        said = await reads.messages(who, self._session_id, before=head.head + 1, limit=most)
        return {
            "session": session_wire(found),
            "running_turn": None if running is None else turn_wire(running),
            "queued_turns": [turn_wire(turn) for turn in queued.items if turn.seq <= head.head],
            "messages": [message_wire(message) for message in said.items],
        }

    async def _begin(self, send: Send) -> None:
        self._begun = True
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})

    async def _send(self, send: Send, body: bytes, *, more: bool) -> None:
        self.sending_since = asyncio.get_running_loop().time()
        await send({"type": "http.response.body", "body": body, "more_body": more})
        self.sending_since = None
        self._done = not more

    async def _sent_away(self, send: Send, why: str) -> None:
        """With the time after which to come back. A reader that does not even take this is cut."""
        retry_ms = RETRY_MS + random.randrange(RETRY_SPREAD_MS)  # of load: no secret  # nosec B311
        try:
            async with asyncio.timeout(GOODBYE_SECONDS_MAX):
                if not self._begun:
                    await self._begin(send)
                if not self._done:
                    body = f": {why}\nretry: {retry_ms}\n\n".encode()
                    await self._send(send, body, more=False)
        except TimeoutError:
            self._stopped = "slow"


def _end_frame(reason: str) -> bytes:
    return f'event: end\ndata: {{"reason":"{reason}"}}\n\n'.encode()
