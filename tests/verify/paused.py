"""The naive backend with a probe in it and two workers. The first holds a turn by a lease; the
second takes it over where that is not renewed."""

import asyncio
from collections.abc import AsyncIterator
from copy import deepcopy
from dataclasses import dataclass

from tests.verify import naive
from tests.verify.naive import Backend, Session, Turn, Wire

from sessile.verify.history import Kind
from sessile.verify.hooks import Hook, NotDone

LEASE_SECONDS, WORD_SECONDS, WORDS = 0.3, 0.02, 20
AGAIN_SECONDS = 0.1
"""Until who comes back is told anything."""
MAPPING: Wire = {**deepcopy(naive.MAPPING), "probe": True, "settle_seconds": 0.3}


@dataclass
class Held:
    """Who has a turn, and since when it was not renewed."""

    by: int
    renewed: float


@dataclass(frozen=True)
class InProcess:
    """A hook of the backend's own."""

    backend: "Paused"
    command: Kind

    async def __call__(self) -> str:
        return self.backend.hooked(self.command)


class Paused(Backend):
    """Faults: `zombie-write`, the first worker goes on with a turn that it has lost; `alone`, there
    is no second; `pause` and `resume`, the hook of that name does nothing."""

    def __init__(self, fault: str | None = None) -> None:
        super().__init__(fault)
        self.told: list[Kind] = []
        """What its hooks were called for."""
        self._goes_on = asyncio.Event()
        self._goes_on.set()

    @property
    def hooks(self) -> dict[Kind, Hook]:
        return {name: InProcess(self, name) for name in ("pause", "resume")}

    def hooked(self, name: Kind) -> str:
        self.told.append(name)
        if self.fault == name:
            raise NotDone("it does not listen")
        if name == "pause":
            self._goes_on.clear()
        else:
            self._goes_on.set()
        return ""

    async def _told(self, session: Session, source: Session, at: int) -> AsyncIterator[str]:
        async for told in super()._told(session, source, at):
            yield told
            if at:
                await asyncio.sleep(AGAIN_SECONDS)
                at = 0

    async def _answer(self, session: Session, turn: Turn) -> None:
        if "probe: wait" not in turn.text:
            await super()._answer(session, turn)
            return
        turn.state = "running"
        self._says(session, turn, "user", turn.text)
        held = Held(1, _now())
        async with asyncio.TaskGroup() as workers:
            first = workers.create_task(self._work(session, turn, held, 1))
            while not first.done() and _now() < held.renewed + LEASE_SECONDS:
                await asyncio.wait([first], timeout=LEASE_SECONDS / 4)
            if not first.done() and self.fault != "alone":
                held.by = 2
                workers.create_task(self._work(session, turn, held, 2))

    async def _work(self, session: Session, turn: Turn, held: Held, worker: int) -> None:
        self._event(session, turn, "started")
        for place in range(WORDS):
            await asyncio.sleep(WORD_SECONDS)
            if worker == 1:
                await self._goes_on.wait()
            if held.by == worker:
                held.renewed = _now()
            elif self.fault != "zombie-write":
                return
            self._event(session, turn, "text", text=f"run-{worker:08x}-{place} ")
        if held.by == worker:
            turn.reply = "done"
            self._end(session, turn, lost=False)


def _now() -> float:
    return asyncio.get_running_loop().time()
