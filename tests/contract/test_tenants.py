"""What tenants have of a store beside each other: their turn, and their counts."""

from tests.contract.desk import (
    ACME,
    ANN,
    BOB,
    KNOWN,
    NODE_2,
    OTHER,
    STRANGER,
    Desk,
    holding,
)

from sessile.core.context import Holding, Principal
from sessile.core.events import SessionHandedOff, TurnProgress
from sessile.core.ids import SessionKey, UserId

FLOOD = 30


async def due(desk: Desk, *, most: int) -> list[SessionKey]:
    return list((await desk.store.sweep(due_max=most, assistants=KNOWN)).due)


async def use(desk: Desk, held: Holding, tokens: int) -> None:
    await desk.store.append(held, 0, [TurnProgress(turn_id=held.turn_id, tokens_used=tokens)])


async def spend(desk: Desk, key: SessionKey, who: Principal, tokens: int) -> None:
    held = holding(await desk.submit(key, principal=who))
    await use(desk, held, tokens)
    await desk.finish(held, step=1)


async def test_a_sweep_shows_each_tenant_s_first_before_another_s_second(desk: Desk) -> None:
    flood = []
    for _ in range(FLOOD):
        flood.append(await desk.open())
        await desk.submit(flood[-1], run=False)
        desk.clock.advance(milliseconds=1)
    hers = [await desk.open(STRANGER) for _ in range(2)]
    for key in hers:
        await desk.submit(key, run=False, principal=STRANGER)
        desk.clock.advance(milliseconds=1)

    assert await due(desk, most=1) == flood[:1]
    assert await due(desk, most=2) == [flood[0], hers[0]]
    assert await due(desk, most=5) == [flood[0], hers[0], flood[1], hers[1], flood[2]]
    everything = await due(desk, most=100)
    assert everything[4:] == flood[2:]
    assert len(everything) == FLOOD + 2


async def test_a_sweep_follows_a_session_to_the_assistant_that_it_was_handed_to(
    desk: Desk,
) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.submit(key, "next")
    await desk.store.append(held, 0, [SessionHandedOff(assistant="billing")])
    await desk.finish(held, step=1)

    assert await due(desk, most=10) == []
    sweep = await desk.store.sweep(due_max=10, assistants={"billing"})
    assert list(sweep.due) == [key]


async def test_active_sessions_are_counted_by_user_and_tenant_up_to_a_number(desk: Desk) -> None:
    mine = [await desk.open() for _ in range(3)]
    await desk.open(BOB)
    await desk.open(STRANGER)
    await desk.close(mine[0])
    count = desk.store.how_many

    assert await count(ACME, "sessions", user_id=ANN.user_id, most=10) == 2
    assert await count(ACME, "sessions", user_id=None, most=10) == 3
    assert await count(ACME, "sessions", user_id=None, most=2) == 2
    assert await count(OTHER, "sessions", user_id=None, most=10) == 1
    assert await count(ACME, "sessions", user_id=UserId("nobody"), most=10) == 0


async def test_turns_that_wait_are_counted_by_user_and_tenant(desk: Desk) -> None:
    key, his, hers = await desk.open(), await desk.open(BOB), await desk.open(STRANGER)
    for _ in range(3):
        await desk.submit(key)  # the first runs
    await desk.submit(his, run=False, principal=BOB)
    await desk.submit(hers, run=False, principal=STRANGER)
    count = desk.store.how_many

    assert await count(ACME, "queue", user_id=ANN.user_id, most=10) == 2
    assert await count(ACME, "queue", user_id=None, most=10) == 3
    assert await count(ACME, "queue", user_id=None, most=1) == 1
    assert await count(OTHER, "queue", user_id=None, most=10) == 1


async def test_tokens_are_those_of_the_turns_accepted_since_then(desk: Desk) -> None:
    key, his, hers = await desk.open(), await desk.open(BOB), await desk.open(STRANGER)
    await spend(desk, key, ANN, 7)
    since_ms = desk.clock.now_ms() + 1
    desk.clock.advance(milliseconds=10)
    await spend(desk, key, ANN, 10)
    await spend(desk, key, ANN, 20)
    await spend(desk, his, BOB, 5)
    await spend(desk, hers, STRANGER, 90)

    assert await desk.store.tokens(ACME, since_ms=since_ms) == {"ann": 30, "bob": 5}
    assert await desk.store.tokens(OTHER, since_ms=since_ms) == {"ann": 90}
    assert await desk.store.tokens(ACME, since_ms=1) == {"ann": 37, "bob": 5}


async def test_tokens_of_a_turn_that_was_taken_over_count_once(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await use(desk, held, 40)
    desk.clock.advance(milliseconds=20_000)
    await use(desk, holding(await desk.start(key, node=NODE_2)), 40)

    assert await desk.store.tokens(ACME, since_ms=1) == {"ann": 40}
