"""The part of the workload in which the server is paused amid a turn, for so long that another may
take the turn over, and then goes on."""

import asyncio

from sessile.verify.answering import words_of
from sessile.verify.history import Op
from sessile.verify.steps import Steps


async def pause(do: Steps) -> None:
    """The reader leaves before: to one that stayed, the stream would be silent for long."""
    who = do.who("pause", "writer")
    session = await do.open(who)
    if session is None:
        return
    async with asyncio.TaskGroup() as tasks:
        async with do.backend.follow(do.who("pause", "reader"), session) as followed:
            sending = tasks.create_task(do.post(who, session, "probe: wait"))
            await do.until(followed, _speaks, do.told_seconds)
        if not any(map(_speaks, followed.events)) or not await _paused(do):
            return
    send = sending.result()
    await do.settle(who, [send], seconds=do.backend.recorder.run.limits["recovery_seconds"] + 1)
    await asyncio.sleep(do.told_seconds)  # what was paused may go on behind the turn's end
    if followed.first_id is not None:
        again = do.backend.follow(do.who("pause", "again"), session, followed.first_id)
        async with again as told:
            await do.quiet(told)
    await do.read_all(who, session, settled=send.ok)


def _speaks(op: Op) -> bool:
    return any(words_of(op))


async def _paused(do: Steps) -> bool:
    """Whether it was, and goes on. It is let go on whatever happens, and when the run is stopped,
    too."""
    who = do.who("pause")
    try:
        paused = await do.hooked(who, "pause")
        if paused.ok:
            await asyncio.sleep(do.backend.recorder.run.limits["pause_seconds"])
    finally:
        resuming = asyncio.create_task(do.hooked(who, "resume"))
        try:
            await asyncio.wait([resuming])
        finally:
            resumed = await resuming
    return paused.ok and resumed.ok
