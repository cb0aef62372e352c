"""Answers that are lost, and a store that is busy: what was asked for is written once."""

import asyncio

import pytest
from tests.runtime.agents import Heard, echo, waits
from tests.runtime.rig import House, virtual

from sessile.core.commands import FinishTurn, SubmitTurn
from sessile.core.context import TurnContext
from sessile.core.errors import StorageBusy, StorageFull
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import MessageEnd, TextDelta, Tools


@virtual
async def test_appends_whose_answers_were_lost_are_applied_once(house: House) -> None:
    node = await house.node(
        talker(house),
        store=house.twice("message.delta", "message.added", "tool.started", "tool.completed"),
    )
    session = await house.open(node)

    turn = (await house.submit(node, session)).turn
    ended = await house.ended(session, turn.turn_id)

    assert ended.output == "three"
    assert house.said(session) == [
        ("user", "hello"),
        ("assistant", "one"),
        ("tool", "sent"),
        ("assistant", "two"),
        ("assistant", "three"),
    ]


@virtual
async def test_a_reader_gets_what_was_written_though_the_writer_never_saw_the_answer(
    house: House,
) -> None:
    node = await house.node(talker(house), store=house.twice("message.delta", "message.added"))
    session = await house.open(node)

    async with house.reader(node, session) as reader:
        turn = (await house.submit(node, session)).turn
        await house.ended(session, turn.turn_id)
        await house.until(lambda: reader.seqs == [e.seq for e in house.log(session)], within=0.1)


@virtual
async def test_an_end_whose_answer_was_lost_is_applied_once_and_the_chained_turn_goes_on(
    house: House,
) -> None:
    heard: Heard = []
    node = await house.node(echo(heard), store=house.twice(finishes=True))
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    await house.submit(node, session, "a")
    await finish.reached()
    for text in ("b", "c"):
        await house.submit(node, session, text)

    finish.go()
    await house.until(lambda: all(turn.ended for turn in house.turns(session)), within=0.5)

    assert [each[-1] for each in heard] == [("user", "a"), ("user", "b"), ("user", "c")]


@virtual
async def test_an_end_whose_answer_was_lost_starts_no_turn_that_another_caller_starts(
    house: House,
) -> None:
    heard: Heard = []
    node = await house.node(echo(heard), store=house.twice(finishes=True))
    session = await house.open(node)
    again = house.gate.hold("transact", FinishTurn, where="after")
    await house.submit(node, session, "a")
    await again.reached()
    await house.submit(node, session, "b")

    again.go()
    await house.quiet()

    assert [each[-1] for each in heard] == [("user", "a"), ("user", "b")]


@pytest.mark.parametrize("error", [StorageBusy, StorageFull])
@virtual
async def test_a_store_that_refuses_in_the_middle_of_a_turn_delays_it(
    house: House, error: type[Exception]
) -> None:
    node = await house.node(talker(house))
    session = await house.open(node)
    holds = [house.gate.hold("append") for _ in range(4)]
    holds += [house.gate.hold("transact", FinishTurn) for _ in range(2)]
    for hold in holds:
        hold.fail(error())

    turn = (await house.submit(node, session)).turn
    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.attempt) == ("completed", 1)
    assert [role for role, _ in house.said(session)] == [
        "user", "assistant", "tool", "assistant", "assistant"
    ]  # fmt: skip


@pytest.mark.parametrize("error", [StorageBusy, StorageFull])
@virtual
async def test_a_submit_that_the_store_refuses_leaves_no_trace_and_no_slot(
    house: House, error: type[Exception]
) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    house.gate.hold("transact", SubmitTurn).fail(error())

    with pytest.raises(error):
        await house.submit(node, session, idempotency_key="key")

    assert house.turns(session) == ()
    assert node.workers.running == 0
    assert not (await house.submit(node, session, idempotency_key="key")).repeated


@virtual
async def test_a_chained_start_goes_on_when_the_store_is_busy_for_a_moment(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    await house.submit(node, session, "a")
    await finish.reached()
    await house.submit(node, session, "b")
    for method in ("find", "read"):
        house.gate.hold(method).fail(StorageBusy())

    finish.go()
    await house.until(lambda: all(turn.ended for turn in house.turns(session)), within=1)

    assert [turn.attempt for turn in house.turns(session)] == [1, 1]


@virtual
async def test_a_renewal_that_finds_the_turn_ended_does_not_stop_the_turn_chained_to_it(
    house: House,
) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until))
    session = await house.open(node)
    await house.submit(node, session, "a")
    renewal = house.gate.hold("renew")
    await renewal.reached()
    await house.submit(node, session, "b")
    finish = house.gate.hold("transact", FinishTurn, where="after")
    until.set()
    await finish.reached()

    renewal.go()
    await house.later(0.05)
    finish.go()
    await house.until(lambda: all(turn.ended for turn in house.turns(session)), within=0.5)

    assert [turn.attempt for turn in house.turns(session)] == [1, 1]


@virtual
async def test_what_an_agent_left_running_does_not_come_between_it_and_its_end(
    house: House,
) -> None:
    """Its call is closed with the turn, and its late outcome is dropped."""
    until = asyncio.Event()
    left: list[asyncio.Task[object]] = []
    assistant = Assistant("careless")

    @assistant.tool("late")
    async def late(turn: TurnContext) -> str:
        await until.wait()
        await turn.emit("too late")
        return "late"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        running = asyncio.get_running_loop()
        left.append(running.create_task(tools.call("late")))
        await house.later(0.1)
        return "done"

    node = await house.node(assistant)
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    turn = (await house.submit(node, session)).turn
    await finish.reached()
    until.set()
    await house.later(1)

    finish.go()
    ended = await house.ended(session, turn.turn_id, within=0.1)
    (outcome,) = await asyncio.gather(*left, return_exceptions=True)

    assert (ended.status, ended.output) == ("completed", "done")
    assert house.kinds(session)[-2:] == ["tool.interrupted", "turn.completed"]
    assert isinstance(outcome, Exception)


@virtual
async def test_a_call_that_is_made_while_the_turn_is_being_ended_is_not_in_the_log(
    house: House,
) -> None:
    until = asyncio.Event()
    left: list[asyncio.Task[object]] = []
    assistant = Assistant("careless")

    @assistant.tool("late")
    async def late(turn: TurnContext) -> str:
        raise AssertionError

    async def later(tools: Tools) -> object:
        await until.wait()
        return await tools.call("late")

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        left.append(asyncio.get_running_loop().create_task(later(tools)))
        yield "done"
        yield MessageEnd()
        await house.later(0.1)

    node = await house.node(assistant)
    session = await house.open(node)
    held = house.gate.appending("message.added")
    turn = (await house.submit(node, session)).turn
    await held.reached()
    await house.later(0.2)  # the agent has ended, and its end waits for what is on its way
    until.set()
    await house.later(0.1)
    held.go()
    await house.ended(session, turn.turn_id)
    (outcome,) = await asyncio.gather(*left, return_exceptions=True)

    assert isinstance(outcome, Exception)
    assert not [kind for kind in house.kinds(session) if kind.startswith("tool.")]


@virtual
async def test_deltas_are_replaced_by_the_message_and_are_contiguous(house: House) -> None:
    node = await house.node(talker(house))
    session = await house.open(node)

    turn = (await house.submit(node, session)).turn
    await house.ended(session, turn.turn_id)

    kinds = house.kinds(session)
    assert kinds.count("message.delta") == 1
    assert kinds.index("message.delta") < kinds.index("message.added", 4)


def talker(house: House) -> Assistant:
    """A message in two pieces, a call, a message that waits to be written, and the last."""
    assistant = Assistant("talker")

    @assistant.tool("send")
    async def send(turn: TurnContext) -> str:
        return "sent"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        yield TextDelta("o")
        await house.later(0.2)
        yield TextDelta("ne")
        yield MessageEnd()
        await tools.call("send")
        yield TextDelta("two")
        yield MessageEnd()
        yield TextDelta("three")

    return assistant
