"""Whether the store takes writes: noticed where one fails, told now and then, tried again."""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any

from sessile.core.commands import Command
from sessile.core.context import Holding
from sessile.core.errors import SessileError, StorageBusy, StorageDamaged, StorageFull
from sessile.core.events import Event
from sessile.core.ids import NodeId, SessionId, SessionKey
from sessile.ports.store import Committed, Store

logger = logging.getLogger(__name__)

OUTAGES = (StorageBusy, StorageFull, StorageDamaged)
TELL_AGAIN_SECONDS = 60.0
SESSIONS_TOLD_MAX = 20


class WatchedStore:
    """A store that knows whether it could last be written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told_at: dict[str, float] = {}
        self._trying = False
        self.trouble: str | None = None
        """Why the last write failed, in words, until one succeeds."""
        self.identity = store.identity
        self.sweep = store.sweep
        self.find = store.find
        self.sessions = store.sessions
        self.turns = store.turns
        self.how_many = store.how_many
        self.tokens = store.tokens
        self.read = store.read
        self.summary = store.summary
        self.records = store.records

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        try:
            committed = await self._store.transact(key, command)
        except OUTAGES as outage:
            self._failed(outage, (key,))
            raise
        if self.trouble is not None and (committed.entries or committed.deleted):
            self._wrote()
        return committed

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        try:
            committed = await self._store.append(holding, step, events)
        except OUTAGES as outage:
            self._failed(outage, (holding.key,))
            raise
        if self.trouble is not None and committed.entries:
            self._wrote()
        return committed

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        try:
            return await self._store.renew(node, holdings, lease_ms=lease_ms)
        except OUTAGES as outage:
            self._failed(outage, [holding.key for holding in holdings])
            raise

    async def probe(self) -> None:
        try:
            await self._store.probe()
        except OUTAGES as outage:
            self._failed(outage, ())
            raise
        if self.trouble is not None:
            self._wrote()

    async def try_again(self) -> None:
        """Write for the sake of it. A node that is asked for nothing while it is not ready would
        else never learn that it is again."""
        if self._trying:
            return
        self._trying = True
        try:
            await self.probe()
        finally:
            self._trying = False

    async def contained(self, work: Coroutine[Any, Any, None]) -> None:
        """Work of a pool, in which one session's trouble must not cancel the others'."""
        try:
            await work
        except OUTAGES as outage:
            self.tell(outage)  # the sweep will see to what it left
        except Exception:
            logger.exception("a task of the pool failed")

    def tell(self, outage: SessileError, keys: Collection[SessionKey] = ()) -> None:
        """Log an outage at once, and while it lasts now and then."""
        now = asyncio.get_running_loop().time()
        told_at = self._told_at.get(outage.code)
        if told_at is None or now - told_at >= TELL_AGAIN_SECONDS:
            self._told_at[outage.code] = now
            logger.error(
                "the store fails; it is asked again",
                extra={
                    "code": outage.code,
                    "why": str(outage),
                    "cause": _cause(outage),
                    "sessions": told(keys),
                },
            )

    def _failed(self, outage: SessileError, keys: Collection[SessionKey]) -> None:
        self.trouble = f"the store could not be written: {outage}"
        self.tell(outage, keys)

    def _wrote(self) -> None:
        logger.info("the store takes writes again")
        self.trouble = None


def _cause(outage: SessileError) -> str | None:
    """What the database or the network said, in a line, and what to do about it where that was
    noted; nobody but the operator reads it."""
    cause = outage.__cause__
    if cause is None:
        return None
    said = str(cause).partition("\n")[0] or type(cause).__name__
    return "; ".join((said, *getattr(cause, "__notes__", ())))


def told(keys: Iterable[SessionKey]) -> list[SessionId]:
    """The sessions, as a log line names them: the first of very many."""
    return [key.session_id for key in islice(keys, SESSIONS_TOLD_MAX)]
