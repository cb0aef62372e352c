"""All sessions of some tenants, read from their logs: each entry is passed on at least once, and
behind the one before it."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Protocol, Self

from sessile.core.context import Principal
from sessile.core.errors import CursorAhead, NotFound, SessileError
from sessile.core.events import Entry
from sessile.core.ids import Seq, SessionId, SessionKey, TenantId, UserId
from sessile.ports.notifier import Hint, Notifier
from sessile.runtime.reads import Reads

logger = logging.getLogger(__name__)

PAGE = 100
LOOK_SECONDS = 60.0
"""How often all sessions are looked through for what no hint told of: a node may be lost between
a commit and its hint, and so may a hint on its way."""
PASSED_MAX = 10_000
"""Sessions of which it is kept, while this runs, up to where nobody wanted what there was."""


class Cursors(Protocol):
    """How far each session was passed on: durable, and never ahead of what was."""

    async def begun(self, tenant_id: TenantId) -> int | None:
        """The epoch of the database in which `begin` was done for this tenant; None: never."""
        ...

    async def begin(
        self, tenant_id: TenantId, cursors: dict[SessionId, Seq], *, epoch: int
    ) -> None:
        """Where the sessions that are there now begin; all others begin at their first entry. What
        was known of the tenant is forgotten."""
        ...

    async def cursors(self, tenant_id: TenantId) -> dict[SessionId, Seq]:
        """Of each session of which something was taken."""
        ...

    async def cursor(self, key: SessionKey) -> Seq:
        """The last entry that was taken; 0 for none."""
        ...

    async def advance(self, key: SessionKey, seq: Seq) -> None:
        """The entry was taken."""
        ...

    async def forget(self, key: SessionKey) -> None:
        """The session is no more."""
        ...


class NotTaken(Exception):
    """Whoever was to have an entry did not take it, for the reason that the text says; which has
    nothing of the entry in it."""


Pass = Callable[[SessionKey, str, Entry], Awaitable[bool]]
"""Pass on an entry of a session of this assistant. Answers whether somebody wanted it; raises
NotTaken, and then is called again with the same one."""


class Trail:
    """`async with Trail(…)`: follows the sessions.

    Sessions that are there when a tenant is followed for the first time begin at their end, and so
    do all when the `epoch` is another than before: what was passed on may not be in the log. An
    entry that is not taken is tried again, after `retry_seconds`, which doubles up to
    `retry_seconds_max`; it holds back its own session alone. `reader`: the name in which the logs
    are read. `at_once`: sessions.
    """

    def __init__(
        self,
        *,
        pass_on: Pass,
        tenants: Collection[TenantId],
        cursors: Cursors,
        epoch: int,
        reads: Reads,
        notifier: Notifier,
        reader: str,
        at_once: int,
        retry_seconds: float,
        retry_seconds_max: float,
    ) -> None:
        self._pass_on = pass_on
        self._readers = {tenant_id: _reader(tenant_id, reader) for tenant_id in tenants}
        self._cursors = cursors
        self._epoch = epoch
        self._reads = reads
        self._notifier = notifier
        self._name = reader
        self._at_once = at_once
        self._retry_seconds = retry_seconds
        self._retry_seconds_max = retry_seconds_max
        self._queue: asyncio.Queue[SessionKey] = asyncio.Queue()
        self._waiting: set[SessionKey] = set()
        self._working: dict[SessionKey, bool] = {}
        """Whether the session has grown since its work began."""
        self._delays: dict[SessionKey, float] = {}
        """Those that failed: how long they wait when they fail again."""
        self._passed: dict[SessionKey, Seq] = {}
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        # Before the sessions are looked through: what grows meanwhile is not missed.
        self._stops = [
            self._notifier.listen(self._on_hint),
            *(self._notifier.follow(tenant_id) for tenant_id in self._readers),
        ]
        for tenant_id in self._readers:
            await self._look_through(tenant_id)
        await self._tasks.__aenter__()
        self._loops = [
            self._tasks.create_task(self._work_for_ever(), name=self._name)
            for _ in range(self._at_once)
        ]
        look = self._look_for_ever()
        self._loops.append(self._tasks.create_task(look, name=f"{self._name} looks"))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for stop in self._stops:
            stop()
        for task in self._loops:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for tenant_id in self._readers:
                try:
                    await self._look_through(tenant_id)
                except SessileError:
                    pass  # the database does not answer now; it is asked again
                except Exception:
                    logger.exception("could not look for what is to be passed on")

    async def _look_through(self, tenant_id: TenantId) -> None:
        heads = {key.session_id: it async for key, it in self._heads(self._readers[tenant_id])}
        begun = await self._cursors.begun(tenant_id)
        if begun != self._epoch:
            if begun is not None:
                about = {"tenant_id": tenant_id, "epoch": self._epoch, "sessions": len(heads)}
                logger.warning(
                    "the database was restored; passed on is what comes now", extra=about
                )
            await self._cursors.begin(tenant_id, heads, epoch=self._epoch)
        cursors = await self._cursors.cursors(tenant_id)
        for session_id in heads.keys() | cursors.keys():
            # Those that were deleted meanwhile are forgotten where they are worked at.
            if session_id not in heads or heads[session_id] > cursors.get(session_id, 0):
                self._grown(SessionKey(tenant_id, session_id))

    async def _heads(self, reader: Principal) -> AsyncIterator[tuple[SessionKey, Seq]]:
        before: SessionId | None = None
        while page := await self._reads.sessions(reader, before=before, limit=PAGE):
            for found in page:
                yield found.head.key, found.head.head
            before = page[-1].head.key.session_id

    def _on_hint(self, hint: Hint) -> None:
        if hint.key.tenant_id in self._readers:
            self._grown(hint.key)

    def _grown(self, key: SessionKey) -> None:
        if key in self._working or key not in self._delays:
            self._wake(key)

    def _wake(self, key: SessionKey) -> None:
        if key in self._working:
            self._working[key] = True
        elif key not in self._waiting:
            self._waiting.add(key)
            self._queue.put_nowait(key)

    async def _work_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            key = await self._queue.get()
            self._waiting.discard(key)
            self._working[key] = False
            caught_up = await self._caught_up(key)
            grown = self._working.pop(key)
            if not caught_up:
                # Others are worked at meanwhile; its own hints wait, too.
                delay = self._delays.get(key, self._retry_seconds)
                self._delays[key] = min(2 * delay, self._retry_seconds_max)
                # Those that failed together are not tried again together.
                spread = random.uniform(0.5, 1)  # of load: no secret  # nosec B311
                loop.call_later(delay * spread, self._wake, key)
                continue
            if grown:
                self._wake(key)

    async def _caught_up(self, key: SessionKey) -> bool:
        try:
            try:
                await self._catch_up(key)
            except NotFound:
                self._passed.pop(key, None)
                await self._cursors.forget(key)
        except CursorAhead as ahead:
            # The log was restored to an earlier time.
            about = {"session_id": key.session_id, **ahead.details}
            logger.warning("the log is behind what was passed on", extra=about)
        except SessileError as error:
            about = {"session_id": key.session_id, "code": error.code}
            logger.warning("could not read what is to be passed on", extra=about)
            return False
        except NotTaken as error:
            about = {"session_id": key.session_id, "error": str(error), "reader": self._name}
            logger.warning("an entry was not taken; it is tried again", extra=about)
            return False
        except Exception:
            # The file of the cursors, say: it may be whole again, and the server is in any case.
            logger.exception(
                "could not note what was passed on", extra={"session_id": key.session_id}
            )
            return False
        self._delays.pop(key, None)
        return True

    async def _catch_up(self, key: SessionKey) -> None:
        reader = self._readers[key.tenant_id]
        found = await self._reads.found(reader, key.session_id)
        after = max(await self._cursors.cursor(key), self._passed.get(key, 0))
        while True:
            page = await self._reads.entries(reader, key.session_id, after=after, limit=PAGE)
            for entry in page.items:
                if await self._pass_on(key, found.session.assistant, entry):
                    # It was taken, and what is behind it begins anew.
                    self._delays.pop(key, None)
                    self._passed.pop(key, None)
                    await self._cursors.advance(key, entry.seq)
                else:
                    self._pass_by(key, entry.seq)
                after = entry.seq
            if not page.more:
                return

    def _pass_by(self, key: SessionKey, seq: Seq) -> None:
        """Not worth a write: after a restart it is read again, and passed by again."""
        self._passed.pop(key, None)
        if len(self._passed) >= PASSED_MAX:
            del self._passed[next(iter(self._passed))]
        self._passed[key] = seq


def _reader(tenant_id: TenantId, name: str) -> Principal:
    return Principal(tenant_id=tenant_id, user_id=UserId(name), roles=frozenset({"admin"}))
