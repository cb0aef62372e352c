"""A call that waits for an approval, and what else happens just then: it has one outcome or, where
it was never made, none."""

import asyncio
from typing import Literal

import pytest
from tests.runtime.rig import ANN, House, Rig, virtual

from sessile.core.codec import decode
from sessile.core.commands import AwaitTurn, FinishTurn
from sessile.core.context import TurnContext
from sessile.core.errors import StorageBusy
from sessile.core.events import ApprovalRequested, ToolStarted
from sessile.core.ids import CallId, SessionId
from sessile.core.session import Turn
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import Tools

WORK_SECONDS = 5.0
"""Of virtual time."""


def desk(paid: list[int], *, beside: float = 0.0) -> Assistant:
    """Pays, which waits for an approval, perhaps beside something that takes its time."""

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        async def look() -> str:
            if not beside:
                return ""
            return str((await tools.call("look")).value)

        seen, done = await asyncio.gather(look(), tools.call("pay", {"amount": 3}))
        return f"{seen}{done.status}"

    assistant = Assistant("desk", agent=act)

    @assistant.tool
    async def look(turn: TurnContext) -> str:
        await asyncio.sleep(beside)
        return "seen "

    @assistant.tool(approval=True)
    async def pay(turn: TurnContext, amount: int) -> None:
        paid.append(amount)

    return assistant


async def waiting(house: House, session: SessionId, turn: Turn) -> CallId:
    await house.until(lambda: unanswered(house, session, turn))
    (call_id,) = unanswered(house, session, turn)
    return call_id


def unanswered(house: House, session: SessionId, turn: Turn) -> tuple[CallId, ...]:
    now = house.turn(session, turn.turn_id)
    return () if now.ended or now.awaited is None else now.awaited.unanswered


async def approve(rig: Rig, session: SessionId, call_id: CallId) -> None:
    await rig.do(rig.gates.answer(ANN, session, call_id, granted=True))


def requested(house: House, session: SessionId) -> list[ApprovalRequested]:
    events = (decode(each) for each in house.log(session))
    return [event for event in events if isinstance(event, ApprovalRequested)]


@virtual
async def test_a_wait_whose_answer_was_lost_is_asked_for_once(house: House) -> None:
    paid: list[int] = []
    node = await house.node(desk(paid))
    session = await house.open(node)
    hold = house.gate.hold("transact", AwaitTurn, where="after")
    turn = (await house.submit(node, session)).turn
    (await hold.reached()).fail(StorageBusy())

    await approve(node, session, await waiting(house, session, turn))

    assert (await house.ended(session, turn.turn_id)).output == "completed"
    assert (len(requested(house, session)), paid) == (1, [3])


@virtual
@pytest.mark.parametrize("before", [True, False])
async def test_a_wait_that_is_answered_before_its_attempt_knows_goes_on_once(
    house: House, before: bool
) -> None:
    paid: list[int] = []
    first, second = await house.node(desk(paid)), await house.node(desk(paid))
    session = await house.open(first)
    hold = house.gate.hold("transact", AwaitTurn, where="after")
    turn = (await house.submit(first, session)).turn
    await hold.reached()
    await approve(second, session, await waiting(house, session, turn))
    if before:
        await house.later(2)
    hold.fail(StorageBusy())

    assert (await house.ended(session, turn.turn_id)).output == "completed"
    assert (len(requested(house, session)), paid) == (1, [3])


@virtual
@pytest.mark.parametrize("how", ["cancel", "close", "interrupt", "kill", "drain", "steer"])
@pytest.mark.parametrize("where", ["before", "after"])
async def test_what_comes_just_as_a_turn_is_about_to_wait(
    house: House, how: str, where: Literal["before", "after"]
) -> None:
    paid: list[int] = []
    node = await house.node(desk(paid, beside=1.0), drain_seconds_max=0.5)
    session = await house.open(node)
    hold = house.gate.hold("transact", AwaitTurn, where=where, late=how == "kill")
    turn = (await house.submit(node, session)).turn
    await hold.reached()

    if how in {"kill", "drain"}:
        leaving, node = node, await house.node(desk(paid, beside=1.0))
        if how == "kill":
            house.kill(leaving)
        else:
            leaving.do(leaving.workers.drain(at_once=True))
    elif how == "cancel":
        await house.cancel(node, session, turn.turn_id)
    elif how == "close":
        await house.close(node, session)
    else:
        when_busy: Literal["interrupt", "steer"] = "steer" if how == "steer" else "interrupt"
        await house.submit(node, session, "and now?", when_busy=when_busy)
    hold.go()
    while not all(each.ended for each in house.turns(session)):
        await house.later(1)
        for each in house.turns(session):
            for call_id in unanswered(house, session, each):
                await approve(node, session, call_id)

    ended = await house.ended(session, turn.turn_id)

    stopped = how in {"cancel", "close", "interrupt"}
    assert ended.status == ("cancelled" if stopped else "completed")
    # A function that had answered is run anew for what was steered in.
    times = 0 if stopped else 2 if (how, where) == ("steer", "before") else 1
    events = (decode(each) for each in house.log(session) if each.turn_id == turn.turn_id)
    begun = [e for e in events if isinstance(e, ToolStarted) and e.name == "pay"]
    asked = [each for each in requested(house, session) if each.turn_id == turn.turn_id]
    assert len(begun) == times
    assert len({each.call_id for each in asked}) == len(asked) <= max(times, 1)


@virtual
async def test_a_call_that_its_agent_gave_up_is_not_asked_for(house: House) -> None:
    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        async def impatient() -> str:
            try:
                async with asyncio.timeout(WORK_SECONDS / 2):
                    return (await tools.call("pay", {"amount": 3})).status
            except TimeoutError:
                return "given up"

        looked, paid = await asyncio.gather(tools.call("look"), impatient())
        return f"{looked.value}{paid}"

    paid: list[int] = []
    assistant = desk(paid, beside=WORK_SECONDS)
    assistant.brought = None
    assistant.agent(act)
    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    assert (await house.ended(session, turn.turn_id)).output == "seen given up"
    assert requested(house, session) == []


@virtual
async def test_an_agent_that_does_not_heed_its_stop_waits_all_the_same(house: House) -> None:
    """What it begins while it should stop has one outcome."""
    ran: list[int] = []

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        try:
            return (await tools.call("pay", {"amount": 3})).status
        except asyncio.CancelledError:
            await tools.call("look")
            raise

    assistant = desk(ran, beside=WORK_SECONDS)
    assistant.brought = None
    assistant.agent(act)
    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    await approve(node, session, await waiting(house, session, turn))

    assert (await house.ended(session, turn.turn_id)).output == "completed"
    assert ran == [3]


@virtual
async def test_a_turn_that_waits_twice_keeps_its_deadline_and_its_strikes(house: House) -> None:
    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        for amount in range(5):
            await tools.call("pay", {"amount": amount})
        return f"{turn.attempt}"

    paid: list[int] = []
    assistant = desk(paid)
    assistant.brought = None
    assistant.agent(act)
    node = await house.node(assistant, turn_seconds_max=30.0)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    for _ in range(5):
        call_id = await waiting(house, session, turn)
        await house.later(20)
        await approve(node, session, call_id)

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.output, ended.strikes) == ("completed", "6", 0)
    assert paid == [0, 1, 2, 3, 4]


@virtual
async def test_a_function_that_asks_for_something_else_after_its_approval_makes_neither(
    house: House,
) -> None:
    paid: list[int] = []

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        return (await tools.call("pay", {"amount": turn.attempt})).status

    assistant = desk(paid)
    assistant.brought = None
    assistant.agent(act)
    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await approve(node, session, await waiting(house, session, turn))

    ended = await house.ended(session, turn.turn_id)

    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error["code"] == "replay_mismatch"
    assert paid == []
    assert house.kinds(session)[-2:] == ["tool.interrupted", "turn.failed"]


@virtual
@pytest.mark.parametrize("finishes", [False, True])
async def test_a_tool_whose_calls_outlive_it_leaves_each_with_one_outcome(
    house: House, finishes: bool
) -> None:
    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        outer = await tools.call("outer")
        again = await tools.call("inner", {"n": 2})
        return f"{outer.status} {again.status}"

    assistant = Assistant("nested", agent=act)

    @assistant.tool(timeout_seconds=1.0)
    async def outer(turn: TurnContext) -> None:
        await turn.call("inner", n=1)

    @assistant.tool
    async def inner(turn: TurnContext, n: int) -> None:
        if n == 1:
            await asyncio.sleep(WORK_SECONDS)

    kinds = ("tool.started", "tool.failed", "tool.completed")
    node = await house.node(assistant, store=house.twice(*kinds, finishes=finishes))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    assert (await house.ended(session, turn.turn_id)).output == "failed completed"
    assert house.gate.count("transact", FinishTurn) == 1 + finishes


@virtual
async def test_a_call_that_a_run_left_waiting_is_not_asked_for_by_the_next_run(
    house: House,
) -> None:
    left: list[asyncio.Task[object]] = []
    go_on = asyncio.Event()

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        if left:
            await asyncio.sleep(2 * WORK_SECONDS)
            return "two"
        loop = asyncio.get_running_loop()
        left.append(loop.create_task(tools.call("look")))
        left.append(loop.create_task(tools.call("pay", {"amount": 3})))
        await go_on.wait()
        return "one"

    assistant = desk([], beside=WORK_SECONDS)
    assistant.brought = None
    assistant.agent(act)
    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(0.1)
    await house.submit(node, session, "and?", when_busy="steer")
    go_on.set()

    assert (await house.ended(session, turn.turn_id)).output == "two"
    assert requested(house, session) == []
