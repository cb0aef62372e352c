"""Cancel against everything else: what was acknowledged as cancelled is never completed."""

import asyncio

import pytest
from tests.runtime.agents import echo
from tests.runtime.rig import ACME, House, virtual

from sessile.core.commands import FinishTurn
from sessile.core.context import TurnContext
from sessile.core.errors import TurnEnded
from sessile.core.events import Entry
from sessile.core.ids import Seq, SessionKey
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import Tools
from sessile.ports.notifier import Hint


@virtual
async def test_a_cancel_committed_before_the_finish_wins_and_the_output_is_marked_partial(
    house: House,
) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    turn = (await house.submit(node, session)).turn
    await finish.reached()

    await house.cancel(node, session, turn.turn_id)
    finish.go()
    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.output) == ("cancelled", "re: hello")
    assert house.messages(session)[-1].state == "partial"


@virtual
async def test_a_cancel_after_the_finish_is_told_that_the_turn_has_ended(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn, where="after")
    turn = (await house.submit(node, session)).turn
    await finish.reached()

    with pytest.raises(TurnEnded):
        await house.cancel(node, session, turn.turn_id)
    finish.go()

    assert (await house.ended(session, turn.turn_id)).status == "completed"


@virtual
async def test_a_cancel_stops_an_agent_that_waits_and_keeps_its_text_within_100_ms(
    house: House,
) -> None:
    assistant = Assistant("slow")
    stopped_at: list[float] = []

    @assistant.agent
    async def answer(turn: TurnContext):  # type: ignore[no-untyped-def]
        yield "so "
        await house.later(1)
        yield "far"
        try:
            await asyncio.Event().wait()
        finally:
            stopped_at.append(house.now)

    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(1.02)  # the last words are not in the log yet

    asked_at = house.now
    await house.cancel(node, session, turn.turn_id)
    ended = await house.ended(session, turn.turn_id, within=0.1)

    assert stopped_at[0] - asked_at < 0.1
    assert (ended.status, ended.output) == ("cancelled", "so far")
    message = house.messages(session)[-1]
    assert (message.text, message.state) == ("so far", "partial")


@virtual
async def test_a_cancel_at_another_node_stops_the_agent_within_100_ms(house: House) -> None:
    node, other = await house.node(waits()), await house.node(waits())
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    await house.cancel(other, session, turn.turn_id)

    assert (await house.ended(session, turn.turn_id, within=0.1)).status == "cancelled"


@virtual
async def test_a_cancel_of_which_no_hint_comes_stops_the_agent_at_the_next_sweep(
    house: House,
) -> None:
    node, other = await house.node(waits()), await house.node(waits())
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    house.wire.lost = True

    await house.cancel(other, session, turn.turn_id)

    assert (await house.ended(session, turn.turn_id, within=1.1)).status == "cancelled"


@virtual
async def test_a_cancel_whose_hint_has_no_entries_stops_the_agent(house: House) -> None:
    node, other = await house.node(waits()), await house.node(waits())
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    house.wire.bare = True

    await house.cancel(other, session, turn.turn_id)

    assert (await house.ended(session, turn.turn_id, within=0.1)).status == "cancelled"


@virtual
async def test_a_cancel_that_is_asked_again_after_its_caller_was_cut_off_stops_the_agent(
    house: House,
) -> None:
    node = await house.node(waits())
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    held = house.gate.hold("transact", where="after")
    caller = house.cancel(node, session, turn.turn_id)
    await held.reached()
    caller.cancel()
    await asyncio.wait({caller})

    again = await house.cancel(node, session, turn.turn_id)
    ended = await house.ended(session, turn.turn_id, within=0.1)

    assert again.cancel_reason == "asked"
    assert ended.status == "cancelled"


@virtual
async def test_a_queued_turn_is_cancelled_where_it_waits_and_never_starts(house: House) -> None:
    gate = asyncio.Event()
    node = await house.node(waits(gate))
    session = await house.open(node)
    await house.submit(node, session, "first")
    second = (await house.submit(node, session, "second")).turn

    cancelled = await house.cancel(node, session, second.turn_id)
    again = await house.cancel(node, session, second.turn_id)
    gate.set()
    await house.quiet()

    assert cancelled.status == again.status == "cancelled"
    assert house.said(session) == [("user", "first"), ("assistant", "done")]
    assert house.kinds(session).count("turn.started") == 1


@virtual
async def test_a_cancel_is_found_in_recovery(house: House) -> None:
    asked: list[int] = []
    node = await house.node(waits(asked=asked))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(0.1)
    house.kill(node)
    other = await house.node(waits(asked=asked))

    await house.cancel(other, session, turn.turn_id)
    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.attempt, len(asked)) == ("cancelled", 2, 1)


@virtual
async def test_a_cancel_that_comes_while_a_turn_is_recovered_leaves_no_call_open(
    house: House,
) -> None:
    node = await house.node(calls_out())
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: "tool.started" in house.kinds(session))
    house.kill(node)
    other = await house.node(calls_out())
    folding = house.gate.hold("read")
    await folding.reached()

    await house.cancel(other, session, turn.turn_id)
    folding.go()
    ended = await house.ended(session, turn.turn_id)

    assert ended.status == "cancelled"
    assert house.kinds(session)[-2:] == ["tool.interrupted", "turn.cancelled"]


@virtual
async def test_a_cancel_while_a_tools_outcome_is_on_its_way_gives_the_call_one_outcome(
    house: House,
) -> None:
    goes_on = asyncio.Event()
    node = await house.node(calls_out(goes_on))
    session = await house.open(node)
    for where in ("before", "after"):
        goes_on.clear()
        outcome = house.gate.appending("tool.completed", where)  # type: ignore[arg-type]
        turn = (await house.submit(node, session)).turn
        goes_on.set()
        await outcome.reached()

        await house.cancel(node, session, turn.turn_id)
        ended = await house.ended(session, turn.turn_id)

        assert ended.status == "cancelled"
    outcomes = [
        kind for kind in house.kinds(session) if kind in ("tool.completed", "tool.interrupted")
    ]
    assert outcomes == ["tool.completed", "tool.completed"]


@virtual
async def test_a_cancel_that_overtakes_the_reply_of_the_start_is_not_missed(house: House) -> None:
    node, other = await house.node(waits()), await house.node(waits())
    session = await house.open(node)
    start = house.gate.hold("transact", where="after")
    first = house.submit(node, session)
    await start.reached()
    turn = house.turns(session)[0]

    await house.cancel(other, session, turn.turn_id)
    await house.later(0.01)
    start.go()
    await first

    assert (await house.ended(session, turn.turn_id, within=1.1)).status == "cancelled"


@virtual
async def test_an_agent_that_completes_after_its_cancel_is_not_asked_about_a_steer(
    house: House,
) -> None:
    asked: list[int] = []
    node = await house.node(waits(asked=asked, deaf=True))
    other = await house.node(waits())
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    turn = (await house.submit(node, session)).turn
    await finish.reached()
    house.wire.lost = True
    await house.submit(other, session, "steered", when_busy="steer")
    await house.cancel(other, session, turn.turn_id)

    finish.go()
    ended = await house.ended(session, turn.turn_id)
    await house.quiet()

    assert (ended.status, asked[:1]) == ("cancelled", [1])
    steered = house.turns(session)[1]
    assert (steered.input["text"], steered.status) == ("steered", "completed")


def waits(
    until: asyncio.Event | None = None, *, asked: list[int] | None = None, deaf: bool = False
) -> Assistant:
    """Answers `done` once it may; `deaf`: at once, when first asked."""
    assistant = Assistant("waits")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        if asked is not None:
            asked.append(turn.attempt)
        if not deaf:
            await (until or asyncio.Event()).wait()
        return "done"

    return assistant


def calls_out(goes_on: asyncio.Event | None = None) -> Assistant:
    """Calls a tool that is not idempotent, and which ends once it may."""
    assistant = Assistant("caller")

    @assistant.tool("send")
    async def send(turn: TurnContext) -> str:
        await (goes_on or asyncio.Event()).wait()
        return "sent"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        await tools.call("send")
        return "done"

    return assistant


@pytest.mark.parametrize("kind", ["turn.cancel_requested", "session.closed"])
@virtual
async def test_a_cancel_that_only_a_hint_tells_of_stops_nothing(house: House, kind: str) -> None:
    until = asyncio.Event()
    node, other = await house.node(waits(until)), await house.node(echo())
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    key, head = SessionKey(ACME, session), Seq(house.head(session).head + 1)
    forged = Entry(head, kind, turn.turn_id, 0, "{}")

    house.wire.at(other.process).publish(Hint(key=key, head=head, entries=(forged,), control=True))
    await house.later(1)
    until.set()

    assert (await house.ended(session, turn.turn_id)).status == "completed"
