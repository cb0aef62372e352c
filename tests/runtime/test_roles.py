"""Nodes that take turns and run none, nodes that run what others took, and who waits for whom."""

from collections.abc import AsyncIterator

import pytest
from tests.runtime.rig import House, Rig, virtual

from sessile.core import codec
from sessile.core.context import TurnContext
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import AgentEvent, TextDelta, Tools


def echo() -> Assistant:
    async def act(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[AgentEvent]:
        yield TextDelta(str(turn.input["text"]))

    return Assistant("echo", agent=act)


async def pair(house: House) -> tuple[Rig, Rig]:
    """One that takes turns, and one that runs them."""
    return await house.node(echo(), role="surfaces"), await house.node(echo())


@virtual
async def test_what_one_node_takes_another_runs_at_once_and_who_waits_is_told(
    house: House,
) -> None:
    surfaces, work = await pair(house)
    session = await house.open(surfaces)
    begun = house.clock.now_ms()

    submitted = await house.submit(surfaces, session, "hello", wait_seconds=30)

    assert submitted.turn.output == "hello"
    assert house.clock.now_ms() - begun < 500, "the sweep was waited for"
    started = [codec.decode(e) for e in house.log(session) if e.kind == "turn.started"]
    assert [getattr(event, "node", "") for event in started] == [work.name]


@pytest.mark.parametrize("fault", ["lost", "bare"])
@virtual
async def test_a_hint_that_is_lost_or_bare_costs_a_beat_of_the_sweep(
    house: House, fault: str
) -> None:
    surfaces, _ = await pair(house)
    session = await house.open(surfaces)
    setattr(house.wire, fault, True)

    submitted = await house.submit(surfaces, session, "hello", wait_seconds=30)

    assert submitted.turn.output == "hello"


@virtual
async def test_a_node_that_runs_no_turns_is_ready_and_leaves_them(house: House) -> None:
    surfaces = await house.node(echo(), role="surfaces")
    session = await house.open(surfaces)
    submitted = await house.submit(surfaces, session, "hello")
    await house.later(5)

    assert submitted.turn.status == "queued"
    assert house.turn(session, submitted.turn.turn_id).status == "queued"
    assert surfaces.workers.ready
    assert surfaces.workers.running == 0
    assert not surfaces.workers._due, "what others are to run is not kept"
    await house.node(echo())
