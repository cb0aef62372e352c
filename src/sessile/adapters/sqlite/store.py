"""SqliteStore: the port, told to the writer thread and to a few readers."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, Self, TypeVar

from sessile.adapters.migrations import migrate
from sessile.adapters.sql.jobs import Appended, Asked
from sessile.adapters.sql.records import SqlRecords
from sessile.adapters.sql.scripts import Script
from sessile.adapters.sqlite import reads
from sessile.adapters.sqlite.files import DirectoryLock, InPlace, connect_reader, connect_writer
from sessile.adapters.sqlite.scripts import run
from sessile.adapters.sqlite.writer import Writer
from sessile.core.commands import Command
from sessile.core.context import Holding
from sessile.core.errors import StorageBusy, StorageDamaged
from sessile.core.events import Entry, Event
from sessile.core.ids import NodeId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import Turn
from sessile.ports.clock import Clock
from sessile.ports.store import Committed, Found, Identity, Sweep

T = TypeVar("T")


class SqliteStore:
    """One file, which one process at a time may use; see `ports.store.Store` for the promises.

    Opened by `async with`, which locks the file's directory, migrates the schema, and makes the
    leases that the last process left due at once. Raises DataDirectoryLocked where another
    server uses the directory. `busy_seconds`: how long a write waits for a lock that another
    program holds on the file. `batch_max`: jobs in one transaction.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock,
        busy_seconds: float = 10.0,
        readers: int = 2,
        batch_max: int = 256,
    ) -> None:
        self._path = path
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._batch_max = batch_max
        self._threads = ThreadPoolExecutor(readers, thread_name_prefix="sessile-sqlite-read")
        self._readers_max = readers
        self._readers = SimpleQueue[sqlite3.Connection]()

    async def __aenter__(self) -> Self:
        connection = await asyncio.to_thread(self._open)
        self._writer = Writer(
            connection,
            self._clock,
            in_place=self._in_place,
            busy_seconds=self._busy_seconds,
            batch_max=self._batch_max,
        )
        self.records = SqlRecords(write=self._run, read=self._ask)
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await asyncio.to_thread(self._threads.shutdown)
            for _ in range(self._readers_max):
                self._readers.get_nowait().close()
            # Last, because the last connection to close empties the write-ahead log.
            await self._writer.stop()
        finally:
            self._lock.release()

    def _open(self) -> sqlite3.Connection:
        self._lock = DirectoryLock(self._path.parent)
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            migrate(self._path, busy_seconds=self._busy_seconds)
            connection = connect_writer(self._path, busy_seconds=self._busy_seconds)
            undo.callback(connection.close)
            connection.execute(
                """
                UPDATE session_head SET lease_until_ms = 0, due_at_ms = 0
                WHERE due_at_ms IS NOT NULL AND lease_owner IS NOT NULL
                """
            )
            for _ in range(self._readers_max):
                self._readers.put(connect_reader(self._path, busy_seconds=self._busy_seconds))
            wal = self._path.with_name(f"{self._path.name}-wal")
            self._in_place = InPlace(self._path.parent / "lock", self._path, wal)
            undo.pop_all()
        return connection

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        job = Asked.of(key, command)
        return await self._writer.run(lambda it: it.answer(job), ahead=job)

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        job = Appended(holding, step, events)
        return await self._writer.run(lambda it: it.answer(job), ahead=job)

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        return await self._writer.run(lambda it: it.renew(node, holdings, lease_ms=lease_ms))

    async def identity(self) -> Identity:
        return await self._read(reads.identity)

    async def probe(self) -> None:
        await self._writer.run(lambda it: it.probe())

    async def sweep(
        self,
        *,
        due_max: int,
        assistants: Collection[str],
        following: Collection[SessionKey] = (),
    ) -> Sweep:
        now_ms = self._clock.now_ms()

        def read(connection: sqlite3.Connection) -> Sweep:
            due = reads.due(connection, now_ms=now_ms, due_max=due_max, assistants=assistants)
            return Sweep(due=due, heads=reads.heads(connection, following) if following else {})

        return await self._read(read)

    async def find(self, key: SessionKey, turn_id: TurnId | None = None) -> Found | None:
        return await self._read(lambda it: reads.find(it, key, turn_id))

    async def sessions(
        self,
        tenant_id: TenantId,
        *,
        user_id: UserId | None = None,
        before: SessionId | None = None,
        limit: int,
    ) -> tuple[Found, ...]:
        return await self._read(
            lambda it: reads.sessions(it, tenant_id, user_id=user_id, before=before, limit=limit)
        )

    async def turns(
        self,
        key: SessionKey,
        *,
        after: int = 0,
        queued: bool = False,
        limit: int,
        bytes_max: int | None = None,
    ) -> tuple[Turn, ...]:
        return await self._read(
            lambda it: reads.turns(
                it, key, after=after, queued=queued, limit=limit, bytes_max=bytes_max
            )
        )

    async def how_many(
        self,
        tenant_id: TenantId,
        what: Literal["sessions", "queue"],
        *,
        user_id: UserId | None,
        most: int,
    ) -> int:
        return await self._read(
            lambda it: reads.how_many(it, tenant_id, what, user_id=user_id, most=most)
        )

    async def tokens(self, tenant_id: TenantId, *, since_ms: int) -> Mapping[UserId, int]:
        return await self._read(lambda it: reads.tokens(it, tenant_id, since_ms=since_ms))

    async def read(
        self,
        key: SessionKey,
        *,
        after: int = 0,
        before: int | None = None,
        history: bool = False,
        newest_first: bool = False,
        limit: int,
        bytes_max: int | None = None,
    ) -> tuple[Entry, ...]:
        return await self._read(
            lambda it: reads.entries(
                it,
                key,
                after=after,
                before=before,
                history=history,
                newest_first=newest_first,
                limit=limit,
                bytes_max=bytes_max,
            )
        )

    async def summary(self, key: SessionKey, *, before: int) -> Entry | None:
        return await self._read(lambda it: reads.summary(it, key, before=before))

    async def _run(self, _of: object, script: Callable[[], Script[T]], *, voids: bool = False) -> T:
        return await self._writer.run(lambda it: it.run(script, voids=voids))

    async def _ask(self, _of: object, script: Callable[[], Script[T]], *, voids: bool = False) -> T:
        assert not voids, "what reads removes nothing"

        def nothing(_: object) -> None:
            raise AssertionError("what reads writes nothing")

        now_ms = self._clock.now_ms
        return await self._read(lambda it: run(it, script(), now_ms=now_ms, write=nothing))

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._lend, read)

    def _lend(self, read: Callable[[sqlite3.Connection], T]) -> T:
        self._in_place.check()
        connection = self._readers.get_nowait()
        try:
            return read(connection)
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR):
                raise StorageBusy() from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise StorageDamaged() from error
            raise
        finally:
            self._readers.put(connection)
