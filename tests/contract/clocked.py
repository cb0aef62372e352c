"""A PostgresStore whose database's clock is one that a test holds in its hands.

Leases are judged by `sessile_now_ms()`, a function of the schema: here it reads a table, which is
set before each call.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from sessile.adapters.postgres import PostgresStore
from sessile.ports.clock import Clock
from sessile.ports.store import Store


class Clocked:
    """The store's own methods, each told the time first."""

    def __init__(self, store: PostgresStore, clock: Clock, connection: Any) -> None:
        self._store = store
        self._clock = clock
        self._connection = connection
        self._told = -1
        self._telling = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return Clocked(method, self._clock, self._connection)

        async def told(*args: Any, **kwargs: Any) -> Any:
            async with self._telling:
                now_ms = self._clock.now_ms()
                if now_ms != self._told:
                    await self._connection.execute("UPDATE test_clock SET now_ms = $1", now_ms)
                    self._told = now_ms
            return await method(*args, **kwargs)

        return told


@asynccontextmanager
async def clocked(
    dsn: str, clock: Clock, *, own_dsn: str | None = None, **settings: Any
) -> AsyncIterator[Store]:
    """`own_dsn`: the address by which the clock is set, where it is another."""
    async with PostgresStore(dsn, **{"lease_ms": 12_000, **settings}) as store:
        connection = await asyncpg.connect(own_dsn or dsn)
        try:
            real = await connection.fetchval("SELECT pg_get_functiondef('sessile_now_ms'::regproc)")
            await connection.execute(
                """
                CREATE UNLOGGED TABLE IF NOT EXISTS test_clock (now_ms bigint);
                TRUNCATE test_clock;
                INSERT INTO test_clock VALUES (0);
                CREATE OR REPLACE FUNCTION sessile_now_ms() RETURNS bigint LANGUAGE sql STABLE
                AS 'SELECT now_ms FROM test_clock';
                GRANT SELECT ON test_clock TO sessile_app
                """
            )
            yield Clocked(store, clock, connection)  # type: ignore[misc]
            await connection.execute(real)
        finally:
            await connection.close()
