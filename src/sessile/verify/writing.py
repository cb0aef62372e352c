"""Parts of the workload that write: how messages are kept, and sessions told apart."""

import asyncio

from sessile.verify.backend import Who
from sessile.verify.history import Op
from sessile.verify.recorder import Recorder
from sessile.verify.steps import POLL_SECONDS, Steps, together

WRITERS = 8
MESSAGES_MAX = 5
BUSY_TRIALS = 20
BESIDE_MESSAGES = 6
LONG_SECONDS = 10.0
"""After so long, a session that becomes long is long enough."""
WINDOW = 10
"""So many last messages of it are sent in turns with those of a short one."""


async def basics(do: Steps) -> None:
    """Sessions that are used at once, each for three messages one after another."""

    async def one(number: int) -> None:
        who = do.who("basics", str(number))
        session = await do.open(who)
        if session is None:
            return
        await do.read_all(who, session, settled=False)
        for _ in range(3):
            await do.settle(who, [await do.post(who, session)])
        await do.read_all(who, session)

    await together(one(number) for number in range(4))


async def at_once(do: Steps) -> None:
    """First messages of a user that nobody knows, all at once."""

    async def one(user: int, number: int) -> None:
        who = do.who(f"at once {user}", str(number))
        await do.post(do.as_part(who, "at once"), None)

    for user in range(5):
        await together(one(user, number) for number in range(WRITERS))


async def exclusive(do: Steps) -> None:
    """One user's messages, one after another."""
    for user in range(3):
        who = do.as_part(do.who(f"exclusive {user}"), "exclusive")
        for _ in range(2):
            await do.settle(who, [await do.post(who, None)])
            if do.target.press is not None:
                await do.backend.press(who)
            await do.settle(who, [await do.post(who, None)])


async def writers(do: Steps) -> None:
    """Many write to one session while one reads it."""
    who = do.who("writers", "reader")
    session = await do.open(who)
    if session is None:
        return
    done = asyncio.Event()
    sent: list[Op] = []

    async def write(number: int) -> None:
        writer = do.who("writers", str(number))
        for _ in range(do.at_most(MESSAGES_MAX * WRITERS) // WRITERS or 1):
            sent.append(await do.post(writer, session))

    async def read() -> None:
        while not done.is_set():
            await do.read_all(who, session, settled=False)
            await asyncio.sleep(POLL_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await together(write(number) for number in range(WRITERS))
        await do.settle(who, sent)
        done.set()
    await do.read_all(who, session)


async def keys(do: Steps) -> None:
    """The same request again, at once and later; and the same key with something else."""
    who = do.who("keys")
    session = await do.open(who)
    if session is None:
        return
    for _ in range(3):
        nonce, key = Recorder.nonce(), Recorder.nonce()
        both = [do.backend.send(who, session, nonce, key=key) for _ in range(2)]
        sends = [*await asyncio.gather(*both)]
        sends.append(await do.backend.send(who, session, nonce, key=key))
        sends.append(await do.backend.send(who, session, Recorder.nonce(), key=key))
        await do.settle(who, sends)
    await do.read_all(who, session)


async def busy(do: Steps) -> None:
    """A second message while the first is answered, often enough to know the policy."""
    first, second = do.who("busy", "first"), do.who("busy", "second")
    sessions = await asyncio.gather(*(do.open(first) for _ in range(BUSY_TRIALS)))

    async def one(session: str) -> None:
        async with asyncio.TaskGroup() as tasks:
            slow = do.target.slow_text or ""
            sent = tasks.create_task(do.post(first, session, slow))
            await asyncio.sleep(POLL_SECONDS)
            await do.post(second, session)
        await do.settle(first, [sent.result()])

    await together(one(each) for each in sessions if each)


async def gone(do: Steps) -> None:
    """What is deleted is asked for, and written to, again."""
    who = do.who("gone")
    session = await do.open(who)
    if session is None:
        return
    await do.settle(who, [await do.post(who, session)])
    await do.read_all(who, session)
    await do.backend.simple(who, "delete", session)
    await do.read_all(who, session, settled=False)
    await do.post(who, session)
    await do.read_all(who, session, settled=False)


async def long(do: Steps) -> None:
    """One session that becomes long; at its end, beside one that is short."""
    who, control = do.who("long"), do.as_part(do.who("long", "short"), "short")
    session, short = await do.open(who), await do.open(control)
    if session is None or short is None:
        return
    until = do.backend.recorder.now() + LONG_SECONDS
    last = max(0, do.messages_long - WINDOW)
    for number in range(do.messages_long):
        if number < last and do.backend.recorder.now() > until:
            last = number if number >= 2 * WINDOW else -WINDOW  # too short to tell anything
        if number >= last + WINDOW:
            return
        sends = [await do.post(who, session)]
        if number >= last:
            sends.append(await do.post(control, short))
        if not do.target.send.until_the_end:
            await do.settle(who, sends)


async def beside(do: Steps) -> None:
    """Messages of one session, alone, and of another while a third is never idle, in turns: each
    is no longer than the first."""
    alone, beside, busy = do.who("alone"), do.who("beside"), do.who("beside", "busy")
    first, second, other = await do.open(alone), await do.open(beside), await do.open(busy)
    if first is None or second is None or other is None:
        return
    done = asyncio.Event()

    async def load() -> None:
        while not done.is_set():
            await do.post(do.as_part(busy, "load"), other)

    async def measure(who: Who, session: str) -> None:
        for _ in range(BESIDE_MESSAGES):
            await do.post(who, session)

    await measure(alone, first)
    for _ in range(2 if do.turn_seconds < 1 or not do.target.send.until_the_end else 0):
        done.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load())
            await measure(beside, second)
            done.set()
        await measure(alone, first)
