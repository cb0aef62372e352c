"""A running turn's appends: under its fence, in order, each applied once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from sessile.core.codec import decode
from sessile.core.context import Holding
from sessile.core.errors import ContextExpired, LeaseLost, StorageBusy, StorageFull
from sessile.core.events import Entry, Event, ToolRefused, ToolStarted
from sessile.core.transcript import TEXT_KINDS
from sessile.ports.store import Committed, Store

RETRY_SECONDS = 0.25
RECENT_ENTRIES_MAX = 500
T = TypeVar("T")


class Journal:
    """One at a time and batched: what was put while an append was on its way goes with the next.

    A caller that is cancelled in the middle of an append leaves it behind as unknown; whoever
    comes next sends it again with the same step, which the store applies once.
    """

    def __init__(
        self,
        *,
        store: Store,
        holding: Holding,
        publish: Callable[[Committed], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        delay_seconds: float,
    ) -> None:
        self._store = store
        self._holding = holding
        self._publish = publish
        self._spawn = spawn
        self._delay_seconds = delay_seconds
        self._lock = asyncio.Lock()
        self._pending: list[Event] = []
        self._sent: list[Event] = []
        self._put = 0
        self._durable = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sealed = False
        self.buffered: Callable[[], tuple[Event, ...]] = tuple
        """Hands over deltas and progress that still wait to be coalesced."""
        self.refused: Callable[[ToolRefused], object] = lambda _: None
        """Told of each call whose start the store refused, for want of a grant."""
        self.step = 0
        self.said: list[Entry] = []
        """What this attempt added to the transcript since the agent was given the history."""
        self.said_is_whole = True
        """False after an append whose answer was lost: then only the log knows."""

    def said_since_here(self) -> None:
        """What was said until now is in the history that is about to be read or given."""
        self.said.clear()
        self.said_is_whole = True

    def put(self, *events: Event) -> None:
        """Append soon: with the next write, or after the delay."""
        self.check()
        self._pending.extend(events)
        self._put += len(events)
        self.flush_soon()

    def flush_soon(self) -> None:
        if self._timer is None and not self._sealed:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._delay_seconds, self._on_timer)

    async def write(self, *events: Event) -> None:
        """Append behind what waits, durable on return. Raises LeaseLost, and ContextExpired
        once the turn is being ended."""
        self.check()
        events = (*self.buffered(), *events)
        self._pending.extend(events)
        self._put += len(events)
        ticket = self._put
        async with self._lock:
            while self._durable < ticket:
                await self._append()

    async def drain(self) -> tuple[Event, ...]:
        """What was put and not yet sent, to be written with the turn's end. Nothing is on its
        way any more, and nothing more is taken until `resume`: an append of what an agent left
        running would come between, and the end would be refused."""
        self.seal()
        async with self._lock:
            if self._sent:
                with suppress(LeaseLost):
                    await self._append()
        left, self._pending = tuple(self._pending), []
        self._durable = self._put
        return left

    async def settle(self, *events: Event) -> None:
        """Append behind what waits, as the last of an attempt: nothing more is taken."""
        self.seal()
        self._pending.extend((*self.buffered(), *events))
        async with self._lock:
            while self._sent or self._pending:
                await self._append()

    def seal(self) -> None:
        """Take nothing more from the agent, and write nothing more by itself."""
        self._sealed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume(self) -> None:
        """The turn does not end yet."""
        self._sealed = False

    def check(self) -> None:
        """Raises ContextExpired once the turn is being ended."""
        if self._sealed:
            raise ContextExpired()

    async def _append(self) -> None:
        """Send what is pending; or again what was sent, where nobody saw the answer."""
        if not self._sent:
            self._sent, self._pending = self._pending, []
        try:
            committed = await patiently(
                lambda: self._store.append(self._holding, self.step, self._sent)
            )
        except LeaseLost:
            # The turn's end may still be ours to write, where the session was closed.
            self._sent, self._pending = [], [*self._sent, *self._pending]
            raise
        await self._heed_refusals(committed)
        self._durable += len(self._sent)
        self._sent = []
        self.step += 1
        self.said.extend(entry for entry in committed.entries if entry.kind in TEXT_KINDS)
        self.said_is_whole = self.said_is_whole and not committed.repeated
        self._publish(committed)

    async def _heed_refusals(self, committed: Committed) -> None:
        gated = {e.call_id for e in self._sent if isinstance(e, ToolStarted) and e.grant}
        if not gated:
            return
        entries: Sequence[Entry] = committed.entries
        if committed.repeated:
            # Its answer was lost: what was written is among the last entries of the log.
            store, key = self._store, self._holding.key
            entries = await patiently(
                lambda: store.read(key, newest_first=True, limit=RECENT_ENTRIES_MAX)
            )
            if not entries:
                raise LeaseLost  # deleted meanwhile: whether a call was refused is not known
        for event in (decode(entry) for entry in entries if entry.kind == ToolRefused.kind):
            if isinstance(event, ToolRefused) and event.call_id in gated:
                self.refused(event)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._sealed:
            self._spawn(self._flush())

    async def _flush(self) -> None:
        """Where the turn has begun to end since the timer rang, what waited goes with its end."""
        if not self._sealed:
            await self.write()


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Ask the store again while it is full or busy, when nothing was written.

    Without an end of its own: the turn's deadline and lease end the wait.
    """
    while True:
        try:
            return await call()
        except (StorageBusy, StorageFull):
            await asyncio.sleep(RETRY_SECONDS)
