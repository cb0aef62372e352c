"""A PostgreSQL database without a server of Sessile's."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager

import asyncpg
from asyncpg import Connection
from asyncpg import exceptions as pg

from sessile.adapters.migrations import ADVISORY_KEY, migrate_postgres, revision_postgres
from sessile.adapters.postgres import checks, reads
from sessile.adapters.postgres.connections import StorageUnreachable, said
from sessile.adapters.sql.archive import NO_DATABASE, NO_ROW, Archive
from sessile.adapters.sql.rows import Row, turn_of
from sessile.adapters.sql.schema import Schema, schema_of
from sessile.adapters.sql.tenancy import AUDIT, SECURE
from sessile.core.audit import Check
from sessile.core.errors import StorageGone
from sessile.core.events import Entry
from sessile.core.ids import SessionKey, TurnId
from sessile.core.session import Turn
from sessile.ports.store import Found

ROWS_PAGE = 1_000
BLIND = """
    SELECT row_security_active(c.oid) AND NOT pg_has_role(current_user, c.relowner, 'USAGE')
        AND has_table_privilege(c.oid, 'SELECT')
    FROM pg_class AS c WHERE c.oid = to_regclass('session_head')
"""
UNSEEN = (
    "this user is shown the rows of the tenants that it names, and none else; use the one that owns"
    " the tables, or one with BYPASSRLS"
)


@asynccontextmanager
async def open_archive(dsn: str, *, busy_seconds: float) -> AsyncGenerator[Archive, None]:
    """Raises StorageUnreachable where the database cannot be used, at once or later, or shows this
    user no tenant's rows."""
    settings = {
        "application_name": "sessile archive",
        "default_transaction_read_only": "on",
        "lock_timeout": f"{busy_seconds * 1000:.0f}ms",
        "jit": "off",
        AUDIT: "on",
    }
    with _unreachable(OSError, ValueError):
        connection = await asyncpg.connect(dsn, timeout=busy_seconds, server_settings=settings)
    try:
        with _unreachable():
            if await connection.fetchval(BLIND):
                raise StorageUnreachable(UNSEEN)
            yield Archive(_Postgres(connection))
    finally:
        connection.terminate()


async def migrate_database(dsn: str, *, busy_seconds: float) -> Mapping[str, str | None]:
    """Bring the database to the newest revision. Answers the revisions `before` and `after`.

    Raises StorageUnreachable and SchemaTooNew.
    """
    with _unreachable(OSError, ValueError):
        before = await revision_postgres(dsn, busy_seconds=busy_seconds)
        await migrate_postgres(dsn, busy_seconds=busy_seconds)
        await _secure(dsn, busy_seconds=busy_seconds)
        return {"before": before, "after": await revision_postgres(dsn, busy_seconds=busy_seconds)}


async def raise_epoch(dsn: str, *, busy_seconds: float) -> int:
    """Add 1 to the database's epoch, once it is at the newest revision. Answers the new one.

    Raises StorageUnreachable, SchemaTooNew, and StorageGone where it is none of Sessile's.
    """
    with _unreachable(OSError, ValueError):
        if await revision_postgres(dsn, busy_seconds=busy_seconds) is None:
            raise StorageGone(NO_DATABASE)
        await migrate_postgres(dsn, busy_seconds=busy_seconds)
        connection = await asyncpg.connect(dsn, timeout=busy_seconds)
        try:
            sql = "UPDATE store SET epoch = epoch + 1 RETURNING epoch"
            epoch: int | None = await connection.fetchval(sql)
        finally:
            await connection.close()
    if epoch is None:
        raise StorageGone(NO_ROW)
    return epoch


async def _secure(dsn: str, *, busy_seconds: float) -> None:
    """Once more, since the role may have come, or the owner gone, after the last revision."""
    connection = await asyncpg.connect(dsn, timeout=busy_seconds)
    try:
        await connection.execute(
            f"BEGIN; SELECT pg_advisory_xact_lock({ADVISORY_KEY}); {SECURE}; COMMIT"
        )
    finally:
        await connection.close()


@contextmanager
def _unreachable(*errors: type[Exception]) -> Generator[None, None, None]:
    """These, besides what PostgreSQL says and what a lost connection is told as."""
    lost = (pg.PostgresError, pg.InterfaceError, pg.InternalClientError)
    caught: tuple[type[Exception], ...] = (*lost, *errors)
    try:
        yield
    except caught as error:
        raise StorageUnreachable(said(error)) from error


class _Postgres:
    """A `sql.checks.Database`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def one_state(self) -> AsyncGenerator[None, None]:
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            yield

    async def rows(self, sql: str, *values: object) -> AsyncIterator[Row]:
        async for row in self._connection.cursor(sql, *values, prefetch=ROWS_PAGE):
            yield row

    async def now_ms(self) -> int:
        now_ms: int = await self._connection.fetchval("SELECT sessile_now_ms()")
        return now_ms

    async def revisions(self) -> tuple[str, ...]:
        if await self._connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return ()
        rows = await self._connection.fetch("SELECT version_num FROM alembic_version")
        return tuple(row[0] for row in rows)

    async def schema(self) -> Schema:
        columns = """
            SELECT c.relname, a.attname
            FROM pg_class AS c
            JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relkind IN ('r', 'p') AND c.relnamespace = (
                SELECT relnamespace FROM pg_class WHERE oid = to_regclass('alembic_version')
            )
        """
        indexes = """
            SELECT t.relname, c.relname, i.indisprimary, i.indisunique, (
                SELECT string_agg(a.attname, ' ' ORDER BY k.place)
                FROM unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
                JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = k.attnum
            )
            FROM pg_index AS i
            JOIN pg_class AS c ON c.oid = i.indexrelid
            JOIN pg_class AS t ON t.oid = i.indrelid
            WHERE t.relnamespace = (
                SELECT relnamespace FROM pg_class WHERE oid = to_regclass('alembic_version')
            )
        """
        return schema_of(
            await self._connection.fetch(columns), await self._connection.fetch(indexes)
        )

    async def own(self) -> tuple[Check, ...]:
        return await checks.own(self._connection)

    async def find(self, key: SessionKey) -> Found | None:
        return await reads.find(self._connection, key, None)

    async def entries(self, key: SessionKey, *, after: int, limit: int) -> Sequence[Entry]:
        return await reads.entries(
            self._connection,
            key,
            after=after,
            before=None,
            history=False,
            newest_first=False,
            limit=limit,
            bytes_max=None,
        )

    async def turns(self, key: SessionKey, turn_ids: Collection[TurnId]) -> Iterable[Turn]:
        sql = """
            SELECT turn_id, seq, position, message_id, user_id, status, attempt, strikes,
                progressed, cancel_reason, cancel_by, current_iteration, total_iterations,
                tokens_used, total_tokens, created_at_ms, started_at_ms, ended_at_ms, error,
                awaited, input, output
            FROM turn WHERE tenant_id = $1 AND session_id = $2 AND turn_id = ANY($3)
        """
        rows = await self._connection.fetch(sql, *key, list(turn_ids))
        return [turn_of(row, key=key) for row in rows]
