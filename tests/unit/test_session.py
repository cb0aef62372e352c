"""Folds of a log: the head, the wide row and the turns."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.machines import ADMIN, KEY, OWNER, says

from sessile.core.events import (
    ApprovalDenied,
    ApprovalGranted,
    Event,
    LogCompacted,
    MessageAdded,
    MessageDelta,
    Progress,
    SessionClosed,
    SessionForked,
    SessionGranted,
    SessionHandedOff,
    SessionOpened,
    SessionRedacted,
    SessionRevoked,
    SessionSummarized,
    SessionUpdated,
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
    ToolStarted,
    TurnAwaiting,
    TurnCancelled,
    TurnCancelRequested,
    TurnCompleted,
    TurnEdited,
    TurnFailed,
    TurnInterrupted,
    TurnProgress,
    TurnQueued,
    TurnStarted,
    TurnSteered,
    Unknown,
)
from sessile.core.ids import CallId, Fence, MessageId, NodeId, Seq, TurnId
from sessile.core.session import (
    ENDED,
    FREE,
    Awaited,
    Lease,
    Session,
    SessionHead,
    Turn,
    due_at_ms,
    evolve,
    evolve_session,
    unborn,
)
from sessile.core.turns import evolve_turn

NOW_MS = 5_000
TRN = TurnId("trn_1")
MSG = MessageId("msg_1")
OPENED = SessionOpened(
    user_id=OWNER.user_id, assistant="support", title="Hi", metadata={"a": 1}, exclusive_key="k"
)
QUEUED = TurnQueued(turn_id=TRN, position=1, input=says("one"), message_id=MSG, by=OWNER.user_id)
STARTED = TurnStarted(turn_id=TRN, attempt=1, fence=Fence(1), node="n1")
STEERED = TurnSteered(
    turn_id=TRN,
    steer_id=TurnId("trn_2"),
    message_id=MessageId("msg_2"),
    input=says("two"),
    by=OWNER.user_id,
)
AWAITING = TurnAwaiting(turn_id=TRN, call_ids=(CallId("call_1"),), expires_at_ms=9_000)
GRANTED = ApprovalGranted(turn_id=TRN, call_id=CallId("call_1"), by=OWNER.user_id, unanswered=0)
DENIED = ApprovalDenied(turn_id=TRN, call_id=CallId("call_1"), by=None, unanswered=0)
CANCEL = TurnCancelRequested(turn_id=TRN, by=ADMIN.user_id, reason="displaced")
COMPLETED = TurnCompleted(turn_id=TRN, output="done")
LEASED = Lease(owner=NodeId("n1"), until_ms=7_000, step=3)


def message(role: str, **rest: object) -> MessageAdded:
    return MessageAdded(turn_id=TRN, message_id=MSG, role=role, parts=(), **rest)


def tool(cls: type, **rest: object) -> Any:
    return cls(
        turn_id=TRN,
        call_id=CallId("call_1"),
        message_id=MSG,
        name="lookup",
        arguments={},
        **rest,
    )


def head_of(*events: Event) -> SessionHead:
    return evolve(unborn(KEY, OWNER.user_id), (OPENED, *events))


def session_of(*events: Event) -> Session | None:
    session: Session | None = None
    for at_ms, event in enumerate((OPENED, *events), start=1):
        session = evolve_session(session, event, key=KEY, at_ms=at_ms)
    return session


def turn_of(*events: Event) -> Turn:
    turn: Turn | None = None
    for seq, event in enumerate((QUEUED, *events), start=2):
        turn = evolve_turn(turn, event, key=KEY, seq=Seq(seq), at_ms=1_000 * seq)
    assert turn is not None
    return turn


# The head ---------------------------------------------------------------------------------------


def test_a_session_that_is_not_born_has_an_empty_log() -> None:
    head = unborn(KEY, OWNER.user_id)

    assert (head.head, head.fence, head.queued, head.next_position) == (0, 0, 0, 1)
    assert head.status == "active"
    assert due_at_ms(head, FREE, now_ms=NOW_MS) is None


def test_the_head_takes_owner_and_exclusive_key_from_the_birth() -> None:
    head = evolve(unborn(KEY, ADMIN.user_id), (OPENED,))

    assert (head.user_id, head.exclusive_key, head.head) == (OWNER.user_id, "k", 1)


def test_a_fold_of_nothing_changes_nothing() -> None:
    head = head_of(QUEUED, STARTED, STEERED, AWAITING, CANCEL)

    assert evolve(head, ()) == head


def test_every_entry_moves_the_head_by_one_whatever_its_kind() -> None:
    others: tuple[Event, ...] = (
        Unknown(kind="moon.risen", turn_id=TRN),
        MessageDelta(turn_id=TRN, message_id=MSG, offset=0, text="so"),
        TurnProgress(turn_id=TRN),
        GRANTED,
    )
    head = head_of(QUEUED, STARTED)

    assert evolve(head, others) == replace(head, head=Seq(head.head + len(others)))


def test_a_queued_turn_counts_and_takes_its_position() -> None:
    head = head_of(QUEUED, replace(QUEUED, turn_id=TurnId("trn_2"), position=2))

    assert (head.queued, head.next_position, head.running_turn_id) == (2, 3, None)


def test_a_started_turn_leaves_the_queue_once_however_often_it_starts() -> None:
    once = head_of(QUEUED, STARTED)
    twice = evolve(once, (replace(STARTED, attempt=2, fence=Fence(2)),))

    assert (once.queued, once.running_turn_id, once.fence) == (0, TRN, 1)
    assert (twice.queued, twice.running_turn_id, twice.fence) == (0, TRN, 2)


@pytest.mark.parametrize(
    "end",
    [
        COMPLETED,
        TurnFailed(turn_id=TRN, error={}),
        TurnCancelled(turn_id=TRN, reason="asked", by=OWNER.user_id),
        TurnInterrupted(turn_id=TRN, reason="lost"),
    ],
)
def test_the_end_of_the_running_turn_clears_all_that_was_its(end: Event) -> None:
    waiting = replace(QUEUED, turn_id=TurnId("trn_2"), position=2)

    head = head_of(QUEUED, STARTED, waiting, STEERED, AWAITING, CANCEL, end)

    assert head.running_turn_id is None
    assert head.cancel_turn_id is None
    assert head.awaiting_until_ms is None
    assert head.steers_unread == 0
    assert (head.queued, head.fence) == (1, 1)


def test_the_end_of_a_queued_turn_leaves_the_running_one_alone() -> None:
    waiting = replace(QUEUED, turn_id=TurnId("trn_2"), position=2)
    before = head_of(QUEUED, STARTED, waiting, STEERED, AWAITING, CANCEL)

    after = evolve(
        before, (TurnCancelled(turn_id=TurnId("trn_2"), reason="asked", by=OWNER.user_id),)
    )

    assert after == replace(before, head=Seq(before.head + 1), queued=0)


def test_a_steer_is_unread_until_its_message_is_there() -> None:
    steered = head_of(QUEUED, STARTED, message("user"), STEERED)
    read = evolve(steered, (message("user", steer_id=STEERED.steer_id),))

    assert steered.steers_unread == 1
    assert read.steers_unread == 0


def test_a_turn_awaits_until_its_last_answer() -> None:
    one_left = head_of(QUEUED, STARTED, AWAITING, replace(GRANTED, unanswered=1))

    assert one_left.awaiting_until_ms == 9_000
    for last in (GRANTED, DENIED):
        assert evolve(one_left, (last,)).awaiting_until_ms is None


def test_a_turn_awaits_until_its_next_attempt() -> None:
    awaiting = head_of(QUEUED, STARTED, AWAITING)
    started = evolve(awaiting, (replace(STARTED, attempt=2, fence=Fence(2)),))

    assert (awaiting.awaiting_until_ms, awaiting.running_turn_id) == (9_000, TRN)
    assert started.awaiting_until_ms is None


def test_a_closed_session_stays_closed() -> None:
    head = head_of(QUEUED, STARTED, SessionClosed(by=OWNER.user_id), COMPLETED)

    assert head.status == "closed"


# What is due ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "lease", "due"),
    [
        ((), FREE, None),
        ((QUEUED,), FREE, NOW_MS),
        ((QUEUED, STARTED), LEASED, LEASED.until_ms),
        ((QUEUED, STARTED), FREE, NOW_MS),
        ((QUEUED, STARTED, AWAITING), LEASED, LEASED.until_ms),
        ((QUEUED, STARTED, AWAITING), FREE, AWAITING.expires_at_ms),
        ((QUEUED, STARTED, AWAITING, GRANTED), FREE, NOW_MS),
        ((QUEUED, STARTED, AWAITING, DENIED, CANCEL), FREE, NOW_MS),
        ((QUEUED, STARTED, CANCEL), LEASED, LEASED.until_ms),
        ((QUEUED, STARTED, COMPLETED), FREE, None),
        ((QUEUED, STARTED, CANCEL, SessionClosed(by=OWNER.user_id)), FREE, NOW_MS),
        ((QUEUED, STARTED, SessionClosed(by=OWNER.user_id), COMPLETED), FREE, None),
    ],
)
def test_a_session_is_due_when_a_turn_of_it_can_run(
    events: tuple[Event, ...], lease: Lease, due: int | None
) -> None:
    assert due_at_ms(head_of(*events), lease, now_ms=NOW_MS) == due


# The wide row -----------------------------------------------------------------------------------


def test_the_wide_row_is_what_the_birth_said() -> None:
    assert session_of() == Session(
        key=KEY,
        user_id=OWNER.user_id,
        assistant="support",
        title="Hi",
        metadata={"a": 1},
        grants=(),
        created_at_ms=1,
        updated_at_ms=1,
    )


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (
            SessionUpdated(title=None, metadata={"b": 2}, by=OWNER.user_id),
            {"title": None, "metadata": {"b": 2}},
        ),
        (SessionHandedOff(assistant="loans"), {"assistant": "loans"}),
        (SessionGranted(grant="g", by=ADMIN.user_id), {"grants": ("g",)}),
        (SessionRevoked(grant="g", by=ADMIN.user_id), {}),
        (SessionClosed(by=OWNER.user_id), {}),
    ],
)
def test_the_wide_row_follows_what_is_said_of_the_session(
    event: Event, changed: dict[str, Any]
) -> None:
    before = session_of()
    assert before is not None

    assert session_of(event) == replace(before, updated_at_ms=2, **changed)


@pytest.mark.parametrize(
    "event",
    [
        QUEUED,
        STARTED,
        COMPLETED,
        message("user"),
        SessionForked(from_session_id=KEY.session_id, from_turn_id=TRN, from_seq=Seq(1)),
        SessionSummarized(summary="They met.", upto_seq=Seq(1)),
        SessionRedacted(message_ids=(MSG,), by=ADMIN.user_id),
        LogCompacted(from_seq=Seq(1), to_seq=Seq(2)),
        Unknown(kind="session.moonlit", turn_id=None),
    ],
)
def test_most_events_leave_the_wide_row_as_it_is(event: Event) -> None:
    before = session_of()

    assert evolve_session(before, event, key=KEY, at_ms=9) is before


def test_there_is_no_wide_row_before_the_birth() -> None:
    closed = SessionClosed(by=OWNER.user_id)

    assert evolve_session(None, closed, key=KEY, at_ms=9) is None


def test_grants_are_a_sorted_set() -> None:
    granted = [SessionGranted(grant=grant, by=ADMIN.user_id) for grant in "bab"]

    session = session_of(*granted)
    revoked = session_of(*granted, SessionRevoked(grant="b", by=ADMIN.user_id))

    assert session is not None
    assert session.grants == ("a", "b")
    assert revoked is not None
    assert revoked.grants == ("a",)


# Turns ------------------------------------------------------------------------------------------


def test_a_turn_begins_as_it_was_queued() -> None:
    assert turn_of() == Turn(
        session_id=KEY.session_id,
        turn_id=TRN,
        seq=Seq(2),
        position=1,
        message_id=MSG,
        by=OWNER.user_id,
        input=says("one"),
        created_at_ms=2_000,
    )


def test_a_turn_that_waits_has_done_nothing() -> None:
    turn = turn_of()

    assert (turn.status, turn.attempt, turn.strikes) == ("queued", 0, 0)
    assert not turn.ended
    assert not turn.progressed
    assert turn.progress == Progress()
    assert (turn.started_at_ms, turn.ended_at_ms, turn.output, turn.error) == (None,) * 4
    assert (turn.cancel_reason, turn.cancel_by) == (None, None)


def test_there_is_no_turn_before_it_was_queued() -> None:
    assert evolve_turn(None, STARTED, key=KEY, seq=Seq(1), at_ms=1) is None


def test_a_started_turn_runs() -> None:
    turn = turn_of(STARTED)

    assert (turn.status, turn.attempt, turn.strikes) == ("running", 1, 0)
    assert turn.started_at_ms == 3_000


def test_a_further_attempt_keeps_the_first_start_and_takes_its_strikes() -> None:
    turn = turn_of(STARTED, message("assistant"), replace(STARTED, attempt=2, strikes=1))

    assert (turn.attempt, turn.strikes, turn.progressed) == (2, 1, False)
    assert turn.started_at_ms == 3_000


def test_an_edited_input_is_the_turns_input() -> None:
    edited = TurnEdited(turn_id=TRN, input=says("other"), by=OWNER.user_id)

    assert turn_of(edited) == replace(turn_of(), input=says("other"))


def test_a_turn_that_awaits_says_so_until_it_goes_on() -> None:
    assert turn_of(STARTED, AWAITING).status == "awaiting"
    assert not turn_of(STARTED, AWAITING).ended
    assert turn_of(STARTED, AWAITING, replace(STARTED, attempt=2)).status == "running"


def test_what_a_turn_waits_for_and_the_answers_are_in_its_record() -> None:
    call = {"call_id": "call_1", "message_id": MSG, "name": "lookup", "arguments": {}}
    asked = replace(AWAITING, calls=(call,), output="so far")

    assert turn_of(STARTED).awaited is None
    assert turn_of(STARTED, asked).awaited == Awaited(
        calls=(call,),
        call_ids=(CallId("call_1"),),
        answers={},
        output="so far",
        since_ms=4_000,
        waited_ms=0,
    )
    assert turn_of(STARTED, asked, DENIED).awaited == Awaited(
        calls=(call,),
        call_ids=(CallId("call_1"),),
        answers={"call_1": "denied"},
        output="so far",
        since_ms=4_000,
        waited_ms=0,
    )


@pytest.mark.parametrize("answer", [GRANTED, DENIED])
def test_an_answer_to_a_turn_that_never_waited_leaves_the_record_as_it_is(answer: Event) -> None:
    turn = turn_of(STARTED)

    assert evolve_turn(turn, answer, key=KEY, seq=Seq(9), at_ms=9) is turn


def test_who_asked_for_a_cancel_and_why_is_kept() -> None:
    turn = turn_of(STARTED, CANCEL)

    assert (turn.cancel_reason, turn.cancel_by) == ("displaced", ADMIN.user_id)
    assert turn.status == "running"


@pytest.mark.parametrize(
    ("end", "status", "error"),
    [
        (COMPLETED, "completed", None),
        (
            TurnFailed(turn_id=TRN, error={"code": "x"}, output="done"),
            "failed",
            {"code": "x"},
        ),
        (
            TurnCancelled(turn_id=TRN, reason="asked", by=OWNER.user_id, output="done"),
            "cancelled",
            {"code": "cancelled", "message": "asked", "retry": False},
        ),
        (
            TurnInterrupted(turn_id=TRN, reason="lost", output="done"),
            "interrupted",
            {"code": "interrupted", "message": "lost", "retry": True},
        ),
    ],
)
def test_a_turn_ends_in_one_of_four_ways(end: Event, status: str, error: object) -> None:
    turn = turn_of(STARTED, end)

    assert (turn.status, turn.error, turn.output) == (status, error, "done")
    assert turn.ended_at_ms == 4_000
    assert turn.ended


def test_the_four_ends_are_all_there_are() -> None:
    assert {"completed", "failed", "cancelled", "interrupted"} == ENDED


def test_g13_the_record_keeps_the_largest_of_each_number() -> None:
    turn = turn_of(
        STARTED,
        TurnProgress(turn_id=TRN, current_iteration=3, tokens_used=10),
        TurnProgress(turn_id=TRN, current_iteration=1, total_iterations=5, tokens_used=20),
    )

    assert turn.progress == Progress(current_iteration=3, total_iterations=5, tokens_used=20)


def test_g13_no_number_of_the_record_falls_at_the_end() -> None:
    turn = turn_of(
        STARTED,
        TurnProgress(turn_id=TRN, current_iteration=3, total_iterations=5, tokens_used=20),
        replace(COMPLETED, current_iteration=2, tokens_used=30),
    )

    assert turn.progress == Progress(
        current_iteration=3, total_iterations=5, tokens_used=30, total_tokens=30
    )


@pytest.mark.parametrize(
    "step",
    [
        message("assistant"),
        tool(ToolCompleted, result=None),
        tool(ToolFailed, error="no"),
        tool(ToolInterrupted, reason="lost"),
        tool(ToolRefused, verdict="denied", reason="no"),
    ],
)
def test_a_whole_message_and_a_tools_outcome_are_durable_steps(step: Event) -> None:
    turn = turn_of(STARTED, step)

    assert turn.progressed
    assert evolve_turn(turn, step, key=KEY, seq=Seq(9), at_ms=9) is turn


@pytest.mark.parametrize(
    "event",
    [
        message("user"),
        message("system"),
        tool(ToolStarted),
        STEERED,
        MessageDelta(turn_id=TRN, message_id=MSG, offset=0, text="so"),
        Unknown(kind="turn.moonlit", turn_id=TRN),
    ],
)
def test_what_is_no_durable_step_leaves_the_record_as_it_is(event: Event) -> None:
    turn = turn_of(STARTED)

    assert evolve_turn(turn, event, key=KEY, seq=Seq(9), at_ms=9) is turn
