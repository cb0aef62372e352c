"""A process that writes turns, and says on stdout what was acknowledged, until it is killed."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.contract.desk import Desk, holding
from tests.doubles import CountingIds, ManualClock

from sessile.adapters.sqlite import SqliteStore

TURNS_MAX = 10_000
"""Of each session: it does not write for ever should nobody kill it."""


async def main(path: Path) -> None:
    clock = ManualClock()
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, CountingIds())
        await asyncio.gather(*(turns(desk) for _ in range(8)))


async def turns(desk: Desk) -> None:
    key = await desk.open()
    for _ in range(TURNS_MAX):
        started = await desk.submit(key)
        say(key.session_id, started)
        held = holding(started)
        say(key.session_id, await desk.append(held, 0, "a", "b"))
        say(key.session_id, await desk.finish(held, step=1, closing=[desk.reply(held, "ab")]))


def say(session_id: str, committed: object) -> None:
    entries = committed.entries  # type: ignore[attr-defined]
    sys.stdout.write(f"{session_id} {entries[-1].seq}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
