"""PostgresStore: the port, told to a few lanes that write, a pool that reads, and one connection
that renews."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal, Self, TypeVar

import asyncpg

from sessile.adapters.migrations import migrate_postgres
from sessile.adapters.postgres import reads, renewals
from sessile.adapters.postgres.connections import (
    GONE,
    Connector,
    Patience,
    in_time,
    is_lost,
    reached,
    told,
)
from sessile.adapters.postgres.lanes import Lanes
from sessile.adapters.postgres.scripts import Scripts, run
from sessile.adapters.postgres.tenants import TenantConnection
from sessile.adapters.sql.jobs import Appended, Asked
from sessile.adapters.sql.records import SqlRecords
from sessile.adapters.sql.scripts import Script
from sessile.core.commands import Command
from sessile.core.context import Holding
from sessile.core.errors import StorageGone
from sessile.core.events import Entry, Event
from sessile.core.ids import NodeId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import Turn
from sessile.ports.store import Committed, Found, Identity, Sweep

T = TypeVar("T")


READERS_MAX = 4
UNREAD = "The database did not answer in time."


class PostgresStore:
    """Many nodes on one database; see `ports.store.Store` for the promises.

    Opened by `async with`, which migrates the schema. `lease_ms`: as nodes take leases; all waits
    on the database are shorter than half of it. `busy_seconds`: how long a database that does not
    answer, or refuses for a while, is asked again. `sharded`: the tables are distributed by tenant,
    and what is written of one tenant is not written with what is of another.
    """

    def __init__(
        self, dsn: str, *, lease_ms: int, busy_seconds: float = 10.0, sharded: bool = False
    ) -> None:
        self._dsn = dsn
        self._connector = Connector(dsn, Patience(lease_ms))
        self._busy_seconds = busy_seconds
        self._sharded = sharded
        self._renewing: TenantConnection | None = None
        self._renewing_one = asyncio.Lock()
        scripts = Scripts(self._connect_records, busy_seconds=busy_seconds)
        self.records = SqlRecords(write=scripts.write, read=self._ask)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises StorageUnreachable where the database cannot be used after `busy_seconds`."""
        await reached(self._open, self._busy_seconds)
        return self

    async def _open(self) -> None:
        patience = self._connector.patience
        async with AsyncExitStack() as stack:
            await migrate_postgres(self._dsn, busy_seconds=patience.client_seconds)
            self._connector = await self._connector.in_role()
            self._readers = await asyncpg.create_pool(
                self._dsn,
                connection_class=TenantConnection,
                reset=_nothing,
                min_size=0,  # else, while there is no database, the pool logs a traceback each try
                max_size=READERS_MAX,
                command_timeout=patience.client_seconds,
                timeout=patience.client_seconds,
                server_settings=self._connector.settings("reads", lock_ms=patience.lock_ms),
            )
            stack.callback(self._readers.terminate)
            self._lanes = Lanes(
                self._connector, busy_seconds=self._busy_seconds, sharded=self._sharded
            )
            self._renewing = await self._connect_renewals()
            stack.callback(self._hang_up_renewals)
            await self._lanes.open()
            stack.push_async_callback(self._lanes.close)
            self._stack = stack.pop_all()

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        return await self._lanes.ask(Asked.of(key, command))

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        return await self._lanes.ask(Appended(holding, step, tuple(events)))

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        if not holdings:
            return frozenset()
        async with self._renewing_one:
            try:
                if self._renewing is None or self._renewing.is_closed():
                    self._renewing = await self._connect_renewals()
                return await renewals.renew(self._renewing, node, holdings, lease_ms=lease_ms)
            except asyncio.CancelledError:
                # Given up in time for its turns: perhaps there is nobody at the other end.
                self._hang_up_renewals()
                raise
            except Exception as error:
                if is_lost(error):
                    self._hang_up_renewals()
                raise told(error) from error

    async def identity(self) -> Identity:
        return await self._read((), reads.identity)

    async def probe(self) -> None:
        """On a connection of its own: what holds up a lane does not hold it up."""
        connection: TenantConnection | None = None
        try:
            lock_ms = self._connector.patience.lock_ms
            connection = await self._connector.connect("probe", lock_ms=lock_ms)
            sql = "UPDATE store SET written_at_ms = sessile_now_ms()"
            if await connection.execute(sql) != "UPDATE 1":
                raise StorageGone(GONE)
        except Exception as error:
            raise told(error) from error
        finally:
            if connection is not None:
                connection.terminate()

    async def sweep(
        self,
        *,
        due_max: int,
        assistants: Collection[str],
        following: Collection[SessionKey] = (),
    ) -> Sweep:
        return await self._read(
            None,
            lambda it: reads.sweep(it, due_max=due_max, assistants=assistants, following=following),
        )

    async def find(self, key: SessionKey, turn_id: TurnId | None = None) -> Found | None:
        return await self._read((key.tenant_id,), lambda it: reads.find(it, key, turn_id))

    async def sessions(
        self,
        tenant_id: TenantId,
        *,
        user_id: UserId | None = None,
        before: SessionId | None = None,
        limit: int,
    ) -> tuple[Found, ...]:
        return await self._read(
            (tenant_id,),
            lambda it: reads.sessions(it, tenant_id, user_id=user_id, before=before, limit=limit),
        )

    async def turns(
        self,
        key: SessionKey,
        *,
        after: int = 0,
        queued: bool = False,
        limit: int,
        bytes_max: int | None = None,
    ) -> tuple[Turn, ...]:
        return await self._read(
            (key.tenant_id,),
            lambda it: reads.turns(
                it, key, after=after, queued=queued, limit=limit, bytes_max=bytes_max
            ),
        )

    async def how_many(
        self,
        tenant_id: TenantId,
        what: Literal["sessions", "queue"],
        *,
        user_id: UserId | None,
        most: int,
    ) -> int:
        return await self._read(
            (tenant_id,), lambda it: reads.how_many(it, tenant_id, what, user_id=user_id, most=most)
        )

    async def tokens(self, tenant_id: TenantId, *, since_ms: int) -> Mapping[UserId, int]:
        return await self._read(
            (tenant_id,), lambda it: reads.tokens(it, tenant_id, since_ms=since_ms)
        )

    async def read(
        self,
        key: SessionKey,
        *,
        after: int = 0,
        before: int | None = None,
        history: bool = False,
        newest_first: bool = False,
        limit: int,
        bytes_max: int | None = None,
    ) -> tuple[Entry, ...]:
        return await self._read(
            (key.tenant_id,),
            lambda it: reads.entries(
                it,
                key,
                after=after,
                before=before,
                history=history,
                newest_first=newest_first,
                limit=limit,
                bytes_max=bytes_max,
            ),
        )

    async def summary(self, key: SessionKey, *, before: int) -> Entry | None:
        return await self._read((key.tenant_id,), lambda it: reads.summary(it, key, before=before))

    async def _ask(
        self,
        tenants: Sequence[TenantId] | None,
        script: Callable[[], Script[T]],
        *,
        voids: bool = False,
    ) -> T:
        assert not voids, "what reads removes nothing"
        return await self._read(tenants, lambda it: run(it, script()))

    async def _connect_records(self) -> TenantConnection:
        return await self._connector.connect("records", lock_ms=self._connector.patience.lock_ms)

    async def _read(
        self, tenants: Sequence[TenantId] | None, read: Callable[[Any], Awaitable[T]]
    ) -> T:
        """A read changes nothing: it is asked again as long as the database may come back.
        `tenants`: whose rows it is shown; None for the narrow rows of all."""

        async def attempt(seconds: float) -> T:
            async with self._readers.acquire(timeout=seconds) as connection:
                await connection.tell(tenants)
                return await read(connection)

        try:
            return await in_time(attempt, self._busy_seconds)
        except Exception as error:
            raise told(error, UNREAD) from error

    async def _connect_renewals(self) -> TenantConnection:
        patience = self._connector.patience
        return await self._connector.connect(
            "renewals", lock_ms=patience.lock_ms, answer_seconds=patience.renewal_seconds
        )

    def _hang_up_renewals(self) -> None:
        if self._renewing is not None:
            self._renewing.terminate()


async def _nothing(_: Any) -> None:
    """To be reset when a read is over: no read leaves anything but the tenants, which the next
    one knows of."""
