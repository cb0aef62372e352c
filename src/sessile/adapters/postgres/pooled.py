"""A few connections of their own for what is beside the log: those who sign in, webhooks."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg

from sessile.adapters.postgres.connections import Connector, Patience, is_passing, is_unseen, told
from sessile.adapters.postgres.tenants import TenantConnection
from sessile.adapters.sql.connected import Statement
from sessile.adapters.sql.rows import Row
from sessile.core.ids import TenantId

RETRY_SECONDS = 0.05
UNREAD = "The database did not answer in time."
T = TypeVar("T")


@asynccontextmanager
async def pooled(
    dsn: str, name: str, *, connections_max: int, lease_ms: int, busy_seconds: float
) -> AsyncGenerator["Pooled", None]:
    """To the database, which is at the newest revision. `lease_ms`, `busy_seconds`: as a
    PostgresStore takes them."""
    patience = Patience(lease_ms)
    connector = await Connector(dsn, patience).in_role()
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
        loop = asyncio.get_running_loop()
        end = loop.time() + self._busy_seconds
        while True:
            try:
                left = max(end - loop.time(), RETRY_SECONDS)
                async with self._pool.acquire(timeout=left) as connection:
                    await connection.tell(() if tenant_id is None else (tenant_id,))
                    return await work(connection)
            except Exception as error:
                over = not is_passing(error) or loop.time() > end
                if over or (is_unseen(error) and not again):
                    raise told(error, UNREAD) from error
            await asyncio.sleep(RETRY_SECONDS)


async def _nothing(_connection: Any) -> None:
    """What a connection was told stays: it is told again where that differs."""
