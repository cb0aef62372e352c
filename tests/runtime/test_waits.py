"""What an attempt leaves open when it asks for an approval or ends, and what the next one reads."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.runtime.rig import ANN, House, Rig, virtual

from sessile.core.context import TurnContext
from sessile.core.ids import CallId, SessionId, TurnId
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import AgentEvent, TextDelta, Tools


def desk(read: list[list[str]], steered: asyncio.Event) -> Assistant:
    """Says what it will do, looks for what was steered in, and asks for an approval."""

    async def act(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[AgentEvent]:
        yield TextDelta("I will refund it. ")
        said = [message.text for message in await tools.steered()]
        await steered.wait()
        await tools.call("refund")
        said += [message.text for message in await tools.steered()]
        read.append(said)
        yield TextDelta(f"Done: {said}")

    assistant = Assistant("desk", agent=act)

    @assistant.tool(approval=True)
    async def refund(turn: TurnContext) -> str:
        return "refunded"

    return assistant


async def asked(house: House, node: Rig, session: SessionId) -> TurnId:
    """The turn, once it waits."""
    turn_id = (await house.submit(node, session)).turn.turn_id
    await house.until(lambda: "message.delta" in house.kinds(session))
    return turn_id


async def until_it_waits(house: House, session: SessionId, turn_id: TurnId) -> str:
    await house.until(lambda: house.turn(session, turn_id).status == "awaiting")
    awaited = house.turn(session, turn_id).awaited
    assert awaited is not None
    (call_id,) = awaited.call_ids
    return call_id


@virtual
async def test_a_call_that_was_asked_for_counts_as_made_when_the_agent_is_run_again(
    house: House,
) -> None:
    """What was steered in behind the first look is read behind the call, and not before it."""
    read: list[list[str]] = []
    steered = asyncio.Event()
    node = await house.node(desk(read, steered))
    session = await house.open(node)
    turn_id = await asked(house, node, session)
    await house.submit(node, session, "all of it", when_busy="steer")
    steered.set()
    call_id = await until_it_waits(house, session, turn_id)

    await node.do(node.gates.answer(ANN, session, call_id, granted=True))
    ended = await house.ended(session, turn_id)

    assert ended.status == "completed"
    kinds = house.kinds(session)
    assert kinds.index("tool.completed") < kinds.index(
        "message.added", kinds.index("turn.awaiting")
    )
    assert read[0] == ["all of it"]


@virtual
@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_g8_the_text_of_a_turn_that_waits_stays_until_it_is_given_up(
    house: House, how: str
) -> None:
    steered = asyncio.Event()
    steered.set()
    node = await house.node(desk([], steered))
    session = await house.open(node)
    turn_id = await asked(house, node, session)
    await until_it_waits(house, session, turn_id)
    assert "message.reset" not in house.kinds(session), "who is to approve reads it"

    await (house.cancel(node, session, turn_id) if how == "cancel" else house.close(node, session))
    ended = await house.ended(session, turn_id)

    assert ended.status == "cancelled"
    assert house.kinds(session).count("message.reset") == 1


@virtual
async def test_g12_a_call_that_the_end_overtook_is_held_to_its_grant(house: House) -> None:
    """It waited behind another append when its grant was taken and the turn was cancelled."""
    ran: list[str] = []
    wanted = asyncio.Event()
    desk = Assistant("desk", owner_grants=["refund"])

    @desk.agent
    async def act(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[AgentEvent]:
        yield TextDelta("I will refund it. ")
        await wanted.wait()
        await tools.call("refund")

    @desk.tool(grant="refund")
    async def refund(turn: TurnContext) -> None:
        ran.append(turn.turn_id)

    node = await house.node(desk)
    session = await house.open(node)
    await node.do(node.gates.grant(ANN, session, ["refund"]))
    writing = house.gate.appending("message.delta")
    turn = (await house.submit(node, session)).turn
    await writing.reached()
    wanted.set()
    await house.later(0.01)

    await node.do(node.gates.grant(ANN, session, []))
    await house.cancel(node, session, turn.turn_id)
    writing.go()
    ended = await house.ended(session, turn.turn_id)

    assert ended.status == "cancelled"
    assert not ran
    kinds = house.kinds(session)
    assert "tool.started" not in kinds
    assert kinds.count("tool.refused") == 1
    assert "tool.interrupted" not in kinds


def stuck_at(text: str) -> Assistant:
    """Replies to what was last said, but for this."""
    assistant = Assistant("listener")

    @assistant.agent
    async def answer(turn: TurnContext, history: History) -> str:
        said = history.messages[-1].text
        if said == text:
            await asyncio.Event().wait()
        return f"re: {said}"

    return assistant


@virtual
async def test_a_steer_that_a_later_attempt_read_is_not_taken_for_one_that_came_since(
    house: House,
) -> None:
    """What becomes a turn at the end is what nobody read."""
    first = await house.node(stuck_at("a"))
    session = await house.open(first)
    turn = (await house.submit(first, session, "a")).turn
    await house.submit(first, session, "b", when_busy="steer")
    house.kill(first)
    second = await house.node(stuck_at("b"))
    await house.until(lambda: ("user", "b") in house.said(session))

    await house.submit(second, session, "c", when_busy="steer")
    await house.cancel(second, session, turn.turn_id)
    ended = await house.ended(session, turn.turn_id)
    await house.quiet()

    assert ended.status == "cancelled"
    said = [text for role, text in house.said(session) if role == "user"]
    assert said == ["a", "b", "c"]
    assert house.said(session)[-1] == ("assistant", "re: c")


@virtual
async def test_who_waits_for_a_turn_is_answered_when_it_waits_for_a_person(house: House) -> None:
    steered = asyncio.Event()
    steered.set()
    node = await house.node(desk([], steered))
    session = await house.open(node)
    begun = house.now

    submitted = await house.submit(node, session, wait_seconds=30)

    assert submitted.turn.status == "awaiting"
    assert house.now - begun < 1
    turn_id = submitted.turn.turn_id
    call_id = await until_it_waits(house, session, turn_id)
    await node.do(node.gates.answer(ANN, session, CallId(call_id), granted=True))
    turn = await node.do(node.sessions.wait(ANN, session, turn_id, seconds=30))
    assert turn.status == "completed"
