"""Databases of their own on a PostgreSQL server that the tests of a process share.

`SESSILE_TEST_POSTGRES` names another server, by the address of a database in it, whose user may
create databases.
"""

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

TABLES = "session_head, session, entry, turn, idempotency"


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
        await _execute(_of(name), f"TRUNCATE {TABLES}")
        _free.append(name)


def _of(name: str) -> str:
    return make_url(server_dsn()).set(database=name).render_as_string(hide_password=False)


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
