"""The naive backend with a disk, which outlives it. A turn that was under way ends as failed when
it is started again; one that waited is taken up."""

import asyncio
from dataclasses import replace

from tests.verify.naive import Backend, Session, Turn


class Kept(Backend):
    """A restart hook of itself. Faults: `forgets` some sessions, `loses` the last message of each,
    `leaves` a turn under way for ever, and those of any backend."""

    command = "restart"

    async def __call__(self) -> str:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number, session in enumerate(list(self._sessions.values())):
            kept = replace(
                session,
                lock=asyncio.Lock(),
                grew=asyncio.Event(),
                readers=0,
                items=[*session.items],
            )
            self._sessions[session.id] = kept
            session.gone = True  # the end of its streams
            session.grew.set()
            if self.fault == "forgets" and number % 2:
                del self._sessions[session.id]
            elif self.fault == "loses":
                kept.items.pop()
            for turn in kept.turns.values():
                self._take_up(kept, turn)
        return "restarted"

    def _take_up(self, session: Session, turn: Turn) -> None:
        if turn.state == "queued":
            self._spawn(session, turn)
        elif turn.state == "running" and self.fault != "leaves":
            turn.state = "failed"
            self._event(session, turn, "failed")
