"""A node's end of the connections to PostgreSQL: the store's own lanes, batches and renewals run
over connections that are lost at any moment. Only the statements are the model's.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from asyncpg import exceptions as pg
from tests.simulation.database import Answer, Database
from tests.simulation.loop import Node
from tests.simulation.store import DicedStore

from sessile.adapters.postgres import lanes, transaction
from sessile.adapters.postgres.connections import Patience
from sessile.adapters.postgres.lanes import Lanes
from sessile.adapters.postgres.store import PostgresStore
from sessile.adapters.sql.batch import Batch
from sessile.adapters.sql.gathered import Gathered
from sessile.adapters.sql.jobs import Appended, Asked, Job, Needs
from sessile.core.commands import AwaitTurn, Command, FinishTurn
from sessile.core.context import Holding
from sessile.core.errors import StorageBusy, StorageFull
from sessile.core.events import Event
from sessile.core.ids import NodeId, SessionKey, TenantId
from sessile.ports.store import Committed

BUSY_SECONDS = 1.5
"""So long a lane asks again."""
FATES = ("unsent", "unanswered", "unanswered", "late")
"""Of a statement whose connection is lost: it never arrives, its reply never does, or it arrives
when the node has long been told that the connection is gone."""


class Connection:
    """As far as lanes and renewals use one of asyncpg's."""

    def __init__(
        self,
        database: Database,
        process: Node,
        patience: Patience,
        called: Callable[[], bool],
        *,
        lock_ms: int,
        answer_seconds: float,
    ) -> None:
        self._database = database
        self._patience = patience
        self._called = called
        self._answer_seconds = answer_seconds
        self._closed = self._cut = False
        self.backend = database.serve(process, lock_seconds=lock_ms / 1000)
        self.told = self.kept = frozenset[TenantId]()

    def is_closed(self) -> bool:
        return self._closed

    def terminate(self) -> None:
        self._closed = True
        if not self._cut:
            self._dropped_after(self._seconds())

    def telling(self, tenants: Collection[TenantId] | None) -> str:
        return ""

    async def tell(self, tenants: Collection[TenantId] | None) -> None:
        pass

    async def execute(self, sql: str) -> None:
        database, backend = self._database, self.backend
        match sql:
            case "BEGIN":
                database.begin(backend)  # it waits for nothing, and changes nothing
            case "COMMIT" | "COMMIT AND CHAIN":

                def commit(answer: Answer) -> None:
                    database.commit(backend)
                    if sql != "COMMIT":
                        database.begin(backend)
                    answer(None)

                await self.ask(commit, writes=True)
            case "ROLLBACK":
                await self.ask(lambda answer: answer(database.roll_back(backend)))
            case _:
                raise NotImplementedError(sql)

    async def fetch(self, sql: str, *values: Any) -> Any:
        database, backend = self._database, self.backend
        if "AS locked ON true" in sql:
            keys = [SessionKey(*key) for key in zip(*values, strict=True)]

            def lock(answer: Answer) -> None:
                database.lock(
                    backend,
                    database.there(keys),
                    lambda error: answer(error or database.heads(backend, keys)),
                )

            return await self.ask(lock)
        if "SKIP LOCKED\n        )\n        UPDATE session_head" in sql:
            node, lease_ms, *columns = values
            asked = list(zip(*columns, strict=True))
            return await self.ask(
                lambda answer: answer(database.renew(backend, node, lease_ms, asked))
            )
        if "WHERE h.session_id IS NULL" in sql:
            node, *columns = values
            return await self.ask(
                lambda answer: answer(
                    [
                        (tenant_id, session_id)
                        for tenant_id, session_id, fence in zip(*columns, strict=True)
                        if not database.leased(SessionKey(tenant_id, session_id), node, fence)
                    ]
                )
            )
        if "h.exclusive_key = k.exclusive_key" in sql:
            places = list(zip(*values, strict=True))

            def find(answer: Answer) -> None:
                found = ((place, database.holder(backend, place)) for place in places)
                answer([(*place, it.session_id) for place, it in found if it is not None])

            return await self.ask(find)
        if "asked EXCEPT" in sql:
            keys = sorted(SessionKey(*key) for key in zip(*values, strict=True))
            return await self.ask(
                lambda answer: answer([key for key in keys if database.held(key, by=backend)])
            )
        raise NotImplementedError(sql)

    async def fetchval(self, sql: str, *values: Any) -> Any:
        if "FROM session_head" in sql:
            there = partial(self._database.there, [SessionKey(*values)])
            return await self.ask(lambda answer: answer(1 if there() else None))
        assert "FROM entry" in sql
        tenant_id, session_id, seq, *rest = values
        key = SessionKey(tenant_id, session_id)

        def look(answer: Answer) -> None:
            entry = self._database.entry(self.backend, key, seq)
            there = entry is not None and [entry.kind, entry.at_ms, entry.body] == rest
            answer(1 if there else None)

        return await self.ask(look)

    async def ask(self, serve: Callable[[Answer], object], *, writes: bool = False) -> Any:
        """One statement. `writes`: for good; only of these a reply is worth losing often."""
        database, backend = self._database, self.backend
        if self._closed:
            raise pg.InterfaceError("the connection is closed")
        if self._called():
            await database.loop.create_future()  # the node has died
        lost = database.weather.twice * (1.0 if writes else 0.1)
        fate = database.chance.choice(FATES) if database.chance.random() < lost else "answered"
        database.weather.replies_lost += writes and fate in ("unanswered", "late")
        asked: asyncio.Future[Any] = database.loop.create_future()
        until = database.loop.time() + self._answer_seconds

        def answer(came_to: Any) -> None:
            backend.idle_since_seconds = now = database.loop.time()
            seconds = self._seconds() if writes or fate != "answered" else 0.0
            if fate == "unanswered":
                self._lose(self._patience.statement_ms / 1000 * database.chance.random())
                came_to = ConnectionResetError("the reply is lost")
            if now + seconds > until:
                seconds, came_to = max(until - now, 0.0), TimeoutError()
            if seconds:
                database.later(lambda: _settle(asked, came_to), seconds)
            else:
                _settle(asked, came_to)

        def arrive() -> None:
            if database.expired(backend):
                answer(pg.IdleInTransactionSessionTimeoutError("it stood still"))
            elif backend.gone:
                answer(pg.ConnectionDoesNotExistError("connection was closed"))
            elif database.refuses(StorageBusy):
                database.drop(backend)
                answer(pg.AdminShutdownError("terminating connection"))
            elif writes and database.refuses(StorageFull):
                answer(pg.DiskFullError("could not extend file"))
            else:
                backend.idle_since_seconds = math.inf
                serve(answer)

        seconds = self._seconds()
        if fate in ("unsent", "late"):
            reset = ConnectionResetError("the connection is lost")
            database.later(lambda: _settle(asked, reset), seconds)
            seconds = self._patience.statement_ms / 1000 * database.chance.random()
            self._lose(seconds + 0.001)
        if fate != "unsent":
            database.later(arrive, seconds)
        return await asked

    def _lose(self, seconds: float) -> None:
        """The server hears of it after so long."""
        self._closed = self._cut = True
        self._dropped_after(seconds)

    def _dropped_after(self, seconds: float) -> None:
        self._database.later(partial(self._database.drop, self.backend), seconds)

    def _seconds(self) -> float:
        return self._database.weather.seconds(self._database.chance)


class Connector:
    """As `connections.Connector`; of one node."""

    def __init__(
        self, database: Database, process: Node, called: Callable[[], bool], *, lease_ms: int
    ) -> None:
        self._database = database
        self._process = process
        self._called = called
        self.patience = Patience(lease_ms)

    async def connect(
        self, name: str, *, lock_ms: int, answer_seconds: float | None = None
    ) -> Connection:
        await asyncio.sleep(self._database.weather.seconds(self._database.chance))
        if self._database.refuses(StorageBusy):
            raise ConnectionRefusedError(name)
        return Connection(
            self._database,
            self._process,
            self.patience,
            self._called,
            lock_ms=lock_ms,
            answer_seconds=answer_seconds or self.patience.client_seconds,
        )


class LanedStore(DicedStore):
    """One node's way to the database: what is written goes through the real lanes."""

    def lay(self, database: Database, process: Node, *, lease_ms: int) -> None:
        """Before its first call."""
        self._process = process
        self._postgres = PostgresStore("", lease_ms=lease_ms, busy_seconds=BUSY_SECONDS)
        connector: Any = Connector(database, process, self.called, lease_ms=lease_ms)
        self._postgres._connector = connector
        self._lanes = Lanes(connector, busy_seconds=BUSY_SECONDS, sharded=False)
        self._postgres._lanes = self._lanes
        self._stop = asyncio.Event()
        self._serving = process.spawn(self._serve(), name="lanes")

    async def stop(self) -> None:
        self._stop.set()
        if self._process.alive:
            await self._serving

    async def _serve(self) -> None:
        while True:
            try:
                await self._lanes.open()
                break
            except OSError:
                await asyncio.sleep(0.1)
        try:
            await self._stop.wait()
        finally:
            await self._lanes.close()

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        return await self._postgres.transact(key, command)

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        return await self._postgres.append(holding, step, events)

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        return await self._postgres.renew(node, holdings, lease_ms=lease_ms)


class Recorded(transaction.Transaction):
    """Keeps for the recorder what it will have written under which fence."""

    async def answer(self, jobs: Sequence[Job]) -> list[transaction.Answer]:
        answers = await super().answer(jobs)
        connection: Any = self._connection
        for job, answer in zip(jobs, answers, strict=True):
            holding = holding_of(job)
            if holding is not None and isinstance(answer, Committed):
                connection.backend.notes.append((holding, answer.entries))
        return answers


def holding_of(job: Job) -> Holding | None:
    """Under which fence it writes, if under any."""
    if isinstance(job, Asked):
        command = job.command
        return command.holding if isinstance(command, FinishTurn | AwaitTurn) else None
    return job.holding


async def _look(connection: Any, batch: Batch, needs: Iterable[Needs | None]) -> None:
    wanted = list(dict.fromkeys(each for each in needs if each is not None))
    if wanted:
        show = partial(connection._database.show, connection.backend, wanted)
        hand = await connection.ask(lambda answer: answer(show()))
        hand(batch)


async def _write(connection: Any, gathered: Gathered) -> None:
    await connection.ask(partial(connection._database.write, connection.backend, gathered))


async def _beside(connection: Any, gathered: Gathered) -> None:
    connection.backend.audited.extend(gathered.audited)
    connection.backend.forks.extend(gathered.forks)


async def _append(connection: Any, jobs: Sequence[Appended]) -> Any:
    append = partial(connection._database.append, connection.backend, jobs)
    return await connection.ask(append, writes=True)


@contextmanager
def modelled() -> Iterator[None]:
    """The statements are the model's."""
    with (
        patch.object(transaction, "look", _look),
        patch.object(transaction, "write", _write),
        patch.object(transaction, "beside", lambda gathered: gathered),
        patch.object(transaction, "run", _beside),
        patch.object(lanes, "append", _append),
        patch.object(lanes, "Transaction", Recorded),
    ):
        yield


def _settle(asked: "asyncio.Future[Any]", came_to: Any) -> None:
    if asked.done():
        return
    if isinstance(came_to, Exception):
        asked.set_exception(came_to)
    else:
        asked.set_result(came_to)
