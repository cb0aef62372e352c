"""The one way out: a session's log from a cursor on, without a gap, for as long as one reads."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from sessile.core.context import Principal
from sessile.core.errors import SessionNotFound
from sessile.core.events import Entry, SessionRedacted
from sessile.core.ids import Seq, SessionId, SessionKey
from sessile.ports.notifier import Hint, Notifier
from sessile.ports.store import Found, Store
from sessile.runtime.inputs import session_key
from sessile.runtime.telemetry import Telemetry
from sessile.settings import Settings


@dataclass(frozen=True, slots=True)
class Grown:
    """Entries that follow the reader's cursor without a gap."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Reset:
    """The cursor was ahead of the log: start again from this state, whose last entry is
    `found.head.head`."""

    found: Found


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more can come: the session is `closed` or `gone`, which is deleted."""

    reason: Literal["closed", "gone"]


FeedItem = Grown | Reset | Ended


class _Tail:
    """The end of one followed session's log, shared by its readers on this node."""

    __slots__ = (
        "_bytes", "_bytes_max", "_entries", "_entries_max", "deleted", "head", "readers",
        "stop_following",
    )  # fmt: skip

    def __init__(
        self, *, entries_max: int, bytes_max: int, stop_following: Callable[[], None]
    ) -> None:
        self._entries: deque[Entry] = deque()
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self.head = 0
        self.deleted = False
        self.readers: set[Reader] = set()
        self.stop_following = stop_following

    def grow(self, hint: Hint) -> None:
        self.deleted = self.deleted or hint.deleted
        if hint.head <= self.head and not hint.deleted:
            return
        kept = self._entries
        if kept and self._void(hint):
            kept.clear()
            self._bytes = 0
        if hint.entries:
            for entry in hint.entries:
                kept.append(entry)
                self._bytes += len(entry.body)
            while len(kept) > self._entries_max or self._bytes > self._bytes_max:
                self._bytes -= len(kept.popleft().body)
        self.head = max(self.head, hint.head)
        for reader in self.readers:
            reader.ring()

    def _void(self, hint: Hint) -> bool:
        """Whether what is kept is not the log any more, or may not be: of what came since, one may
        have voided it."""
        came = hint.entries
        if not came or came[0].seq != self._entries[-1].seq + 1:
            return True
        return any(entry.kind == SessionRedacted.kind for entry in came)

    def since(self, cursor: int, limit: int) -> tuple[Entry, ...]:
        """The entries behind the cursor; none where they are not all here."""
        kept = self._entries
        if not kept or kept[0].seq > cursor + 1 or kept[-1].seq <= cursor:
            return ()
        skip = cursor + 1 - kept[0].seq
        end = min(len(kept), skip + limit)
        return tuple(kept[i] for i in range(skip, end))


class Reader:
    """One reader of one session. Its buffer is its cursor: what it has not read is in the log,
    so a slow one costs no memory. Whether it may read is asked once: an owner stays one. Whether
    its token is good is for whoever holds the token to ask."""

    __slots__ = (
        "_bell", "_bytes_max", "_closing", "_first", "_page", "_principal", "_released", "_store",
        "_tail", "cursor", "key",
    )  # fmt: skip

    def __init__(
        self, store: Store, settings: Settings, tail: _Tail, key: SessionKey, principal: Principal
    ) -> None:
        self._store = store
        self._page = settings.page_entries_max
        self._bytes_max = settings.page_bytes_max
        self._tail = tail
        self._principal = principal
        self._bell: asyncio.Future[None] | None = None
        self._first: list[FeedItem] = []
        self._closing = False
        self._released = False
        self.key = key
        self.cursor = 0

    def ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    def release(self) -> None:
        """Wait for nothing more: what is there is read, and then None."""
        self._released = True
        self.ring()

    async def begin(self, after: int) -> None:
        """Raises SessionNotFound where the caller may not read the session."""
        found = await self._reached()
        if found is None:
            raise SessionNotFound()
        if after > found.head.head:
            self._first.append(Reset(found))
            after = found.head.head
        self.cursor = after
        self._closing = found.head.status == "closed"

    async def read(self, *, timeout_seconds: float | None = None) -> FeedItem | None:
        """What comes next; None where nothing came in time. After Ended, nothing more does."""
        if self._first:
            return self._first.pop(0)
        loop = asyncio.get_running_loop()
        end = None if timeout_seconds is None else loop.time() + timeout_seconds
        while True:
            # The bell is hung before the log is looked at: an entry that is appended between
            # the two rings it, and is not left waiting for the sweep.
            self._bell = loop.create_future()
            if self._tail.deleted:
                if item := await self._checked_again():
                    return item
                self._tail.deleted = False  # the hint was not true
            if entries := await self._unread():
                self.cursor = entries[-1].seq
                self._closing = self._closing or any(e.kind == "session.closed" for e in entries)
                return Grown(entries)
            if self._closing and (item := await self._checked_again()):
                return item
            if self._released or (end is not None and loop.time() >= end):
                return None
            await self._wait(end)

    async def _unread(self) -> tuple[Entry, ...]:
        if self._tail.head <= self.cursor:
            return ()
        if entries := self._tail.since(self.cursor, self._page):
            return entries
        told = self._tail.head
        entries = await self._store.read(
            self.key, after=self.cursor, limit=self._page, bytes_max=self._bytes_max
        )
        if not entries and self._tail.head == told:
            # The hint was not true. If it stood, those that come would be no news.
            self._tail.head = self.cursor
        return entries

    async def _checked_again(self) -> Ended | None:
        found = await self._reached()
        if found is None:
            return Ended("gone")
        head = found.head
        if head.head == self.cursor and head.status == "closed" and head.running_turn_id is None:
            return Ended("closed")
        # A turn that still runs ends with an entry, after which this is asked again.
        self._closing = head.status == "closed"
        return None

    async def _reached(self) -> Found | None:
        found = await self._store.find(self.key)
        if found is None or not self._principal.may_reach(self.key, found.head.user_id):
            return None
        self._tail.grow(Hint(key=self.key, head=found.head.head))
        return found

    async def _wait(self, until: float | None) -> None:
        """To an instant, not for a span: a span is rounded, and may end just short of it."""
        assert self._bell is not None
        if until is None:
            await self._bell
            return
        timer = asyncio.get_running_loop().call_at(until, self.ring)
        try:
            await self._bell
        finally:
            timer.cancel()


class Feed:
    """Feeds every reader of this node from the logs, told by hints and by the sweep."""

    def __init__(
        self, *, store: Store, notifier: Notifier, settings: Settings, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._settings = settings
        self._telemetry = telemetry
        self._tails: dict[SessionKey, _Tail] = {}
        self._follows: set[Reader] = set()
        self._draining = False
        self._stop_listening = notifier.listen(self._on_hint)

    def drain(self) -> None:
        """Whoever follows is given what there is, and then the end: to come back elsewhere."""
        self._draining = True
        for reader in self._follows:
            reader.release()

    def close(self) -> None:
        """Ends no reader, but tells them nothing more."""
        self._stop_listening()

    @property
    def following(self) -> Collection[SessionKey]:
        """The sessions that somebody reads here, for the sweep."""
        return tuple(self._tails)

    @property
    def readers(self) -> int:
        return sum(len(tail.readers) for tail in self._tails.values())

    def swept(self, asked: Collection[SessionKey], heads: dict[SessionKey, Seq]) -> None:
        """What the sweep found: it stands behind every hint that was lost."""
        for key in asked:
            tail, head = self._tails.get(key), heads.get(key)
            if tail is not None and (head is None or head > tail.head):
                tail.grow(Hint(key=key, head=head or Seq(0), deleted=head is None))

    def subscribe(
        self, principal: Principal, session_id: SessionId, *, after: int
    ) -> AbstractAsyncContextManager[Reader]:
        """A reader of the session from the entry behind `after` on.

        Raises SessionNotFound on entry. A cursor ahead of the log gets a Reset first.
        """
        return self._subscribed(principal, session_id, after)

    async def follow(
        self, principal: Principal, session_id: SessionId, *, after: int = 0
    ) -> AsyncIterator[FeedItem]:
        """All that `subscribe` would read, up to and with Ended. Without Ended, this node drains:
        more may come, for whoever comes back with its cursor."""
        async with self.subscribe(principal, session_id, after=after) as reader:
            self._follows.add(reader)
            if self._draining:
                reader.release()
            try:
                while (item := await reader.read()) is not None:
                    yield item
                    if isinstance(item, Ended):
                        return
            finally:
                self._follows.discard(reader)

    @asynccontextmanager
    async def _subscribed(
        self, principal: Principal, session_id: SessionId, after: int
    ) -> AsyncGenerator[Reader, None]:
        key = session_key(principal, session_id)
        tail = self._tails.get(key)
        if tail is None:
            tail = self._tails[key] = _Tail(
                entries_max=self._settings.tail_entries_max,
                bytes_max=self._settings.tail_bytes_max,
                stop_following=self._notifier.follow(*key),
            )
        reader = Reader(self._store, self._settings, tail, key, principal)
        tail.readers.add(reader)
        self._telemetry.streams.inc()
        try:
            await reader.begin(after)
            yield reader
        finally:
            self._telemetry.streams.dec()
            tail.readers.discard(reader)
            if not tail.readers and self._tails.get(key) is tail:
                del self._tails[key]
                tail.stop_following()

    def _on_hint(self, hint: Hint) -> None:
        if (tail := self._tails.get(hint.key)) is not None:
            tail.grow(hint)
