"""Databases of their own on a PostgreSQL server that the tests of a process share.

`SESSILE_TEST_POSTGRES` names another server, by the address of a database in it, whose user may
create databases.
"""

import asyncio
import atexit
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import count

import asyncpg
from sqlalchemy import make_url
from tests.servers.postgres import Postgres

from sessile.adapters.migrations import migrate_postgres

_numbers = count(1)
_free = list[str]()

APP_ROLE = """
    DO $$ BEGIN CREATE ROLE sessile_app NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$
"""
TABLES = (
    "session_head, session, entry, turn, idempotency, account, credential, revocation,"
    " audit, fork, erasure, compaction, chore, webhook, webhook_cursor, webhook_work"
)


@cache
def server_dsn() -> str:
    """Of the server's first database; started when it is asked for, stopped with the process."""
    if given := os.environ.get("SESSILE_TEST_POSTGRES"):
        return given
    server = Postgres({"fsync": "off"})
    server.__enter__()
    atexit.register(server.__exit__)
    return server.dsn


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """The address of an empty one, with the schema in it."""
    if not _free:
        name = f"sessile_{os.getpid()}_{next(_numbers)}"
        await _execute(server_dsn(), f"CREATE DATABASE {name}")
        await migrate_postgres(_of(name))
        _free.append(name)
    name = _free.pop()
    try:
        yield _of(name)
    finally:
        await _execute(_of(name), f"TRUNCATE {TABLES}; UPDATE store SET epoch = 0, sign_in = 0")
        _free.append(name)


@asynccontextmanager
async def bare_database() -> AsyncIterator[str]:
    """The address of one without a schema, which is gone afterwards. Its server has the role of
    applications, as any has on which a database was migrated."""
    await _execute(server_dsn(), APP_ROLE)
    name = f"bare_{os.getpid()}_{next(_numbers)}"
    await _execute(server_dsn(), f"CREATE DATABASE {name}")
    try:
        yield _of(name)
    finally:
        await _execute(server_dsn(), f"DROP DATABASE {name} WITH (FORCE)")


async def until_waiting(dsn: str, many: int) -> None:
    """Until so many connections to the database wait for somebody who migrates it."""
    sql = """
        SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
        WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()
    """
    connection = await asyncpg.connect(dsn)
    try:
        while await connection.fetchval(sql) != many:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # locks ring no bell
    finally:
        await connection.close()


def _of(name: str) -> str:
    return make_url(server_dsn()).set(database=name).render_as_string(hide_password=False)


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
