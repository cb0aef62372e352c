"""The part of the workload that speaks to a probe: see `answering`."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sessile.verify.answering import answers_of
from sessile.verify.backend import Followed
from sessile.verify.history import Op
from sessile.verify.steps import POLL_SECONDS, Steps, together

TURNS = 3
FRESH = 3


async def probe(do: Steps) -> None:
    await together((_contexts(do), _control(do), _broken(do, "fail"), _broken(do, "break")))
    if "grants" in do.can:
        await _grants(do)
    if "approvals" in do.can:
        await _approvals(do)


async def _contexts(do: Steps) -> None:
    """Two sessions, of two principals where there are, that call the same tool: in turns, and then
    at once."""
    both = (do.who("probe", "one"), do.who("probe", "other", do.other))
    sessions = [await do.open(who) for who in both]
    if None in sessions:
        return

    async def call(place: int) -> None:
        who = both[place]
        await do.settle(who, [await do.post(who, sessions[place], "probe: call")])

    for _ in range(TURNS):
        for place in range(2):
            await call(place)
    for _ in range(TURNS):
        await together((call(0), call(1)))
    for who, session in zip(both, sessions, strict=True):
        await do.read_all(who, session or "")


async def _control(do: Steps) -> None:
    """A session in which nothing fails."""
    who = do.who("probe", "control")
    session = await do.open(who)
    if session is None:
        return
    async with _followed(do, session, "control") as followed:
        sends = await _look(do, session, "control")
        if followed is not None:
            await do.told(followed, sends)
    await do.read_all(who, session)


async def _broken(do: Steps, how: str) -> None:
    """A turn that fails, by its agent or by a tool, and others behind it."""
    who = do.who("probe", how)
    session = await do.open(who)
    if session is None:
        return
    async with _followed(do, session, how) as followed:
        first = await do.post(who, session, f"probe: {how}")
        await do.settle(who, [first])
        sends = [first, *await _look(do, session, how)]
        if followed is not None:
            await do.told(followed, sends)
    await do.read_all(who, session)


@asynccontextmanager
async def _followed(do: Steps, session: str, client: str) -> AsyncGenerator[Followed | None, None]:
    """By a reader, where there are any; and then by one who comes back from where it began."""
    if "stream" not in do.can:
        yield None
        return
    async with do.backend.follow(do.who("probe", f"{client} reader"), session) as whole:
        yield whole
    first, last = whole.first_id, whole.last_id
    if "resume" in do.can and first not in (None, last):
        async with do.backend.follow(do.who("probe", f"{client} back"), session, first) as back:
            await do.until(back, lambda op: op.said["id"] == last, do.told_seconds)


async def _look(do: Steps, session: str, client: str) -> list[Op]:
    who = do.who("probe", client)
    sends: list[Op] = []
    for _ in range(2 * FRESH):  # a server may close its connections with what failed
        sends.append(await do.post(who, session, "probe: look"))
        await do.settle(who, sends[-1:])
        if sum(op.outcome != "unknown" for op in sends) == FRESH:
            break
    return sends


async def _grants(do: Steps) -> None:
    """A tool is called before it is granted, while it is, and when it is not any more."""
    who = do.who("probe", "grants")
    session = await do.open(who)
    if session is None or do.target.grants is None:
        return
    if do.target.grants.tools is not None:
        await do.backend.gate(who, "tools", session)
    for change in (None, "grant", "revoke"):
        if change is not None:
            await do.backend.gate(who, change, session)
        await do.settle(who, [await do.post(who, session, "probe: gated")])
    await do.read_all(who, session)


async def _approvals(do: Steps) -> None:
    """A call that waits for an approval, which is given; and again, where it does nothing."""
    who = do.who("probe", "approvals")
    session = await do.open(who)
    if session is None:
        return
    ask = await do.post(who, session, "probe: ask")
    turn = ask.said.get("turn")
    call = await _pending(do, session, turn)
    if call is None:
        return
    for _ in range(2):
        await do.backend.gate(who, "approve", session, call=call, turn=turn)
        if await _answered(do, session, ask):
            break
    await do.read_all(who, session)


async def _pending(do: Steps, session: str, turn: str | None) -> str | None:
    who = do.who("probe", "approvals")
    deadline = do.backend.recorder.now() + do.told_seconds
    while do.backend.recorder.now() < deadline:
        told = await do.backend.gate(who, "pending", session, turn=turn)
        if told.said.get("names"):
            return str(told.said["names"][-1])
        await asyncio.sleep(POLL_SECONDS)
    return None


async def _answered(do: Steps, session: str, ask: Op) -> bool:
    """Whether the turn that asked came to its answer, which the history tells."""
    who = do.who("probe", "approvals")
    deadline = do.backend.recorder.now() + do.stuck_seconds
    pause = POLL_SECONDS
    while True:
        for path in do.target.reads:
            told = await do.backend.read(who, session, path)
            if any(answer.nonce == ask.nonce for answer in answers_of(told)):
                return True
        if do.backend.recorder.now() > deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(1.0, pause * 1.5)
