"""Nodes at one PostgreSQL database: a store each, and ids of one source."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import make_url
from tests.contract.clocked import clocked
from tests.contract.desk import Desk
from tests.doubles import CountingIds, ManualClock
from tests.servers.databases import database
from tests.servers.proxy import Proxy

from sessile.adapters.postgres import PostgresStore
from sessile.core.ids import SessionKey


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def nodes(dsn: str, count: int = 2, **settings: Any) -> AsyncIterator[list[Desk]]:
    """Each with a store of its own, on the database's own clock. At the end the log must explain
    every row."""
    ids, opened, desks = CountingIds(), list[Any](), list[Desk]()
    async with AsyncExitStack() as stack:
        for _ in range(count):
            store = PostgresStore(dsn, **{"lease_ms": 12_000, **settings})
            desk = Desk(await stack.enter_async_context(store), ManualClock(), ids)
            desk.opened = opened
            desks.append(desk)
        yield desks
        await desks[0].check_folds()


@asynccontextmanager
async def behind_proxy(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy, and the database's address by it."""
    url = make_url(dsn)
    assert url.port is not None
    async with Proxy(url.port) as proxy:
        yield proxy, url.set(port=proxy.port).render_as_string(hide_password=False)


@asynccontextmanager
async def proxied(clock: ManualClock, **settings: Any) -> AsyncIterator[tuple[Proxy, Desk, Any]]:
    """A node whose database is reached by a proxy, and judges leases by the clock; and a connection
    of the test's own to it."""
    async with (
        database() as dsn,
        behind_proxy(dsn) as (proxy, by_proxy),
        clocked(by_proxy, clock, own_dsn=dsn, **settings) as store,
        connected(dsn) as own,
    ):
        desk = Desk(store, clock, CountingIds())
        yield proxy, desk, own
        await desk.check_folds()


@asynccontextmanager
async def holding_heads(dsn: str, *keys: SessionKey) -> AsyncIterator[Any]:
    """Somebody who is paused in the middle of a transaction that has these heads locked."""
    async with connected(dsn) as other:
        await other.execute("BEGIN")
        sql = "SELECT 1 FROM session_head WHERE (tenant_id, session_id) = ($1, $2) FOR UPDATE"
        for key in keys:
            await other.execute(sql, *key)
        yield other
        if other.is_in_transaction():
            await other.execute("ROLLBACK")


async def crowd(connection: Any, count: int) -> None:
    """As many idle sessions of others, of which the planner knows."""
    await connection.execute(
        f"""
        INSERT INTO session_head (tenant_id, session_id, user_id, status, head, fence, step,
            next_position, queued, steers_unread, lease_until_ms)
        SELECT 'acme', 'ses_idle_' || n, 'u' || n % 1000, 'active', 1, 0, 0, 1, 0, 0, 0
        FROM generate_series(1, {count}) AS n;
        INSERT INTO session (tenant_id, session_id, user_id, assistant, metadata, grants,
            created_at_ms, updated_at_ms)
        SELECT tenant_id, session_id, user_id, 'support', '{{}}', '[]', 0, 0 FROM session_head
        WHERE starts_with(session_id, 'ses_idle_');
        ANALYZE session_head, session
        """
    )


async def crowd_turns(connection: Any, count: int) -> None:
    """And a turn in each of some of them, with what it wrote and by which key it was asked for."""
    await connection.execute(
        f"""
        INSERT INTO entry (tenant_id, session_id, seq, kind, at_ms, body)
        SELECT 'acme', 'ses_idle_' || n, 1, 'session.opened', 0, '{{}}'
        FROM generate_series(1, {count}) AS n;
        INSERT INTO turn (tenant_id, session_id, turn_id, seq, position, message_id, user_id,
            status, attempt, strikes, progressed, current_iteration, total_iterations, tokens_used,
            total_tokens, created_at_ms, input)
        SELECT tenant_id, session_id, 'trn_idle', 1, 1, 'msg_1', 'ann', 'completed', 1, 0, false,
            0, 0, 0, 0, 0, '{{}}'
        FROM entry;
        INSERT INTO idempotency (tenant_id, scope, user_id, key, request_hash, session_id, turn_id,
            created, at_ms)
        SELECT tenant_id, session_id, 'ann', 'k', 'h', session_id, turn_id, false, 0 FROM turn;
        ANALYZE entry, turn, idempotency
        """
    )
