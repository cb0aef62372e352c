"""A database file without its server."""

import json
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from sessile.adapters.migrations import migrate, revision
from sessile.adapters.sql.archive import NO_DATABASE, NO_ROW, Archive
from sessile.adapters.sql.rows import Row, turn_of
from sessile.adapters.sql.schema import SQLITE_COLUMNS, SQLITE_INDEXES, Schema, schema_of
from sessile.adapters.sqlite import reads
from sessile.adapters.sqlite.files import (
    WAL_BYTES_MAX,
    DirectoryLock,
    connect_reader,
    connect_writer,
)
from sessile.core.audit import Check
from sessile.core.errors import StorageGone
from sessile.core.events import Entry
from sessile.core.ids import SessionKey, TurnId
from sessile.core.session import Turn
from sessile.ports.clock import Clock
from sessile.ports.store import Found

WAL_MARGIN = 4
"""The write-ahead log may pass its size limit while a checkpoint waits for readers."""


@asynccontextmanager
async def open_archive(
    path: Path, *, clock: Clock, busy_seconds: float
) -> AsyncGenerator[Archive, None]:
    """Raises sqlite3.Error where there is no such file, or, by the archive's methods, where it is
    no database or a broken one."""
    with closing(connect_reader(path, busy_seconds=busy_seconds)) as connection:
        yield Archive(_Sqlite(path, connection, clock))


def migrate_file(path: Path, *, busy_seconds: float) -> Mapping[str, str | None]:
    """Bring the file to the newest revision. Answers the revisions `before` and `after`.

    Raises DataDirectoryLocked where a server uses it, and what `migrate` raises.
    """
    lock = DirectoryLock(path.parent)
    try:
        before = revision(path)
        migrate(path, busy_seconds=busy_seconds)
        return {"before": before, "after": revision(path)}
    finally:
        lock.release()


def raise_epoch(path: Path, *, busy_seconds: float) -> int:
    """Add 1 to the epoch of the file, once it is at the newest revision. Answers the new one.

    Raises FileNotFoundError where there is no file, DataDirectoryLocked where a server uses it,
    StorageGone where it is none of Sessile's or has lost its epoch, and what `migrate` raises.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    lock = DirectoryLock(path.parent)
    try:
        if revision(path) is None:
            raise StorageGone(NO_DATABASE)
        migrate(path, busy_seconds=busy_seconds)
        with closing(connect_writer(path, busy_seconds=busy_seconds)) as connection:
            sql = "UPDATE store SET epoch = epoch + 1 RETURNING epoch"
            rows = connection.execute(sql).fetchall()
    finally:
        lock.release()
    if not rows:
        raise StorageGone(NO_ROW)
    epoch: int = rows[0][0]
    return epoch


class _Sqlite:
    """A `sql.checks.Database`. Nobody waits meanwhile, so it is asked in the loop's own thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, clock: Clock) -> None:
        self._path = path
        self._connection = connection
        self._clock = clock

    @asynccontextmanager
    async def one_state(self) -> AsyncGenerator[None, None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    async def rows(self, sql: str, *values: object) -> AsyncIterator[Row]:
        named = {str(number): value for number, value in enumerate(values, start=1)}
        for row in self._connection.execute(sql, named):
            yield row

    async def now_ms(self) -> int:
        return self._clock.now_ms()

    async def revisions(self) -> tuple[str, ...]:
        try:
            rows = self._connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return ()
            raise
        return tuple(str(row[0]) for row in rows)

    async def schema(self) -> Schema:
        columns, indexes = map(self._connection.execute, (SQLITE_COLUMNS, SQLITE_INDEXES))
        return schema_of(columns.fetchall(), indexes.fetchall())

    async def own(self) -> tuple[Check, ...]:
        return (self._integrity(), self._wal())

    async def find(self, key: SessionKey) -> Found | None:
        return reads.find(self._connection, key, None)

    async def entries(self, key: SessionKey, *, after: int, limit: int) -> Sequence[Entry]:
        return reads.entries(
            self._connection,
            key,
            after=after,
            before=None,
            history=False,
            newest_first=False,
            limit=limit,
        )

    async def turns(self, key: SessionKey, turn_ids: Collection[TurnId]) -> Iterable[Turn]:
        sql = """
            SELECT turn_id, seq, position, message_id, user_id, status, attempt, strikes,
                progressed, cancel_reason, cancel_by, current_iteration, total_iterations,
                tokens_used, total_tokens, created_at_ms, started_at_ms, ended_at_ms, error,
                awaited, input, output
            FROM turn WHERE tenant_id = ? AND session_id = ?
                AND turn_id IN (SELECT value FROM json_each(?))
        """
        rows = self._connection.execute(sql, (*key, json.dumps(list(turn_ids))))
        return [turn_of(row, key=key) for row in rows]

    def _integrity(self) -> Check:
        about = "PRAGMA integrity_check finds the file's structure whole"
        found = Check("integrity", about, "pages")
        try:
            ((found.checked,),) = self._connection.execute("PRAGMA page_count").fetchall()
            for (line,) in self._connection.execute("PRAGMA integrity_check(100)"):
                if line != "ok":
                    found.fault(line)
        except sqlite3.DatabaseError as error:
            found.fault(str(error))
        return found

    def _wal(self) -> Check:
        found = Check("wal", "the write-ahead log is not much longer than its limit", "bytes")
        wal = self._path.with_name(self._path.name + "-wal")
        found.checked = wal.stat().st_size if wal.exists() else 0
        if found.checked > WAL_MARGIN * WAL_BYTES_MAX:
            found.fault(f"{found.checked} bytes: a reader holds it, or no checkpoint gets through")
        return found
