"""Inputs: accepted once, in order, refused without a trace; queued, edited and withdrawn."""

import asyncio

import pytest
from tests.contract.desk import LEASE_MS, NODE, Desk, holding, once, runner

from sessile.core.errors import (
    IdempotencyConflict,
    QueueFull,
    SessionBusy,
    TurnEnded,
    TurnNotFound,
    TurnNotQueued,
)
from sessile.core.ids import SessionKey, TurnId


async def texts(desk: Desk, key: SessionKey) -> list[str]:
    return [turn.input["text"] for turn in await desk.store.turns(key, queued=True, limit=100)]


async def test_a_free_session_starts_the_turn_with_the_submit(desk: Desk) -> None:
    key = await desk.open()

    committed = await desk.submit(key, "a")

    assert [entry.kind for entry in committed.entries] == [
        "turn.queued",
        "turn.started",
        "message.added",
    ]
    assert committed.head is not None
    assert committed.turn is not None
    assert (committed.head.fence, committed.head.running_turn_id) == (1, committed.turn.turn_id)
    assert (committed.turn.status, committed.turn.attempt) == ("running", 1)
    assert committed.lease.owner == NODE
    assert committed.lease.until_ms == desk.clock.now_ms() + LEASE_MS
    assert committed.session == (await desk.look(key)).session


async def test_without_a_slot_it_is_queued_only(desk: Desk) -> None:
    key = await desk.open()

    committed = await desk.submit(key, run=False)

    assert [entry.kind for entry in committed.entries] == ["turn.queued"]
    assert committed.lease.owner is None
    assert await desk.due() == [key]


async def test_a_busy_session_keeps_what_comes_in_order(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a")
    for text in "bcd":
        await desk.submit(key, text)

    assert await texts(desk, key) == ["b", "c", "d"]
    for expected in "bcd":
        held = holding(await desk.finish(held, successor=runner()))
        assert (await desk.turn(key, held.turn_id)).input["text"] == expected
    await desk.finish(held, successor=runner())
    assert [turn.status for turn in await desk.store.turns(key, limit=10)] == ["completed"] * 4


async def test_no_turn_is_behind_the_last_position_that_a_caller_may_name(desk: Desk) -> None:
    key = await desk.open()
    await desk.submit(key)

    for queued in (False, True):
        assert await desk.store.turns(key, after=2**62, queued=queued, limit=10) == ()


async def test_turns_are_paged_by_position(desk: Desk) -> None:
    key = await desk.open()
    for text in "abcde":
        await desk.submit(key, text)

    async def page(**more: object) -> str:
        turns = await desk.store.turns(key, **{"limit": 100, **more})  # type: ignore[arg-type]
        return "".join(turn.input["text"] for turn in turns)

    assert await page() == "abcde"
    assert await page(limit=2) == "ab"
    assert await page(after=2, limit=2) == "cd"
    assert await page(queued=True) == "bcde"
    assert await page(queued=True, after=3) == "de"
    assert await page(queued=True, limit=1) == "b"
    assert await page(after=5) == ""


async def test_reject_refuses_while_busy_and_writes_nothing(desk: Desk) -> None:
    key = await desk.open()
    await desk.submit(key)
    before = await desk.everything(key)

    with pytest.raises(SessionBusy):
        await desk.submit(key, when_busy="reject", once=once("k", key.session_id))

    assert await desk.everything(key) == before


async def test_a_refused_input_does_not_use_up_its_key(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    with pytest.raises(SessionBusy):
        await desk.submit(key, when_busy="reject", once=once("k", key.session_id, body="1"))
    await desk.finish(held)

    committed = await desk.submit(key, once=once("k", key.session_id, body="2"))

    assert not committed.repeated


async def test_a_full_queue_refuses_and_writes_nothing(desk: Desk) -> None:
    key = await desk.open()
    for _ in range(3):
        await desk.submit(key, queue_max=2)
    before = await desk.everything(key)

    with pytest.raises(QueueFull):
        await desk.submit(key, queue_max=2)

    assert await desk.everything(key) == before


async def test_one_refusal_does_not_touch_those_beside_it(desk: Desk) -> None:
    keys = [await desk.open() for _ in range(4)]
    await desk.submit(keys[1])

    answers = await asyncio.gather(
        *(desk.submit(key, when_busy="reject") for key in keys), return_exceptions=True
    )

    assert [isinstance(answer, SessionBusy) for answer in answers] == [False, True, False, False]
    assert [len(await desk.log(key)) for key in keys] == [4, 4, 4, 4]


async def test_the_same_key_is_the_same_turn(desk: Desk) -> None:
    key = await desk.open()
    first = await desk.submit(key, "a", once=once("k", key.session_id))
    assert first.turn is not None
    await desk.finish(holding(first))
    before = await desk.everything(key)

    again = await desk.submit(key, "a", once=once("k", key.session_id))

    assert again.repeated
    assert again.entries == ()
    assert again.turn == await desk.turn(key, first.turn.turn_id)
    assert again.turn is not None
    assert again.turn.status == "completed"
    assert await desk.everything(key) == before


async def test_the_same_key_with_another_body_is_refused(desk: Desk) -> None:
    key = await desk.open()
    await desk.submit(key, once=once("k", key.session_id))
    before = await desk.everything(key)

    with pytest.raises(IdempotencyConflict):
        await desk.submit(key, once=once("k", key.session_id, body="other"))

    assert await desk.everything(key) == before


async def test_one_key_sent_many_times_at_once_is_one_turn(desk: Desk) -> None:
    key = await desk.open()

    many = [desk.submit(key, once=once("k", key.session_id)) for _ in range(20)]
    answers = await asyncio.gather(*many)

    assert len({answer.turn.turn_id for answer in answers if answer.turn}) == 1
    assert sum(answer.repeated for answer in answers) == 19
    assert len(await desk.store.turns(key, limit=100)) == 1


async def test_a_key_of_wider_scope_answers_with_the_session_it_was_used_in(desk: Desk) -> None:
    first, second = await desk.open(), await desk.open()
    used = await desk.submit(first, once=once("k", "open"))

    again = await desk.submit(second, once=once("k", "open"))

    assert again.repeated
    assert again.session_id == first.session_id
    assert (again.head, again.turn) == (used.head, used.turn)


async def test_one_key_in_two_sessions_is_two_turns(desk: Desk) -> None:
    keys = [await desk.open(), await desk.open()]

    answers = [await desk.submit(key, once=once("k", key.session_id)) for key in keys]

    assert [answer.repeated for answer in answers] == [False, False]


async def test_an_interrupt_displaces_what_runs_and_what_waits(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a")
    for text in "bcdefgh":
        await desk.submit(key, text)

    await desk.submit(key, "last", when_busy="interrupt")

    turns = await desk.store.turns(key, limit=10)
    assert [turn.status for turn in turns] == ["running", *["cancelled"] * 7, "queued"]
    assert (await desk.look(key)).head.cancel_turn_id == held.turn_id
    ended = await desk.finish(held, successor=runner())
    assert ended.turn is not None
    assert (ended.turn.status, ended.turn.cancel_reason) == ("cancelled", "displaced")
    assert (await desk.turn(key, holding(ended).turn_id)).input["text"] == "last"


async def test_an_interrupt_in_one_breath_with_its_victims_sees_them(desk: Desk) -> None:
    key = await desk.open()

    await asyncio.gather(
        *(desk.submit(key, f"{n}", run=False) for n in range(5)),
        desk.submit(key, "last", when_busy="interrupt", run=False),
    )

    turns = await desk.store.turns(key, limit=10)
    assert [turn.status for turn in turns] == ["cancelled"] * 5 + ["queued"]
    assert (await desk.look(key)).head.queued == 1


async def test_a_queued_input_can_be_edited(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a")
    waiting = (await desk.submit(key, "b")).turn
    assert waiting is not None

    edited = await desk.edit(key, waiting.turn_id, "b2")

    assert edited.turn == await desk.turn(key, waiting.turn_id)
    assert await texts(desk, key) == ["b2"]
    started = await desk.finish(held, successor=runner())
    assert started.entries[-1].kind == "message.added"
    assert '"b2"' in started.entries[-1].body


async def test_an_edit_in_one_breath_with_the_next_start_changes_no_order(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a")
    waiting = [(await desk.submit(key, text)).turn for text in "bcdefgh"]
    assert waiting[4] is not None

    _, started = await asyncio.gather(
        desk.edit(key, waiting[4].turn_id, "f2"), desk.finish(held, successor=runner())
    )

    assert (await desk.turn(key, holding(started).turn_id)).input["text"] == "b"
    assert await texts(desk, key) == ["c", "d", "e", "f2", "g", "h"]


async def test_an_edit_in_one_breath_with_its_withdrawal_is_kept(desk: Desk) -> None:
    key = await desk.open()
    await desk.run(key, "a")
    waiting = [(await desk.submit(key, text)).turn for text in "bcdefgh"]
    assert waiting[4] is not None

    await asyncio.gather(
        desk.edit(key, waiting[4].turn_id, "f2"), desk.submit(key, "z", when_busy="interrupt")
    )

    turn = await desk.turn(key, waiting[4].turn_id)
    assert (turn.status, turn.input["text"]) == ("cancelled", "f2")


async def test_an_edit_against_the_start_is_one_or_the_other(desk: Desk) -> None:
    for edit_first in (True, False):
        key = await desk.open()
        waiting = (await desk.submit(key, "old", run=False)).turn
        assert waiting is not None
        race = [desk.edit(key, waiting.turn_id, "new"), desk.start(key)]

        answers = await asyncio.gather(*race[:: 1 if edit_first else -1], return_exceptions=True)

        said = [entry.body for entry in await desk.log(key) if entry.kind == "message.added"]
        if edit_first:
            assert '"new"' in said[0]
        else:
            assert isinstance(answers[1], TurnNotQueued)
            assert '"old"' in said[0]


async def test_a_turn_that_left_the_queue_is_not_edited(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    before = await desk.everything(key)

    with pytest.raises(TurnNotQueued):
        await desk.edit(key, held.turn_id, "x")
    with pytest.raises(TurnNotFound):
        await desk.edit(key, TurnId("trn_none"), "x")

    assert await desk.everything(key) == before


async def test_a_withdrawn_input_ends_at_once_and_is_never_run(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a")
    waiting = (await desk.submit(key, "b")).turn
    await desk.submit(key, "c")
    assert waiting is not None

    withdrawn = await desk.cancel(key, waiting.turn_id)

    assert withdrawn.turn is not None
    assert withdrawn.turn.status == "cancelled"
    assert (await desk.cancel(key, waiting.turn_id)).repeated
    held = holding(await desk.finish(held, successor=runner()))
    assert (await desk.turn(key, held.turn_id)).input["text"] == "c"


async def test_a_turn_that_has_ended_is_not_cancelled(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.finish(held)
    before = await desk.everything(key)

    with pytest.raises(TurnEnded):
        await desk.cancel(key, held.turn_id)
    with pytest.raises(TurnNotFound):
        await desk.cancel(key, TurnId("trn_none"))

    assert await desk.everything(key) == before


async def test_a_turn_is_found_with_its_session_or_not_at_all(desk: Desk) -> None:
    key, other = await desk.open(), await desk.open()
    held = await desk.run(key)

    assert (await desk.turn(key, held.turn_id)).turn_id == held.turn_id
    found = await desk.store.find(other, held.turn_id)
    assert found is not None
    assert found.turn is None
    found = await desk.store.find(key, TurnId("trn_"))
    assert found is not None
    assert found.turn is None
