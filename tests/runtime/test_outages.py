"""A store that fails is told of without noise, and tried until it does not."""

import asyncio
import logging

import pytest
from tests.runtime.agents import echo, waits
from tests.runtime.gate import Fills
from tests.runtime.rig import House, virtual

from sessile.core.commands import FinishTurn
from sessile.core.errors import StorageBusy, StorageDamaged, StorageFull

OUTAGES = [StorageBusy, StorageFull, StorageDamaged]


def told_of_the_store(house: House) -> list[logging.LogRecord]:
    return [each for each in house.troubles.records if "store" in each.getMessage()]


@pytest.mark.parametrize("error", OUTAGES)
@virtual
async def test_an_outage_is_told_with_its_code_once_and_then_now_and_then(
    house: House, error: type[StorageBusy]
) -> None:
    store = Fills(house.gate)
    node = await house.node(echo(), store=store, turns_concurrent_max=1)
    blocker, *sessions = [await house.open(node) for _ in range(5)]
    finish = house.gate.hold("transact", FinishTurn)
    await house.submit(node, blocker)
    await finish.reached()
    for session in sessions:
        await house.submit(node, session)
    store.full, store.error = True, error
    finish.go()

    await house.later(119)

    told = told_of_the_store(house)
    assert [each.__dict__["code"] for each in told] == [error.code] * 2
    assert told[0].__dict__["sessions"] == sessions[:1]
    store.full = False


@pytest.mark.parametrize("error", OUTAGES)
@virtual
async def test_a_node_that_nobody_asks_tries_itself_whether_it_can_write_again(
    house: House, error: type[StorageBusy]
) -> None:
    store = Fills(house.gate)
    node = await house.node(echo(), store=store)
    session = await house.open(node)
    store.full, store.error = True, error
    with pytest.raises(error):
        await house.submit(node, session)

    await house.later(60)

    assert node.workers.trouble == f"the store could not be written: {error()}"
    store.full = False
    await house.until(lambda: node.workers.trouble is None, within=1.1)
    assert [key.session_id for key in house.memory._kept] == [session], "it leaves nothing"
    asked = store.asked
    await house.later(60)
    assert store.asked == asked, "a store that can be written is not tried"


@virtual
async def test_leases_that_are_not_renewed_are_told_with_their_sessions(house: House) -> None:
    store = Fills(house.gate)
    node = await house.node(waits(until := asyncio.Event()), store=store)
    sessions = [await house.open(node) for _ in range(25)]
    for session in sessions:
        await house.submit(node, session)
    store.full = True

    await house.until(lambda: house.troubles.told("leases not renewed in time"))

    (told,) = [e for e in house.troubles.records if e.getMessage().startswith("leases not")]
    assert (told.__dict__["turns"], told.__dict__["sessions"]) == (25, sessions[:20])
    store.full = False
    until.set()
