"""A running turn: written under its fence, step by step, and ended exactly once."""

import asyncio
from dataclasses import replace

import pytest
from tests.contract.desk import ACME, LEASE_MS, NODE_2, Desk, holding, runner

from sessile.core.codec import decode
from sessile.core.errors import LeaseLost, SteerUnread
from sessile.core.events import Progress, ToolCompleted, TurnProgress, TurnSteered
from sessile.core.ids import CallId, Fence, MessageId, SessionId, SessionKey
from sessile.ports.store import Committed

TERMINAL = {"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"}


async def steers(desk: Desk, key: SessionKey) -> list[TurnSteered]:
    events = [decode(entry) for entry in await desk.log(key)]
    return [event for event in events if isinstance(event, TurnSteered)]


async def test_appends_follow_each_other_step_by_step(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)

    for step in range(5):
        committed = await desk.append(held, step, "a", "b")
        assert committed.lease.step == step + 1
        assert len(committed.entries) == 2

    assert (await desk.kinds(key))[4:] == ["message.delta"] * 10


async def test_a_retried_append_is_applied_once(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    first = await desk.append(held, 0, "a")

    again = await desk.append(held, 0, "a")

    assert again.entries == ()
    assert again.repeated
    assert again.head == first.head
    assert (await desk.kinds(key)).count("message.delta") == 1
    await desk.append(held, 1, "b")


async def test_a_retried_append_in_one_breath_is_applied_once(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)

    both = await asyncio.gather(desk.append(held, 0, "a"), desk.append(held, 0, "a"))

    assert sorted(len(committed.entries) for committed in both) == [0, 1]


@pytest.mark.parametrize("step", [-1, 0, 3, 7])
async def test_a_step_out_of_order_is_refused_and_writes_nothing(desk: Desk, step: int) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.append(held, 0, "a")
    await desk.append(held, 1, "b")
    before = await desk.everything(key)

    with pytest.raises(LeaseLost):
        await desk.append(held, step, "x")
    with pytest.raises(LeaseLost):
        await desk.finish(held, step=step)

    assert await desk.everything(key) == before


async def test_an_old_fence_writes_nothing(desk: Desk) -> None:
    key = await desk.open()
    old = await desk.run(key)
    desk.clock.advance(milliseconds=LEASE_MS)
    new = holding(await desk.start(key, node=NODE_2))
    before = await desk.everything(key)

    assert new.fence == old.fence + 1
    for write in (
        desk.append(old, 0, "zombie"),
        desk.finish(old, end="failed", error={"code": "x"}),
        desk.release(old),
    ):
        with pytest.raises(LeaseLost):
            await write
    assert await desk.everything(key) == before
    await desk.append(new, 0, "alive")


async def test_a_fence_that_was_never_given_writes_nothing(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    made_up = type(held)(key, held.turn_id, Fence(99), held.attempt, held.node)
    elsewhere = type(held)(
        SessionKey(ACME, SessionId("ses_none")), held.turn_id, held.fence, 1, held.node
    )
    before = await desk.everything(key)

    for forged in (made_up, elsewhere):
        with pytest.raises(LeaseLost):
            await desk.append(forged, 0, "x")

    assert await desk.everything(key) == before


async def test_a_zombie_among_others_fails_alone(desk: Desk) -> None:
    keys = [await desk.open() for _ in range(5)]
    held = [await desk.run(key) for key in keys]
    desk.clock.advance(milliseconds=LEASE_MS)
    await desk.start(keys[2])

    answers = await asyncio.gather(
        *(desk.append(each, 0, "a") for each in held), return_exceptions=True
    )

    assert [isinstance(answer, LeaseLost) for answer in answers] == [n == 2 for n in range(5)]
    counts = [(await desk.kinds(key)).count("message.delta") for key in keys]
    assert counts == [1, 1, 0, 1, 1]


async def test_a_turn_ends_exactly_once(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    both = [desk.finish(held), desk.finish(held, end="failed", error={"code": "x"})]

    answers = await asyncio.gather(*both)

    assert sorted(answer.repeated for answer in answers) == [False, True]
    assert sum(kind in TERMINAL for kind in await desk.kinds(key)) == 1
    assert (await desk.turn(key, held.turn_id)).status == "completed"


async def test_a_retry_of_a_finish_whose_answer_was_lost_is_repeated(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.submit(key, "next")
    await desk.finish(held, successor=runner())
    before = await desk.everything(key)

    again = await desk.finish(held, successor=runner())

    assert again.repeated
    assert again.turn is not None
    assert again.turn.status == "completed"
    assert await desk.everything(key) == before


async def test_what_closes_a_turn_is_written_with_its_end(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.append(held, 0, "he", "llo")

    ended = await desk.finish(held, step=1, output="hello", closing=[desk.reply(held, "hello")])

    assert [entry.kind for entry in ended.entries] == ["message.added", "turn.completed"]
    assert ended.turn is not None
    assert (ended.turn.status, ended.turn.output) == ("completed", "hello")
    assert ended.lease.owner is None
    assert await desk.due() == []


async def test_an_end_that_is_refused_leaves_the_closing_unwritten(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.submit(key, "steered", when_busy="steer")
    before = await desk.everything(key)

    with pytest.raises(SteerUnread):
        await desk.finish(held, closing=[desk.reply(held, "hello")])

    assert await desk.everything(key) == before


@pytest.mark.parametrize("end", ["failed", "interrupted", "cancelled"])
async def test_an_end_says_what_it_was(desk: Desk, end: str) -> None:
    key = await desk.open()
    held = await desk.run(key)
    error = {"code": "model_error", "message": "no", "retry": True}

    await desk.finish(held, end=end, error=error, output="half", reason="so")

    turn = await desk.turn(key, held.turn_id)
    assert (turn.status, turn.output) == (end, "half")
    assert turn.error is not None
    assert turn.error["code"] == {"failed": "model_error"}.get(end, end)
    assert (await desk.kinds(key))[-1] == f"turn.{end}"


async def test_progress_never_falls_and_is_settled_at_the_end(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    numbers = {"turn_id": held.turn_id, "total_iterations": 9, "tokens_used": 50}
    await desk.store.append(held, 0, [TurnProgress(current_iteration=2, **numbers)])  # type: ignore[arg-type]
    await desk.store.append(held, 1, [TurnProgress(current_iteration=1, **numbers)])  # type: ignore[arg-type]

    running = (await desk.turn(key, held.turn_id)).progress
    await desk.finish(held, step=2, progress=Progress(tokens_used=70))

    assert running == Progress(current_iteration=2, total_iterations=9, tokens_used=50)
    assert (await desk.turn(key, held.turn_id)).progress == Progress(
        current_iteration=2, total_iterations=9, tokens_used=70, total_tokens=70
    )


async def test_the_next_turn_starts_in_the_transaction_that_ends_the_last(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a")
    await desk.submit(key, "b")

    ended = await desk.finish(held, successor=runner(NODE_2))

    after = holding(ended)
    assert (after.fence, after.attempt, after.node) == (held.fence + 1, 1, NODE_2)
    assert ended.lease.step == 0
    assert ended.session == (await desk.look(key)).session
    assert ended.turn is not None
    assert ended.turn.turn_id == held.turn_id
    await desk.append(after, 0, "x")


async def test_without_a_successor_what_waits_is_due(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a")
    await desk.submit(key, "b")

    ended = await desk.finish(held)

    assert ended.lease.owner is None
    assert await desk.due() == [key]
    started = await desk.start(key)
    assert started.turn is not None
    assert started.turn.input["text"] == "b"
    assert started.session == (await desk.look(key)).session


async def test_a_cancel_before_the_end_wins(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)

    cancel, ended = await asyncio.gather(
        desk.cancel(key, held.turn_id), desk.finish(held, closing=[desk.reply(held, "x")])
    )

    assert cancel.turn is not None
    assert cancel.turn.status == "running"
    assert ended.turn is not None
    assert (ended.turn.status, ended.turn.cancel_reason) == ("cancelled", "asked")
    assert '"state":"partial"' in ended.entries[0].body


async def test_an_end_before_the_cancel_wins(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)

    ended, cancel = await asyncio.gather(
        desk.finish(held), desk.cancel(key, held.turn_id), return_exceptions=True
    )

    assert not isinstance(ended, BaseException)
    assert isinstance(cancel, Exception)
    assert (await desk.turn(key, held.turn_id)).status == "completed"
    assert (await desk.look(key)).head.cancel_turn_id is None


async def test_a_cancel_outlives_the_attempt_that_it_was_asked_in(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.cancel(key, held.turn_id)
    desk.clock.advance(milliseconds=LEASE_MS)

    ended = await desk.finish(holding(await desk.start(key, node=NODE_2)))

    assert ended.turn is not None
    assert ended.turn.status == "cancelled"


async def test_a_steer_before_the_end_must_be_read_first(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)

    steered, ended = await asyncio.gather(
        desk.submit(key, "also", when_busy="steer"), desk.finish(held), return_exceptions=True
    )

    assert not isinstance(steered, BaseException)
    assert steered.turn is not None
    assert steered.turn.turn_id == held.turn_id
    assert isinstance(ended, SteerUnread)
    assert (await desk.turn(key, held.turn_id)).status == "running"


async def test_a_steer_after_the_end_is_a_turn_of_its_own(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)

    _, steered = await asyncio.gather(
        desk.finish(held), desk.submit(key, "also", when_busy="steer")
    )

    assert steered.turn is not None
    assert steered.turn.turn_id != held.turn_id
    assert steered.turn.status == "running"


async def test_a_steer_that_a_failed_turn_did_not_read_becomes_a_turn(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.submit(key, "also", when_busy="steer")

    ended = await desk.finish(
        held, end="failed", error={"code": "x"}, unread=await steers(desk, key), successor=runner()
    )

    turns = await desk.store.turns(key, limit=10)
    assert [turn.status for turn in turns] == ["failed", "running"]
    assert turns[1].input["text"] == "also"
    assert holding(ended).turn_id == turns[1].turn_id


async def test_a_close_ends_the_queue_and_flags_what_runs(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    for text in "bcdefg":
        await desk.submit(key, text)
    await desk.submit(key, "also", when_busy="steer")

    closed = await desk.close(key)

    assert closed.head is not None
    assert (closed.head.status, closed.head.queued) == ("closed", 0)
    with pytest.raises(LeaseLost):
        await desk.append(held, 0, "too late")
    ended = await desk.finish(held, unread=await steers(desk, key), successor=runner())
    assert ended.turn is not None
    assert (ended.turn.status, ended.turn.cancel_reason) == ("cancelled", "closed")
    statuses = [turn.status for turn in await desk.store.turns(key, limit=10)]
    assert statuses == ["cancelled"] * 8
    assert ended.lease.owner is None
    assert await desk.due() == []


async def test_a_close_at_once_with_a_refused_end_ends_the_whole_queue(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    for text in "bcdefg":
        await desk.submit(key, text)
    older = replace(held, fence=Fence(held.fence - 1))

    refused, closed = await asyncio.gather(
        desk.finish(older), desk.close(key), return_exceptions=True
    )

    assert isinstance(refused, LeaseLost)
    assert isinstance(closed, Committed)
    assert closed.head is not None
    assert (closed.head.status, closed.head.queued) == ("closed", 0)
    statuses = [turn.status for turn in await desk.store.turns(key, limit=10)]
    assert statuses == ["running", *["cancelled"] * 6]


async def test_a_closed_session_whose_node_was_lost_is_still_ended(desk: Desk) -> None:
    key = await desk.open()
    await desk.run(key)
    await desk.close(key)
    desk.clock.advance(milliseconds=LEASE_MS)

    assert await desk.due() == [key]
    ended = await desk.finish(holding(await desk.start(key, node=NODE_2)))

    assert ended.turn is not None
    assert ended.turn.status == "cancelled"
    assert await desk.due() == []


async def test_nobody_writes_for_a_turn_of_a_deleted_session(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.delete(key)

    for write in (desk.append(held, 0, "x"), desk.finish(held), desk.release(held)):
        with pytest.raises(LeaseLost):
            await write

    assert await desk.log(key) == ()


async def test_an_append_and_a_submit_in_one_breath_are_both_kept(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)

    await asyncio.gather(
        desk.append(held, 0, "a"),
        desk.submit(key, "b"),
        desk.update(key, title="t", retitle=True),
        desk.append(held, 1, "c"),
        desk.cancel(key, held.turn_id),
        desk.append(held, 2, "d"),
    )

    assert (await desk.kinds(key))[4:] == [
        "message.delta",
        "turn.queued",
        "session.updated",
        "message.delta",
        "turn.cancel_requested",
        "message.delta",
    ]


async def test_a_tool_s_outcome_is_a_durable_step(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    outcome = ToolCompleted(
        turn_id=held.turn_id,
        call_id=CallId("call_1"),
        message_id=MessageId("msg_t"),
        name="orders.lookup",
        arguments={"id": 7},
        result={"state": "sent"},
    )

    await desk.store.append(held, 0, [outcome])

    assert (await desk.turn(key, held.turn_id)).progressed
    assert (await desk.turn(key, held.turn_id)).progressed
    assert decode((await desk.log(key))[-1]) == outcome
