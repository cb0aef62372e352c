"""How far a relay has published each session: a small SQLite file of its own."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from sessile.core.ids import Seq, SessionId, SessionKey, TenantId

T = TypeVar("T")


class CursorFile:
    """What it answers is what it has written. After a loss of power a cursor may be an earlier
    one: then something is published twice."""

    def __init__(self, database: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._database = database
        self._thread = thread

    async def begun(self, tenant_id: TenantId) -> int | None:
        def ask() -> int | None:
            sql = "SELECT epoch FROM begun WHERE tenant_id = ?"
            row = self._database.execute(sql, (tenant_id,)).fetchone()
            return None if row is None else int(row[0])

        return await self._do(ask)

    async def begin(
        self, tenant_id: TenantId, cursors: dict[SessionId, Seq], *, epoch: int
    ) -> None:
        def write() -> None:
            with self._database:
                self._database.execute("DELETE FROM cursor WHERE tenant_id = ?", (tenant_id,))
                self._database.executemany(
                    "INSERT INTO cursor (tenant_id, session_id, seq) VALUES (?, ?, ?)",
                    [(tenant_id, session_id, seq) for session_id, seq in cursors.items()],
                )
                self._database.execute(
                    "INSERT OR REPLACE INTO begun (tenant_id, epoch) VALUES (?, ?)",
                    (tenant_id, epoch),
                )

        await self._do(write)

    async def cursors(self, tenant_id: TenantId) -> dict[SessionId, Seq]:
        def ask() -> dict[SessionId, Seq]:
            return dict(
                self._database.execute(
                    "SELECT session_id, seq FROM cursor WHERE tenant_id = ?", (tenant_id,)
                )
            )

        return await self._do(ask)

    async def cursor(self, key: SessionKey) -> Seq:
        def ask() -> Seq:
            row = self._database.execute(
                "SELECT seq FROM cursor WHERE tenant_id = ? AND session_id = ?", key
            ).fetchone()
            return Seq(0 if row is None else row[0])

        return await self._do(ask)

    async def advance(self, key: SessionKey, seq: Seq) -> None:
        def write() -> None:
            with self._database:
                self._database.execute(
                    "INSERT INTO cursor (tenant_id, session_id, seq) VALUES (?, ?, ?)"
                    " ON CONFLICT (tenant_id, session_id) DO UPDATE SET seq = excluded.seq",
                    (*key, seq),
                )

        await self._do(write)

    async def forget(self, key: SessionKey) -> None:
        def write() -> None:
            with self._database:
                self._database.execute(
                    "DELETE FROM cursor WHERE tenant_id = ? AND session_id = ?", key
                )

        await self._do(write)

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


@asynccontextmanager
async def open_cursors(path: Path) -> AsyncGenerator[CursorFile, None]:
    """The file, made where there is none. Raises ValueError for one that is no such file."""

    def connect() -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        with database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS begun (tenant_id TEXT PRIMARY KEY,"
                " epoch INTEGER NOT NULL) WITHOUT ROWID"
            )
            database.execute(
                "CREATE TABLE IF NOT EXISTS cursor (tenant_id TEXT, session_id TEXT,"
                " seq INTEGER NOT NULL, PRIMARY KEY (tenant_id, session_id)) WITHOUT ROWID"
            )
        return database

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="cursors") as thread:
        try:
            database = await loop.run_in_executor(thread, connect)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path}: {error}") from error
        try:
            yield CursorFile(database, thread)
        finally:
            await loop.run_in_executor(thread, database.close)
