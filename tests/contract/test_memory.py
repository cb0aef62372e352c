"""G14 of the store in memory: what a turn costs does not grow with what there is. The
interpreter's instructions are counted; nothing is timed."""

import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from tests.contract.desk import KNOWN, Desk, holding, runner
from tests.doubles import CountingIds, ManualClock

from sessile.adapters.memory import MemoryStore
from sessile.core.ids import SessionKey

MANY = 5_000


def new_desk() -> Desk:
    clock = ManualClock()
    return Desk(MemoryStore(clock=clock), clock, CountingIds())


async def steps(work: Callable[[], Awaitable[Any]]) -> int:
    """How many instructions of Python it takes."""
    count = 0

    def traced(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        await work()
    finally:
        sys.settrace(before)
    return count


async def turn(desk: Desk, key: SessionKey) -> None:
    """All that a turn, its readers and the sweep ask of a store."""
    held = await desk.run(key)
    await desk.append(held, 0, "a", "b")
    await desk.submit(key)
    next_held = holding(await desk.finish(held, step=1, successor=runner()))
    ended = await desk.finish(next_held)
    assert ended.head is not None
    head, place = ended.head.head, ended.head.next_position - 2
    store = desk.store
    await store.find(key, held.turn_id)
    await store.sweep(due_max=10, assistants=KNOWN, following=[key])
    assert len(await store.read(key, after=head - 3, limit=10)) == 3
    assert len(await store.read(key, after=head - 20, history=True, limit=2)) == 2
    assert len(await store.read(key, history=True, newest_first=True, limit=2)) == 2
    assert await store.summary(key, before=head) is None
    assert len(await store.read(key, before=head - 3, newest_first=True, limit=5)) == 5
    assert len(await store.turns(key, after=place - 1, limit=10)) == 2
    assert await store.turns(key, queued=True, limit=10) == ()


async def test_the_nth_turn_costs_what_the_first_did() -> None:
    desk = new_desk()
    key = await desk.open()
    for _ in range(5):
        await turn(desk, key)
    early = await steps(lambda: turn(desk, key))

    for _ in range(MANY // 2):
        await turn(desk, key)
    late = await steps(lambda: turn(desk, key))

    assert len(await desk.store.turns(key, limit=2 * MANY)) > MANY
    # A place in the log is found by halving it.
    assert late < early * 1.25


async def test_a_turn_costs_nothing_more_beside_idle_sessions() -> None:
    desk = new_desk()
    key = await desk.open()
    await turn(desk, key)
    await turn(desk, key)
    early = await steps(lambda: turn(desk, key))

    for _ in range(MANY):
        await desk.open()
    late = await steps(lambda: turn(desk, key))

    assert late < early * 1.05


async def test_an_exclusive_session_is_found_without_asking_the_others() -> None:
    desk = new_desk()
    await desk.open(exclusive_key="k0")
    early = await steps(lambda: desk.open(exclusive_key="k0"))

    for n in range(MANY):
        await desk.open(exclusive_key=f"k{n}")
    late = await steps(lambda: desk.open(exclusive_key=f"k{MANY - 1}"))

    assert late < early * 1.05
