"""Between the runtime and the memory store: one that keeps a record, and one that throws dice."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

from sessile.adapters.memory import MemoryStore
from sessile.adapters.memory.rows import Kept
from sessile.core.codec import decode
from sessile.core.commands import AwaitTurn, Command, FinishTurn, SubmitTurn
from sessile.core.context import Holding
from sessile.core.errors import StorageBusy, StorageFull
from sessile.core.events import TERMINAL_KINDS, Entry, Event, ToolCompleted
from sessile.core.ids import NodeId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import Turn
from sessile.ports.store import Committed, Found, Identity, Store, Sweep

T = TypeVar("T")


class Recorder:
    """Keeps what the log does not tell: under which fence an entry was written, and when."""

    def __init__(self, store: MemoryStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self.fences: defaultdict[SessionKey, dict[int, int]] = defaultdict(dict)
        self.completed_at: dict[str, float] = {}
        """By the `act` among its arguments: when a tool's outcome was committed."""
        self.buried: dict[SessionKey, Kept] = {}
        """The sessions that were deleted, as they stood."""
        self.sweep = store.sweep
        self.find = store.find
        self.sessions = store.sessions
        self.turns = store.turns
        self.how_many, self.tokens = store.how_many, store.tokens
        self.read = store.read
        self.summary = store.summary
        self.records = store.records
        self.renew, self.identity, self.probe = store.renew, store.identity, store.probe

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        kept = self._store._kept.get(key)
        committed = await self._store.transact(key, command)
        if committed.deleted:
            assert kept is not None
            self.buried[key] = kept
        if isinstance(command, FinishTurn | AwaitTurn):
            self.note(command.holding, committed.entries)
        return committed

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        committed = await self._store.append(holding, step, events)
        self.note(holding, committed.entries)
        return committed

    def note(self, holding: Holding, entries: tuple[Entry, ...]) -> None:
        """Of a commit."""
        fences = self.fences[holding.key]
        for entry in entries:
            fences[entry.seq] = holding.fence
            if entry.kind == "tool.completed":
                event = decode(entry)
                assert isinstance(event, ToolCompleted)
                act = event.arguments.get("act")
                if act is not None:
                    self.completed_at.setdefault(act, self._loop.time())
            if entry.kind in TERMINAL_KINDS:
                return


@dataclass(slots=True, kw_only=True)
class Weather:
    """How the store and the wire are; one for the whole world, as they are shared."""

    latency_seconds: float = 0.004
    slow: float = 0.02
    """Share of calls that take a hundred times as long."""
    twice: float = 0.05
    """Share of writes whose answer is lost, so that the adapter asks again."""
    late: float = 0.5
    """Share of the calls whose caller gave up while they were on their way, and that arrive."""
    refused_until_seconds: float = 0.0
    refused_with: type[StorageBusy | StorageFull] = StorageBusy
    hints_lost: float = 0.1
    hints_repeated: float = 0.1
    hints_bare: float = 0.3
    hints_seconds: float = 0.02
    replies_lost: int = 0
    """Of writes that were made, or will be: so many until now."""

    def seconds(self, dice: random.Random) -> float:
        """How long one call is on its way there, or back."""
        seconds = self.latency_seconds * dice.choice((0.01, 1.0, dice.random(), dice.random()))
        return seconds * 100 if dice.random() < self.slow else seconds


class DicedStore:
    """One node's way to the store. The store runs outside of every node: what was sent arrives
    though the node be killed meanwhile, and what it answers to a dead node is lost."""

    def __init__(
        self,
        store: Store,
        *,
        loop: asyncio.AbstractEventLoop,
        chance: random.Random,
        weather: Weather,
        called: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self.called = called
        """Told of each call; whether the node dies of it, ahead of it."""
        self.records = store.records
        self._loop = loop
        self._chance = chance
        self.weather = weather

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        again = not isinstance(command, SubmitTurn) or command.once is not None
        return await self._call(lambda: self._store.transact(key, command), again=again)

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        given = tuple(events)
        return await self._call(lambda: self._store.append(holding, step, given), again=True)

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        return await self._call(lambda: self._store.renew(node, holdings, lease_ms=lease_ms))

    async def identity(self) -> Identity:
        return await self._store.identity()

    async def probe(self) -> None:
        await self._call(self._store.probe, again=True)

    async def sweep(self, **how: Any) -> Sweep:
        return await self._call(lambda: self._store.sweep(**how))

    async def find(self, key: SessionKey, turn_id: TurnId | None = None) -> Found | None:
        return await self._call(lambda: self._store.find(key, turn_id))

    async def read(self, key: SessionKey, **how: Any) -> tuple[Entry, ...]:
        return await self._call(lambda: self._store.read(key, **how))

    async def summary(self, key: SessionKey, *, before: int) -> Entry | None:
        return await self._call(lambda: self._store.summary(key, before=before))

    async def how_many(self, tenant_id: TenantId, what: Any, **how: Any) -> int:
        return await self._store.how_many(tenant_id, what, **how)

    async def tokens(self, tenant_id: TenantId, *, since_ms: int) -> Mapping[UserId, int]:
        return await self._store.tokens(tenant_id, since_ms=since_ms)

    async def sessions(
        self,
        tenant_id: TenantId,
        *,
        user_id: UserId | None = None,
        before: SessionId | None = None,
        limit: int,
    ) -> tuple[Found, ...]:
        return await self._store.sessions(tenant_id, user_id=user_id, before=before, limit=limit)

    async def turns(
        self,
        key: SessionKey,
        *,
        after: int = 0,
        queued: bool = False,
        limit: int,
        bytes_max: int | None = None,
    ) -> tuple[Turn, ...]:
        return await self._store.turns(
            key, after=after, queued=queued, limit=limit, bytes_max=bytes_max
        )

    async def _call(self, call: "Call[T]", *, again: bool = False) -> T:
        dice, weather = self._chance, self.weather
        asked: asyncio.Future[T] = self._loop.create_future()
        if self.called():
            await asked  # the node has died
        arrives = dice.random() < weather.late
        twice = again and dice.random() < weather.twice
        weather.replies_lost += twice
        refused = self._loop.time() < weather.refused_until_seconds and dice.random() < 0.8

        def apply(*, last: bool) -> None:
            if asked.cancelled() and not arrives:
                return
            try:
                if refused:
                    raise weather.refused_with()
                answer, error = at_once(call()), None
            except Exception as raised:  # noqa: BLE001  the caller's to judge
                answer, error = None, raised
            if last:
                self._later(lambda: asked.done() or _settle(asked, answer, error))
            else:
                self._later(lambda: apply(last=True))

        self._later(lambda: apply(last=not twice))
        return await asked

    def _later(self, step: Any) -> None:
        """After a latency, and in the context of no node."""
        seconds = self.weather.seconds(self._chance)
        self._loop.call_later(seconds, step, context=_OUTSIDE.copy())


Call = Any
_OUTSIDE = Context()


def _settle(asked: "asyncio.Future[Any]", answer: object, error: Exception | None) -> None:
    if error is None:
        asked.set_result(answer)
    else:
        asked.set_exception(error)


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """The answer of a coroutine that waits for nothing."""
    try:
        call.send(None)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    raise AssertionError("it waits")
