"""The part of the workload in which the server is killed and started again."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from sessile.verify.backend import Followed
from sessile.verify.facts import texts
from sessile.verify.history import Op
from sessile.verify.steps import POLL_SECONDS, Steps, together

AT_REST, UNDER_WAY = 3, 2


@dataclass(slots=True)
class Left:
    """A session as the restart finds it. `cut`: its reader, whose connection the restart cuts."""

    session: str
    sends: list[Op] = field(default_factory=list[Op])
    cut: Followed | None = None

    @property
    def accepted(self) -> list[Op]:
        return [op for op in self.sends if op.ok]


async def restart(do: Steps) -> None:
    """Some sessions rest, in some a turn is under way. All are read before and after it."""
    busy = UNDER_WAY if "slow turns" in do.can else 0
    opened = await asyncio.gather(*(_at_rest(do) for _ in range(AT_REST + busy)))
    all_ = [left for left in opened if left is not None]
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        if "resume" in do.can:
            for left in all_[:busy]:
                following = do.backend.follow(do.who("restart", "cut"), left.session)
                left.cut = await stack.enter_async_context(following)
        await together(_under_way(do, left, tasks) for left in all_[:busy])
        restarted = await do.hooked(do.who("restart"), "restart")
    if restarted.ok:
        await together(_again(do, left) for left in all_)


async def _at_rest(do: Steps) -> Left | None:
    who = do.who("restart", "before")
    session = await do.open(who)
    if session is None:
        return None
    left = Left(session)
    for _ in range(2):
        left.sends.append(await do.post(who, session))
        await do.settle(who, left.sends[-1:])
    await do.read_all(who, session)
    return left


async def _under_way(do: Steps, left: Left, tasks: asyncio.TaskGroup) -> None:
    """With a message behind the turn, where messages do not wait for their turn's end."""
    who = do.who("restart", "before")

    async def send(text: str) -> Op:
        left.sends.append(op := await do.post(who, left.session, text))
        return op

    sending = tasks.create_task(send(do.target.slow_text or ""))
    await do.begun(who, left.session, left.cut, sending)
    if not do.target.send.until_the_end:
        await send("")
    await do.read_all(who, left.session, settled=False)


async def _again(do: Steps, left: Left) -> None:
    """What became of a session. Its last message is asked for first: those before it end
    meanwhile."""
    who = do.who("restart", "after")
    async with AsyncExitStack() as stack:
        whole = None
        if left.cut is not None:
            following = do.backend.follow(do.who("restart", "whole"), left.session)
            whole = await stack.enter_async_context(following)
        # A moment longer than the limit: an event of the last end may come after it was asked for.
        patience = do.backend.recorder.run.limits["recovery_seconds"] + 1
        await do.settle(who, left.accepted[::-1], seconds=patience)
        await _read_again(do, left)
        if whole is not None:
            await do.told(whole, left.accepted)
            whole.settled = all(whole.ended(op.said.get("turn")) for op in left.accepted)
    if left.cut is not None and whole is not None:
        await _come_back(do, left.session, left.cut.last_id, whole.last_id)


async def _read_again(do: Steps, left: Left) -> None:
    """Until all is there, or it has been missing for too long."""
    who, pause = do.who("restart", "after"), POLL_SECONDS
    deadline = do.backend.recorder.now() + do.told_seconds
    wanted = [op.nonce or "" for op in left.accepted]
    while do.backend.recorder.now() < deadline:
        reads = [await do.backend.read(who, left.session, path) for path in do.target.reads]
        if all(_has(read, wanted) for read in reads):
            break
        await asyncio.sleep(pause)
        pause = min(0.5, pause * 1.3)
    await do.read_all(who, left.session)


def _has(read: Op, wanted: Sequence[str]) -> bool:
    said = list(texts(read)) if read.ok else []
    return all(any(nonce in text for text in said) for nonce in wanted)


async def _come_back(do: Steps, session: str, cursor: str | None, last: str | None) -> None:
    if cursor is None or cursor == last:
        return
    async with do.backend.follow(do.who("restart", "cut"), session, cursor) as followed:
        await do.until(followed, lambda op: op.said["id"] == last, do.told_seconds)
