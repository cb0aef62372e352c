"""Group commit: a few lanes, each with a connection of its own, each session in one of them.

There is no timer. Callers that arrive while a lane's commit is on its way share the next.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from zlib import crc32

from sessile.adapters.postgres.appends import append, is_plain
from sessile.adapters.postgres.callers import Caller, Place, Queue, place_of
from sessile.adapters.postgres.connections import (
    Connector,
    brief,
    is_locked,
    is_lost,
    is_passing,
    is_taken,
    is_unseen,
)
from sessile.adapters.postgres.failures import Failures, refusal
from sessile.adapters.postgres.tenants import TenantConnection
from sessile.adapters.postgres.transaction import (
    Answer,
    HolderMoved,
    Hot,
    Job,
    Transaction,
    held_elsewhere,
    keep_hot,
)
from sessile.adapters.sql.jobs import Appended, Asked
from sessile.core.ids import SessionKey
from sessile.ports.store import Committed

logger = logging.getLogger(__name__)

LANES = 4
BATCH_MAX = 256
RETRY_SECONDS = 0.02
RETRY_SECONDS_MAX = 0.5


class Lane:
    """One connection that writes. What a batch comes to is known before the next one begins.

    `aside`: the lane for sessions that somebody else holds for long, a node that is paused in the
    middle of a transaction among them, and for jobs that cost a connection each time. It waits for
    them one at a time, and no other session waits with it.
    """

    def __init__(
        self,
        connector: Connector,
        name: str,
        failures: Failures,
        *,
        aside: "Lane | None",
        sharded: bool,
    ) -> None:
        self._connector = connector
        self._name = name
        self._aside = aside
        self._batch_max = 1 if aside is None else BATCH_MAX
        self._failures = failures
        self._arrived = asyncio.Event()
        self._waiting = Queue(by_tenant=sharded)
        self._waiting_of = Counter[Place]()
        self._stopped = False
        self._connection: TenantConnection | None = None
        self._begun = False
        """The last commit began the next transaction, which saves a round trip."""
        self._hot: dict[SessionKey, Hot] = {}

    def put(self, caller: Caller) -> None:
        self._waiting.put(caller)
        self._waiting_of[caller.place] += 1
        self._arrived.set()

    def serves(self, place: Place) -> bool:
        return self._waiting_of[place] > 0

    async def open(self) -> None:
        """Connects. Raises what a connection can fail with."""
        await self._connected()

    async def run(self) -> None:
        """Until it was stopped, and everything asked before is answered."""
        try:
            while self._waiting or not self._stopped:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    batch = self._waiting.batch(self._batch_max)
                    await self._answer(batch)
                    for caller in batch:
                        self._answered(caller.place)
                await self._end()
        finally:
            self.hang_up()

    def stop(self) -> None:
        self._stopped = True
        self._arrived.set()

    def hang_up(self) -> None:
        connection, self._connection, self._begun = self._connection, None, False
        if connection is not None:
            connection.terminate()

    async def _end(self) -> None:
        """Of a transaction that was begun for jobs which wait elsewhere now."""
        if self._begun and self._connection is not None:
            await self._roll_back(self._connection)

    async def _roll_back(self, connection: TenantConnection) -> None:
        self._begun = False
        try:
            connection.told = connection.kept
            await connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001  it is rolled back when the connection is gone
            connection.terminate()

    def _answered(self, place: Place) -> None:
        self._waiting_of[place] -= 1
        if not self._waiting_of[place]:
            del self._waiting_of[place]

    async def _answer(self, callers: Sequence[Caller]) -> None:
        """Every caller has its answer afterwards, or waits in the lane aside."""
        callers = self._not_aside(callers)
        if self._connection is None or self._aside is None:
            callers = self._in_time(callers)
        if not callers:
            return
        loop = asyncio.get_running_loop()
        end = max(caller.until for caller in callers)
        wait, careful, losses = RETRY_SECONDS, False, 0
        while True:
            connection = None
            try:
                connection = await self._connected()
                answers = await self._attempt(connection, callers, careful=careful)
            except Exception as error:  # noqa: BLE001  whatever it is, the lane goes on
                self._hot.clear()
                if is_lost(error):
                    self.hang_up()
                    losses += connection is not None
                if is_taken(error) and not careful:
                    careful = True  # what another node has written meanwhile is seen now
                    continue
                # One of them may be what the server cannot bear.
                if len(callers) > 1 and (losses > 1 or not is_lost(error)):
                    await self._answer_apart(callers, error)
                    return
                if self._aside is not None and (is_locked(error) or losses > 1):
                    self._aside.put(callers[0])
                    return
                passing = is_passing(error) or isinstance(error, HolderMoved)
                if not passing or loop.time() + wait > end:
                    self._fail(callers, error)
                    return
                careful = True
                await asyncio.sleep(wait)
                wait = min(wait * 2, RETRY_SECONDS_MAX)
            else:
                for caller, answer in zip(callers, answers, strict=True):
                    caller.answer(answer)
                return

    def _not_aside(self, callers: Sequence[Caller]) -> Sequence[Caller]:
        """Those that need not wait behind others of their session in the lane aside."""
        if self._aside is None:
            return callers
        here: list[Caller] = []
        for caller in callers:
            if self._aside.serves(caller.place):
                self._aside.put(caller)
            else:
                here.append(caller)
        return here

    def _in_time(self, callers: Sequence[Caller]) -> Sequence[Caller]:
        """Those whose time is not over: a database that does not answer, or a session that stays
        held, is not waited for by each in turn."""
        now = asyncio.get_running_loop().time()
        if late := [caller for caller in callers if caller.until <= now]:
            self._fail(late, TimeoutError())
        return [caller for caller in callers if caller.until > now]

    async def _answer_apart(self, callers: Sequence[Caller], error: Exception) -> None:
        """The others at once where somebody else holds some of the sessions; else each in a
        transaction of its own, so that the culprit alone fails, or waits."""
        logger.info("a batch is taken apart", extra={"jobs": len(callers), **brief(error)})
        held: frozenset[SessionKey] = frozenset()
        if self._aside is not None and is_locked(error):
            with suppress(Exception):
                keys = {caller.job.key for caller in callers}
                connection = await self._connected()
                await connection.tell({key.tenant_id for key in keys})
                held = await held_elsewhere(connection, keys)
            for caller in callers:
                if caller.job.key in held:
                    self._aside.put(caller)
        rest = [caller for caller in callers if caller.job.key not in held]
        for part in [rest] if held else [[caller] for caller in rest]:
            await self._answer(part)

    async def _attempt(
        self, connection: TenantConnection, callers: Sequence[Caller], *, careful: bool
    ) -> Sequence[Answer]:
        """Raises what PostgreSQL and the connection raise."""
        jobs = [caller.job for caller in callers]
        appends = [job for job in jobs if isinstance(job, Appended) and is_plain(job)]
        alone = len({job.key for job in appends}) == len(jobs)  # of its session, each
        if self._begun or not alone:
            return await self._decided(connection, callers, careful=careful)
        await connection.tell({job.key.tenant_id for job in appends})
        try:
            appended = await append(connection, appends)
        except Exception as error:
            for caller in callers:
                caller.unknown |= is_unseen(error)
            raise
        keep_hot(self._hot, appends, appended)
        left = [it for it, answer in zip(callers, appended, strict=True) if answer is None]
        for caller in callers:
            caller.unknown |= caller not in left  # it is stored, also where the others fail
        if not left:
            return [answer for answer in appended if answer is not None]
        rest = iter(await self._decided(connection, left, careful=careful))
        return [next(rest) if answer is None else answer for answer in appended]

    async def _decided(
        self, connection: TenantConnection, callers: Sequence[Caller], *, careful: bool
    ) -> Sequence[Answer]:
        telling = connection.telling({caller.job.key.tenant_id for caller in callers})
        begin = "" if self._begun else "BEGIN"
        self._begun = False
        try:
            if telling or begin:
                await connection.execute(telling + begin)
            transaction = Transaction(connection, self._hot, careful=careful)
            await transaction.lock([caller.job for caller in callers])
            before = [await transaction.stands(it.job, it.unseen) for it in callers]
            left = [it for it, answer in zip(callers, before, strict=True) if answer is None]
            for caller in left:
                caller.unknown &= caller.unseen is None  # looked for, and not there
            answers = await transaction.answer([caller.job for caller in left])
        except BaseException:
            await self._roll_back(connection)
            raise
        more = any(isinstance(caller.job, Asked) for caller in self._waiting)
        try:
            await connection.execute("COMMIT AND CHAIN" if more else "COMMIT")
        except Exception as error:
            for caller, answer in zip(left, answers, strict=True):
                caller.unseen = None
                if isinstance(answer, Committed):
                    caller.unknown |= not answer.repeated
                    caller.unseen = answer if answer.entries or answer.deleted else None
            raise ConnectionError("the answer to a commit was lost") from error
        self._begun = more
        connection.kept = connection.told
        transaction.keep_hot()
        rest = iter(answers)
        return [next(rest) if answer is None else answer for answer in before]

    def _fail(self, callers: Sequence[Caller], error: Exception) -> None:
        unknown = sum(caller.unknown for caller in callers)
        self._failures.tell(error, jobs=len(callers), unknown=unknown)
        for caller in callers:
            caller.answer(refusal(error, unknown=caller.unknown))

    async def _connected(self) -> TenantConnection:
        if self._connection is None or self._connection.is_closed():
            self._begun = False
            self._hot.clear()  # another server may answer, which knows less than the first
            patience = self._connector.patience
            lock_ms = patience.lock_ms if self._aside is None else patience.lane_lock_ms
            self._connection = await self._connector.connect(self._name, lock_ms=lock_ms)
        return self._connection


class Lanes:
    """All jobs of a session go through one lane, one after another. `sharded`: no transaction has
    jobs of two tenants."""

    def __init__(self, connector: Connector, *, busy_seconds: float, sharded: bool) -> None:
        self._busy_seconds = busy_seconds
        failures = Failures()
        self._aside = Lane(connector, "aside", failures, aside=None, sharded=sharded)
        self._lanes = [
            Lane(connector, f"lane {n}", failures, aside=self._aside, sharded=sharded)
            for n in range(LANES)
        ]
        self._tasks = asyncio.TaskGroup()
        self._running: list[asyncio.Task[None]] = []
        self._closed = False

    async def open(self) -> None:
        """Raises what a connection can fail with, and then holds none."""
        lanes = (*self._lanes, self._aside)
        try:
            for lane in lanes:
                await lane.open()
        except BaseException:
            for lane in lanes:
                lane.hang_up()
            raise
        await self._tasks.__aenter__()
        self._running = [
            self._tasks.create_task(lane.run(), name="postgres lane") for lane in self._lanes
        ]
        self._tasks.create_task(self._aside.run(), name="postgres lane aside")

    async def close(self) -> None:
        """When everything asked before is answered."""
        self._closed = True
        for lane in self._lanes:
            lane.stop()
        await asyncio.gather(*self._running)
        self._aside.stop()  # last, because the others hand over to it
        await self._tasks.__aexit__(None, None, None)

    async def ask(self, job: Job) -> Committed:
        """The answer, once it is durable. Raises what the port's methods raise. A caller that is
        cancelled meanwhile loses only the answer."""
        assert not self._closed, "the store is closed"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Committed] = loop.create_future()
        place = place_of(job)
        lane = self._lanes[crc32(" ".join(place).encode(errors="replace")) % LANES]
        lane.put(Caller(job, place, future, loop.time() + self._busy_seconds))
        return await future
