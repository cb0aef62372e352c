"""Turns that wait for an approval: what begins it, what answers it, what ends it."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.machines import (
    ADMIN,
    DAY_MS,
    KEY,
    LEASE_MS,
    NO_SUCH_SESSION,
    NODE,
    OTHER_NODE,
    OUTSIDERS,
    OWNER,
    Ledger,
    Row,
    asks_for,
    refusal_of,
    unread,
)

from sessile.core.approvals import EXPIRED
from sessile.core.attempts import STRIKES_MAX
from sessile.core.commands import (
    AnswerApproval,
    AwaitTurn,
    CancelTurn,
    CloseSession,
    Decision,
    FinishTurn,
    ReleaseTurn,
)
from sessile.core.context import Holding, Principal
from sessile.core.errors import ApprovalAnswered, CallNotFound, LeaseLost, SessionBusy
from sessile.core.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    MessageDelta,
    MessageReset,
    ToolEvent,
    ToolInterrupted,
    ToolRefused,
    TurnAwaiting,
    TurnCancelled,
    TurnProgress,
)
from sessile.core.ids import CallId, MessageId, TurnId
from sessile.core.session import Lease, due_at_ms

CLOSE = CloseSession(principal=OWNER)
OUTER = CallId("call_outer")


@pytest.fixture
def ledger() -> Ledger:
    """One session, which is idle."""
    ledger = Ledger()
    ledger.open()
    return ledger


@pytest.fixture
def row(ledger: Ledger) -> Row:
    return ledger.rows[KEY]


def due(ledger: Ledger) -> int | None:
    row = ledger.rows[KEY]
    return due_at_ms(row.head, row.lease, now_ms=ledger.now_ms)


def outcomes(row: Row) -> dict[CallId, str]:
    """Of each call that has one, and no call has two; each says why."""
    ended = [event for event in row.events if isinstance(event, ToolRefused | ToolInterrupted)]
    assert all(event.reason for event in ended)
    assert len({event.call_id for event in ended}) == len(ended)
    return {event.call_id: event.kind for event in ended}


# Beginning to wait --------------------------------------------------------------------------------


def await_turn(ledger: Ledger, holding: Holding, *, step: int = 0) -> AwaitTurn:
    asked, other = ledger.call(holding.turn_id), ledger.call(holding.turn_id, "orders.note")
    other = replace(other, parent_call_id=OUTER)
    return AwaitTurn(
        holding=holding,
        step=step,
        asked=(asked,),
        open_calls=(asked, other),
        expires_ms=DAY_MS,
        output="so far",
        closing=(asks_for(holding.turn_id, asked, other),),
    )


def test_asking_writes_what_came_before_then_each_request_then_that_the_turn_waits(
    ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    command = await_turn(ledger, holding)
    (asked,), before = command.asked, row.head.head

    decision = ledger.transact(KEY, command)

    assert decision.turn_id == holding.turn_id
    assert row.events[before:] == [
        *command.closing,
        ApprovalRequested(
            turn_id=holding.turn_id,
            call_id=asked.call_id,
            message_id=asked.message_id,
            name=asked.name,
            arguments=asked.arguments,
        ),
        TurnAwaiting(
            turn_id=holding.turn_id,
            call_ids=(asked.call_id,),
            expires_at_ms=ledger.now_ms + DAY_MS,
            calls=tuple(
                {
                    "call_id": call.call_id,
                    "message_id": call.message_id,
                    "name": call.name,
                    "arguments": call.arguments,
                    "parent_call_id": call.parent_call_id,
                }
                for call in command.open_calls
            ),
            output="so far",
        ),
    ]
    assert [call["parent_call_id"] for call in row.running.awaited.calls] == [None, OUTER]


def test_a_turn_that_awaits_has_no_lease_and_is_due_when_its_time_is_over(
    ledger: Ledger, row: Row
) -> None:
    asked_at_ms = ledger.now_ms
    ledger.awaits(ledger.run())

    assert row.lease.owner is None
    assert row.lease.until_ms == 0
    assert row.running.status == "awaiting"
    assert due(ledger) == row.head.awaiting_until_ms == asked_at_ms + DAY_MS


def test_asking_is_applied_once_however_often_it_is_sent(ledger: Ledger, row: Row) -> None:
    command = await_turn(ledger, ledger.run())
    ledger.transact(KEY, command)
    before = row.head, row.lease

    decision = ledger.transact(KEY, command)

    assert decision == Decision(repeated=True, turn_id=command.holding.turn_id)
    assert (row.head, row.lease) == before


@pytest.mark.parametrize("step", [0, 2])
def test_asking_at_a_step_that_does_not_follow_is_refused(
    step: int, ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    ledger.append(holding, 0, ledger.message(holding.turn_id))
    before = row.head, row.lease

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, await_turn(ledger, holding, step=step))

    assert (row.head, row.lease) == before


def test_who_handed_the_turn_back_does_not_ask(ledger: Ledger, row: Row) -> None:
    """Nor is it told that it did: any node may take the turn now."""
    holding = ledger.run()
    ledger.transact(KEY, ReleaseTurn(holding=holding))
    before = row.head, row.lease

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, await_turn(ledger, holding))

    assert (row.head, row.lease) == before


@pytest.mark.parametrize("stop", ["cancel", "interrupt", "close"])
def test_a_turn_that_is_to_stop_does_not_begin_to_wait(stop: str, ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    stops(ledger, stop, holding.turn_id)
    before = row.head, row.lease

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, await_turn(ledger, holding))

    assert (row.head, row.lease) == before
    ledger.finish(holding)
    assert row.turns[holding.turn_id].status == "cancelled"


@pytest.mark.parametrize("how", ["taken over", "answered and taken", "cancelled"])
def test_g7_an_old_fence_does_not_ask_again(how: str, ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    command = await_turn(ledger, holding)
    if how == "taken over":
        ledger.now_ms += LEASE_MS
    else:
        ledger.transact(KEY, command)
    if how == "answered and taken":
        ledger.answer(command.asked[0].call_id)
    if how == "cancelled":
        ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=holding.turn_id))
    else:
        assert ledger.start(OTHER_NODE)
    before = row.head, row.lease

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, command)

    assert (row.head, row.lease) == before


def test_g7_who_asked_writes_nothing_more_of_the_turn(ledger: Ledger, row: Row) -> None:
    """Its request was long on its way and is thought lost: the turn is not ended by mistake."""
    holding = ledger.run()
    ledger.append(holding, 0, ledger.message(holding.turn_id))
    command = await_turn(ledger, holding, step=1)
    ledger.transact(KEY, command)
    before = row.head, row.lease

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, FinishTurn(holding=holding, step=1, end="failed"))
    with pytest.raises(LeaseLost):
        ledger.append(holding, 0, ledger.message(holding.turn_id))
    assert not ledger.append(holding, 1, ledger.message(holding.turn_id))

    assert (row.head, row.lease) == before


def test_g7_who_let_go_of_a_turn_writes_nothing_behind_it(ledger: Ledger) -> None:
    """Its fence is still the last one, and its step the next: what it gave back is the lease."""
    holding = ledger.run()
    ledger.transact(KEY, await_turn(ledger, holding))

    with pytest.raises(LeaseLost):
        ledger.append(holding, 1, ledger.message(holding.turn_id))


def test_nothing_is_asked_that_would_be_left_without_an_outcome(ledger: Ledger) -> None:
    command = await_turn(ledger, ledger.run())

    with pytest.raises(AssertionError):
        ledger.transact(KEY, replace(command, open_calls=command.open_calls[1:]))
    with pytest.raises(AssertionError):
        ledger.transact(KEY, replace(command, asked=()))


# Answering ----------------------------------------------------------------------------------------


def test_an_answer_is_one_entry_and_says_how_many_calls_still_wait(
    ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    first, second = ledger.awaits(holding, calls=2)
    before, lease = row.head.head, row.lease

    decision = ledger.answer(second, False, by=ADMIN, reason="too much")
    ledger.answer(first)

    assert decision.turn_id == holding.turn_id
    assert row.lease == lease, "an answer is no turn"
    assert row.events[before:] == [
        ApprovalDenied(
            turn_id=holding.turn_id,
            call_id=second,
            by=ADMIN.user_id,
            unanswered=1,
            reason="too much",
        ),
        ApprovalGranted(turn_id=holding.turn_id, call_id=first, by=OWNER.user_id, unanswered=0),
    ]


@pytest.mark.parametrize("granted", [True, False])
def test_the_last_answer_makes_the_session_due(granted: bool, ledger: Ledger, row: Row) -> None:
    first, second = ledger.awaits(ledger.run(), calls=2)

    ledger.answer(first, granted)
    assert due(ledger) == row.head.awaiting_until_ms
    assert not ledger.start()

    ledger.answer(second, granted)
    assert due(ledger) == ledger.now_ms
    assert ledger.start(OTHER_NODE, suspects=False)
    assert (row.running.status, row.running.attempt, row.running.strikes) == ("running", 2, 0)
    assert row.kinds[-1] == "turn.started"


@pytest.mark.parametrize("expires", [False, True])
def test_a_suspect_that_asked_for_an_approval_is_one_no_more(
    expires: bool, ledger: Ledger, row: Row
) -> None:
    """Nobody runs it meanwhile, and its question is in the log: that is a durable step."""
    ledger.run()
    for _ in range(STRIKES_MAX):
        ledger.now_ms += LEASE_MS
        ledger.start()
    command = replace(ledger.asking(ledger.holding()), closing=())
    ledger.transact(KEY, command)

    if expires:
        ledger.now_ms += DAY_MS
    else:
        ledger.answer(command.asked[0].call_id)

    assert ledger.start(OTHER_NODE, suspects=False)
    assert row.running.strikes == 0


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("granted", [True, False])
def test_the_same_answer_again_changes_nothing(
    granted: bool, taken: bool, ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    (call_id,) = ledger.awaits(holding)
    ledger.answer(call_id, granted)
    assert not taken or ledger.start()
    before = row.head, row.lease

    decision = ledger.answer(call_id, granted, by=ADMIN)

    assert decision == Decision(repeated=True, turn_id=holding.turn_id)
    assert (row.head, row.lease) == before


@pytest.mark.parametrize(("first", "told"), [(True, "granted"), (False, "denied")])
def test_another_answer_is_refused(first: bool, told: str, ledger: Ledger, row: Row) -> None:
    (call_id,) = ledger.awaits(ledger.run())
    ledger.answer(call_id, first)
    before = row.head, row.lease

    with pytest.raises(ApprovalAnswered) as refused:
        ledger.answer(call_id, not first)

    assert refused.value.details == {"answer": told}
    assert (row.head, row.lease) == before


def test_an_answer_of_an_earlier_wait_is_still_known(ledger: Ledger) -> None:
    holding = ledger.run()
    (first,) = ledger.awaits(holding)
    ledger.answer(first)
    ledger.start()
    (second,) = ledger.awaits(ledger.holding())

    assert ledger.answer(first) == Decision(repeated=True, turn_id=holding.turn_id)
    with pytest.raises(ApprovalAnswered):
        ledger.answer(first, False)
    assert ledger.rows[KEY].running.awaited.unanswered == (second,)  # type: ignore[union-attr]


@pytest.mark.parametrize("state", ["idle", "queued", "running", "awaiting", "ended", "closed"])
def test_a_call_that_does_not_wait_is_not_found(state: str, ledger: Ledger, row: Row) -> None:
    call_id = CallId("call_none")
    if state == "queued":
        ledger.submit()
    elif state != "idle":
        holding = ledger.run()
        if state != "running":
            (waits,) = ledger.awaits(holding)
            call_id = CallId("call_none") if state == "awaiting" else waits
        if state == "ended":
            ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=holding.turn_id))
        if state == "closed":
            ledger.transact(KEY, CLOSE)
    before = row.head, row.lease

    with pytest.raises(CallNotFound):
        ledger.answer(call_id)

    assert (row.head, row.lease) == before


def test_a_call_that_waits_beside_those_that_were_asked_for_takes_no_answer(
    ledger: Ledger, row: Row
) -> None:
    ledger.awaits(ledger.run(), others=1)
    assert row.running.awaited is not None
    other = row.running.awaited.calls[-1]["call_id"]

    with pytest.raises(CallNotFound):
        ledger.answer(other)


@pytest.mark.parametrize("outsider", OUTSIDERS)
def test_g11_an_outsider_is_not_told_which_calls_wait(
    outsider: Principal, ledger: Ledger, row: Row
) -> None:
    (call_id,) = ledger.awaits(ledger.run())
    before = row.head

    for each in (call_id, CallId("call_none")):
        command = AnswerApproval(principal=outsider, call_id=each, granted=True)
        assert refusal_of(ledger, KEY, command) == NO_SUCH_SESSION

    assert row.head == before


# Expiring -----------------------------------------------------------------------------------------


def test_a_claim_after_the_time_is_over_denies_what_nobody_answered(
    ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    first, second, third = ledger.awaits(holding, calls=3)
    ledger.answer(second)
    ledger.now_ms += DAY_MS
    before = row.head.head

    assert ledger.start(OTHER_NODE, suspects=False)

    assert row.events[before:-1] == [
        ApprovalDenied(
            turn_id=holding.turn_id, call_id=call_id, by=None, unanswered=left, reason=EXPIRED
        )
        for call_id, left in ((first, 1), (third, 0))
    ]
    assert row.kinds[-1] == "turn.started"
    assert row.running.awaited is not None
    assert row.running.awaited.answers == {first: "denied", second: "granted", third: "denied"}


def test_a_turn_whose_calls_are_answered_does_not_expire(ledger: Ledger, row: Row) -> None:
    (call_id,) = ledger.awaits(ledger.run())
    ledger.answer(call_id)
    ledger.now_ms += 2 * DAY_MS
    before = row.head.head

    assert ledger.start()

    assert row.kinds[before:] == ["turn.started"]


def test_an_answer_after_the_claim_of_what_expired_comes_too_late(ledger: Ledger) -> None:
    (call_id,) = ledger.awaits(ledger.run())
    ledger.now_ms += DAY_MS
    ledger.start()

    with pytest.raises(ApprovalAnswered) as refused:
        ledger.answer(call_id)
    assert refused.value.details == {"answer": "denied"}
    assert ledger.answer(call_id, False).repeated


def test_an_answer_before_the_claim_of_what_expired_counts(ledger: Ledger, row: Row) -> None:
    (call_id,) = ledger.awaits(ledger.run())
    ledger.now_ms += DAY_MS

    ledger.answer(call_id)
    ledger.start()

    assert row.running.awaited is not None
    assert row.running.awaited.answers == {call_id: "granted"}
    assert "approval.denied" not in row.kinds


# Later inputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("when_busy", ["enqueue", "steer"])
def test_a_later_input_queues_behind_a_turn_that_awaits(
    when_busy: Any, answered: bool, ledger: Ledger, row: Row
) -> None:
    (call_id,) = ledger.awaits(ledger.run())
    if answered:
        ledger.answer(call_id)

    waiting = ledger.submit(when_busy, runner=NODE)

    assert row.queue() == [waiting]
    assert row.running.status == "awaiting"
    assert row.head.steers_unread == 0


@pytest.mark.parametrize("answered", [False, True])
def test_a_turn_that_awaits_rejects_what_asks_to_be_rejected(
    answered: bool, ledger: Ledger, row: Row
) -> None:
    (call_id,) = ledger.awaits(ledger.run())
    if answered:
        ledger.answer(call_id)

    with pytest.raises(SessionBusy) as refused:
        ledger.submit("reject", runner=NODE)

    assert refused.value.details == {"running_turn_id": row.running.turn_id}


def test_what_queued_behind_a_turn_that_awaits_starts_after_it(ledger: Ledger, row: Row) -> None:
    (call_id,) = ledger.awaits(ledger.run())
    waiting = ledger.submit()
    ledger.answer(call_id)
    ledger.start()

    ledger.finish(ledger.holding(), successor=NODE)

    assert row.running.turn_id == waiting


# Giving up ----------------------------------------------------------------------------------------

REASONS = {"cancel": "asked", "interrupt": "displaced", "close": "closed"}


def stops(ledger: Ledger, how: str, turn_id: TurnId, *, by: Principal = ADMIN) -> None:
    match how:
        case "cancel":
            ledger.transact(KEY, CancelTurn(principal=by, turn_id=turn_id))
        case "interrupt":
            ledger.submit("interrupt", runner=OTHER_NODE, principal=by)
        case _:
            ledger.transact(KEY, CloseSession(principal=by))


@pytest.mark.parametrize("how", REASONS)
def test_g8_a_turn_that_awaits_is_ended_in_the_transaction_that_stops_it(
    how: str, ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    granted, denied, silent = ledger.awaits(holding, calls=3, others=1)
    ledger.answer(granted)
    ledger.answer(denied, False)
    awaited = row.running.awaited
    assert awaited is not None
    before = row.head.head

    stops(ledger, how, holding.turn_id)

    denial, *ended, end = row.events[before : before + 6]
    turn_id, reason = holding.turn_id, REASONS[how]
    assert denial == ApprovalDenied(
        turn_id=turn_id, call_id=silent, by=ADMIN.user_id, unanswered=0, reason=reason
    )
    for call, event in zip(awaited.calls, ended, strict=True):
        assert isinstance(event, ToolEvent)
        shown = {name: getattr(event, name, None) for name in call}
        assert shown == call, "the card of the call is the one that is updated"
    other = awaited.calls[-1]["call_id"]
    assert [(event.call_id, event.kind) for event in ended] == [
        (granted, "tool.interrupted"),
        (denied, "tool.refused"),
        (silent, "tool.refused"),
        (other, "tool.interrupted"),
    ]
    assert end == TurnCancelled(turn_id=turn_id, reason=reason, by=ADMIN.user_id, output="so far")
    assert (row.turns[turn_id].status, row.turns[turn_id].output) == ("cancelled", "so far")
    assert row.head.awaiting_until_ms is None
    assert row.head.cancel_turn_id is None


@pytest.mark.parametrize("known", [True, False])
def test_a_call_whose_turn_is_given_up_names_the_call_it_was_made_from(
    known: bool, ledger: Ledger, row: Row
) -> None:
    """Where the log has it: what was written before it was kept does not."""
    holding = ledger.run()
    command = await_turn(ledger, holding)
    asked, other = (replace(call, parent_call_id=OUTER) for call in command.open_calls)
    ledger.transact(KEY, replace(command, asked=(asked,), open_calls=(asked, other)))
    if not known:
        forgets_parents(row)

    stops(ledger, "cancel", holding.turn_id)

    outcomes = [e for e in row.events if isinstance(e, ToolRefused | ToolInterrupted)]
    assert [event.kind for event in outcomes] == ["tool.refused", "tool.interrupted"]
    assert [event.parent_call_id for event in outcomes] == [OUTER if known else None] * 2


def forgets_parents(row: Row) -> None:
    """As an older version wrote it."""
    turn = row.running
    assert turn.awaited is not None
    names = ("call_id", "message_id", "name", "arguments")
    calls = tuple({name: call[name] for name in names} for call in turn.awaited.calls)
    row.turns[turn.turn_id] = replace(turn, awaited=replace(turn.awaited, calls=calls))


def test_g8_a_message_that_was_open_is_void_when_its_turn_is_given_up(
    ledger: Ledger, row: Row
) -> None:
    holding, message_id = ledger.run(), MessageId("msg_open")
    delta = MessageDelta(turn_id=holding.turn_id, message_id=message_id, offset=0, text="I will")
    ledger.append(holding, 0, delta)
    ledger.transact(KEY, replace(ledger.asking(holding), open_message_id=message_id))

    stops(ledger, "cancel", holding.turn_id)

    reset = MessageReset(turn_id=holding.turn_id, message_id=message_id)
    assert row.events.count(reset) == 1
    assert row.events[-1].kind == "turn.cancelled"


def test_a_call_that_was_denied_says_so_when_its_turn_is_given_up(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    denied, _ = ledger.awaits(holding, calls=2)
    ledger.answer(denied, False)

    stops(ledger, "cancel", holding.turn_id)

    refused = [event for event in row.events if isinstance(event, ToolRefused)]
    reasons = {event.call_id: event.reason for event in refused}
    assert len(set(reasons.values())) == 2
    assert "denied" in reasons[denied]
    assert {event.verdict for event in refused} == {"denied"}
    assert all(reasons.values())


def test_g13_the_end_of_a_turn_that_was_given_up_counts_what_the_record_had(
    ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    counted = {"current_iteration": 2, "total_iterations": 5, "tokens_used": 30}
    ledger.append(holding, 0, TurnProgress(turn_id=holding.turn_id, **counted))
    ledger.awaits(holding)

    stops(ledger, "cancel", holding.turn_id)

    end = row.events[-1]
    assert (end.current_iteration, end.total_iterations) == (2, 5)
    assert (end.tokens_used, end.total_tokens) == (30, 30)


def test_an_interrupt_of_a_turn_that_awaits_starts_at_once(ledger: Ledger, row: Row) -> None:
    ledger.awaits(ledger.run())
    waiting = ledger.submit()

    urgent = ledger.submit("interrupt", runner=OTHER_NODE)

    assert row.turns[waiting].status == "cancelled"
    assert row.running.turn_id == urgent
    assert row.running.status == "running"
    assert row.lease == Lease(owner=OTHER_NODE.node, until_ms=ledger.now_ms + LEASE_MS)
    assert row.kinds[-3:] == ["turn.queued", "turn.started", "message.added"]


def test_an_interrupt_without_a_slot_is_due_at_once(ledger: Ledger, row: Row) -> None:
    ledger.awaits(ledger.run())

    urgent = ledger.submit("interrupt")

    assert row.queue() == [urgent]
    assert due(ledger) == ledger.now_ms
    assert ledger.start()


def test_what_waited_behind_a_turn_that_was_given_up_is_due(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.awaits(holding)
    waiting = ledger.submit()

    stops(ledger, "cancel", holding.turn_id)

    assert due(ledger) == ledger.now_ms
    assert ledger.start()
    assert row.running.turn_id == waiting


def test_a_closed_session_has_nothing_after_the_end_of_what_awaited(
    ledger: Ledger, row: Row
) -> None:
    ledger.awaits(ledger.run())

    ledger.transact(KEY, CLOSE)

    assert row.kinds[-2:] == ["turn.cancelled", "session.closed"]
    assert due(ledger) is None


# A steer that nobody has read ---------------------------------------------------------------------


@pytest.mark.parametrize("how", REASONS)
def test_a_turn_that_awaits_with_an_unread_steer_is_ended_by_its_next_attempt(
    how: str, ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    steer = ledger.submit("steer")
    first, second = ledger.awaits(holding, calls=2)
    ledger.answer(first)

    stops(ledger, how, holding.turn_id)

    denied = [event for event in row.events if isinstance(event, ApprovalDenied)]
    assert denied == [
        ApprovalDenied(
            turn_id=holding.turn_id,
            call_id=second,
            by=ADMIN.user_id,
            unanswered=0,
            reason=REASONS[how],
        )
    ]
    assert row.head.cancel_turn_id == holding.turn_id
    assert due(ledger) == ledger.now_ms, "what awaits is not left waiting when it is cancelled"
    assert ledger.start()
    seen = unread(row, holding.turn_id)
    ledger.finish(ledger.holding(), unread=seen)
    assert row.turns[holding.turn_id].status == "cancelled"
    assert row.turns[holding.turn_id].cancel_by == ADMIN.user_id
    assert row.turns[steer].status == ("cancelled" if how == "close" else "queued")


@pytest.mark.parametrize("how", REASONS)
def test_a_turn_that_is_to_stop_takes_no_answer(how: str, ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.submit("steer")
    (call_id,) = ledger.awaits(holding)
    stops(ledger, how, holding.turn_id)
    before = row.head, row.lease

    with pytest.raises(ApprovalAnswered):
        ledger.answer(call_id)

    assert (row.head, row.lease) == before


def test_stopping_it_again_changes_nothing(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.submit("steer")
    ledger.awaits(holding)
    stops(ledger, "cancel", holding.turn_id)
    before = row.head

    stops(ledger, "cancel", holding.turn_id)

    assert row.head == before


# The time spent -----------------------------------------------------------------------------------


def waited_ms(row: Row, turn_id: TurnId) -> tuple[int | None, int]:
    awaited = row.turns[turn_id].awaited
    assert awaited is not None
    return awaited.since_ms, awaited.waited_ms


def test_the_time_spent_waiting_is_kept_and_several_waits_add_up(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    for waits, total in ((5, 5), (7, 12), (DAY_MS, 12 + DAY_MS)):
        (call_id,) = ledger.awaits(ledger.holding())
        assert waited_ms(row, holding.turn_id) == (ledger.now_ms, total - waits)
        ledger.now_ms += waits
        if waits < DAY_MS:
            ledger.answer(call_id)
        assert ledger.start()
        ledger.now_ms += 100
        assert waited_ms(row, holding.turn_id) == (None, total)

    ledger.finish(ledger.holding())

    assert waited_ms(row, holding.turn_id) == (None, 12 + DAY_MS)


@pytest.mark.parametrize("how", REASONS)
def test_the_wait_of_a_turn_that_was_given_up_is_over(how: str, ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.awaits(holding)
    ledger.now_ms += 40

    stops(ledger, how, holding.turn_id)

    assert waited_ms(row, holding.turn_id) == (None, 40)


# One against the other ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", REASONS)
@pytest.mark.parametrize("granted", [True, False])
def test_of_a_stop_and_an_answer_the_first_counts(
    granted: bool, how: str, ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    (call_id,) = ledger.awaits(holding)
    stops(ledger, how, holding.turn_id)
    before = row.head, row.lease

    with pytest.raises(CallNotFound):
        ledger.answer(call_id, granted)

    assert (row.head, row.lease) == before
    assert outcomes(row) == {call_id: "tool.refused"}


@pytest.mark.parametrize("how", REASONS)
@pytest.mark.parametrize("granted", [True, False])
def test_of_an_answer_and_a_stop_both_are_told(
    granted: bool, how: str, ledger: Ledger, row: Row
) -> None:
    """The call was not made, though it was approved: its outcome says so."""
    holding = ledger.run()
    (call_id,) = ledger.awaits(holding)
    ledger.answer(call_id, granted)

    stops(ledger, how, holding.turn_id)

    assert row.turns[holding.turn_id].status == "cancelled"
    assert outcomes(row) == {call_id: "tool.interrupted" if granted else "tool.refused"}
    answers = [kind for kind in row.kinds if kind in {"approval.granted", "approval.denied"}]
    assert answers == ["approval.granted" if granted else "approval.denied"]


@pytest.mark.parametrize("how", REASONS)
def test_a_stop_after_the_claim_is_for_who_runs_the_turn(
    how: str, ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    ledger.awaits(holding)
    ledger.now_ms += DAY_MS
    ledger.start()

    stops(ledger, how, holding.turn_id)

    assert row.running.status == "running"
    assert row.head.cancel_turn_id == holding.turn_id
    assert outcomes(row) == {}
