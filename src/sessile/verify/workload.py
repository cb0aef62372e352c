"""What is done to a backend so that its faults show. Each part writes its operations into the
history under its own name; what they mean is for the checks to say."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

from sessile.verify.backend import ENDS, Backend, Followed, Who
from sessile.verify.history import Op
from sessile.verify.recorder import Recorder

WRITERS = 8
MESSAGES_MAX = 5
BUSY_TRIALS = 20
PACED_SECONDS = 8.0
"""What a part may take in turns, as the first turn's time tells; of the long one, twice as much."""
CUTS_MAX = 60
POLL_SECONDS = 0.05
SLOW_HEAD_SECONDS = 0.3
"""Into a slow turn, before it is cancelled or left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`needs`: of what the mapping has. A part whose need is missing is left out."""

    name: str
    needs: frozenset[str]
    run: Callable[[], Awaitable[None]]


class Workload:
    """All of it, in one principal's own sessions and a second one's."""

    def __init__(
        self, backend: Backend, *, seed: int, stuck_seconds: float, messages_long: int
    ) -> None:
        self._backend = backend
        self._target = backend.target
        self._can = frozenset(backend.recorder.run.can)
        self._random = Random(seed)
        self._stuck_seconds = stuck_seconds
        self._messages_long = messages_long
        self._turn_seconds = 0.0
        self._run = f"{self._random.getrandbits(32):08x}"
        names = list(self._target.principals) or ["p"]
        self._p, self._q = names[0], names[1] if len(names) > 1 else None

    def parts(self) -> tuple[Part, ...]:
        """Those that this backend can be asked for."""
        named = "sessions"
        every = (
            ("basics", {named}, self._basics),
            ("tools", {named, "stream", "events.call"}, self._tools),
            ("at once", {"exclusive"}, self._at_once),
            ("exclusive", {"exclusive"}, self._exclusive),
            ("writers", {named}, self._writers),
            ("keys", {named, "keys"}, self._keys),
            ("tenants", {named, "two principals"}, self._tenants),
            ("oracle", {named, "two principals"}, self._oracle),
            ("fan-out", {named, "stream"}, self._fan_out),
            ("cut", {named, "resume"}, self._cut),
            ("late", {named, "stream", "events.ended"}, self._late),
            ("foreign cursor", {named, "resume"}, self._foreign_cursor),
            ("after the end", {named, "stream", "events.ended"}, self._after_the_end),
            ("busy", {named}, self._busy),
            ("cancel", {named, "cancel", "turn", "slow turns"}, self._cancel),
            ("disconnect", {named, "stream", "turn", "slow turns"}, self._disconnect),
            ("gone", {named, "delete"}, self._gone),
            ("long", {named}, self._long),
            ("beside", {named}, self._beside),
        )
        can = self._can if self._target.send.exclusive else self._can | {named}
        return tuple(
            Part(name=name, needs=frozenset(needs), run=run)
            for name, needs, run in every
            if needs <= can
        )

    async def pace(self) -> None:
        """See how long a turn takes, so that a slow backend is asked for less."""
        who = self._as(self._who("pace"), "exclusive" if self._target.send.exclusive else "pace")
        session = None if self._target.send.exclusive else await self._open(who)
        began = self._backend.recorder.now()
        await self._settle(who, [await self._post(who, session)])
        self._turn_seconds = self._backend.recorder.now() - began

    def _at_most(self, times: int, seconds: float = PACED_SECONDS) -> int:
        return max(1, min(times, int(seconds / max(self._turn_seconds, 0.001))))

    # -- steps

    def _who(self, part: str, client: str = "", principal: str | None = None) -> Who:
        principal = principal or self._p
        name = f"{part}/{client}" if client else part
        user = f"verify-{self._run}-{re.sub('[^a-z0-9]+', '-', name.partition('/')[0])}"
        headers = {
            key: value.replace("{user}", user)
            for key, value in self._target.principals.get(principal, {}).items()
        }
        return Who(client=name, principal=principal, user=user, headers=headers, part=part)

    async def _open(self, who: Who) -> str | None:
        """A session's id; None where none was given, which the history tells of."""
        if self._target.open is not None:
            op = await self._backend.open(who)
        else:
            op = await self._post(who, None)
            await self._settle(who, [op])
        got = op.said.get("session")
        return str(got) if op.ok and got else None

    async def _post(
        self, who: Who, session: str | None, text: str = "", key: str | None = None
    ) -> Op:
        nonce = Recorder.nonce()
        key = key or (Recorder.nonce() if self._target.send.keyed else None)
        return await self._backend.send(
            who, session, nonce, f"{text} {nonce}" if text else "", key=key
        )

    async def _settle(self, who: Who, sends: Iterable[Op]) -> None:
        """Wait until every turn of these has ended, or none has for too long."""
        turns = [(op, op.said.get("turn")) for op in sends if op.ok]
        if self._target.turn is None:
            if turns and not self._target.send.reply and self._target.send.events is None:
                await asyncio.sleep(self._target.settle_seconds)
            return
        deadline = self._backend.recorder.now() + self._stuck_seconds
        pause = POLL_SECONDS
        for op, turn in turns:
            session = op.session or str(op.said.get("session"))
            while turn is not None:
                told = await self._backend.turn(who, session, str(turn))
                if not told.ok or told.said["state"] in (*ENDS, "other"):
                    deadline = self._backend.recorder.now() + self._stuck_seconds
                    break
                if self._backend.recorder.now() > deadline:
                    break  # each of the others is asked once more
                await asyncio.sleep(pause)
                pause = min(0.5, pause * 1.3)

    async def _read_all(self, who: Who, session: str, *, settled: bool = True) -> None:
        for path in self._target.reads:
            await self._backend.read(who, session, path, settled=settled)

    async def _told(self, followed: Followed, turns: Sequence[Op], seconds: float = 5.0) -> None:
        """Wait until a stream has told the end of these turns, so that it is whole; or give up."""
        wanted = [op.said.get("turn") for op in turns if op.ok]
        if "events.ended" not in self._can:
            await asyncio.sleep(min(seconds, self._target.settle_seconds))
            return
        try:
            async with asyncio.timeout(seconds):
                while not followed.end and not all(map(followed.ended, wanted)):
                    followed.changed.clear()
                    await followed.changed.wait()
        except TimeoutError:
            pass
        followed.settled = True

    async def _until(self, followed: Followed, test: Callable[[Op], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not followed.end and not any(map(test, followed.events)):
                    followed.changed.clear()
                    await followed.changed.wait()
        except TimeoutError:
            pass

    # -- parts

    async def _basics(self) -> None:
        """Sessions that are used at once, each for three messages one after another."""

        async def one(number: int) -> None:
            who = self._who("basics", str(number))
            session = await self._open(who)
            if session is None:
                return
            await self._read_all(who, session, settled=False)
            for _ in range(3):
                await self._settle(who, [await self._post(who, session)])
            await self._read_all(who, session)

        await together(one(number) for number in range(4))

    async def _tools(self) -> None:
        """Sessions at once in which the same tool is called."""

        async def one(number: int) -> None:
            who = self._who("tools", str(number))
            session = await self._open(who)
            if session is None:
                return
            async with self._backend.follow(who, session) as followed:
                for _ in range(2):
                    send = await self._post(who, session, self._target.tool_text or "")
                    await self._settle(who, [send])
                    await self._told(followed, [send])

        await together(one(number) for number in range(8))

    async def _at_once(self) -> None:
        """First messages of a user that nobody knows, all at once."""

        async def one(user: int, number: int) -> None:
            who = self._who(f"at once {user}", str(number))
            await self._post(self._as(who, "at once"), None)

        for user in range(5):
            await together(one(user, number) for number in range(WRITERS))

    async def _exclusive(self) -> None:
        """One user's messages, one after another."""
        for user in range(3):
            who = self._as(self._who(f"exclusive {user}"), "exclusive")
            for _ in range(2):
                await self._settle(who, [await self._post(who, None)])
                if self._target.press is not None:
                    await self._backend.press(who)
                await self._settle(who, [await self._post(who, None)])

    async def _writers(self) -> None:
        """Many write to one session while one reads it."""
        who = self._who("writers", "reader")
        session = await self._open(who)
        if session is None:
            return
        done = asyncio.Event()
        sent: list[Op] = []

        async def write(number: int) -> None:
            writer = self._who("writers", str(number))
            for _ in range(self._at_most(MESSAGES_MAX * WRITERS) // WRITERS or 1):
                sent.append(await self._post(writer, session))

        async def read() -> None:
            while not done.is_set():
                await self._read_all(who, session, settled=False)
                await asyncio.sleep(POLL_SECONDS)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(read())
            await together(write(number) for number in range(WRITERS))
            await self._settle(who, sent)
            done.set()
        await self._read_all(who, session)

    async def _keys(self) -> None:
        """The same request again, at once and later; and the same key with something else."""
        who = self._who("keys")
        session = await self._open(who)
        if session is None:
            return
        for _ in range(3):
            nonce, key = Recorder.nonce(), Recorder.nonce()
            both = [self._backend.send(who, session, nonce, key=key) for _ in range(2)]
            sends = [*await asyncio.gather(*both)]
            sends.append(await self._backend.send(who, session, nonce, key=key))
            sends.append(await self._backend.send(who, session, Recorder.nonce(), key=key))
            await self._settle(who, sends)
        await self._read_all(who, session)

    async def _tenants(self) -> None:
        """Another principal tries all that it might do to a session."""
        who, other = self._who("tenants"), self._who("tenants", "other", self._q)
        session = await self._open(who)
        if session is None:
            return
        first = await self._post(who, session)
        await self._settle(who, [first])
        turn = str(first.said.get("turn"))
        await self._read_all(other, session, settled=False)
        await self._post(other, session)
        if "stream" in self._can:
            async with self._backend.follow(other, session) as followed:
                await self._until(followed, lambda _: True, 0.5)
        if "list" in self._can:
            await self._backend.list(other)
        if self._target.turn is not None:
            await self._backend.turn(other, session, turn)
        for what in ("cancel", "close", "delete"):
            if what in self._can:
                await self._backend.simple(other, what, session, turn)
        await self._settle(who, [await self._post(who, session)])
        await self._read_all(who, session)

    async def _oracle(self) -> None:
        """The same is asked for a session of another's and for one that nobody has."""
        who = self._who("oracle", "owner")
        session = await self._open(who)
        if session is None:
            return
        await self._settle(who, [await self._post(who, session)])
        absent = self._made_up(session)
        for what in ("read", "send", "cancel", "delete", "stream"):
            other = self._who("oracle", what, self._q)
            for asked in (session, absent):
                if what == "read":
                    await self._backend.read(other, asked, next(iter(self._target.reads)))
                elif what == "send":
                    await self._post(other, asked)
                elif what == "stream" and "stream" in self._can:
                    async with self._backend.follow(other, asked) as followed:
                        await self._until(followed, lambda _: True, 0.3)
                elif what in self._can:
                    await self._backend.simple(other, what, asked, self._made_up(session))

    async def _fan_out(self) -> None:
        """Two readers of one session, and one of another that is written to meanwhile."""
        who = self._who("fan-out")
        session, beside = await self._open(who), await self._open(who)
        if session is None or beside is None:
            return
        async with AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(
                    self._backend.follow(self._who("fan-out", str(number)), asked)
                )
                for number, asked in enumerate((session, session, beside))
            ]
            sends: dict[str, list[Op]] = {session: [], beside: []}
            for _ in range(3):
                both = [self._post(who, session), self._post(who, beside)]
                for op in await asyncio.gather(*both):
                    sends[op.session or ""].append(op)
                    await self._settle(who, [op])
            for reader in readers:
                await self._told(reader, sends[reader.session])
        await self._read_all(who, session)
        await self._read_all(who, beside)

    async def _cut(self) -> None:
        """A reader whose connection is cut again and again, beside one that is left alone."""
        who = self._who("cut")
        session = await self._open(who)
        if session is None:
            return
        reader = self._who("cut", "cut")
        async with self._backend.follow(self._who("cut", "whole"), session) as whole:
            async with self._backend.follow(reader, session) as followed:
                sends = [await self._post(who, session) for _ in range(3)]
                await self._until(followed, lambda op: op.said["id"] is not None, 2.0)
            await self._settle(who, sends)
            await self._told(whole, sends)
        cursor = followed.last_id
        if cursor is None:
            return
        share = max(80, whole.bytes_read // 8)
        for _ in range(CUTS_MAX):
            if cursor == whole.last_id:
                return
            after = self._random.randrange(1, share)
            async with self._backend.follow(reader, session, cursor, cut_after=after) as followed:
                await self._until(followed, lambda op: op.said["id"] == whole.last_id, 1.0)
            if followed.end != "cut" and not followed.events:
                return  # refused, or nothing more came: what is missing is for the checks to see
            if cursor == followed.last_id:
                share *= 2  # not one event was whole
            cursor = followed.last_id

    async def _late(self) -> None:
        who = self._who("late")
        session = await self._open(who)
        if session is None:
            return
        send = await self._post(who, session)
        await self._settle(who, [send])
        async with self._backend.follow(who, session) as followed:
            await self._told(followed, [send], 2.0)

    async def _foreign_cursor(self) -> None:
        """One's own session is followed from where another's was."""
        who = self._who("foreign cursor")
        mine, other = await self._open(who), await self._open(who)
        if mine is None or other is None:
            return
        async with self._backend.follow(who, other) as followed:
            sends = [await self._post(who, other) for _ in range(2)]
            await self._settle(who, sends)
            await self._told(followed, sends)
        await self._settle(who, [await self._post(who, mine)])
        for cursor in {op.said["id"] for op in followed.events[:2]} - {None}:
            async with self._backend.follow(who, mine, cursor) as replayed:
                await self._until(replayed, lambda _: False, 0.5)

    async def _after_the_end(self) -> None:
        """The next message is sent as soon as the end of the last was told."""
        who = self._who("after the end")
        session = await self._open(who)
        if session is None:
            return
        async with self._backend.follow(self._who("after the end", "reader"), session) as followed:
            send = await self._post(who, session)
            for _ in range(self._at_most(10)):
                await self._told(followed, [send])
                send = await self._post(who, session)
            await self._settle(who, [send])

    async def _busy(self) -> None:
        """A second message while the first is answered, often enough to know the policy."""
        first, second = self._who("busy", "first"), self._who("busy", "second")
        sessions = await asyncio.gather(*(self._open(first) for _ in range(BUSY_TRIALS)))

        async def one(session: str) -> None:
            async with asyncio.TaskGroup() as tasks:
                slow = self._target.slow_text or ""
                sent = tasks.create_task(self._post(first, session, slow))
                await asyncio.sleep(POLL_SECONDS)
                await self._post(second, session)
            await self._settle(first, [sent.result()])

        for number in range(0, BUSY_TRIALS, 10):
            await together(one(each) for each in sessions[number : number + 10] if each)

    async def _cancel(self) -> None:
        """A slow turn is stopped once it has begun to say something."""
        who = self._who("cancel")
        for _ in range(3):
            session = await self._open(who)
            if session is None:
                return
            async with AsyncExitStack() as stack:
                followed = None
                if "stream" in self._can:
                    reader = self._who("cancel", "reader")
                    followed = await stack.enter_async_context(
                        self._backend.follow(reader, session)
                    )
                sending = asyncio.TaskGroup()
                async with sending as tasks:
                    task = tasks.create_task(self._post(who, session, self._target.slow_text or ""))
                    turn = await self._begun(who, session, followed, task)
                    if turn is not None:
                        await self._backend.simple(who, "cancel", session, turn)
                await self._settle(who, [task.result()])
                if followed is not None:
                    await self._told(followed, [task.result()])
            await self._read_all(who, session)

    async def _disconnect(self) -> None:
        """All who read a slow turn, and who asked for it, leave."""
        who = self._who("disconnect")
        session = await self._open(who)
        if session is None:
            return
        async with AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(
                    self._backend.follow(self._who("disconnect", str(number)), session)
                )
                for number in range(2)
            ]
            task = asyncio.ensure_future(self._post(who, session, self._target.slow_text or ""))
            turn = await self._begun(who, session, readers[0], task)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if turn is None:
            return
        deadline = self._backend.recorder.now() + self._stuck_seconds
        while self._backend.recorder.now() < deadline:
            told = await self._backend.turn(who, session, turn)
            if not told.ok or told.said["state"] in (*ENDS, "other"):
                return
            await asyncio.sleep(4 * POLL_SECONDS)

    async def _begun(
        self, who: Who, session: str, followed: Followed | None, sending: "asyncio.Task[Op]"
    ) -> str | None:
        """The slow turn's id, once it is under way."""
        if followed is not None and "events.turn" in self._can:
            await self._until(followed, lambda op: op.said["turn"] is not None, 5.0)
            await asyncio.sleep(SLOW_HEAD_SECONDS)
            turns = [op.said["turn"] for op in followed.events if op.said["turn"] is not None]
            return str(turns[0]) if turns else None
        await asyncio.sleep(SLOW_HEAD_SECONDS)
        if not sending.done():
            return None
        turn = sending.result().said.get("turn")
        return None if turn is None else str(turn)

    async def _gone(self) -> None:
        """What is deleted is asked for, and written to, again."""
        who = self._who("gone")
        session = await self._open(who)
        if session is None:
            return
        await self._settle(who, [await self._post(who, session)])
        await self._read_all(who, session)
        await self._backend.simple(who, "delete", session)
        await self._read_all(who, session, settled=False)
        await self._post(who, session)
        await self._read_all(who, session, settled=False)

    async def _long(self) -> None:
        """One session that becomes long."""
        who = self._who("long")
        session = await self._open(who)
        if session is None:
            return
        for _ in range(self._at_most(self._messages_long, 2.5 * PACED_SECONDS)):
            send = await self._post(who, session)
            if not self._target.send.reply:
                await self._settle(who, [send])

    async def _beside(self) -> None:
        """Messages of one session, alone, and beside another that is never idle."""
        who, busy = self._who("alone"), self._who("beside", "busy")
        session, other = await self._open(who), await self._open(busy)
        if session is None or other is None:
            return
        for _ in range(25):
            await self._post(who, session)
        beside = self._who("beside")
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                await self._post(self._as(busy, "load"), other)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load())
            for _ in range(25):
                await self._post(beside, session)
            done.set()

    @staticmethod
    def _as(who: Who, part: str) -> Who:
        return Who(
            client=who.client, principal=who.principal, user=who.user, headers=who.headers,
            part=part,
        )  # fmt: skip

    def _made_up(self, like: str) -> str:
        """An id of the same form that nothing has."""
        return re.sub(
            "[0-9a-f]{8,}|[0-9]+",
            lambda found: "".join(self._random.choice("0123456789") for _ in found[0]),
            like,
        )


async def together(all_: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*all_)
