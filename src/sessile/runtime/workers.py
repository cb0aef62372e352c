"""The node's pool: takes what is due, runs it in a bounded number of slots, drains on stop."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from sessile.core.commands import Runner, StartTurn
from sessile.core.errors import StorageBusy, StorageFull
from sessile.core.ids import SessionKey
from sessile.core.transcript import History
from sessile.ports.notifier import Hint, Notifier
from sessile.ports.store import Committed
from sessile.runtime.feed import Feed
from sessile.runtime.node import Node
from sessile.runtime.turns import Attempt

logger = logging.getLogger(__name__)

RENEWALS_PER_TTL = 4
LATE_AT_SHARE_OF_TTL = 0.6


class Workers:
    """Run it as `async with`: leaving drains. Takes no turn before it is entered."""

    def __init__(self, *, node: Node, notifier: Notifier, feed: Feed) -> None:
        self._node = node
        self._notifier = notifier
        self._feed = feed
        self._slots = node.settings.turns_concurrent_max
        self._free = self._slots
        self._due: dict[SessionKey, None] = {}
        self._attempts: dict[SessionKey, Attempt] = {}
        self._suspect: SessionKey | None = None
        self._open = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []
        self._stop_listening: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._stop_listening = self._notifier.listen(self._on_hint)
        self._open = True
        self._loops = [
            self._tasks.create_task(self._sweep_for_ever(), name="sweep"),
            self._tasks.create_task(self._renew_for_ever(), name="renew"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.drain()
        for loop in self._loops:
            loop.cancel()
        self._stop_listening()
        await self._tasks.__aexit__(None, None, None)

    @property
    def ready(self) -> bool:
        """Takes turns, and has a thread left for a tool that blocks."""
        return self._open and self._node.threads.free > 0

    @property
    def running(self) -> int:
        return self._slots - self._free

    async def drain(self, *, at_once: bool = False) -> None:
        """Take no more turns, let those that run end, then hand the rest back. `at_once`: none
        may end first, not even those that an earlier call waits for."""
        self._open = False
        self._due.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if at_once else self._node.settings.drain_seconds_max):
                await self._idle.wait()
        for attempt in tuple(self._attempts.values()):
            attempt.stop("drain")
        await self._idle.wait()

    def reserve(self) -> Runner | None:
        """A slot for a turn that is about to be submitted; None where none is free, or others
        wait for it. Give it back by `launch` or `release`."""
        if not self.ready or self._free <= 0 or self._due:
            return None
        self._take_slot()
        return self._node.runner

    def release(self) -> None:
        """The reserved slot was not needed."""
        self._free += 1
        if self._free == self._slots:
            self._idle.set()
        self._pump()

    def launch(self, started: Committed) -> None:
        """Run the turn that this commit started, in the slot that was reserved."""
        self._spawn(self._run(started))

    def adopt(self, key: SessionKey) -> None:
        """The slot was reserved, and nobody knows whether the turn was started for it."""
        self._spawn(self._claim(key))

    def wake(self, key: SessionKey) -> None:
        """A turn of this session can run."""
        if self._open and key not in self._attempts:
            self._due.setdefault(key)
            self._pump()

    # -- slots

    def _take_slot(self) -> None:
        self._free -= 1
        self._idle.clear()

    def _pump(self) -> None:
        while self.ready and self._free > 0 and self._due:
            key = next(iter(self._due))
            del self._due[key]
            self._take_slot()
            self._spawn(self._claim(key))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(_contained(work))

    async def _claim(self, key: SessionKey) -> None:
        started: Committed | None = None
        try:
            command = StartTurn(runner=self._node.runner, suspects=self._suspect is None)
            claimed = await self._node.store.transact(key, command)
            self._node.publish(claimed)
            if self._is_ours(claimed) and key not in self._attempts:
                started = await self._with_turn(claimed)
        except (StorageBusy, StorageFull):
            logger.warning("could not claim; the sweep will", extra={"session_id": key.session_id})
        finally:
            if started is None:
                self.release()
        if started is not None:
            await self._run(started)

    async def _run(self, started: Committed) -> None:
        """Turns of one session, as long as each ends by starting the next."""
        history: History | None = None
        current: Committed | None = started
        self._node.telemetry.turns_running.inc()
        try:
            while current is not None and self._is_ours(current):
                assert current.head is not None
                key = current.head.key
                attempt = Attempt(self._node, current, spawn=self._spawn, history=history)
                self._attempts[key] = attempt
                if attempt.suspect:
                    self._suspect = key
                try:
                    current = await attempt.run(self._successor)
                finally:
                    del self._attempts[key]
                    if self._suspect == key:
                        self._suspect = None
                history = None
                if current is not None and self._is_ours(current):
                    current = await self._with_turn(current)
                    if (before := attempt.history) is not None:
                        history = before.extended(current.entries)
        finally:
            self._node.telemetry.turns_running.dec()
            self.release()

    def _successor(self) -> Runner | None:
        """The slot stays with the session where no other session waits for it."""
        return self._node.runner if self.ready and not self._due else None

    def _is_ours(self, committed: Committed) -> bool:
        return (
            committed.head is not None
            and committed.head.running_turn_id is not None
            and committed.lease.owner == self._node.runner.node
        )

    async def _with_turn(self, committed: Committed) -> Committed:
        """The start that this commit made, as `Attempt` wants it."""
        head = committed.head
        assert head is not None
        assert head.running_turn_id is not None
        turn = committed.turns.get(head.running_turn_id)
        session = committed.session
        if turn is None or session is None:
            found = await self._node.store.find(head.key, head.running_turn_id)
            assert found is not None
            turn, session = found.turn, found.session
        entries = (
            tuple(entry for entry in committed.entries if entry.turn_id == turn.turn_id)
            if turn
            else ()
        )
        return Committed(
            head=head,
            lease=committed.lease,
            session_id=committed.session_id,
            entries=entries,
            turns=committed.turns,
            turn=turn,
            session=session,
        )

    # -- what wakes it

    def _on_hint(self, hint: Hint) -> None:
        attempt = self._attempts.get(hint.key)
        if attempt is not None and (hint.control or hint.deleted):
            attempt.on_hint(hint)
        if hint.due:
            self.wake(hint.key)

    async def _sweep_for_ever(self) -> None:
        """The truth behind every lost wake-up, for turns and for readers."""
        seconds = self._node.settings.sweep_seconds
        while True:
            with suppress(StorageBusy, StorageFull):
                following = self._feed.following
                due_max = max(self._free, 1)
                sweep = await self._node.store.sweep(due_max=due_max, following=following)
                self._feed.swept(following, dict(sweep.heads))
                for key in sweep.due:
                    if self._open and key not in self._attempts and key not in self._due:
                        self._node.telemetry.sweep_finds.inc()
                        self.wake(key)
            await asyncio.sleep(seconds)

    async def _renew_for_ever(self) -> None:
        """A node that cannot renew in time stops its turns itself."""
        runner, store = self._node.runner, self._node.store
        ttl_seconds = runner.lease_ms / 1000
        interval = ttl_seconds / RENEWALS_PER_TTL
        while True:
            await asyncio.sleep(interval)
            held = {key: attempt.holding for key, attempt in self._attempts.items()}
            if not held:
                continue
            try:
                async with asyncio.timeout(ttl_seconds * LATE_AT_SHARE_OF_TTL - interval):
                    lost = await store.renew(
                        runner.node, tuple(held.values()), lease_ms=runner.lease_ms
                    )
            except (TimeoutError, StorageBusy, StorageFull):
                lost = frozenset(held)
                logger.error("leases not renewed in time", extra={"turns": len(held)})
            for key in lost:
                attempt = self._attempts.get(key)
                if attempt is not None and attempt.holding == held[key]:
                    attempt.stop("lost")


async def _contained(work: Coroutine[Any, Any, None]) -> None:
    """One session's trouble must not cancel the others'."""
    try:
        await work
    except Exception:
        logger.exception("a task of the pool failed")
