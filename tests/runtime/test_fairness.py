"""One tenant's load, or one user's, does not keep the others from a node's slots."""

import asyncio
from collections import Counter

from tests.runtime.agents import waits
from tests.runtime.rig import ANN, BOB, House, virtual

from sessile.core.context import Principal, TurnContext
from sessile.core.ids import SessionId, SessionKey, TenantId, UserId
from sessile.kit.assistant import Assistant
from sessile.runtime import due

EVE = Principal(tenant_id=TenantId("other"), user_id=UserId("eve"))
FLOOD = 60


def status(house: House, who: Principal, session_id: SessionId) -> list[str]:
    kept = house.memory._kept[SessionKey(who.tenant_id, session_id)]
    return [turn.status for turn in kept.turns.values()]


@virtual
async def test_a_tenant_holds_no_more_slots_than_it_may(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until))
    flood = [await house.open(node) for _ in range(40)]
    for session in flood:
        await house.submit(node, session)
    await house.later(3)

    assert node.workers.running == 28
    hers = await house.open(node, EVE)
    await house.submit(node, hers, principal=EVE)
    assert status(house, EVE, hers) == ["running"]
    until.set()


@virtual
async def test_a_lone_tenant_gets_all_done(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until), turns_concurrent_max=4, turns_concurrent_tenant_max=3)
    for _ in range(20):
        await house.submit(node, await house.open(node))
    assert node.workers.running == 3
    until.set()
    began = house.now
    await house.quiet()

    assert house.now - began < 2


@virtual
async def test_another_tenant_is_next_however_many_wait(house: House) -> None:
    """Also where the sweep alone tells of it, and the flood is more than a node keeps."""
    ran: list[str] = []
    assistant = Assistant("counts")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        ran.append(turn.tenant_id)
        await house.later(0.05)
        return "done"

    kept, due.KEPT_MAX = due.KEPT_MAX, 20
    try:
        surfaces = await house.node(assistant, role="surfaces")
        for _ in range(FLOOD):
            await house.submit(surfaces, await house.open(surfaces))
        hers = [await house.open(surfaces, EVE) for _ in range(3)]
        for session in hers:
            await house.submit(surfaces, session, principal=EVE)
        house.wire.lost = True
        await house.node(assistant, turns_concurrent_max=2, turns_concurrent_tenant_max=2)
        await house.until(lambda: len(ran) >= 6, within=10)
    finally:
        due.KEPT_MAX = kept

    assert Counter(ran[:6]) == {"acme": 3, "other": 3}
    await house.quiet()


@virtual
async def test_a_user_holds_no_more_slots_than_one_may(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until), turns_concurrent_max=8, turns_concurrent_user_max=2)
    surfaces = await house.node(waits(until), role="surfaces")
    mine = [await house.open(node) for _ in range(6)]
    for session in mine[:3]:
        await house.submit(node, session)
    for session in mine[3:]:
        await house.submit(surfaces, session)
    await house.later(3)
    assert node.workers.running == 2

    his = await house.open(surfaces, BOB)
    await house.submit(surfaces, his, principal=BOB)
    await house.later(0.2)

    assert node.workers.running == 3
    assert status(house, BOB, his) == ["running"]
    until.set()
    began = house.now
    await house.quiet()
    assert house.now - began < 1, "who waited apart was left to the sweep"


@virtual
async def test_a_user_s_sessions_take_turns_at_the_user_s_slots(house: House) -> None:
    ran: list[str] = []
    assistant = Assistant("takes_turns")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        ran.append(turn.session_id)
        await house.later(0.1)
        return "done"

    node = await house.node(assistant, turns_concurrent_max=8, turns_concurrent_user_max=1)
    sessions = [await house.open(node, ANN) for _ in range(2)]
    for _ in range(3):
        for session in sessions:
            await house.submit(node, session)
    await house.quiet()

    assert Counter(ran) == dict.fromkeys(sessions, 3)
    assert set(ran[:4]) == set(sessions), "one kept the slot until it had nothing left to do"
