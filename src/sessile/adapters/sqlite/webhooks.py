"""Webhooks in the file, by a connection and a thread of their own: what is noted of deliveries does
not go through the log's."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sessile.adapters.sql.connected import Statement
from sessile.adapters.sql.rows import Row
from sessile.adapters.sql.webhooks import SqlWebhooks
from sessile.adapters.sqlite.files import InPlace, connect_writer
from sessile.core.errors import StorageBusy, StorageDamaged, StorageFull
from sessile.core.ids import TenantId
from sessile.ports.clock import Clock

BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@asynccontextmanager
async def open_webhooks(
    path: Path, clock: Clock, *, busy_seconds: float
) -> AsyncGenerator[SqlWebhooks, None]:
    """Those of the file, which is at the newest revision."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="sessile-sqlite-webhooks")
    try:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(thread, _File, path, clock, busy_seconds)
        try:
            yield SqlWebhooks(_Threaded(thread, file))
        finally:
            await loop.run_in_executor(thread, file.connection.close)
    finally:
        thread.shutdown(wait=False)


class _File:
    """Used by one thread."""

    def __init__(self, path: Path, clock: Clock, busy_seconds: float) -> None:
        self.connection = connect_writer(path, busy_seconds=busy_seconds)
        self.connection.create_function("sessile_now_ms", 0, clock.now_ms)
        self._in_place = InPlace(path)

    def run(self, statements: Iterable[Statement]) -> list[list[Row]]:
        try:
            self._in_place.check()
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                answers = [self._rows(sql, values) for sql, values in statements]
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _told(error) from error
        return answers

    def read(self, sql: str, values: Sequence[Any]) -> list[Row]:
        try:
            self._in_place.check()
            return self._rows(sql, values)
        except sqlite3.Error as error:
            raise _told(error) from error

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Row]:
        named = {str(number): value for number, value in enumerate(values, start=1)}
        return self.connection.execute(sql, named).fetchall()


class _Threaded:
    """A `sql.connected.Connected`."""

    def __init__(self, thread: ThreadPoolExecutor, file: _File) -> None:
        self._thread = thread
        self._file = file

    async def run(
        self, tenant_id: TenantId | None, statements: Iterable[Statement]
    ) -> list[list[Row]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._file.run, statements)

    async def read(self, tenant_id: TenantId | None, sql: str, *values: Any) -> list[Row]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._file.read, sql, values)


def _told(error: sqlite3.Error) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in BUSY:
        return StorageBusy()
    if code in FULL:
        return StorageFull()
    return StorageDamaged() if code in DAMAGED else error
