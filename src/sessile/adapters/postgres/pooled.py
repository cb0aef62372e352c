"""A few connections of their own for what is beside the log: those who sign in, webhooks."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg

from sessile.adapters.postgres.connections import (
    Connector,
    Patience,
    in_time,
    is_passing,
    is_unseen,
    reached,
    told,
)
from sessile.adapters.postgres.tenants import TenantConnection
from sessile.adapters.sql.connected import Statement
from sessile.adapters.sql.rows import Row
from sessile.core.ids import TenantId

UNREAD = "The database did not answer in time."
T = TypeVar("T")


@asynccontextmanager
async def pooled(
    dsn: str, name: str, *, connections_max: int, lease_ms: int, busy_seconds: float
) -> AsyncGenerator["Pooled", None]:
    """To the database, which is at the newest revision. `lease_ms`, `busy_seconds`: as a
    PostgresStore takes them. Raises as its opening does."""
    patience = Patience(lease_ms)
    connector = await reached(Connector(dsn, patience).in_role, busy_seconds)
    pool = await asyncpg.create_pool(
        dsn,
        connection_class=TenantConnection,
        reset=_nothing,
        min_size=0,
        max_size=connections_max,
        command_timeout=patience.client_seconds,
        timeout=patience.client_seconds,
        server_settings=connector.settings(name, lock_ms=patience.lock_ms),
    )
    try:
        yield Pooled(pool, busy_seconds)
    finally:
        pool.terminate()


class Pooled:
    """A `sql.connected.Connected`."""

    def __init__(self, pool: Any, busy_seconds: float) -> None:
        self._pool = pool
        self._busy_seconds = busy_seconds

    async def run(
        self, tenant_id: TenantId | None, statements: Iterable[Statement]
    ) -> list[list[Row]]:
        asked = list(statements)

        async def work(connection: TenantConnection) -> list[list[Row]]:
            async with connection.transaction(isolation="read_committed", readonly=False):
                return [list(await connection.fetch(sql, *values)) for sql, values in asked]

        return await self._lend(tenant_id, work, again=False)

    async def read(self, tenant_id: TenantId | None, sql: str, *values: Any) -> list[Row]:
        async def work(connection: TenantConnection) -> list[Row]:
            return list(await connection.fetch(sql, *values))

        return await self._lend(tenant_id, work, again=True)

    async def _lend(
        self, tenant_id: TenantId | None, work: Callable[[Any], Awaitable[T]], *, again: bool
    ) -> T:
        """As long as the database may come back; what may have been written is not asked twice."""

        async def attempt(seconds: float) -> T:
            async with self._pool.acquire(timeout=seconds) as connection:
                await connection.tell(() if tenant_id is None else (tenant_id,))
                return await work(connection)

        def may(error: Exception) -> bool:
            return is_passing(error) and (again or not is_unseen(error))

        try:
            return await in_time(attempt, self._busy_seconds, again=may)
        except Exception as error:
            raise told(error, UNREAD) from error


async def _nothing(_connection: Any) -> None:
    """What a connection was told stays: it is told again where that differs."""
