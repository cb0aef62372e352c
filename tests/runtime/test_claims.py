"""A node takes only what it can run, and what it cannot run does it no harm."""

import asyncio

from tests.runtime.agents import echo, waits
from tests.runtime.rig import House, virtual

from sessile.core.commands import StartTurn


@virtual
async def test_a_turn_waits_for_a_node_that_has_its_assistant(house: House) -> None:
    old = await house.node(waits())
    new = await house.node(waits(), echo())
    session = await house.open(new, assistant="echo")
    await new.stop()
    house.nodes.remove(new)

    accepted = await house.submit(old, session)
    await house.later(20)

    assert accepted.turn.status == "queued"
    assert house.kinds(session) == ["session.opened", "turn.queued"]
    assert house.troubles.told("a turn waits for an assistant that is not here")
    await house.node(echo())
    ended = await house.ended(session, accepted.turn.turn_id, within=1.1)
    assert ended.status == "completed"


@virtual
async def test_what_a_node_cannot_run_is_not_offered_to_it_again_and_again(house: House) -> None:
    old = await house.node(waits(asyncio.Event()))
    new = await house.node(echo())
    sessions = [await house.open(new) for _ in range(50)]
    await new.stop()
    house.nodes.remove(new)
    for session in sessions:
        await house.submit(old, session)
    await house.later(5)
    house.gate.calls.clear()

    await house.later(60)

    assert house.gate.count("transact", StartTurn) == 0
    assert old.workers.ready
    assert old.workers.running == 0
    await house.node(echo())


@virtual
async def test_what_a_node_cannot_run_does_not_crowd_out_what_it_can(house: House) -> None:
    old = await house.node(waits(until := asyncio.Event()), turns_concurrent_max=1)
    new = await house.node(echo())
    until.set()
    foreign = [await house.open(new) for _ in range(20)]
    ours = await house.open(old)
    await new.stop()
    house.nodes.remove(new)
    for session in foreign:
        await house.submit(old, session)
    await house.later(5)

    turn = (await house.submit(old, ours)).turn

    assert (await house.ended(ours, turn.turn_id, within=1.1)).status == "completed"
    await house.node(echo())


@virtual
async def test_a_running_turn_waits_where_its_assistant_has_left(house: House) -> None:
    until = asyncio.Event()
    lost = await house.node(waits(until))
    session = await house.open(lost)
    turn = (await house.submit(lost, session)).turn
    await house.later(1)
    house.kill(lost)

    await house.node(echo())
    await house.later(60)

    assert house.turn(session, turn.turn_id).attempt == 1
    until.set()
    await house.node(waits(until))
    assert (await house.ended(session, turn.turn_id)).status == "completed"


@virtual
async def test_a_cancel_ends_a_lost_turn_whose_assistant_has_left(house: House) -> None:
    lost = await house.node(waits())
    session = await house.open(lost)
    turn = (await house.submit(lost, session)).turn
    await house.later(1)
    house.kill(lost)
    other = await house.node(echo())
    await house.later(20)

    await house.cancel(other, session, turn.turn_id)

    assert (await house.ended(session, turn.turn_id)).status == "cancelled"


@virtual
async def test_a_full_node_does_not_claim_what_others_have_run(house: House) -> None:
    until = asyncio.Event()
    full = await house.node(waits(until), echo(), turns_concurrent_max=1)
    await house.submit(full, await house.open(full))
    turns = [(await house.submit(full, s)).turn for s in [await house.open(full) for _ in "..."]]
    waiting = [
        (await house.submit(full, await house.open(full, assistant="echo"))).turn for _ in range(50)
    ]
    assert len(full.workers._due) == 53
    other = await house.node(echo())
    for turn in waiting:
        assert (await house.ended(turn.session_id, turn.turn_id)).status == "completed"
    await house.later(1.1)
    assert len(full.workers._due) == 3, "those that nobody has run"
    house.gate.calls.clear()

    until.set()

    for turn in turns:
        assert (await house.ended(turn.session_id, turn.turn_id)).status == "completed"
    assert house.gate.count("transact", StartTurn) <= 3
    assert other.workers.running == 0
