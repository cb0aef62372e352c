"""Leases: taken with a new fence, renewed, lost, handed back; and the sweep that finds what is
due."""

import asyncio
from dataclasses import replace

import pytest
from tests.contract.desk import KNOWN, LEASE_MS, NODE, NODE_2, Desk, holding, runner

from sessile.core.errors import LeaseLost

SALES = replace(runner(NODE_2), assistants=frozenset({"sales"}))


async def test_a_live_lease_is_not_taken(desk: Desk) -> None:
    key = await desk.open()
    await desk.run(key)
    desk.clock.advance(milliseconds=LEASE_MS - 1)
    before = await desk.everything(key)

    nothing = await desk.start(key, node=NODE_2)

    assert nothing.entries == ()
    assert nothing.turn is None
    assert await desk.everything(key) == before


async def test_an_expired_lease_is_taken_with_a_new_fence_and_a_strike(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    strikes, before = [], NODE
    for attempt in (2, 3, 4):
        desk.clock.advance(milliseconds=LEASE_MS)
        taken = await desk.start(key, node=NODE_2)
        assert (holding(taken).fence, holding(taken).attempt) == (attempt, attempt)
        assert taken.turn is not None
        assert taken.turn.turn_id == held.turn_id
        assert taken.lost is not None
        assert (taken.lost.owner, taken.lost.until_ms) == (before, desk.clock.now_ms())
        before = NODE_2
        strikes.append(taken.turn.strikes)

    assert strikes == [1, 2, 3]
    assert (await desk.kinds(key)).count("message.added") == 1


async def test_a_durable_step_wipes_the_strikes_out(desk: Desk) -> None:
    key = await desk.open()
    await desk.run(key)
    desk.clock.advance(milliseconds=LEASE_MS)
    held = holding(await desk.start(key))
    await desk.append(held, 0, "text that passes is none")
    desk.clock.advance(milliseconds=LEASE_MS)
    held = holding(again := await desk.start(key))
    assert again.turn is not None
    assert again.turn.strikes == 2
    await desk.store.append(held, 0, [desk.reply(held, "step")])
    desk.clock.advance(milliseconds=LEASE_MS)

    taken = await desk.start(key)

    assert taken.turn is not None
    assert taken.turn.strikes == 0


async def test_a_hand_back_is_no_strike_and_due_at_once(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)

    released = await desk.release(held)

    assert released.lease.owner is None
    assert released.entries == ()
    assert await desk.due() == [key]
    taken = await desk.start(key, node=NODE_2, suspects=False)
    assert taken.turn is not None
    assert (taken.turn.strikes, taken.turn.attempt, taken.lost) == (0, 2, None)
    with pytest.raises(LeaseLost):
        await desk.release(held)


async def test_suspects_are_left_to_those_who_take_them(desk: Desk) -> None:
    key = await desk.open()
    await desk.run(key)
    desk.clock.advance(milliseconds=LEASE_MS)
    assert (await desk.start(key, suspects=False)).entries, "lost once, it is none yet"
    desk.clock.advance(milliseconds=LEASE_MS)
    before = await desk.everything(key)

    left = await desk.start(key, suspects=False)

    assert left.entries == ()
    assert await desk.everything(key) == before
    assert await desk.due() == [key]
    assert (await desk.start(key, suspects=True)).entries


async def test_one_of_many_claims_at_once_wins(desk: Desk) -> None:
    key = await desk.open()
    await desk.submit(key, run=False)

    claims = await asyncio.gather(*(desk.start(key) for _ in range(10)))

    assert sum(bool(claim.entries) for claim in claims) == 1
    assert (await desk.look(key)).head.fence == 1


async def test_a_start_of_an_idle_session_does_nothing(desk: Desk) -> None:
    key = await desk.open()
    before = await desk.everything(key)

    nothing = await desk.start(key)

    assert nothing.head == (await desk.look(key)).head
    assert nothing.entries == ()
    assert await desk.everything(key) == before


async def test_a_renewed_lease_lives_on(desk: Desk) -> None:
    keys = [await desk.open() for _ in range(3)]
    held = [await desk.run(key) for key in keys]
    desk.clock.advance(milliseconds=LEASE_MS - 1)

    lost = await desk.store.renew(NODE, held[:2], lease_ms=LEASE_MS)
    desk.clock.advance(milliseconds=LEASE_MS - 1)

    assert lost == frozenset()
    assert await desk.due() == [keys[2]]
    assert (await desk.start(keys[0], node=NODE_2)).entries == ()
    await desk.append(held[0], 0, "x")
    await desk.append(held[2], 0, "late, but nobody took it")


async def test_a_renewal_does_not_disturb_the_steps(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.append(held, 0, "a")

    await desk.store.renew(NODE, [held], lease_ms=LEASE_MS)
    committed = await desk.append(held, 1, "b")

    assert committed.lease.step == 2
    assert committed.lease.until_ms == desk.clock.now_ms() + LEASE_MS


async def test_a_lost_lease_is_not_renewed(desk: Desk) -> None:
    keys = [await desk.open() for _ in range(4)]
    held = [await desk.run(key) for key in keys]
    desk.clock.advance(milliseconds=LEASE_MS)
    taken = holding(await desk.start(keys[0], node=NODE_2))
    await desk.finish(held[1])
    await desk.delete(keys[2])

    lost = await desk.store.renew(NODE, held, lease_ms=LEASE_MS)

    assert lost == frozenset(keys[:3])
    assert await desk.due() == []
    assert await desk.store.renew(NODE_2, [taken], lease_ms=LEASE_MS) == frozenset()
    desk.clock.advance(milliseconds=LEASE_MS)
    assert sorted(await desk.due()) == sorted([keys[0], keys[3]])


async def test_a_node_does_not_renew_its_own_older_attempt(desk: Desk) -> None:
    key = await desk.open()
    old = await desk.run(key)
    desk.clock.advance(milliseconds=LEASE_MS)
    new = holding(await desk.start(key, node=NODE))

    assert await desk.store.renew(NODE, [old], lease_ms=LEASE_MS) == {key}
    assert await desk.store.renew(NODE, [new], lease_ms=LEASE_MS) == frozenset()


async def test_a_fence_that_was_given_out_twice_is_the_node_s_that_has_the_lease(
    desk: Desk,
) -> None:
    """As after a failover to which the first of the two claims was lost."""
    key = await desk.open()
    held = await desk.run(key)
    twin = replace(held, node=NODE_2)
    before = await desk.everything(key)

    for write in (
        desk.append(twin, 0, "text"),
        desk.finish(twin, step=0),
        desk.release(twin),
    ):
        with pytest.raises(LeaseLost):
            await write

    assert await desk.everything(key) == before
    await desk.append(held, 0, "text")


async def test_the_sweep_finds_what_is_due_and_leaves_the_rest(desk: Desk) -> None:
    idle, running, queued, ended, closed = [await desk.open() for _ in range(5)]
    await desk.run(running)
    await desk.submit(queued, run=False)
    await desk.finish(await desk.run(ended))
    await desk.submit(closed, run=False)
    await desk.close(closed)

    assert await desk.due() == [queued]
    desk.clock.advance(milliseconds=LEASE_MS)
    assert await desk.due() == [queued, running]
    assert idle not in await desk.due()


async def test_the_sweep_takes_the_longest_due_first_and_no_more_than_asked(desk: Desk) -> None:
    keys = []
    for _ in range(5):
        keys.append(await desk.open())
        await desk.submit(keys[-1], run=False)
        desk.clock.advance(milliseconds=1)

    sweep = await desk.store.sweep(due_max=3, assistants=KNOWN)

    assert list(sweep.due) == keys[:3]


async def test_the_sweep_leaves_what_the_node_cannot_run_and_is_not_crowded_by_it(
    desk: Desk,
) -> None:
    foreign = [await desk.open(assistant="sales") for _ in range(3)]
    cancelled, ours = await desk.open(assistant="sales"), await desk.open()
    taken = await desk.submit(cancelled, on=SALES)
    for key in foreign:
        await desk.submit(key, run=False)
    await desk.cancel(cancelled, holding(taken).turn_id)
    desk.clock.advance(milliseconds=LEASE_MS)
    await desk.submit(ours, run=False)

    sweep = await desk.store.sweep(due_max=2, assistants=KNOWN)
    theirs = await desk.store.sweep(due_max=10, assistants={"sales", "support"})

    assert list(sweep.due) == [cancelled, ours]
    assert set(theirs.due) == {*foreign, cancelled, ours}


async def test_a_node_starts_no_turn_of_an_assistant_that_it_does_not_know(desk: Desk) -> None:
    key = await desk.open(assistant="sales")

    submitted = await desk.submit(key)
    claimed = await desk.start(key)

    assert submitted.turn is not None
    assert submitted.turn.status == "queued"
    assert (claimed.entries, claimed.lease.owner) == ((), None)
    assert await desk.kinds(key) == ["session.opened", "turn.queued"]


async def test_what_runs_is_due_when_its_lease_ends(desk: Desk) -> None:
    key = await desk.open()
    await desk.run(key)

    desk.clock.advance(milliseconds=LEASE_MS - 1)
    assert await desk.due() == []
    desk.clock.advance(milliseconds=1)
    assert await desk.due() == [key]
