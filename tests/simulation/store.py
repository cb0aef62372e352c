"""Between the runtime and the memory store: one that keeps a record, and one that throws dice."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from sessile.core.codec import decode
from sessile.core.commands import Command, FinishTurn
from sessile.core.context import Holding
from sessile.core.events import TERMINAL_KINDS, Entry, Event, ToolCompleted
from sessile.core.ids import SessionKey
from sessile.ports.store import Committed, Store

T = TypeVar("T")


class Recorder:
    """Keeps what the log does not tell: under which fence an entry was written, and when."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self.fences: defaultdict[SessionKey, dict[int, int]] = defaultdict(dict)
        self.completed_at: dict[str, float] = {}
        """By the `act` among its arguments: when a tool's outcome was committed."""
        self.sweep = store.sweep
        self.find = store.find
        self.sessions = store.sessions
        self.turns = store.turns
        self.read = store.read
        self.renew = store.renew

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        committed = await self._store.transact(key, command)
        if isinstance(command, FinishTurn):
            self._note(command.holding, committed.entries)
        return committed

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        committed = await self._store.append(holding, step, events)
        self._note(holding, committed.entries)
        return committed

    def _note(self, holding: Holding, entries: tuple[Entry, ...]) -> None:
        fences = self.fences[holding.key]
        for entry in entries:
            fences[entry.seq] = holding.fence
            if entry.kind == "tool.completed":
                event = decode(entry)
                assert isinstance(event, ToolCompleted)
                act = event.arguments.get("act")
                if act is not None:
                    self.completed_at.setdefault(act, self._loop.time())
            if entry.kind in TERMINAL_KINDS:
                return
