"""The writer thread: drains what many callers asked for into one transaction, and commits once.

There is no timer. Callers that arrive while a commit is on its way share the next.
"""

import asyncio
import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sessile.adapters.sql.gathered import Known
from sessile.adapters.sql.jobs import Appended, Asked
from sessile.adapters.sqlite.files import InPlace, emptied
from sessile.adapters.sqlite.transaction import Transaction
from sessile.core.errors import SessileError, StorageBusy, StorageDamaged, StorageFull
from sessile.core.ids import SessionKey
from sessile.ports.clock import Clock

logger = logging.getLogger(__name__)
T = TypeVar("T")

TELL_AGAIN_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class _Job:
    ahead: Asked | Appended | None
    """What is read for it in one go with the others'."""
    answer: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Owns the only writing connection. Made and stopped in the event loop that it serves."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: Clock,
        *,
        in_place: InPlace,
        busy_seconds: float,
        batch_max: int,
    ) -> None:
        self._connection = connection
        self._in_place = in_place
        self._clock = clock
        self._busy_seconds = busy_seconds
        self._batch_max = batch_max
        self._hot: dict[SessionKey, Known] = {}
        self._loop = asyncio.get_running_loop()
        self._arrived: list[_Job] = []
        self._handed_over = SimpleQueue[list[_Job] | None]()
        self._stopped = False
        self._voids = False
        """The write-ahead log may still have what was removed."""
        self._told_at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._drain, name="sessile-sqlite", daemon=True)
        self._thread.start()

    async def run(
        self, answer: Callable[[Transaction], T], *, ahead: Asked | Appended | None = None
    ) -> T:
        """The answer, once it is durable. A caller that is cancelled meanwhile loses only the
        answer: the job is done or refused as a whole."""
        assert not self._stopped, "the store is closed"
        future: asyncio.Future[T] = self._loop.create_future()
        if not self._arrived:
            # All callers that run in this turn of the event loop go over together.
            self._loop.call_soon(self._hand_over)
        self._arrived.append(_Job(ahead, answer, future))
        return await future

    async def stop(self) -> None:
        """Returns when everything asked before is answered, and the connection is closed."""
        self._stopped = True
        self._hand_over()
        self._handed_over.put(None)
        await asyncio.to_thread(self._thread.join)

    def _hand_over(self) -> None:
        if self._arrived:
            self._handed_over.put(self._arrived)
            self._arrived = []

    def _drain(self) -> None:
        waiting = deque[_Job]()
        stopping = False
        while waiting or not stopping:
            try:
                while len(waiting) < self._batch_max and not stopping:
                    jobs = self._handed_over.get(block=not waiting)
                    if jobs is None:
                        stopping = True
                    else:
                        waiting.extend(jobs)
            except Empty:
                pass
            batch = [waiting.popleft() for _ in range(min(len(waiting), self._batch_max))]
            if batch:
                self._answer(batch)
                self._tell(batch)
        self._connection.close()

    def _tell(self, batch: list[_Job]) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, batch)
        except RuntimeError:
            logger.warning("the event loop ended before its store", extra={"jobs": len(batch)})

    def _answer(self, batch: Sequence[_Job]) -> None:
        """Every job has its result or its error afterwards, and all results are durable."""
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                self._attempt(batch)
            except Exception as error:  # noqa: BLE001  # whatever it is, the thread goes on
                self._roll_back()
                if not is_busy(error):
                    self._answer_singly(batch, error)
                    return
                if time.monotonic() > deadline:
                    self._fail(batch, error)
                    return
                time.sleep(0.001)  # SQLite waited itself, but for the few cases it does not
            else:
                return

    def _answer_singly(self, batch: Sequence[_Job], error: Exception) -> None:
        """Each in a transaction of its own, so that the culprit alone fails."""
        if len(batch) == 1:
            self._fail(batch, error)
            return
        for place, job in enumerate(batch):
            self._answer([job])
            if isinstance(job.error, StorageBusy):
                # The others would wait as long, one after another.
                self._fail(batch[place + 1 :], job.error)
                return

    def _attempt(self, batch: Sequence[_Job]) -> None:
        self._in_place.check()
        self._connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(self._connection, self._clock, self._hot)
        transaction.prepare([job.ahead for job in batch if job.ahead is not None])
        for job in batch:
            job.result = job.error = None
            try:
                job.result = job.answer(transaction)
            except SessileError as refusal:
                job.error = refusal
        transaction.flush()
        self._connection.execute("COMMIT")
        transaction.keep_hot()
        self._voids = self._voids or transaction.voids
        if self._voids:
            self._voids = not emptied(self._connection)

    def _fail(self, batch: Sequence[_Job], error: Exception) -> None:
        self._tell_operator(error, jobs=len(batch))
        for job in batch:
            job.result = None
            if is_busy(error):
                job.error = StorageBusy()
            elif is_full(error):
                job.error = StorageFull()
            elif is_damaged(error):
                job.error = StorageDamaged()
            else:
                job.error = error

    def _tell_operator(self, error: Exception, *, jobs: int) -> None:
        """Callers ask again and again: the same failure is told now and then, not each time."""
        told, now = repr(error), time.monotonic()
        if now - self._told_at.get(told, -math.inf) < TELL_AGAIN_SECONDS:
            return
        self._told_at = {told: now}
        message = "nothing was stored: make room on the disk"
        logger.error(
            message if is_full(error) else "nothing was stored",
            extra={"jobs": jobs, "error": told},
        )

    def _roll_back(self) -> None:
        self._hot.clear()
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("rollback failed")


def _resolve(batch: Sequence[_Job]) -> None:
    for job in batch:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)


def is_busy(error: Exception) -> bool:
    busy = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(error, StorageBusy) or _code(error) in busy


def is_full(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def is_damaged(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: Exception) -> int | None:
    """SQLite's primary result code."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
