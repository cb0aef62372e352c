"""Close and delete: what was closed stays as it is, but for the fenced end of what ran."""

import asyncio

import pytest
from tests.runtime.agents import Heard, echo, waits
from tests.runtime.rig import ANN, House, virtual

from sessile.core.commands import FinishTurn
from sessile.core.context import TurnContext
from sessile.core.errors import SessionClosed, SessionNotFound
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import TextDelta, Tools


@virtual
async def test_a_close_cancels_what_waits_and_only_the_fenced_end_of_what_runs_follows(
    house: House,
) -> None:
    assistant = Assistant("talks")

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        for _ in range(1000):
            yield TextDelta("word ")
            await house.later(0.03)

    node = await house.node(assistant)
    session = await house.open(node)
    running = (await house.submit(node, session)).turn
    queued = (await house.submit(node, session, "waits")).turn
    await house.later(0.5)

    await house.close(node, session)
    ended = await house.ended(session, running.turn_id, within=0.1)

    assert (ended.status, house.turn(session, queued.turn_id).status) == ("cancelled",) * 2
    kinds = house.kinds(session)
    after = kinds[kinds.index("session.closed") + 1 :]
    assert after[-2:] == ["message.added", "turn.cancelled"]
    assert set(after) <= {"message.delta", "message.added", "turn.cancelled"}
    assert house.messages(session)[-1].state == "partial"
    with pytest.raises(SessionClosed):
        await house.submit(node, session)


@virtual
async def test_a_close_of_which_the_running_node_hears_nothing_stops_its_next_append(
    house: House,
) -> None:
    assistant = Assistant("talks")

    @assistant.agent
    async def answer(turn: TurnContext):  # type: ignore[no-untyped-def]
        for _ in range(1000):
            yield TextDelta("word ")
            await house.later(0.03)

    node, other = await house.node(assistant), await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(0.2)
    house.wire.lost = True

    await house.close(other, session)

    assert (await house.ended(session, turn.turn_id, within=0.2)).status == "cancelled"


@virtual
async def test_a_close_while_the_finish_is_on_its_way_cancels_the_turn(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    turn = (await house.submit(node, session)).turn
    await finish.reached()

    await house.close(node, session)
    finish.go()

    assert (await house.ended(session, turn.turn_id)).status == "cancelled"


@virtual
async def test_a_session_closed_while_its_node_is_gone_is_ended_by_the_next(house: House) -> None:
    asked: list[int] = []
    node = await house.node(waits(asked=asked))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(0.1)
    house.kill(node)
    other = await house.node(waits(asked=asked))

    await house.close(other, session)
    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, asked) == ("cancelled", [1])


@virtual
async def test_a_deleted_session_leaves_nothing_and_its_turn_writes_nothing_more(
    house: House,
) -> None:
    stopped = asyncio.Event()
    assistant = Assistant("talks")

    @assistant.agent
    async def answer(turn: TurnContext):  # type: ignore[no-untyped-def]
        try:
            while True:
                yield TextDelta("word ")
                await house.later(0.03)
        finally:
            stopped.set()

    node, other = await house.node(assistant), await house.node(assistant)
    session = await house.open(node)
    await house.submit(node, session)
    await house.later(0.2)

    async with house.reader(node, session) as reader:
        await house.until(lambda: reader.entries)
        await other.do(other.keeping.delete(ANN, session))
        await house.until(lambda: reader.end == "gone", within=0.1)

    await stopped.wait()
    assert not house.memory._kept
    with pytest.raises(SessionNotFound):
        await house.submit(node, session)
    assert node.workers.running == 0


@virtual
async def test_an_outcome_that_the_close_refused_is_written_with_the_fenced_end(
    house: House,
) -> None:
    assistant = Assistant("calls")

    @assistant.tool("send")
    async def send(turn: TurnContext) -> str:
        return "sent"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        await tools.call("send")
        return "done"

    node, other = await house.node(assistant), await house.node(assistant)
    session = await house.open(node)
    outcome = house.gate.appending("tool.completed")
    turn = (await house.submit(node, session)).turn
    await outcome.reached()
    house.wire.lost = True

    await house.close(other, session)
    outcome.go()
    ended = await house.ended(session, turn.turn_id, within=0.1)

    assert ended.status == "cancelled"
    assert house.kinds(session)[-3:] == ["session.closed", "tool.completed", "turn.cancelled"]


@virtual
async def test_an_agent_is_not_asked_where_its_session_was_deleted_before_it_read_the_history(
    house: House,
) -> None:
    heard: Heard = []
    node, other = await house.node(echo(heard)), await house.node(echo())
    session = await house.open(node)
    first = (await house.submit(node, session)).turn
    await house.ended(session, first.turn_id)
    read = house.gate.hold("read")
    await house.submit(node, session)
    await read.reached()
    house.wire.lost = True

    await other.do(other.keeping.delete(ANN, session))
    read.go()
    await house.until(lambda: node.workers.running == 0, within=0.1)

    assert len(heard) == 1


@virtual
async def test_a_call_whose_start_was_refused_is_not_made_where_the_refusal_is_gone(
    house: House,
) -> None:
    ready, go_on = asyncio.Event(), asyncio.Event()
    made: list[int] = []

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        ready.set()
        await go_on.wait()
        return (await tools.call("secret")).status

    vault = Assistant("vault", agent=act, owner_grants=("read",))

    @vault.tool(grant="read", idempotent=True)
    async def secret(turn: TurnContext) -> None:
        made.append(turn.attempt)

    node = await house.node(vault, store=house.twice("tool.started"))
    other = await house.node(vault)
    session = await house.open(node)
    await node.do(node.gates.grant(ANN, session, ("read",)))
    await house.submit(node, session)
    await ready.wait()
    await node.do(node.gates.grant(ANN, session, ()))
    read = house.gate.hold("read")
    go_on.set()
    await read.reached()  # the answer to the start was lost: the log is looked at
    house.wire.lost = True

    await other.do(other.keeping.delete(ANN, session))
    read.go()
    await house.until(lambda: node.workers.running == 0, within=0.1)

    assert not made
