"""Parts of the workload that follow sessions: whole, cut off, late, and when a turn is stopped."""

import asyncio
from contextlib import AsyncExitStack

from sessile.verify.facts import ENDS
from sessile.verify.history import Op
from sessile.verify.steps import POLL_SECONDS, Steps, together

CUTS_MAX = 60
MANY_TURNS = 30


async def tools(do: Steps) -> None:
    """Sessions at once in which the same tool is called."""

    async def one(number: int) -> None:
        who = do.who("tools", str(number))
        session = await do.open(who)
        if session is None:
            return
        async with do.backend.follow(who, session) as followed:
            for _ in range(2):
                send = await do.post(who, session, do.target.tool_text or "")
                await do.settle(who, [send])
                await do.told(followed, [send])

    await together(one(number) for number in range(8))


async def fan_out(do: Steps) -> None:
    """Two readers of one session, and one of another that is written to meanwhile."""
    who = do.who("fan-out")
    session, beside = await do.open(who), await do.open(who)
    if session is None or beside is None:
        return
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(
                do.backend.follow(do.who("fan-out", str(number)), asked)
            )
            for number, asked in enumerate((session, session, beside))
        ]
        sends: dict[str, list[Op]] = {session: [], beside: []}
        for _ in range(3):
            both = [do.post(who, session), do.post(who, beside)]
            for op in await asyncio.gather(*both):
                sends[op.session or ""].append(op)
                await do.settle(who, [op])
        for reader in readers:
            await do.told(reader, sends[reader.session])
    await do.read_all(who, session)
    await do.read_all(who, beside)


async def cut(do: Steps) -> None:
    """A reader whose connection is cut again and again, beside one that is left alone."""
    who = do.who("cut")
    session = await do.open(who)
    if session is None:
        return
    reader = do.who("cut", "cut")
    async with do.backend.follow(do.who("cut", "whole"), session) as whole:
        async with do.backend.follow(reader, session) as followed:
            sends = [await do.post(who, session) for _ in range(3)]
            await do.until(followed, lambda op: op.said["id"] is not None, 2.0)
        await do.settle(who, sends)
        await do.told(whole, sends)
    # Of what it had after the first, let the cut have taken the rest.
    cursor = followed.first_id
    if cursor is None:
        return
    share = max(80, whole.bytes_read // 8)
    for _ in range(CUTS_MAX):
        if cursor == whole.last_id:
            return
        after = do.random.randrange(1, share)
        async with do.backend.follow(reader, session, cursor, cut_after=after) as followed:
            await do.until(followed, lambda op: op.said["id"] == whole.last_id, do.told_seconds)
        if followed.end != "cut" and not followed.events:
            return  # refused, or nothing more came: what is missing is for the checks to see
        if cursor == followed.last_id:
            share *= 2  # not one event was whole
        cursor = followed.last_id


async def old_cursor(do: Steps) -> None:
    """A reader comes back from where its session began, once much has happened in it."""
    who = do.who("old cursor")
    session = await do.open(who)
    if session is None:
        return
    async with do.backend.follow(do.who("old cursor", "whole"), session) as whole:
        send = await do.post(who, session)
        for _ in range(do.at_most(MANY_TURNS)):
            await do.settle(who, [send])
            send = await do.post(who, session)
        await do.settle(who, [send])
        await do.told(whole, [send])
    if whole.first_id is None:
        return
    async with do.backend.follow(do.who("old cursor", "back"), session, whole.first_id) as back:
        await do.until(back, lambda op: op.said["id"] == whole.last_id, do.told_seconds)
        send = await do.post(who, session)  # what is told of it came later than all that
        await do.settle(who, [send])
        await do.told(back, [send])


async def late(do: Steps) -> None:
    who = do.who("late")
    session = await do.open(who)
    if session is None:
        return
    send = await do.post(who, session)
    await do.settle(who, [send])
    async with do.backend.follow(who, session) as followed:
        await do.told(followed, [send])


async def joined(do: Steps) -> None:
    """A reader who comes while a session's turn is under way: its first, where posting opens it."""
    who = do.who("joined")
    for _ in range(2):
        opened = None if do.target.send.opens else await do.open(who)
        if opened is None and not do.target.send.opens:
            return
        send = await do.post(who, opened, do.target.slow_text or "")
        session, turn = opened or send.said.get("session"), send.said.get("turn")
        if not send.ok or session is None or turn is None:
            return
        async with do.backend.follow(do.who("joined", "reader"), str(session)) as followed:
            await do.backend.turn(who, str(session), str(turn))
            await do.settle(who, [send])
            await do.told(followed, [send])


async def foreign_cursor(do: Steps) -> None:
    """One's own session is followed from where another's was."""
    who = do.who("foreign cursor")
    mine, other = await do.open(who), await do.open(who)
    if mine is None or other is None:
        return
    async with do.backend.follow(who, other) as followed:
        sends = [await do.post(who, other) for _ in range(2)]
        await do.settle(who, sends)
        await do.told(followed, sends)
    await do.settle(who, [await do.post(who, mine)])
    ids = [str(op.said["id"]) for op in followed.events if op.said["id"] is not None]
    for cursor in ids[:2]:
        async with do.backend.follow(who, mine, cursor) as replayed:
            await do.until(replayed, lambda _: False, 0.5)


async def after_the_end(do: Steps) -> None:
    """The next message is sent as soon as the end of the last was told."""
    who = do.who("after the end")
    session = await do.open(who)
    if session is None:
        return
    async with do.backend.follow(do.who("after the end", "reader"), session) as followed:
        send = await do.post(who, session)
        for _ in range(do.at_most(10)):
            await do.told(followed, [send])
            send = await do.post(who, session)
        await do.settle(who, [send])
        await do.told(followed, [send])


async def cancel(do: Steps) -> None:
    """A slow turn is stopped once it has begun to say something."""
    who = do.who("cancel")
    for _ in range(3):
        session = await do.open(who)
        if session is None:
            return
        async with AsyncExitStack() as stack:
            followed = None
            if "stream" in do.can:
                reader = do.who("cancel", "reader")
                followed = await stack.enter_async_context(do.backend.follow(reader, session))
            sending = asyncio.TaskGroup()
            async with sending as tasks:
                task = tasks.create_task(do.post(who, session, do.target.slow_text or ""))
                turn = await do.begun(who, session, followed, task)
                if turn is not None:
                    await do.backend.simple(who, "cancel", session, turn)
            await do.settle(who, [task.result()])
            if followed is not None:
                await do.told(followed, [task.result()])
        await do.read_all(who, session)


async def disconnect(do: Steps) -> None:
    """All who read a slow turn, and who asked for it, leave."""
    who = do.who("disconnect")
    session = await do.open(who)
    if session is None:
        return
    async with AsyncExitStack() as stack:
        readers = [
            await stack.enter_async_context(
                do.backend.follow(do.who("disconnect", str(number)), session)
            )
            for number in range(2)
        ]
        task = asyncio.ensure_future(do.post(who, session, do.target.slow_text or ""))
        turn = await do.begun(who, session, readers[0], task)
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if turn is None:
        return
    deadline = do.backend.recorder.now() + do.stuck_seconds
    while do.backend.recorder.now() < deadline:
        told = await do.backend.turn(who, session, turn)
        if not told.ok or told.said["state"] in (*ENDS, "other"):
            return
        await asyncio.sleep(4 * POLL_SECONDS)
