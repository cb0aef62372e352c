"""What is steered into a running turn, delivered to its agent as messages: each once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from sessile.core.attempts import user_message
from sessile.core.events import Entry
from sessile.core.ids import MessageId
from sessile.core.transcript import Message, messages
from sessile.runtime.journal import Journal
from sessile.runtime.recovery import Remains


class Steering:
    """One delivery at a time; who was cancelled in the midst of one leaves it to the next."""

    def __init__(
        self,
        *,
        journal: Journal,
        refold: Callable[[], Awaitable[Remains]],
        entries: Callable[[], Awaitable[Sequence[Entry]]],
    ) -> None:
        self._journal = journal
        self._refold = refold
        self._entries = entries
        self._lock = asyncio.Lock()
        self._delivered: set[MessageId] = set()
        self._waits = False

    def heard(self) -> None:
        """There may be steered inputs that no message has delivered."""
        self._waits = True

    async def take(self, *, asked_again: bool = False) -> tuple[Message, ...]:
        """Deliver them; `asked_again`: to an agent that had answered."""
        async with self._lock:
            if self._delivered:
                await self._journal.write()  # or it is delivered again
            if self._waits:
                await self._deliver(asked_again=asked_again)
            if not self._delivered:
                return ()
            said: Sequence[Entry] = self._journal.said
            if not self._journal.said_is_whole:
                said = await self._entries()
            told = tuple(m for m in messages(said) if m.message_id in self._delivered)
            self._delivered.clear()
            return told

    async def _deliver(self, *, asked_again: bool) -> None:
        self._waits = False
        try:
            steers = (await self._refold()).steers.values()
        except BaseException:
            self._waits = True
            raise
        self._delivered.update(steer.message_id for steer in steers)
        delivering = (
            user_message(s.turn_id, s.message_id, s.input, steer_id=s.steer_id) for s in steers
        )
        await self._journal.write(*(replace(m, asked_again=asked_again) for m in delivering))
