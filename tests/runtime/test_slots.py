"""The pool: a bounded number of turns at once, fair among sessions, and none left waiting."""

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from tests.runtime.agents import waits
from tests.runtime.gate import Fills
from tests.runtime.rig import House, virtual

from sessile.core.commands import FinishTurn
from sessile.core.context import TurnContext
from sessile.core.ids import TenantId, UserId
from sessile.kit.assistant import Assistant
from sessile.runtime import due
from sessile.runtime.slots import Slots

ACME, OTHER = TenantId("acme"), TenantId("other")
ANN = UserId("ann")


@virtual
async def test_the_33rd_turn_at_once_waits_for_a_slot(house: House) -> None:
    asked: list[int] = []
    until = asyncio.Event()
    node = await house.node(waits(until, asked=asked), turns_concurrent_tenant_max=32)
    sessions = [await house.open(node) for _ in range(33)]
    turns = [(await house.submit(node, session)).turn for session in sessions]
    await house.later(5)

    assert [turn.status for turn in turns] == ["running"] * 32 + ["queued"]
    assert len(asked) == 32
    assert node.workers.running == 32
    until.set()
    ended = await house.ended(sessions[32], turns[32].turn_id, within=0.1)

    assert ended.status == "completed"
    assert node.workers.running == 0


@virtual
async def test_a_node_that_renews_late_takes_half_as_much_and_comes_back(house: House) -> None:
    """What it cannot keep up with it would lose again, and no turn would ever end."""
    store = Fills(house.gate)
    node = await house.node(waits(until := asyncio.Event()), store=store)
    sessions = [await house.open(node) for _ in range(24)]
    for session in sessions:
        await house.submit(node, session)
    store.full = True
    await house.until(lambda: house.troubles.told("leases not renewed in time"))
    store.full = False

    await house.until(lambda: node.workers.running == 0)
    rose = [0]
    while rose[-1] < 24:
        await house.until(lambda: node.workers.running > rose[-1])
        rose.append(node.workers.running)

    more = 32 // 8  # each time that there was nothing to renew, or that it was renewed
    assert rose[1] <= 24 // 2 + more
    assert max(after - before for before, after in pairwise(rose[1:])) <= more
    until.set()


@virtual
async def test_sessions_take_turns_when_slots_are_short(house: House) -> None:
    """One session with much to do does not keep the slot from the others."""
    ran: list[str] = []
    assistant = Assistant("takes_turns")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        ran.append(turn.session_id)
        await house.later(0.1)
        return "done"

    node = await house.node(assistant, turns_concurrent_max=1)
    sessions = [await house.open(node) for _ in range(3)]
    finish = house.gate.hold("transact", FinishTurn)
    await house.submit(node, sessions[0])
    await finish.reached()
    for session in sessions:
        for _ in range(4):
            await house.submit(node, session)
    ran.clear()

    finish.go()
    began = house.now
    await house.quiet()

    assert Counter(ran) == dict.fromkeys(sessions, 4)
    for first in range(0, 12, 3):
        assert set(ran[first : first + 3]) == set(sessions)
    assert house.now - began < 1.5, "a slot was given up and left to the sweep"


@virtual
async def test_a_submit_is_queued_while_others_wait_for_a_slot(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until), turns_concurrent_max=1)
    first, second, third = [await house.open(node) for _ in range(3)]
    await house.submit(node, first)
    two = (await house.submit(node, second)).turn
    three = (await house.submit(node, third)).turn

    assert (two.status, three.status) == ("queued", "queued")
    assert node.telemetry.registry.get_sample_value("sessile_sessions_waiting") == 2
    until.set()
    await house.quiet()
    started = {s: house.turns(s)[0].started_at_ms or 0 for s in (second, third)}
    assert started[second] <= started[third]


@virtual
async def test_what_one_node_has_no_slot_for_another_takes_at_once(house: House) -> None:
    full = await house.node(waits(), turns_concurrent_max=1)
    free = await house.node(waits(), turns_concurrent_max=1)
    session, other = await house.open(full), await house.open(full)
    await house.submit(full, session)

    turn = (await house.submit(full, other)).turn
    await house.until(lambda: house.turn(other, turn.turn_id).status == "running", within=0.1)

    assert free.workers.running == 1
    for each in (session, other):
        await house.cancel(full, each, house.turns(each)[0].turn_id)


@virtual
async def test_what_waits_for_a_slot_takes_no_more_room_than_was_said(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "KEPT_MAX", 3)
    until = asyncio.Event()
    node = await house.node(waits(until), turns_concurrent_max=1)
    sessions = [await house.open(node) for _ in range(8)]
    for session in sessions:
        await house.submit(node, session)

    assert node.telemetry.registry.get_sample_value("sessile_sessions_waiting") == 3
    until.set()
    await house.quiet()
    assert [house.turns(session)[0].status for session in sessions] == ["completed"] * 8


@virtual
async def test_a_turn_of_which_no_hint_comes_is_found_by_the_sweep(house: House) -> None:
    full = await house.node(waits(), turns_concurrent_max=1)
    free = await house.node(waits(), turns_concurrent_max=1)
    session, other = await house.open(full), await house.open(full)
    await house.submit(full, session)
    house.wire.lost = True

    turn = (await house.submit(full, other)).turn
    await house.until(lambda: house.turn(other, turn.turn_id).status == "running", within=1.1)

    assert free.telemetry.sweep_finds._value.get() >= 1
    for each in (session, other):
        await house.cancel(full, each, house.turns(each)[0].turn_id)


@virtual
async def test_a_wait_answers_when_the_turn_ends_here_or_on_another_node(house: House) -> None:
    until = asyncio.Event()
    node, other = await house.node(waits(until)), await house.node(waits(until))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    here = house.submit(node, session, wait_seconds=30)
    there = house.submit(other, session, wait_seconds=30)
    short = house.submit(node, session, wait_seconds=2)
    await house.later(3)

    assert (await short).turn.status == "queued"
    until.set()
    await house.ended(session, turn.turn_id)

    ended = [(await waiting).turn.status for waiting in (here, there)]
    assert ended == ["completed", "completed"]


@virtual
async def test_a_repeated_submit_may_wait_for_the_turn_that_it_repeats(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until))
    session = await house.open(node)
    await house.submit(node, session, idempotency_key="key")

    again = house.submit(node, session, idempotency_key="key", wait_seconds=30)
    await house.later(3)
    until.set()

    assert (await again).turn.status == "completed"


@virtual
async def test_a_node_that_drains_takes_nothing_and_still_accepts(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until))
    session, other = await house.open(node), await house.open(node)
    await house.submit(node, session)
    stopping = house.sim.node("operator").spawn(node.stop())
    await house.later(1)

    turn = (await house.submit(node, other)).turn

    assert turn.status == "queued"
    assert not node.workers.ready
    until.set()
    await stopping
    house.nodes.remove(node)
    await house.node(waits(until))
    assert (await house.ended(other, turn.turn_id, within=1.1)).status == "completed"


def slots(count: int, *, tenants: dict[str, int] | None = None, users: int = 0) -> Slots:
    """`tenants`: how many each has of its own; `users`: how many one of ACME has."""
    return Slots(
        count,
        tenant_max=lambda tenant: (tenants or {}).get(tenant, 0),
        user_max=lambda tenant: users if tenant == ACME else 0,
    )


def test_a_tenant_leaves_an_eighth_unless_it_has_a_number_of_its_own() -> None:
    held = slots(20, tenants={OTHER: 2})
    for _ in range(17):
        held.take(ACME)
    for _ in range(2):
        assert not held.is_full(OTHER)
        held.take(OTHER)

    assert not held.is_full(ACME)
    held.take(ACME)
    assert held.is_full(ACME)
    assert held.is_full(OTHER)
    assert not held.is_full(OTHER, but=OTHER)
    assert held.is_full(ACME, but=OTHER)
    held.give_back(OTHER)
    assert not held.is_full(OTHER)


def test_a_user_is_watched_where_its_tenant_has_a_number_for_users() -> None:
    held = slots(8, users=1)

    assert (held.watches_users(ACME), held.watches_users(OTHER)) == (True, False)
    for tenant in (ACME, OTHER):
        held.take_for((tenant, ANN))
    assert held.user_is_full((ACME, ANN))
    assert not held.user_is_full((ACME, UserId("bob")))
    assert not held.user_is_full((OTHER, ANN))
    held.take_for((ACME, ANN))
    held.give_back_for((ACME, ANN))
    assert held.user_is_full((ACME, ANN))
    held.give_back_for((ACME, ANN))
    assert not held.user_is_full((ACME, ANN))


@pytest.mark.parametrize(
    ("count", "held", "room"), [(20, 15, [-8, -6, -4]), (4, 0, [1, 2, 3]), (4, 3, [-2, -1, 0])]
)
def test_who_is_late_is_asked_half_as_much_and_an_eighth_more_each_time(
    count: int, held: int, room: list[int]
) -> None:
    late = slots(count)
    for _ in range(held):
        late.take(ACME)

    late.late()
    rose = [late.room]
    while late.room < late.free:
        late.in_time()
        rose.append(late.room)

    assert rose[:3] == room
    assert rose[-1] == count - held
