"""What goes on for all sessions in the background, on one node at a time: users that are to be
erased, sessions that are too old, and deltas that nobody needs."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Self

from sessile.core.commands import DeleteSession, ExpireSession
from sessile.core.context import Principal
from sessile.core.errors import SessionNotFound
from sessile.core.ids import SessionId, SessionKey, TenantId, UserId
from sessile.core.records import noted
from sessile.ports.store import Aged, Erasure
from sessile.runtime.announce import tell_audit
from sessile.runtime.keeping import Keeping
from sessile.runtime.node import Node

logger = logging.getLogger(__name__)

NAME = "housekeeping"
LEASE_MS = 60_000
"""Each part of the work is far shorter; after a crash another node waits so long."""
BATCH = 50
"""Sessions in a part of the work: each is a transaction of its own."""
BATCHES_MAX = 20
"""Of old sessions, at one time: the rest when it is time again."""
KEYS_BATCH = 500
ENTRIES_BATCH = 1_000
DAY_MS = 86_400_000
RETENTION = UserId("retention")
"""As the audit records name who deleted what was too old."""

EraseCredentials = Callable[[TenantId, UserId], Awaitable[None]]
"""Removes all by which a user could come in. It may be called again."""


class _TakenOver(Exception):
    """Another node is at it: this one was away for longer than its lease."""


class Housekeeper:
    """Run it as `async with`. `ring` lets it look at once."""

    def __init__(
        self, *, node: Node, keeping: Callable[[], Keeping], credentials: Iterable[EraseCredentials]
    ) -> None:
        self._node = node
        self._records = node.store.records
        self._keeping = keeping
        self._credentials = credentials
        self._rung = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._loop: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._loop = self._tasks.create_task(self._run_for_ever(), name="housekeeping")
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._loop is not None
        self._loop.cancel()
        await self._tasks.__aexit__(None, None, None)

    def ring(self) -> None:
        self._rung.set()

    async def run(self) -> bool:
        """Do what there is to do now; False where another node is at it."""
        remains = await self._mine()
        if remains is None:
            return False
        after = _place(remains)
        try:
            for erasure in await self._records.erasures(limit=BATCH):
                await self._erase(erasure)
            if self._node.settings.retention or self._node.settings.deltas_retention_days:
                after = await self._retain(after)
        except _TakenOver:
            return False
        finally:
            left = "" if after is None else json.dumps(after)
            await self._records.leave_chore(NAME, self._node.runner.node, left)
        return True

    async def _erase(self, erasure: Erasure) -> None:
        """To its end. What is done already is not there to be done again."""
        tenant_id, user_id = erasure.tenant_id, erasure.user_id
        for forget in self._credentials:
            await forget(tenant_id, user_id)
        by = Principal(tenant_id=tenant_id, user_id=erasure.asked_by, roles=frozenset({"admin"}))
        before: tuple[SessionId, ...] = ()
        while session_ids := await self._records.theirs(tenant_id, user_id, limit=BATCH):
            if session_ids == before:
                break  # they cannot be deleted
            deleted = [await self._deleted(by, session_id) for session_id in session_ids]
            await self._records.erased(erasure, sessions=sum(deleted), record=None)
            await self._keep()
            before = session_ids
        while await self._records.forget(tenant_id, user_id, limit=KEYS_BATCH):
            await self._keep()
        note, now_ms = self._node.note(), self._node.clock.now_ms()
        record = noted(by, note, "user.erased", user_id, now_ms=now_ms)
        await self._records.erased(erasure, sessions=0, record=record)
        tell_audit(record)

    async def _deleted(self, by: Principal, session_id: SessionId) -> bool:
        command = DeleteSession(principal=by, note=self._node.note())
        with suppress(SessionNotFound):
            return await self._keeping().remove(SessionKey(by.tenant_id, session_id), command)
        return False

    # -- retention

    async def _retain(self, after: SessionKey | None) -> SessionKey | None:
        """Behind where it was left the last time; answers where it is to go on, from the
        beginning where that is None."""
        for _ in range(BATCHES_MAX):
            page = await self._records.aged(after, limit=BATCH)
            for aged in page:
                if not await self._expired(aged):
                    await self._compacted(aged.head.key)
            if len(page) < BATCH:
                return None
            after = page[-1].head.key
            await self._keep()
        return after

    async def _expired(self, aged: Aged) -> bool:
        head = aged.head
        days = self._node.settings.retention_of(head.key.tenant_id)
        old = aged.at_ms < self._node.clock.now_ms() - days * DAY_MS
        if not days or not old or head.running_turn_id is not None or head.queued:
            return False
        by = Principal(tenant_id=head.key.tenant_id, user_id=RETENTION, roles=frozenset({"admin"}))
        command = ExpireSession(principal=by, head=head.head, note=self._node.note())
        with suppress(SessionNotFound):
            return await self._keeping().remove(head.key, command)
        return False

    async def _compacted(self, key: SessionKey) -> None:
        days = self._node.settings.deltas_retention_days
        if not days:
            return
        before_ms = int(self._node.clock.now_ms() - days * DAY_MS)
        for _ in range(BATCHES_MAX):
            if not await self._records.compact(key, before_ms=before_ms, limit=ENTRIES_BATCH):
                return

    # -- the right to do it

    async def _mine(self) -> str | None:
        node = self._node.runner.node
        return await self._records.take_chore(NAME, node, lease_ms=LEASE_MS)

    async def _keep(self) -> None:
        if await self._mine() is None:
            raise _TakenOver

    async def _run_for_ever(self) -> None:
        seconds = self._node.settings.housekeeping_seconds
        while True:
            await self._node.store.contained(self._once())
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._rung.wait()

    async def _once(self) -> None:
        self._rung.clear()
        await self.run()


def _place(remains: str) -> SessionKey | None:
    return SessionKey(*json.loads(remains)) if remains else None
