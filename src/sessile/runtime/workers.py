"""The node's pool: takes what is due, runs it in a bounded number of slots, drains on stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from sessile.core.commands import Runner, StartTurn
from sessile.core.ids import SessionKey, TenantId
from sessile.core.transcript import History
from sessile.ports.notifier import Hint, Notifier
from sessile.ports.store import Committed
from sessile.runtime.due import Due
from sessile.runtime.feed import Feed
from sessile.runtime.node import Node
from sessile.runtime.outages import OUTAGES, told
from sessile.runtime.renewals import renew_for_ever
from sessile.runtime.slots import Slots, User
from sessile.runtime.starts import Starts
from sessile.runtime.turns import Attempt

logger = logging.getLogger(__name__)


class Workers:
    """Run it as `async with`: leaving drains. Takes no turn before it is entered."""

    def __init__(self, *, node: Node, notifier: Notifier, feed: Feed) -> None:
        self._node = node
        self._notifier = notifier
        self._feed = feed
        self._runs = node.settings.role != "surfaces"
        self._slots = Slots(
            node.settings.turns_concurrent_max if self._runs else 0,
            tenant_max=lambda it: node.limits.of(it).turns_concurrent_tenant_max,
            user_max=lambda it: node.limits.of(it).turns_concurrent_user_max,
        )
        self._starts = Starts(node)
        self._due = Due()
        node.telemetry.sessions_waiting.set_function(lambda: len(self._due))
        self._attempts: dict[SessionKey, Attempt] = {}
        self._again: set[SessionKey] = set()
        self._open = False
        self._handing_back = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._tasks = asyncio.TaskGroup()
        self._working: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._stop_listening: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._stop_listening = self._notifier.listen(self._on_hint)
        self._open = True
        self._loops = [
            self._tasks.create_task(self._sweep_for_ever(), name="sweep"),
            self._tasks.create_task(
                renew_for_ever(
                    self._node, self._attempts, in_time=self._go_on, late=self._slots.late
                ),
                name="renew",
            ),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.drain()
        # No turn runs any more. What a lost one had still to write would be tried for as long as
        # the store does not answer.
        for task in (*self._loops, *self._working):
            task.cancel()
        self._stop_listening()
        await self._tasks.__aexit__(None, None, None)

    @property
    def ready(self) -> bool:
        """Takes turns, and has a thread left for a tool that blocks and a slot for a turn; or
        leaves them to other nodes, as it was told to."""
        if not self._runs:
            return self._open
        return self._open and self._node.threads.free > 0 and self.outlived < self._slots.count

    @property
    def trouble(self) -> str | None:
        """Why this node is of no use now, in words."""
        if not self.ready:
            return "this node is stopping, or its tools hold all of its threads"
        return self._node.store.trouble

    @property
    def outlived(self) -> int:
        """Agents that go on though their turns have ended; each holds its slot until it returns."""
        return self._node.guests.left

    @property
    def running(self) -> int:
        return self._slots.held

    async def drain(self, *, at_once: bool = False) -> None:
        """Take no more turns, let those that run end, then hand the rest back. `at_once`: none
        may end first, not even those that an earlier call waits for.

        What the store does not take back within the time of a lease is left behind: another node
        takes it up, as if this one were lost.
        """
        self._open = False
        self._due.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if at_once else self._node.settings.drain_seconds_max):
                await self._idle.wait()
        self._handing_back = True
        for attempt in tuple(self._attempts.values()):
            attempt.stop("drain")
        with suppress(TimeoutError):
            async with asyncio.timeout(self._node.runner.lease_ms / 1000):
                await self._idle.wait()
        if not self._idle.is_set():
            self._leave_behind()

    def _leave_behind(self) -> None:
        logger.error(
            "turns left behind",
            extra={"turns": self.running, "sessions": told(self._attempts)},
        )
        for attempt in tuple(self._attempts.values()):
            attempt.stop("lost")
        for task in tuple(self._working):
            task.cancel()

    def reserve(self, user: User) -> Runner | None:
        """A slot for a turn that is about to be submitted by this user; None where none is free, or
        others wait for it, or there are as many as the tenant or the user may hold. Hand it to
        `start`."""
        if not self.ready or self._room <= 0 or self._due.has_next(self._slots.is_full):
            return None
        if self._slots.is_full(user[0]) or self._slots.user_is_full(user):
            return None
        self._take_slot(user[0])
        self._slots.take_for(user)
        return self._node.runner

    async def start(self, user: User, ask: Callable[[], Awaitable[Committed]]) -> Committed:
        """Ask the store for a turn in the slot that was reserved. What it started is run, also
        where the caller is cancelled meanwhile; else the slot is free again."""
        answer: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._spawn(self._started(user, ask, answer))
        return await answer

    def wake(self, key: SessionKey) -> None:
        """A turn of this session can run."""
        if not self._open or not self._runs:
            return
        if key in self._attempts:
            self._again.add(key)  # the attempt is about to end: it was its end that woke us
            return
        self._due.add(key)
        self._pump()

    # -- slots

    @property
    def _room(self) -> int:
        return self._slots.room - self.outlived

    def _go_on(self) -> None:
        self._slots.in_time()
        self._pump()

    def _take_slot(self, tenant_id: TenantId) -> None:
        self._slots.take(tenant_id)
        self._idle.clear()

    def _pump(self) -> None:
        while self.ready and self._room > 0:
            if (key := self._due.pop(self._slots.is_full)) is None:
                return
            self._take_slot(key.tenant_id)
            self._spawn(self._claim(key))

    def _give_slot_back(self, tenant_id: TenantId, user: User | None) -> None:
        self._slots.give_back(tenant_id)
        if user is not None:
            self._slots.give_back_for(user)
            if (waiting := self._due.pop_apart(user)) is not None:
                self.wake(waiting)
        if self._slots.free == self._slots.count:
            self._idle.set()
        self._pump()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks.create_task(self._node.store.contained(work))
        self._working.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._working.discard(task)
            work.close()  # of a task that was cancelled before it began

        task.add_done_callback(ended)

    async def _started(
        self,
        user: User,
        ask: Callable[[], Awaitable[Committed]],
        answer: asyncio.Future[Committed],
    ) -> None:
        try:
            try:
                committed = await ask()
            except Exception as error:  # noqa: BLE001  the caller's to judge
                if not answer.done():
                    answer.set_exception(error)
                return
            except asyncio.CancelledError:
                answer.cancel()
                raise
            self._node.publish(committed)
            if not answer.done():
                answer.set_result(committed)
            if self._starts.are_ours(committed):
                await self._run(committed, user)
        finally:
            self._give_slot_back(user[0], user)

    async def _claim(self, key: SessionKey) -> None:
        user: User | None = None
        try:
            if self._slots.watches_users(key.tenant_id):
                found = await self._node.store.find(key)
                if found is None:
                    return
                owner = (key.tenant_id, found.head.user_id)
                if self._slots.user_is_full(owner):
                    self._due.set_apart(key, owner)
                    return
                user = owner
                self._slots.take_for(user)
            await self._claimed(key, user)
        except OUTAGES as outage:
            self._node.store.tell(outage, (key,))  # and the sweep will claim it
        finally:
            self._give_slot_back(key.tenant_id, user)

    async def _claimed(self, key: SessionKey, user: User | None) -> None:
        suspects = self._due.take_right(key)
        command = StartTurn(runner=self._node.runner, suspects=suspects)
        try:
            claimed = await self._node.store.transact(key, command)
            if claimed.entries:
                self._node.publish(claimed)
                self._node.telemetry.turn_begun(claimed)
            if self._starts.are_ours(claimed):
                await self._run(claimed, user)
            elif (stranger := self._starts.stranger(claimed)) is not None:
                waits = {"session_id": key.session_id, "assistant": stranger}
                logger.warning("a turn waits for an assistant that is not here", extra=waits)
            elif not suspects and claimed.head is not None and claimed.head.running_turn_id:
                self._due.set_aside(key)
        finally:
            self._next_suspect(key)

    async def _run(self, started: Committed, user: User | None) -> None:
        """Turns of one session, as long as each ends by starting the next."""
        assert started.head is not None
        key = started.head.key
        history: History | None = None
        current: Committed | None = started
        self._node.telemetry.turns_running.inc()
        try:
            while current is not None and self._starts.is_first(current):
                if (whole := await self._starts.whole(current)) is None:
                    return
                attempt = Attempt(self._node, whole, spawn=self._spawn, history=history)
                self._attempts[key] = attempt
                if not attempt.suspect:
                    self._next_suspect(key)
                if self._handing_back:
                    attempt.stop("drain")
                try:
                    current = await attempt.run(lambda: self._successor(key, user))
                finally:
                    if self._attempts.get(key) is attempt:
                        del self._attempts[key]
                history = None if current is None else attempt.history_after(current)
        finally:
            self._node.telemetry.turns_running.dec()
            if key in self._again and key not in self._attempts:
                self._again.discard(key)
                self.wake(key)

    def _next_suspect(self, key: SessionKey) -> None:
        if (waiting := self._due.give_back(key)) is not None:
            self.wake(waiting)

    def _successor(self, key: SessionKey, user: User | None) -> Runner | None:
        """The slot stays with the session where no other session waits for it."""
        if not self.ready or self._room < 0 or (user and self._due.waits_apart(user)):
            return None
        others = self._due.has_next(lambda it: self._slots.is_full(it, but=key.tenant_id))
        return None if others else self._node.runner

    # -- what wakes it

    def _on_hint(self, hint: Hint) -> None:
        attempt = self._attempts.get(hint.key)
        if attempt is not None and (hint.control or hint.deleted):
            attempt.on_hint(hint)
        if hint.due:
            self.wake(hint.key)

    async def _sweep_for_ever(self) -> None:
        """The truth behind every lost wake-up, for turns and for readers."""
        while True:
            await self._node.store.contained(self._sweep())
            if self._node.store.trouble is not None and self._open:
                self._spawn(self._node.store.try_again())
            await asyncio.sleep(self._node.settings.sweep_seconds)

    async def _sweep(self) -> None:
        followed = self._feed.following
        due_max = self._due.ask(free=self._slots.free) if self._runs else 0
        sweep = await self._node.store.sweep(
            due_max=due_max,
            assistants=self._node.runner.assistants,
            following=tuple(dict.fromkeys((*followed, *self._attempts))),
        )
        self._feed.swept(followed, dict(sweep.heads))
        for key, head in sweep.heads.items():
            if (attempt := self._attempts.get(key)) is not None:
                attempt.on_head(head)
        self._due.shown(sweep.due, asked=due_max)
        for key in sweep.due:
            self._found_due(key)
        if (waiting := self._due.pop_aside()) is not None:
            self.wake(waiting)  # perhaps another node has ended what made it suspect
        self._pump()  # what waits since no thread was free

    def _found_due(self, key: SessionKey) -> None:
        if key not in self._attempts and key not in self._due:
            self._node.telemetry.sweep_finds.inc()
            self.wake(key)
