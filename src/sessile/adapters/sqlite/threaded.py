"""The file by a connection and a thread of their own, for what is beside the log and does not wait
for it: those who sign in, webhooks."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sessile.adapters.sql.connected import Statement
from sessile.adapters.sql.rows import Row
from sessile.adapters.sqlite.files import InPlace, connect_writer
from sessile.adapters.sqlite.scripts import named
from sessile.adapters.sqlite.writer import is_busy, is_damaged, is_full
from sessile.core.errors import StorageBusy, StorageDamaged, StorageFull
from sessile.core.ids import TenantId


@asynccontextmanager
async def threaded(
    path: Path, name: str, *, busy_seconds: float, now_ms: Callable[[], int] | None = None
) -> AsyncGenerator["Threaded", None]:
    """The file at the newest revision; a program beside the server may use it, too. `now_ms`: what
    its statements call by the name of `sessile_now_ms`."""
    thread = ThreadPoolExecutor(1, thread_name_prefix=f"sessile-sqlite-{name}")
    try:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(thread, _File, path, now_ms, busy_seconds)
        try:
            yield Threaded(thread, file)
        finally:
            await loop.run_in_executor(thread, file.connection.close)
    finally:
        thread.shutdown(wait=False)


class _File:
    """Used by one thread."""

    def __init__(self, path: Path, now_ms: Callable[[], int] | None, busy_seconds: float) -> None:
        self.connection = connect_writer(path, busy_seconds=busy_seconds)
        if now_ms is not None:
            self.connection.create_function("sessile_now_ms", 0, now_ms)
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
        return self.connection.execute(sql, named(values)).fetchall()


class Threaded:
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
    if is_busy(error):
        return StorageBusy()
    if is_full(error):
        return StorageFull()
    return StorageDamaged() if is_damaged(error) else error
