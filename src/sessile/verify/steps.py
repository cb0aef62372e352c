"""What the parts of a workload are made of: open, post, wait until a session rests, read."""

import asyncio
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any

from sessile.verify.backend import Backend, Followed, Who
from sessile.verify.facts import ENDS, is_no_id, nonces, texts
from sessile.verify.history import Kind, Op
from sessile.verify.hooks import Hook, NotDone
from sessile.verify.recorder import Recorder

PACED_SECONDS = 8.0
"""What a part may take in turns, as the time of one tells."""
POLL_SECONDS = 0.05
OPEN_AGAIN = 5
"""So often, where it is told to come back later."""
ENOUGH_CHARS = 13
"""Of an id, so that one made of them by chance is nobody's."""
SLOW_HEAD_SECONDS = 0.3
"""Into a slow turn, before it is cancelled or left."""


class Steps:
    """In one principal's own sessions, and a second one's."""

    def __init__(
        self, backend: Backend, *, seed: int, messages_long: int, hooks: Mapping[Kind, Hook]
    ) -> None:
        self.backend = backend
        self.hooks = hooks
        self.target = backend.target
        self.can = frozenset(backend.recorder.run.can)
        self.random = Random(seed)  # to be replayed: no secret  # nosec B311
        limits = backend.recorder.run.limits
        self.stuck_seconds, self.told_seconds = limits["stuck_seconds"], limits["told_seconds"]
        self.messages_long = messages_long
        self.turn_seconds = 0.0
        self._accepted: dict[str, set[str]] = defaultdict(set)
        self._restless: set[str] = set()
        """Sessions of which it is not known that nothing is under way."""
        self.run = f"{self.random.getrandbits(32):08x}"
        names = list(self.target.principals) or ["p"]
        self.principal, self.other = names[0], names[1] if len(names) > 1 else None

    async def pace(self) -> None:
        """See how long a turn takes, so that a slow backend is asked for less. The first may be
        longer than those that follow."""
        who = self.as_part(self.who("pace"), "exclusive" if self.target.send.exclusive else "pace")
        session = None if self.target.send.exclusive else await self.open(who)
        if session is None and not self.target.send.opens:
            return
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
            for _ in range(OPEN_AGAIN):
                if op.outcome != "busy":
                    break
                await asyncio.sleep(4 * POLL_SECONDS)
                op = await self.backend.open(who)
        else:
            op = await self.post(who, None)
            await self.settle(who, [op])
        got = op.said.get("session")
        return str(got) if op.ok and not is_no_id(got) else None

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
        for op in accepted:
            self._accepted[_session(op)].add(op.nonce or "")
        if self.target.turn is not None:
            deadline = self.backend.recorder.now() + patience
            for op in accepted:
                turn = op.said.get("turn")
                if turn is not None and await self._ended(who, _session(op), turn, deadline):
                    deadline = self.backend.recorder.now() + patience
            accepted = [op for op in accepted if op.said.get("turn") is None]
        if accepted and not self.target.send.until_the_end:
            await self._rest(who, accepted)

    async def _ended(self, who: Who, session: str, turn: str, deadline: float) -> bool:
        """Whether the turn was told to have ended by then; it is asked for once at least."""
        pause = POLL_SECONDS
        while True:
            told = await self.backend.turn(who, session, turn)
            if told.ok and told.said["state"] in ENDS:
                return True
            unknown = told.outcome == "refused" or told.said.get("state") == "other"
            if unknown or self.backend.recorder.now() > deadline:
                self._restless.add(session)
                return False
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 1.3)

    async def _rest(self, who: Who, sends: Sequence[Op]) -> None:
        """Where turns cannot be asked for: wait until what was sent is in every history, and none
        has changed for a while; or until it has been missing for too long."""
        wanted = {(_session(op), op.nonce or "") for op in sends}
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
        settled = settled and session not in self._restless
        if settled:
            await self._shown(who, session)
        first, *others = self.target.reads
        paths = [first, *(path for other in others for path in (other, first)[: 1 + settled])]
        for path in paths:
            await self.backend.read(who, session, path, settled=settled)

    async def _shown(self, who: Who, session: str) -> None:
        """Wait a while until each way to read a session shows all that was accepted: where it is
        read need not be where it is written."""
        until = self.backend.recorder.now() + self.target.settle_seconds
        wanted = self._accepted[session]
        for path in self.target.reads:
            read = await self.backend.read(who, session, path)
            while self.backend.recorder.now() < until and not (
                read.ok and wanted <= set(nonces(*texts(read)))
            ):
                await asyncio.sleep(4 * POLL_SECONDS)
                read = await self.backend.read(who, session, path)

    async def told(self, followed: Followed, turns: Sequence[Op]) -> None:
        """Wait until a stream has told the end of these turns, so that it is whole; or give up."""
        wanted = [op.said.get("turn") for op in turns if op.ok]
        try:
            if "events.ended" not in self.can:
                await self.quiet(followed)
                wanted = []
            async with asyncio.timeout(self.told_seconds):
                while not followed.end and not all(map(followed.ended, wanted)):
                    followed.changed.clear()
                    await followed.changed.wait()
        except TimeoutError:
            pass
        followed.settled = followed.session not in self._restless

    async def quiet(self, followed: Followed) -> None:
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

    async def hooked(self, who: Who, kind: Kind) -> Op:
        """What the hook of that name does to the server."""
        hook, recorder = self.hooks[kind], self.backend.recorder
        began = recorder.now()
        try:
            said, outcome = await hook(), "ok"
        except NotDone as error:
            said, outcome = str(error), "failed"
        return recorder.add(
            kind=kind, part=who.part, client=who.client, principal=who.principal, began=began,
            ended=recorder.now(), outcome=outcome, request=f"$ {hook.command}", reply=said,
        )  # fmt: skip

    @staticmethod
    def as_part(who: Who, part: str) -> Who:
        return Who(
            client=who.client, principal=who.principal, user=who.user, headers=who.headers,
            part=part,
        )  # fmt: skip

    def made_up(self, like: str) -> str:
        """An id of the same form that nothing has: where it is a small number, one that is larger
        than any that was given."""
        number = re.search("(?<![0-9A-Za-z])[0-9]{1,11}$", like)
        if number is not None:
            return like[: number.start()] + str(self.random.randrange(2 * 10**9, 2**31))
        letters = re.sub("[^a-z]", "", like) or "abcdef", re.sub("[^A-Z]", "", like) or "ABCDEF"
        made = list(like)
        places = [place for place, each in enumerate(like) if each.isalnum() and each.isascii()]
        if len(places) < ENOUGH_CHARS:
            return f"{like}{self.random.getrandbits(40)}"
        # Not the last, of which some forms allow a few only; nor what stands far in front of it.
        for place in places[-ENOUGH_CHARS:-1]:
            alphabet = letters[like[place].isupper()] if like[place].isalpha() else "0123456789"
            made[place] = self.random.choice(alphabet)
        return "".join(made)


def _session(op: Op) -> str:
    """Of something that was sent."""
    return op.session or str(op.said.get("session"))


def _turn_of(sending: "asyncio.Task[Op]") -> str | None:
    """None as long as it is not known, and where a reply does not tell."""
    turn = sending.result().said.get("turn") if sending.done() else None
    return None if turn is None else str(turn)


async def together(all_: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*all_)
