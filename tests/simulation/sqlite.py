"""The SQLite store's writer as it is, over rows that are a model: one process at a time has the
file, a batch of jobs is one transaction, and its answers come when it is committed."""

import asyncio
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast
from unittest.mock import patch

from tests.simulation.database import Backend, Database
from tests.simulation.loop import Node
from tests.simulation.postgres import holding_of
from tests.simulation.store import DicedStore

from sessile.adapters.sql.gathered import Gathered, Holder, Place
from sessile.adapters.sql.jobs import Appended, Asked, Job, Needs
from sessile.adapters.sqlite import writer
from sessile.adapters.sqlite.transaction import Transaction
from sessile.adapters.sqlite.writer import Writer
from sessile.core.commands import Command
from sessile.core.context import Holding
from sessile.core.errors import StorageBusy, StorageFull
from sessile.core.events import Event
from sessile.core.ids import NodeId, SessionId, SessionKey, TurnId
from sessile.ports.store import Committed

BATCH_MAX = 8


class File:
    """The writing connection."""

    def __init__(self, database: Database, process: Node) -> None:
        self.database = database
        self._process = process
        self.backend = Backend(process, lock_seconds=0.0)

    @property
    def in_transaction(self) -> bool:
        return self.backend.within

    def execute(self, sql: str) -> None:
        database = self.database
        match sql:
            case "BEGIN IMMEDIATE":
                if database.refuses(StorageBusy):
                    raise _error("database is locked", sqlite3.SQLITE_BUSY)
                self.backend = Backend(self._process, lock_seconds=0.0)
                database.begin(self.backend)
            case "COMMIT":
                if database.refuses(StorageFull):
                    raise _error("database or disk is full", sqlite3.SQLITE_FULL)
                database.commit(self.backend)
            case "ROLLBACK":
                database.roll_back(self.backend)
            case _:
                raise NotImplementedError(sql)

    def check(self) -> None:
        """That the file is where it was."""


def _error(message: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error


class LoopWriter(Writer):
    """Its thread's work is done in the loop, a batch in one piece."""

    def __init__(self, file: File, process: Node) -> None:
        self._connection = cast(Any, file)
        self._in_place = cast(Any, file)
        self._clock = file.database.memory._clock
        self._busy_seconds = -1.0  # SQLite waits by itself, and the thread with it
        self._batch_max = BATCH_MAX
        self._hot = {}
        self._loop = asyncio.get_running_loop()
        self._arrived = []
        self._stopped = self._voids = False
        self._told_at = {}
        self._database = file.database
        self._process = process
        self._queue: list[Any] = []
        self.busy = False

    def _hand_over(self) -> None:
        self._queue += self._arrived
        self._arrived = []
        if self._queue and not self.busy:
            self.busy = True
            self._later(self._next)

    def _next(self) -> None:
        batch, self._queue = self._queue[:BATCH_MAX], self._queue[BATCH_MAX:]
        if batch:
            self._answer(batch)
            self._later(lambda: writer._resolve(batch))
            self._later(self._next)
        else:
            self.busy = False

    def _later(self, step: Any) -> None:
        seconds = self._database.weather.seconds(self._database.chance)
        self._loop.call_later(seconds, step, context=self._process.context())


class FileTransaction(Transaction):
    """What it reads and writes is the model's."""

    _connection: Any

    def answer(self, job: Job) -> Committed:
        committed = super().answer(job)
        if (holding := holding_of(job)) is not None:
            self._connection.backend.notes.append((holding, committed.entries))
        return committed

    def probe(self) -> None:
        pass

    def _write(self, gathered: Gathered) -> None:
        self._connection.database.insert(self._connection.backend, gathered)
        self._connection.backend.audited.extend(gathered.audited)
        self._connection.backend.forks.extend(gathered.forks)

    def _show(self, needs: Needs) -> None:
        self._connection.database.show(self._connection.backend, [needs])(self._batch)

    def _load(self, keys: Sequence[SessionKey]) -> None:
        for key in keys:
            self._show(Needs(key, head=True))

    def _load_turns(self, places: Sequence[tuple[SessionKey, TurnId]]) -> None:
        for key, turn_id in places:
            self._show(Needs(key, turns=(turn_id,)))

    def _see_queue(self, key: SessionKey, most: int) -> None:
        if not self._batch.gathered.empty:
            self.flush()
        self._show(Needs(key, queue=most))

    def _see_holder(self, holder: Holder) -> None:
        self._show(Needs(SessionKey(holder[0], SessionId("")), holder=holder))

    def _see_answer(self, place: Place) -> None:
        self._show(Needs(SessionKey(place[0], SessionId("")), answer=place))


class WriterStore(DicedStore):
    """What is written goes through the real writer; what is read is not ahead of it."""

    def open(self, database: Database, process: Node) -> None:
        """By a process that alone has the file: whatever held a lease is gone."""
        memory = database.memory
        for key, kept in memory._kept.items():
            if kept.lease.owner is not None and key in memory._due_at_ms:
                kept.lease = replace(kept.lease, until_ms=0)
                memory._due_at_ms[key] = 0
        self._process = process
        self._writer = LoopWriter(File(database, process), process)

    async def stop(self) -> None:
        """When everything asked before is answered; then the file is another's."""
        while self._process.alive and self._writer.busy:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        return await self._asked(Asked.of(key, command))

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        return await self._asked(Appended(holding, step, tuple(events)))

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        await self._sent()
        return await self._writer.run(lambda it: it.renew(node, holdings, lease_ms=lease_ms))

    async def _asked(self, job: Job) -> Committed:
        await self._sent()
        return await self._writer.run(lambda it: it.answer(job), ahead=job)

    async def _sent(self) -> None:
        if self.called():
            await self._loop.create_future()  # the node has died


@contextmanager
def modelled() -> Iterator[None]:
    """What the writer's transactions read and write is the model's."""
    with patch.object(writer, "Transaction", FileTransaction):
        yield
