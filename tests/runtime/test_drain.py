"""A node that stops has an end, whatever its store does."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.runtime.agents import waits
from tests.runtime.gate import Fills
from tests.runtime.rig import House, virtual

from sessile import Assistant, TurnContext

DRAIN, TTL = 5.0, 12.0


@virtual
@pytest.mark.parametrize("ends", ["never", "while it drains", "after its answer"])
async def test_a_node_whose_store_is_full_leaves_its_turns_behind(house: House, ends: str) -> None:
    until = asyncio.Event()
    fills = Fills(house.gate)
    node = await house.node(waits(until), store=fills, drain_seconds_max=DRAIN)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(1)
    fills.full = True
    if ends == "after its answer":
        until.set()
        await house.later(1)
    began = house.now

    stopping = house.sim.node("operator").spawn(node.stop())
    await house.later(1)
    until.set() if ends == "while it drains" else None
    async with asyncio.timeout(60):
        await stopping

    assert DRAIN < house.now - began < DRAIN + TTL + 0.5
    assert node.workers.running == 0
    assert house.troubles.told("turns left behind")
    assert not house.turn(session, turn.turn_id).ended
    house.nodes.remove(node)
    until.set()
    await house.node(waits(until))
    assert (await house.ended(session, turn.turn_id)).status == "completed"


@virtual
async def test_a_store_that_is_full_for_a_while_is_handed_the_turns_back(house: House) -> None:
    fills = Fills(house.gate)
    node = await house.node(waits(), store=fills, drain_seconds_max=DRAIN)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    stopping = house.sim.node("operator").spawn(node.stop())
    fills.full = True
    await house.later(DRAIN + 1)

    fills.full = False
    async with asyncio.timeout(1):
        await stopping

    assert not house.troubles.told("turns left behind")
    assert house.lease(session).owner is None
    house.nodes.remove(node)
    until = asyncio.Event()
    until.set()
    await house.node(waits(until))
    assert (await house.ended(session, turn.turn_id)).strikes == 0


@virtual
async def test_what_a_lost_turn_has_still_to_write_does_not_hold_its_node(house: House) -> None:
    fills = Fills(house.gate)
    counts = Assistant("counts")

    @counts.agent
    async def count(turn: TurnContext) -> AsyncIterator[str]:
        for number in range(60):
            yield f"{number} "
            await house.later(1)

    node = await house.node(counts, store=fills, drain_seconds_max=DRAIN)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(1)
    fills.full = True
    await house.later(TTL)
    assert house.troubles.told("leases not renewed in time")
    assert node.workers.running == 0

    async with asyncio.timeout(1):
        await house.sim.node("operator").spawn(node.stop())

    assert not house.turn(session, turn.turn_id).ended
    house.nodes.remove(node)
    await house.node(counts)
    assert (await house.ended(session, turn.turn_id)).status == "completed"
