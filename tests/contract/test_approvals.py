"""Turns that wait for an approval, and grants: the same on every store, whoever comes first."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.contract.desk import (
    ADMIN,
    BOB,
    EXPIRES_MS,
    LEASE_MS,
    NODE_2,
    Desk,
    holding,
    runner,
)
from tests.doubles import CountingIds, ManualClock

from sessile.adapters.sqlite import SqliteStore
from sessile.core.codec import decode
from sessile.core.context import Holding
from sessile.core.errors import (
    ApprovalAnswered,
    CallNotFound,
    LeaseLost,
    SessileError,
    SessionClosed,
    SessionNotFound,
)
from sessile.core.events import ApprovalDenied, ToolOutcome, ToolRefused, ToolStarted
from sessile.core.ids import CallId, SessionKey

ANSWERS = {"approval.granted", "approval.denied"}
ENDS = {"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"}


async def waiting(desk: Desk, *, calls: int = 1) -> tuple[Holding, tuple[CallId, ...]]:
    held = await desk.run(await desk.open())
    return held, await desk.awaits(held, calls=calls, others=1)


async def at_once(*asked: Awaitable[Any]) -> list[Any]:
    """Of each what it answered, or how it was refused."""
    return await asyncio.gather(*(refusable(each) for each in asked))


async def refusable(asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    except SessileError as refusal:
        return refusal


async def count(desk: Desk, key: SessionKey, kinds: set[str]) -> int:
    return sum(kind in kinds for kind in await desk.kinds(key))


async def check_outcomes(desk: Desk, held: Holding) -> None:
    """Each call of the turn that ended has one outcome."""
    turn = await desk.turn(held.key, held.turn_id)
    assert turn.ended
    assert turn.awaited is not None
    events = [decode(entry) for entry in await desk.log(held.key)]
    ended = sorted(event.call_id for event in events if isinstance(event, ToolOutcome))
    assert ended == sorted(call["call_id"] for call in turn.awaited.calls)


# Asking and answering -----------------------------------------------------------------------------


async def test_a_turn_that_awaits_is_nobodys_and_not_due(desk: Desk) -> None:
    held, (call_id,) = await waiting(desk)

    turn = await desk.turn(held.key, held.turn_id)

    assert turn.status == "awaiting"
    assert turn.awaited is not None
    assert (turn.awaited.call_ids, turn.awaited.answers) == ((call_id,), {})
    assert len(turn.awaited.calls) == 2
    assert (await desk.look(held.key)).head.awaiting_until_ms == desk.clock.now_ms() + EXPIRES_MS
    desk.clock.advance(milliseconds=10 * LEASE_MS)
    assert await desk.due() == []
    assert await desk.store.renew(held.node, [held], lease_ms=LEASE_MS) == {held.key}


async def test_asking_again_in_one_breath_is_applied_once(desk: Desk) -> None:
    held = await desk.run(await desk.open())
    command = desk.asking(held)

    both = await at_once(*(desk.store.transact(held.key, command) for _ in range(2)))

    assert sorted(committed.repeated for committed in both) == [False, True]
    assert await count(desk, held.key, {"turn.awaiting"}) == 1
    with pytest.raises(LeaseLost):
        await desk.finish(held, step=0)


async def test_the_last_answer_makes_the_session_due(desk: Desk) -> None:
    held, (first, second) = await waiting(desk, calls=2)

    await desk.answer(held.key, first)
    assert await desk.due() == []
    answered = await desk.answer(held.key, second, False)

    assert answered.turn is not None
    assert answered.turn.awaited is not None
    assert answered.turn.awaited.answers == {first: "granted", second: "denied"}
    assert await desk.due() == [held.key]
    taken = holding(await desk.start(held.key, node=NODE_2))
    assert (taken.turn_id, taken.attempt) == (held.turn_id, 2)


async def test_who_may_not_is_told_that_there_is_no_session(desk: Desk) -> None:
    held, (call_id,) = await waiting(desk)
    before = await desk.everything(held.key)

    for each in (call_id, CallId("call_none")):
        with pytest.raises(SessionNotFound):
            await desk.answer(held.key, each, principal=BOB)
    with pytest.raises(CallNotFound):
        await desk.answer(held.key, CallId("call_none"))

    assert await desk.everything(held.key) == before


async def test_waits_add_up(desk: Desk) -> None:
    held = await desk.run(await desk.open())
    for total in (30, 60):
        (call_id,) = await desk.awaits(held)
        desk.clock.advance(milliseconds=30)
        await desk.answer(held.key, call_id)
        held = holding(await desk.start(held.key))
        turn = await desk.turn(held.key, held.turn_id)
        assert turn.awaited is not None
        assert (turn.awaited.since_ms, turn.awaited.waited_ms) == (None, total)


# One against the other ----------------------------------------------------------------------------


@pytest.mark.parametrize("many", [2, 20])
async def test_of_answers_in_one_breath_one_counts(desk: Desk, many: int) -> None:
    held, (call_id,) = await waiting(desk)

    answers = await at_once(
        *(desk.answer(held.key, call_id, number % 2 == 0) for number in range(many))
    )

    assert await count(desk, held.key, ANSWERS) == 1
    written = [each for each in answers if not isinstance(each, Exception) and not each.repeated]
    assert len(written) == 1
    refused = [each for each in answers if isinstance(each, Exception)]
    assert len(refused) == many // 2
    assert all(isinstance(each, ApprovalAnswered) for each in refused)


async def test_answers_to_several_calls_in_one_breath_all_count(desk: Desk) -> None:
    held, calls = await waiting(desk, calls=5)

    await at_once(*(desk.answer(held.key, call_id) for call_id in calls))

    assert await count(desk, held.key, ANSWERS) == 5
    assert await desk.due() == [held.key]


STOPS: dict[str, Callable[[Desk, Holding], Awaitable[Any]]] = {
    "cancel": lambda desk, held: desk.cancel(held.key, held.turn_id),
    "interrupt": lambda desk, held: desk.submit(held.key, "now", when_busy="interrupt"),
    "close": lambda desk, held: desk.close(held.key),
}


@pytest.mark.parametrize("how", STOPS)
@pytest.mark.parametrize("answered_first", [False, True])
async def test_g8_a_stop_and_an_answer_in_one_breath_leave_one_end(
    desk: Desk, how: str, answered_first: bool
) -> None:
    held, (call_id,) = await waiting(desk)
    asked = [STOPS[how](desk, held), desk.answer(held.key, call_id)]

    await at_once(*(reversed(asked) if answered_first else asked))

    assert (await desk.turn(held.key, held.turn_id)).status == "cancelled"
    assert await count(desk, held.key, ENDS) == 1
    assert await count(desk, held.key, ANSWERS) == 1
    await check_outcomes(desk, held)
    head = (await desk.look(held.key)).head
    assert (head.awaiting_until_ms, head.cancel_turn_id) == (None, None)
    assert (head.running_turn_id is not None) == (how == "interrupt")
    assert await desk.due() == []


@pytest.mark.parametrize("answered_first", [False, True])
async def test_an_answer_and_the_claim_of_what_expired_in_one_breath(
    desk: Desk, answered_first: bool
) -> None:
    held, (call_id, silent) = await waiting(desk, calls=2)
    desk.clock.advance(milliseconds=EXPIRES_MS)
    asked: list[Awaitable[Any]] = [desk.start(held.key), desk.answer(held.key, call_id)]

    outcomes = await at_once(*(reversed(asked) if answered_first else asked))

    events = [decode(entry) for entry in await desk.log(held.key)]
    denied = {event.call_id for event in events if isinstance(event, ApprovalDenied)}
    late = any(isinstance(each, ApprovalAnswered) for each in outcomes)
    assert denied == ({call_id, silent} if late else {silent})
    assert all(e.by is None for e in events if isinstance(e, ApprovalDenied))
    assert await count(desk, held.key, ANSWERS) == 2
    assert (await desk.turn(held.key, held.turn_id)).status == "running"


async def test_claims_of_what_expired_in_one_breath_start_it_once(desk: Desk) -> None:
    held, _ = await waiting(desk, calls=2)
    desk.clock.advance(milliseconds=EXPIRES_MS)

    await at_once(desk.start(held.key), desk.start(held.key, node=NODE_2))

    kinds = await desk.kinds(held.key)
    assert kinds[-3:] == ["approval.denied", "approval.denied", "turn.started"]
    assert kinds.count("turn.started") == 2


async def test_asking_and_a_cancel_in_one_breath_leave_the_turn_to_its_node_or_end_it(
    desk: Desk,
) -> None:
    held = await desk.run(await desk.open())
    command = desk.asking(held)

    asked, _ = await at_once(
        desk.store.transact(held.key, command), desk.cancel(held.key, held.turn_id)
    )

    turn = await desk.turn(held.key, held.turn_id)
    if isinstance(asked, LeaseLost):
        assert turn.status == "running"
        await desk.finish(held)
    else:
        assert turn.status == "cancelled"
    assert await count(desk, held.key, ENDS) == 1


async def test_a_turn_with_an_unread_steer_is_ended_by_its_next_attempt(desk: Desk) -> None:
    held = await desk.run(await desk.open())
    await desk.submit(held.key, "and this", when_busy="steer")
    await desk.awaits(held)

    await desk.close(held.key)

    assert (await desk.turn(held.key, held.turn_id)).status == "awaiting"
    assert (await desk.kinds(held.key))[-3:] == [
        "approval.denied",
        "turn.cancel_requested",
        "session.closed",
    ]
    assert await desk.due() == [held.key]
    assert (await desk.start(held.key)).head is not None


async def test_an_interrupt_of_a_turn_that_awaits_starts_at_once(desk: Desk) -> None:
    held, _ = await waiting(desk)

    started = await desk.submit(held.key, "now", when_busy="interrupt")

    assert started.turn is not None
    assert started.turn.status == "running"
    assert holding(started).fence == held.fence + 1
    await desk.append(holding(started), 0, "a")


# Grants -------------------------------------------------------------------------------------------


async def test_grants_are_those_that_were_set(desk: Desk) -> None:
    key = await desk.open()

    await desk.grant(key, "refund", "export", "refund")
    before = await desk.everything(key)
    await desk.grant(key, "export", "refund")
    assert await desk.everything(key) == before
    await desk.grant(key, "manage", "export", principal=ADMIN)

    assert (await desk.look(key)).session.grants == ("export", "manage")
    assert (await desk.kinds(key))[1:] == ["session.granted"] * 3 + ["session.revoked"]
    await desk.close(key)
    with pytest.raises(SessionClosed):
        await desk.grant(key)


async def test_a_call_and_the_loss_of_its_grant_in_one_breath_are_one_of_two(desk: Desk) -> None:
    key = await desk.open()
    await desk.grant(key, "refund")
    held = await desk.run(key)
    call = desk.call(held, grant="refund")

    first, _, again = await at_once(
        desk.store.append(held, 0, [call]), desk.grant(key), desk.store.append(held, 0, [call])
    )

    assert (first.repeated, again.repeated) == (False, True)
    events = [decode(entry) for entry in await desk.log(key)]
    begun = [event for event in events if isinstance(event, ToolStarted | ToolRefused)]
    taken = [event.kind for event in events].index("session.revoked")
    assert [event.call_id for event in begun] == [call.call_id]
    assert isinstance(begun[0], ToolStarted) == (events.index(begun[0]) < taken)
    assert (await desk.append(held, 1, "a")).lease.step == 2


@pytest.mark.parametrize("has", [False, True])
async def test_a_call_that_needs_a_grant_is_written_as_it_stands_then(
    desk: Desk, has: bool
) -> None:
    """By the grants of that moment, and not by those that it was once read with."""
    key = await desk.open()
    await desk.grant(key, *(() if has else ("refund",)))
    held = await desk.run(key)
    await desk.append(held, 0, "a")
    await desk.grant(key, *(("refund",) if has else ("export",)))
    call, other = desk.call(held, grant="refund"), desk.call(held)

    committed = await desk.store.append(held, 1, [call, other])

    begun, free = (decode(entry) for entry in committed.entries)
    assert free == other
    if has:
        assert begun == call
    else:
        assert isinstance(begun, ToolRefused)
        assert (begun.call_id, begun.verdict) == (call.call_id, "needs_grant")


async def test_g7_an_old_fence_starts_no_call(desk: Desk) -> None:
    key = await desk.open()
    await desk.grant(key, "refund")
    held = await desk.run(key)
    desk.clock.advance(milliseconds=LEASE_MS)
    await desk.start(key, node=NODE_2)
    before = await desk.everything(key)

    with pytest.raises(LeaseLost):
        await desk.store.append(held, 0, [desk.call(held, grant="refund")])

    assert await desk.everything(key) == before


# What survives ------------------------------------------------------------------------------------


@pytest.fixture
async def reopened(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Desk]:
    """A desk whose store was closed and opened again after one of two calls was approved."""
    path = tmp_path / "again" / "sessile.db"
    ids = CountingIds()
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, ids)
        held, (first, _) = await waiting(desk, calls=2)
        await desk.grant(held.key, "refund")
        await desk.answer(held.key, first)
        opened = desk.opened
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, ids)
        desk.opened = opened
        yield desk
        await desk.check_folds()


async def test_answers_and_grants_survive_a_restart(reopened: Desk) -> None:
    (key,) = reopened.opened

    (turn,) = await reopened.store.turns(key, limit=10)
    assert turn.awaited is not None
    first, second = turn.awaited.call_ids
    assert turn.awaited.answers == {first: "granted"}
    assert turn.awaited.unanswered == (second,)
    assert (await reopened.look(key)).session.grants == ("refund",)
    assert await reopened.due() == []
    assert (await reopened.answer(key, first)).repeated
    with pytest.raises(ApprovalAnswered):
        await reopened.answer(key, first, False)

    await reopened.answer(key, second)

    assert await reopened.due() == [key]


async def test_a_turn_that_awaits_expires_after_a_restart(
    reopened: Desk, clock: ManualClock
) -> None:
    (key,) = reopened.opened
    clock.advance(milliseconds=EXPIRES_MS)

    assert await reopened.due() == [key]
    started = await reopened.start(key)

    assert started.turn is not None
    assert started.turn.awaited is not None
    assert sorted(started.turn.awaited.answers.values()) == ["denied", "granted"]
    await reopened.finish(holding(started), successor=runner())
