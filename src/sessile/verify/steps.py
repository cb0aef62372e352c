"""What the parts of a workload are made of: open, post, wait until a session rests, read."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from sessile.verify.backend import Backend, Followed, Who
from sessile.verify.facts import ENDS, texts
from sessile.verify.history import Op
from sessile.verify.recorder import Recorder
from sessile.verify.restarts import Restart

PACED_SECONDS = 8.0
"""What a part may take in turns, as the time of one tells."""
POLL_SECONDS = 0.05
SLOW_HEAD_SECONDS = 0.3
"""Into a slow turn, before it is cancelled or left."""


class Steps:
    """In one principal's own sessions, and a second one's."""

    def __init__(
        self, backend: Backend, *, seed: int, messages_long: int, restart: Restart | None = None
    ) -> None:
        self.backend = backend
        self.restart = restart
        self.target = backend.target
        self.can = frozenset(backend.recorder.run.can)
        self.random = Random(seed)  # to be replayed: no secret  # nosec B311
        limits = backend.recorder.run.limits
        self.stuck_seconds, self.told_seconds = limits["stuck_seconds"], limits["told_seconds"]
        self.messages_long = messages_long
        self.turn_seconds = 0.0
        self.run = f"{self.random.getrandbits(32):08x}"
        names = list(self.target.principals) or ["p"]
        self.principal, self.other = names[0], names[1] if len(names) > 1 else None

    async def pace(self) -> None:
        """See how long a turn takes, so that a slow backend is asked for less. The first may be
        longer than those that follow."""
        who = self.as_part(self.who("pace"), "exclusive" if self.target.send.exclusive else "pace")
        session = None if self.target.send.exclusive else await self.open(who)
        took: list[float] = []
        for _ in range(2):
            began = self.backend.recorder.now()
            await self.settle(who, [await self.post(who, session)])
            took.append(self.backend.recorder.now() - began)
        self.turn_seconds = min(took)

    def at_most(self, times: int) -> int:
        return max(1, min(times, int(PACED_SECONDS / max(self.turn_seconds, 0.001))))

    def who(self, part: str, client: str = "", principal: str | None = None) -> Who:
        principal = principal or self.principal
        name = f"{part}/{client}" if client else part
        user = f"verify-{self.run}-{re.sub('[^a-z0-9]+', '-', name.partition('/')[0])}"
        headers = {
            key: value.replace("{user}", user)
            for key, value in self.target.principals.get(principal, {}).items()
        }
        return Who(client=name, principal=principal, user=user, headers=headers, part=part)

    async def open(self, who: Who) -> str | None:
        """A session's id; None where none was given, which the history tells of."""
        if self.target.open is not None:
            op = await self.backend.open(who)
        else:
            op = await self.post(who, None)
            await self.settle(who, [op])
        got = op.said.get("session")
        return str(got) if op.ok and got else None

    async def post(
        self, who: Who, session: str | None, text: str = "", key: str | None = None
    ) -> Op:
        nonce = Recorder.nonce()
        key = key or (Recorder.nonce() if self.target.send.keyed else None)
        return await self.backend.send(
            who, session, nonce, f"{text} {nonce}" if text else "", key=key
        )

    async def settle(self, who: Who, sends: Iterable[Op], *, seconds: float | None = None) -> None:
        """Wait until every turn of these has ended, or none has for too long."""
        patience = self.stuck_seconds if seconds is None else seconds
        accepted = [op for op in sends if op.ok]
        if self.target.turn is None:
            if accepted and not self.target.send.until_the_end:
                await self._rest(who, accepted)
            return
        turns = [(op, op.said.get("turn")) for op in accepted]
        deadline = self.backend.recorder.now() + patience
        for op, turn in turns:
            session, pause = op.session or str(op.said.get("session")), POLL_SECONDS
            while turn is not None:
                told = await self.backend.turn(who, session, str(turn))
                if not told.ok or told.said["state"] in (*ENDS, "other"):
                    deadline = self.backend.recorder.now() + patience
                    break
                if self.backend.recorder.now() > deadline:
                    break  # each of the others is asked once more
                await asyncio.sleep(pause)
                pause = min(0.5, pause * 1.3)

    async def _rest(self, who: Who, sends: Sequence[Op]) -> None:
        """Where turns cannot be asked for: wait until what was sent is in every history, and none
        has changed for a while; or until it has been missing for too long."""
        wanted = {(op.session or str(op.said.get("session")), op.nonce or "") for op in sends}
        before: list[Mapping[str, Any]] = []
        began = moved = self.backend.recorder.now()
        while True:
            reads = [
                await self.backend.read(who, session, path)
                for session in sorted({session for session, _ in wanted})
                for path in self.target.reads
            ]
            now, said = self.backend.recorder.now(), [op.said for op in reads]
            if said != before:
                before, moved = said, now
            there = all(
                any(nonce in text for text in texts(op)) for op in reads if op.ok
                for session, nonce in wanted if op.session == session
            )  # fmt: skip
            patience = self.target.settle_seconds if there else self.stuck_seconds
            if now - moved >= patience or now - began >= 2 * self.stuck_seconds:
                return
            await asyncio.sleep(min(0.5, self.target.settle_seconds / 4))

    async def read_all(self, who: Who, session: str, *, settled: bool = True) -> None:
        """At rest, each path between two reads of the first, which show that it is."""
        if not self.target.reads:
            return
        first, *others = self.target.reads
        paths = [first, *(path for other in others for path in (other, first)[: 1 + settled])]
        for path in paths:
            await self.backend.read(who, session, path, settled=settled)

    async def told(self, followed: Followed, turns: Sequence[Op]) -> None:
        """Wait until a stream has told the end of these turns, so that it is whole; or give up."""
        wanted = [op.said.get("turn") for op in turns if op.ok]
        try:
            if "events.ended" not in self.can:
                await self._quiet(followed)
                wanted = []
            async with asyncio.timeout(self.told_seconds):
                while not followed.end and not all(map(followed.ended, wanted)):
                    followed.changed.clear()
                    await followed.changed.wait()
        except TimeoutError:
            pass
        followed.settled = True

    async def _quiet(self, followed: Followed) -> None:
        """Wait until nothing has come for a while."""
        told = -1
        while told != len(followed.events):
            told = len(followed.events)
            await asyncio.sleep(self.target.settle_seconds)

    async def until(self, followed: Followed, test: Callable[[Op], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not followed.end and not any(map(test, followed.events)):
                    followed.changed.clear()
                    await followed.changed.wait()
        except TimeoutError:
            pass

    async def begun(
        self, who: Who, session: str, followed: Followed | None, sending: "asyncio.Task[Op]"
    ) -> str | None:
        """The slow turn's id, once it is under way."""
        if followed is not None and "events.turn" in self.can:
            waits = "events.started" in self.can

            def starts(op: Op) -> bool:
                turn = op.said["turn"]
                mine = _turn_of(sending) or turn
                new = turn == mine and turn is not None and not followed.ended(turn)
                return new and (op.said["is"] == "started" or not waits)

            await self.until(followed, starts, self.told_seconds)
            await asyncio.sleep(SLOW_HEAD_SECONDS)
            turns = [str(op.said["turn"]) for op in followed.events if starts(op)]
            return turns[-1] if turns else None
        await asyncio.sleep(SLOW_HEAD_SECONDS)
        return _turn_of(sending)

    @staticmethod
    def as_part(who: Who, part: str) -> Who:
        return Who(
            client=who.client, principal=who.principal, user=who.user, headers=who.headers,
            part=part,
        )  # fmt: skip

    def made_up(self, like: str) -> str:
        """An id of the same form that nothing has."""
        return re.sub(
            "[0-9a-f]{8,}|[0-9]+",
            lambda found: "".join(self.random.choice("0123456789") for _ in found[0]),
            like,
        )


def _turn_of(sending: "asyncio.Task[Op]") -> str | None:
    """None as long as it is not known, and where a reply does not tell."""
    turn = sending.result().said.get("turn") if sending.done() else None
    return None if turn is None else str(turn)


async def together(all_: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*all_)
