"""A store whose calls a test can hold, before they apply or before their answer is given."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Literal

from sessile.core.commands import Command, FinishTurn
from sessile.core.context import Holding
from sessile.core.errors import StorageFull
from sessile.core.events import Event
from sessile.core.ids import NodeId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import Turn
from sessile.ports.store import Committed, Found, Identity, Store, Sweep

Where = Literal["before", "after"]
Matches = Callable[..., bool]


class Hold:
    """The next call that matches stops here until it is let go.

    Held before, it has not been applied; a caller who is cancelled meanwhile has not asked, unless
    the hold is `late`: then the request is on its way, and applies when it is let go. Held after,
    it has been applied, and a caller who is cancelled never learns it.
    """

    def __init__(self, method: str, matches: Matches, where: Where, *, late: bool) -> None:
        self.method = method
        self.matches = matches
        self.where = where
        self.late = late
        self.arrived = asyncio.Event()
        self.key: SessionKey | None = None
        self._let_go = asyncio.Event()
        self._error: Exception | None = None

    async def reached(self) -> "Hold":
        await self.arrived.wait()
        return self

    def go(self) -> None:
        self._let_go.set()

    def fail(self, error: Exception) -> None:
        """Let it go, but the caller gets this."""
        self._error = error
        self._let_go.set()

    async def wait(self) -> None:
        self.arrived.set()
        await self._let_go.wait()
        if self._error is not None:
            raise self._error


class Gate:
    """Wraps a store. What no hold is waiting for passes at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.records = store.records
        self._holds: list[Hold] = []
        self._late: set[asyncio.Task[Any]] = set()
        self.calls: list[tuple[str, object]] = []

    def hold(
        self,
        method: str,
        command: type | None = None,
        *,
        where: Where = "before",
        late: bool = False,
        matches: Matches = lambda *_: True,
    ) -> Hold:
        """Of `transact`, only a command of this type; else only what `matches` its arguments."""
        if command is None:
            hold = Hold(method, matches, where, late=late)
        else:
            hold = Hold(
                method,
                lambda key, given: isinstance(given, command) and matches(key, given),
                where,
                late=late,
            )
        self._holds.append(hold)
        return hold

    def appending(self, kind: str, where: Where = "before", *, late: bool = False) -> Hold:
        """The next append with an event of this kind."""

        def matches(_holding: Holding, _step: int, events: Sequence[Event]) -> bool:
            return any(event.kind == kind for event in events)

        return self.hold("append", where=where, late=late, matches=matches)

    def open_all(self) -> None:
        """Hold nothing any more."""
        self._holds.clear()

    def count(self, method: str, command: type | None = None) -> int:
        return sum(
            name == method and (command is None or isinstance(asked, command))
            for name, asked in self.calls
        )

    async def _pass(self, method: str, call: Callable[[], Any], *arguments: Any) -> Any:
        self.calls.append((method, arguments[1] if len(arguments) > 1 else None))
        hold = self._taken(method, "before", arguments)
        if hold is not None:
            try:
                await hold.wait()
            except asyncio.CancelledError:
                if hold.late:
                    self._apply_late(hold, call)
                raise
        answer = await call()
        if (hold := self._taken(method, "after", arguments)) is not None:
            await hold.wait()
        return answer

    def _apply_late(self, hold: Hold, call: Callable[[], Any]) -> None:
        async def apply() -> None:
            await hold.wait()
            await call()

        task = asyncio.get_running_loop().create_task(apply())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _taken(self, method: str, where: Where, arguments: tuple[Any, ...]) -> Hold | None:
        for hold in self._holds:
            if hold.method == method and hold.where == where and hold.matches(*arguments):
                self._holds.remove(hold)
                return hold
        return None

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        answer: Committed = await self._pass(
            "transact", lambda: self._store.transact(key, command), key, command
        )
        return answer

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        answer: Committed = await self._pass(
            "append", lambda: self._store.append(holding, step, events), holding, step, events
        )
        return answer

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        lost: frozenset[SessionKey] = await self._pass(
            "renew", lambda: self._store.renew(node, holdings, lease_ms=lease_ms), node, holdings
        )
        return lost

    async def identity(self) -> Identity:
        return await self._store.identity()

    async def probe(self) -> None:
        await self._pass("probe", self._store.probe)

    async def sweep(self, **how: Any) -> Sweep:
        swept: Sweep = await self._pass("sweep", lambda: self._store.sweep(**how))
        return swept

    async def find(self, key: SessionKey, turn_id: TurnId | None = None) -> Found | None:
        found: Found | None = await self._pass(
            "find", lambda: self._store.find(key, turn_id), key, turn_id
        )
        return found

    async def read(self, key: SessionKey, **how: Any) -> Any:
        return await self._pass("read", lambda: self._store.read(key, **how), key, how)

    async def summary(self, key: SessionKey, **how: Any) -> Any:
        return await self._pass("read", lambda: self._store.summary(key, **how), key, how)

    async def how_many(self, tenant_id: TenantId, what: Any, **how: Any) -> int:
        counted: int = await self._pass(
            "how_many", lambda: self._store.how_many(tenant_id, what, **how), tenant_id, what
        )
        return counted

    async def tokens(self, tenant_id: TenantId, *, since_ms: int) -> Any:
        return await self._pass(
            "tokens", lambda: self._store.tokens(tenant_id, since_ms=since_ms), tenant_id
        )

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


class Twice:
    """A store whose answers to some calls are lost: it is asked again, and the second answer is
    given."""

    def __init__(self, store: Store, kinds: Collection[str], *, finishes: bool) -> None:
        self._store = store
        self._kinds = kinds
        self._finishes = finishes
        self.renew, self.identity, self.probe = store.renew, store.identity, store.probe
        self.sweep = store.sweep
        self.find = store.find
        self.sessions = store.sessions
        self.turns = store.turns
        self.how_many, self.tokens = store.how_many, store.tokens
        self.read = store.read
        self.summary = store.summary
        self.records = store.records

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        committed = await self._store.transact(key, command)
        if self._finishes and isinstance(command, FinishTurn):
            return await self._store.transact(key, command)
        return committed

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        committed = await self._store.append(holding, step, events)
        if any(event.kind in self._kinds for event in events):
            return await self._store.append(holding, step, events)
        return committed


class Fills:
    """A store that takes no write any more once it is full."""

    def __init__(self, store: Store) -> None:
        self.full = False
        self.error: type[Exception] = StorageFull
        self.asked = 0
        self.find, self.read, self.summary = store.find, store.read, store.summary
        self.records = store.records
        self.identity, self.probe = store.identity, self._unless_full(store.probe)
        self.sessions, self.turns, self.sweep = store.sessions, store.turns, store.sweep
        self.how_many, self.tokens = store.how_many, store.tokens
        self.transact = self._unless_full(store.transact)
        self.append = self._unless_full(store.append)
        self.renew = self._unless_full(store.renew)

    def _unless_full(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def written(*given: Any, **named: Any) -> Any:
            self.asked += 1
            if self.full:
                raise self.error()
            return await write(*given, **named)

        return written
