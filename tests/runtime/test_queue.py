"""What a busy session does with a new input; editing, withdrawing and sending it again."""

import asyncio

import pytest
from tests.runtime.agents import Heard, echo, waits
from tests.runtime.rig import ANN, House, virtual

from sessile.core.commands import FinishTurn, StartTurn, SubmitTurn
from sessile.core.context import TurnContext
from sessile.core.errors import (
    IdempotencyConflict,
    InvalidInput,
    QueueFull,
    SessionBusy,
    StorageBusy,
    TurnEnded,
    TurnNotQueued,
)
from sessile.core.ids import TurnId
from sessile.kit.assistant import Assistant


@virtual
async def test_queued_turns_run_in_the_order_accepted_and_each_knows_what_was_said_before(
    house: House,
) -> None:
    heard: Heard = []
    node = await house.node(echo(heard))
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    await house.submit(node, session, "a")
    await finish.reached()
    await house.submit(node, session, "b")
    await house.submit(node, session, "c")

    finish.go()
    await house.quiet()

    assert heard == [
        [("user", "a")],
        [("user", "a"), ("assistant", "re: a"), ("user", "b")],
        [("user", "a"), ("assistant", "re: a"), ("user", "b"), ("assistant", "re: b"),
         ("user", "c")],
    ]  # fmt: skip


@virtual
async def test_a_chained_turn_knows_what_was_said_before_though_the_answer_to_the_end_was_lost(
    house: House,
) -> None:
    heard: Heard = []
    node = await house.node(echo(heard), store=house.twice(finishes=True))
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    await house.submit(node, session, "a")
    await finish.reached()
    await house.submit(node, session, "b")

    finish.go()
    await house.quiet()

    assert heard[1] == [("user", "a"), ("assistant", "re: a"), ("user", "b")]


@virtual
async def test_inputs_that_come_at_once_run_one_after_another_in_the_order_accepted(
    house: House,
) -> None:
    nodes = [await house.node(echo()), await house.node(echo())]
    session = await house.open(nodes[0])

    await asyncio.gather(
        *(house.submit(nodes[number % 2], session, f"{number}") for number in range(10))
    )
    await house.quiet()

    accepted = [turn.input["text"] for turn in house.turns(session)]
    assert sorted(accepted, key=int) == [f"{number}" for number in range(10)]
    assert house.said(session) == [
        said for text in accepted for said in (("user", text), ("assistant", f"re: {text}"))
    ]


@virtual
async def test_reject_refuses_while_a_turn_runs_or_waits_and_leaves_no_trace(house: House) -> None:
    node = await house.node(waits())
    session = await house.open(node)
    running = (await house.submit(node, session)).turn
    before = house.log(session)

    with pytest.raises(SessionBusy) as refused:
        await house.submit(node, session, "no", when_busy="reject", idempotency_key="key")

    assert refused.value.details["running_turn_id"] == running.turn_id
    assert house.log(session) == before
    assert not house.memory._remembered
    await house.cancel(node, session, running.turn_id)
    await house.ended(session, running.turn_id)
    accepted = await house.submit(node, session, "now", when_busy="reject", idempotency_key="key")
    assert not accepted.repeated
    await house.cancel(node, session, accepted.turn.turn_id)


@virtual
async def test_a_full_queue_refuses_and_leaves_no_idempotency_row(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until), queue_turns_max=1)
    session = await house.open(node)
    await house.submit(node, session, "runs")
    await house.submit(node, session, "waits")

    with pytest.raises(QueueFull):
        await house.submit(node, session, "no", idempotency_key="key")

    assert not house.memory._remembered
    until.set()


@virtual
async def test_interrupt_displaces_the_running_turn_and_all_that_wait(house: House) -> None:
    assistant = Assistant("picky")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        if turn.input["text"] != "now":
            await asyncio.Event().wait()
        return "done"

    node = await house.node(assistant)
    session = await house.open(node)
    for text in ("runs", "waits", "waits too"):
        await house.submit(node, session, text)

    now = await house.submit(node, session, "now", when_busy="interrupt")
    ended = await house.ended(session, now.turn.turn_id, within=0.1)

    assert ended.status == "completed"
    statuses = [
        (turn.status, turn.error and turn.error["message"]) for turn in house.turns(session)
    ]
    assert statuses == [*[("cancelled", "displaced")] * 3, ("completed", None)]


@virtual
async def test_interrupt_against_the_finish_runs_after_it(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    for where, status in (("before", "cancelled"), ("after", "completed")):
        finish = house.gate.hold("transact", FinishTurn, where=where)  # type: ignore[arg-type]
        first = (await house.submit(node, session, "first")).turn
        await finish.reached()

        second = (await house.submit(node, session, "second", when_busy="interrupt")).turn
        finish.go()

        assert (await house.ended(session, first.turn_id)).status == status
        assert (await house.ended(session, second.turn_id)).status == "completed"


@virtual
async def test_two_interrupts_at_once_leave_one_turn_to_run(house: House) -> None:
    node = await house.node(waits())
    session = await house.open(node)
    await house.submit(node, session, "first")

    one, two = await asyncio.gather(
        house.submit(node, session, "one", when_busy="interrupt"),
        house.submit(node, session, "two", when_busy="interrupt"),
    )
    later = max(one.turn, two.turn, key=lambda turn: turn.position)
    await house.until(lambda: house.head(session).running_turn_id == later.turn_id)

    assert [turn.status for turn in house.turns(session)] == ["cancelled", "cancelled", "running"]
    await house.cancel(node, session, later.turn_id)


@virtual
async def test_an_edit_before_the_start_is_what_the_turn_gets(house: House) -> None:
    until = asyncio.Event()
    heard: list[str] = []
    node = await house.node(hears(heard, until))
    session = await house.open(node)
    await house.submit(node, session, "first")
    second = (await house.submit(node, session, "second")).turn

    edited = await house.edit(node, session, second.turn_id, "edited")
    until.set()
    await house.quiet()

    assert edited.input["text"] == "edited"
    assert heard == ["first", "edited"]
    assert [text for role, text in house.said(session) if role == "user"] == heard


@virtual
async def test_an_edit_while_the_turn_is_being_started_is_in_time_or_refused(house: House) -> None:
    heard: list[str] = []
    node, other = await house.node(hears(heard)), await house.node(hears(heard))
    session = await house.open(node)
    for where in ("before", "after"):
        until = asyncio.Event()
        heard.clear()
        blocker = house.gate.hold("transact", FinishTurn)
        await house.submit(node, session, "first")
        await blocker.reached()
        second = (await house.submit(node, session, "second")).turn
        chained = house.gate.hold("transact", FinishTurn, where=where)  # type: ignore[arg-type]
        blocker.fail(StorageBusy())  # the node asks again
        await chained.reached()

        if where == "before":
            await house.edit(other, session, second.turn_id, "edited")
        else:
            with pytest.raises(TurnNotQueued):
                await house.edit(other, session, second.turn_id, "edited")
        chained.go()
        until.set()
        await house.quiet()

        assert heard == ["first", "edited" if where == "before" else "second"]


@virtual
async def test_a_withdrawn_input_never_reaches_the_agent(house: House) -> None:
    until = asyncio.Event()
    heard: list[str] = []
    node = await house.node(hears(heard, until))
    session = await house.open(node)
    await house.submit(node, session, "first")
    second = (await house.submit(node, session, "second")).turn
    await house.submit(node, session, "third")

    await house.cancel(node, session, second.turn_id)
    with pytest.raises(TurnNotQueued):
        await house.edit(node, session, second.turn_id, "edited")
    until.set()
    await house.quiet()

    assert heard == ["first", "third"]
    assert "second" not in [text for _, text in house.said(session)]


@virtual
async def test_the_same_key_gives_the_same_turn_while_it_runs_and_after_its_end(
    house: House,
) -> None:
    until = asyncio.Event()
    node, other = await house.node(waits(until)), await house.node(waits(until))
    session = await house.open(node)
    first = await house.submit(node, session, idempotency_key="key")

    running = await house.submit(other, session, idempotency_key="key")
    until.set()
    await house.ended(session, first.turn.turn_id)
    ended = await house.submit(node, session, idempotency_key="key")
    with pytest.raises(IdempotencyConflict):
        await house.submit(node, session, "other", idempotency_key="key")

    assert (running.repeated, running.turn.status) == (True, "running")
    assert (ended.repeated, ended.turn.status, ended.turn.output) == (True, "completed", "done")
    assert {running.turn.turn_id, ended.turn.turn_id} == {first.turn.turn_id}
    assert first.seq == running.seq == ended.seq
    assert node.workers.running == other.workers.running == 0


@virtual
async def test_the_same_key_at_once_from_two_nodes_gives_one_turn(house: House) -> None:
    nodes = [await house.node(echo()), await house.node(echo())]
    session = await house.open(nodes[0])

    submitted = await asyncio.gather(
        *(
            house.submit(nodes[number % 2], session, "once", idempotency_key="key")
            for number in range(6)
        )
    )
    await house.quiet()

    assert len({each.turn.turn_id for each in submitted}) == 1
    assert [each.repeated for each in submitted].count(False) == 1
    assert house.said(session) == [("user", "once"), ("assistant", "re: once")]


@virtual
async def test_a_key_of_a_steer_is_answered_with_the_turn_that_it_went_into(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until))
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn

    first = await house.submit(node, session, "b", when_busy="steer", idempotency_key="key")
    again = await house.submit(node, session, "b", when_busy="steer", idempotency_key="key")
    until.set()
    await house.quiet()

    assert first.turn.turn_id == again.turn.turn_id == turn.turn_id
    assert house.kinds(session).count("turn.steered") == 1


@virtual
async def test_an_input_that_is_no_json_is_refused_and_costs_no_slot(house: House) -> None:
    node = await house.node(echo(), turns_concurrent_max=1)
    session = await house.open(node)
    given = {"type": "message", "text": "hello", "more": object()}

    for key in (None, "key"):
        with pytest.raises(InvalidInput):
            await node.do(node.sessions.submit(ANN, session, given, idempotency_key=key))

    assert node.workers.running == 0
    submitted = await house.submit(node, session)
    assert (await house.ended(session, submitted.turn.turn_id)).status == "completed"


@virtual
async def test_a_caller_that_is_cut_off_leaves_a_turn_that_runs_or_no_trace(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    applied = 0
    for where in ("before", "after"):
        for late in (False, True):
            held = house.gate.hold("transact", SubmitTurn, where=where, late=late)  # type: ignore[arg-type]
            caller = house.submit(node, session, f"{where} {late}")
            await held.reached()

            caller.cancel()
            await asyncio.wait({caller})
            held.go()
            await house.later(0.1)
            applied += (where, late) != ("before", False)

            assert len(house.turns(session)) >= applied
            assert all(turn.ended for turn in house.turns(session))
            assert node.workers.running == 0
            assert house.lease(session).owner is None


@virtual
async def test_two_callers_of_whom_one_is_cut_off_start_each_turn_once(house: House) -> None:
    asked: list[TurnId] = []
    assistant = Assistant("counts")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        asked.append(turn.turn_id)
        await house.later(0.2)
        return "done"

    node = await house.node(assistant)
    session = await house.open(node)
    slow = house.gate.hold("transact", SubmitTurn, where="after")
    first = house.submit(node, session, "a")
    await slow.reached()
    cut = house.gate.hold("transact", SubmitTurn, where="after")
    second = house.submit(node, session, "b")
    await cut.reached()

    second.cancel()
    await house.later(0.05)
    slow.go()
    cut.go()
    await first
    await house.quiet()

    assert asked == [turn.turn_id for turn in house.turns(session)]
    assert len(asked) == 2


@virtual
async def test_a_cancel_of_an_ended_turn_is_refused(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.ended(session, turn.turn_id)

    with pytest.raises(TurnEnded):
        await house.cancel(node, session, turn.turn_id)


@virtual
async def test_a_release_is_visible_before_the_reply(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    busy: list[bool] = []

    async with house.reader(node, session) as reader:
        for number in range(3):
            await house.submit(node, session, f"{number}", when_busy="reject")
            ends = number + 1
            await house.until(
                lambda ends=ends: [e.kind for e in reader.entries].count("turn.completed") == ends
            )
            busy.append(house.lease(session).owner is not None)

    assert busy == [False] * 3


@virtual
async def test_a_session_whose_claim_found_the_store_busy_is_taken_by_the_sweep(
    house: House,
) -> None:
    node = await house.node(echo(), turns_concurrent_max=1)
    blocker, session = await house.open(node), await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    await house.submit(node, blocker)
    await finish.reached()
    turn = (await house.submit(node, session)).turn
    claim = house.gate.hold("transact", StartTurn)
    finish.go()
    await claim.reached()

    claim.fail(StorageBusy())

    assert (await house.ended(session, turn.turn_id, within=1.1)).status == "completed"


def hears(heard: list[str], until: asyncio.Event | None = None) -> Assistant:
    assistant = Assistant("hears")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        heard.append(turn.input["text"])
        if until is not None:
            await until.wait()
        return "done"

    return assistant
