"""The audit folds a log again and finds every row that says something else."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant
from tests.unit.machines import EXAMPLES, SessionMachine, log_of

from sessile.core.audit import FAULTS_MAX, Audit, Check, SessionChecks
from sessile.core.codec import encode, turn_of
from sessile.core.events import (
    Entry,
    Event,
    LogCompacted,
    MessageAdded,
    MessageDelta,
    SessionClosed,
    SessionForked,
    SessionOpened,
    SessionRedacted,
    SessionUpdated,
    ToolCompleted,
    ToolStarted,
    TurnAwaiting,
    TurnCancelled,
    TurnCancelRequested,
    TurnCompleted,
    TurnProgress,
    TurnQueued,
    TurnStarted,
    TurnSteered,
)
from sessile.core.ids import (
    CallId,
    Fence,
    MessageId,
    Seq,
    SessionId,
    SessionKey,
    TenantId,
    TurnId,
    UserId,
)
from sessile.core.session import (
    Session,
    SessionHead,
    Turn,
    evolve,
    evolve_session,
    unborn,
)
from sessile.core.turns import evolve_turn

KEY = SessionKey(TenantId("acme"), SessionId("ses_1"))
ANN = UserId("ann")
T1, T2 = TurnId("trn_1"), TurnId("trn_2")
CALL = CallId("call_1")

OPENED = SessionOpened(user_id=ANN, assistant="support")


def queued(turn_id: TurnId = T1, position: int = 1) -> TurnQueued:
    message_id = MessageId(f"msg_{turn_id}")
    given = {"type": "message", "text": "Hello"}
    return TurnQueued(
        turn_id=turn_id, position=position, input=given, message_id=message_id, by=ANN
    )


def started(turn_id: TurnId = T1) -> TurnStarted:
    return TurnStarted(turn_id=turn_id, attempt=1, fence=Fence(1), node="node-1")


def asks_for(call_id: CallId) -> MessageAdded:
    call = {"type": "tool_call", "call_id": call_id, "name": "look", "arguments": {}}
    return MessageAdded(turn_id=T1, message_id=MessageId("msg_2"), role="assistant", parts=(call,))


def tool_started(call_id: CallId = CALL) -> ToolStarted:
    return ToolStarted(
        turn_id=T1, call_id=call_id, message_id=MessageId("msg_3"), name="look", arguments={}
    )


def tool_completed(call_id: CallId = CALL) -> ToolCompleted:
    return ToolCompleted(
        turn_id=T1,
        call_id=call_id,
        message_id=MessageId("msg_3"),
        name="look",
        arguments={},
        result=1,
    )


def completed(turn_id: TurnId = T1) -> TurnCompleted:
    return TurnCompleted(turn_id=turn_id, output="Hello, Ann.")


DELTA = MessageDelta(turn_id=T1, message_id=MessageId("msg_4"), offset=0, text="Hel")
WHOLE: tuple[Event, ...] = (
    OPENED,
    queued(),
    started(),
    asks_for(CALL),
    tool_started(),
    tool_completed(),
    DELTA,
    completed(),
    SessionUpdated(title="Hello", metadata={}, by=ANN),
    queued(T2, 2),
)


class Rows:
    """What a store that makes no mistake keeps of a log."""

    def __init__(self, events: Iterable[Event] = WHOLE) -> None:
        self.entries = log_of(*events)
        self.head: SessionHead = evolve(unborn(KEY, ANN), events)
        self.session: Session | None = None
        self.turns: dict[TurnId, Turn] = {}
        for entry, event in zip(self.entries, events, strict=True):
            self.session = evolve_session(self.session, event, key=KEY, at_ms=entry.at_ms)
            if (turn_id := turn_of(event)) is not None:
                known = self.turns.get(turn_id)
                turn = evolve_turn(known, event, key=KEY, seq=entry.seq, at_ms=entry.at_ms)
                if turn is not None:
                    self.turns[turn_id] = turn


def audited(rows: Rows, checks: SessionChecks | None = None) -> Mapping[str, Check]:
    """The checks by their names, after two pages of the log and the rows."""
    checks = checks or SessionChecks()
    audit = Audit(KEY, checks)
    half = len(rows.entries) // 2
    for page in (rows.entries[:half], rows.entries[half:]):
        for turn in audit.take(page):
            audit.compare(turn, rows.turns.get(turn.turn_id))
    for turn in audit.finish(rows.head, rows.session):
        audit.compare(turn, rows.turns.get(turn.turn_id))
    return {check.name: check for check in checks.all}


def faulty(rows: Rows) -> set[str]:
    """The checks that found a fault. Each fault says what it is, and where."""
    checks = audited(rows)
    for name, check in checks.items():
        for fault in check.faults:
            assert (fault.check, fault.tenant_id, fault.session_id) == (name, *KEY)
            assert fault.what
            assert fault.turn_id is not None or name not in ("turns", "ends", "calls")
    return {name for name, check in checks.items() if check.faults}


def test_rows_that_are_the_fold_of_their_log_have_no_fault() -> None:
    checks = audited(Rows())

    assert [fault for check in checks.values() for fault in check.faults] == []
    assert {name: check.checked for name, check in checks.items()} == {
        "bodies": len(WHOLE),
        "seq": 1,
        "head": 1,
        "session": 1,
        "turns": 2,
        "ends": 1,
        "calls": 1,
        "closed": 0,
        "voided": 1,
    }


def test_what_is_checked_is_counted_over_all_sessions() -> None:
    checks = SessionChecks()

    audited(Rows((*WHOLE, CLOSED)), checks)
    once = {check.name: check.checked for check in checks.all}
    audited(Rows((*WHOLE, CLOSED)), checks)

    assert all(once.values())
    assert {check.name: check.checked / 2 for check in checks.all} == once


def test_the_audit_knows_which_turns_the_log_has() -> None:
    audit = Audit(KEY, SessionChecks())

    audit.take(log_of(*WHOLE))

    assert audit.knows(T1)
    assert audit.knows(T2)
    assert not audit.knows(TurnId("trn_3"))


def another_head(rows: Rows) -> None:
    rows.head = replace(rows.head, head=Seq(rows.head.head + 1))


def another_title(rows: Rows) -> None:
    assert rows.session is not None
    rows.session = replace(rows.session, title="Other")


def no_session(rows: Rows) -> None:
    rows.session = None


def another_output(rows: Rows) -> None:
    rows.turns[T1] = replace(rows.turns[T1], output="Hello, Bob.")


def no_turn(rows: Rows) -> None:
    del rows.turns[T1]


def ended_without_an_end(rows: Rows) -> None:
    rows.turns[T2] = replace(rows.turns[T2], status="completed", ended_at_ms=1)


def an_entry_less(rows: Rows) -> None:
    del rows.entries[6]


def a_body_that_is_no_json(rows: Rows) -> None:
    rows.entries[6] = rows.entries[6]._replace(body="{")


def a_body_without_its_fields(rows: Rows) -> None:
    rows.entries[1] = rows.entries[1]._replace(body="{}")


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (another_head, {"head"}),
        (another_title, {"session"}),
        (no_session, {"session"}),
        (another_output, {"turns"}),
        (no_turn, {"turns"}),
        (ended_without_an_end, {"turns", "ends"}),
        (an_entry_less, {"seq"}),
        (a_body_that_is_no_json, {"bodies"}),
        (a_body_without_its_fields, {"bodies"}),
    ],
)
def test_a_row_or_entry_that_is_wrong_is_found_by_its_check(
    spoil: Callable[[Rows], None], found: set[str]
) -> None:
    rows = Rows()
    spoil(rows)

    assert faulty(rows) == found


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ((OPENED, queued(), started(), completed(), completed()), {"ends"}),
        ((OPENED, queued(), started(), completed(), DELTA), {"ends"}),
        ((OPENED, queued(), started(), tool_started(), completed()), {"calls"}),
        ((OPENED, queued(), started(), asks_for(CALL), completed()), {"calls"}),
        (
            (
                OPENED,
                queued(),
                started(),
                tool_started(),
                tool_completed(),
                tool_completed(),
                completed(),
            ),
            {"calls"},
        ),
        (
            (
                OPENED,
                queued(),
                started(),
                tool_started(),
                replace(tool_completed(), parent_call_id=CallId("call_0")),
                completed(),
            ),
            {"calls"},
        ),
        ((OPENED, DELTA), {"turns"}),
        ((queued(),), {"seq", "session"}),
        ((OPENED, OPENED), {"seq"}),
    ],
)
def test_a_log_that_could_not_have_come_about_is_found(
    events: tuple[Event, ...], found: set[str]
) -> None:
    assert faulty(Rows(events)) >= found


def test_a_log_without_its_beginning_says_so() -> None:
    (fault,) = audited(Rows((queued(),)))["session"].faults

    assert fault.what == "the log has no session.opened"


def test_a_body_that_cannot_be_read_is_one_fault_and_what_follows_is_none() -> None:
    rows = Rows()
    a_body_that_is_no_json(rows)

    (fault,) = audited(rows)["bodies"].faults

    assert (fault.what, fault.turn_id) == ("entry 7, message.delta: JSONDecodeError", T1)


def test_a_call_within_another_stays_there() -> None:
    within = CallId("call_0")
    inner = replace(tool_started(), parent_call_id=within)
    outcome = replace(tool_completed(), parent_call_id=within)

    outer = (tool_started(within), tool_completed(within))

    assert faulty(Rows((*RAN, outer[0], inner, outcome, outer[1], completed()))) == set()
    assert faulty(Rows((*RAN, inner, tool_completed(), completed()))) == {"calls"}


VOID = SessionUpdated(title=None, metadata={}, by=ANN, redacted=True)
COPIED = (
    SessionForked(from_session_id=SessionId("ses_0"), from_turn_id=T2, from_seq=Seq(9)),
    replace(asks_for(CALL), turn_id=None, redacted=True),
)


@pytest.mark.parametrize(
    ("behind", "found"),
    [
        ((VOID,), {"voided"}),
        ((VOID, SessionRedacted(message_ids=(), by=ANN)), set()),
        ((VOID, SessionRedacted(message_ids=(), by=ANN), VOID), {"voided"}),
        (COPIED, set()),
        ((*COPIED, replace(queued(), redacted=True)), {"voided"}),
    ],
)
def test_what_is_void_was_voided_by_an_entry_behind_it_or_before_it_was_copied(
    behind: tuple[Event, ...], found: set[str]
) -> None:
    assert faulty(Rows((OPENED, *behind))) == found


def test_the_first_entry_that_is_void_is_named() -> None:
    (fault,) = audited(Rows((OPENED, VOID, VOID)))["voided"].faults

    assert fault.what == "entry 2 is void, and none says why"


RAN = (OPENED, queued(), started())
CLOSED = SessionClosed(by=ANN)
FLAGGED = (*RAN, TurnCancelRequested(turn_id=T1, by=ANN, reason="closed"), CLOSED)
AGAIN = replace(started(), attempt=2, fence=Fence(2))
CANCELLED = TurnCancelled(turn_id=T1, reason="closed", by=ANN)
STEERED = TurnSteered(
    turn_id=T1,
    steer_id=T2,
    message_id=MessageId("msg_s"),
    input={"type": "message", "text": "And?"},
    by=ANN,
)
REQUEUED = (
    replace(queued(T2, 2), when_busy="steer"),
    replace(CANCELLED, turn_id=T2),
)
LATER = TurnId("trn_3")


@pytest.mark.parametrize(
    "events",
    [
        (OPENED, CLOSED),
        (OPENED, CLOSED, SessionRedacted(message_ids=(), by=ANN)),
        (*FLAGGED,),
        (*FLAGGED, CANCELLED),
        (*FLAGGED, AGAIN, replace(AGAIN, attempt=3, fence=Fence(3)), CANCELLED),
        (*RAN, tool_started(), *FLAGGED[3:], AGAIN, tool_completed(), CANCELLED),
        (*FLAGGED, TurnProgress(turn_id=T1, tokens_used=1), DELTA, CANCELLED),
        (*RAN, STEERED, *FLAGGED[3:], AGAIN, CANCELLED, *REQUEUED),
    ],
)
def test_a_closed_session_may_end_the_turn_that_ran(events: tuple[Event, ...]) -> None:
    checks = audited(Rows(events))

    assert checks["closed"].checked == 1
    assert [fault for check in checks.values() for fault in check.faults] == []


@pytest.mark.parametrize(
    "events",
    [
        (OPENED, CLOSED, SessionUpdated(title="x", metadata={}, by=ANN)),
        (OPENED, CLOSED, CLOSED),
        (OPENED, CLOSED, queued()),
        (OPENED, queued(), CLOSED, started()),
        (OPENED, queued(), CLOSED, CANCELLED),
        (*FLAGGED, AGAIN, DELTA),
        (*FLAGGED, DELTA, AGAIN, CANCELLED),
        (*FLAGGED, replace(STEERED, steer_id=LATER), CANCELLED),
        (*FLAGGED, CANCELLED, *REQUEUED),
        (*FLAGGED, CANCELLED, SessionUpdated(title="x", metadata={}, by=ANN)),
        (*FLAGGED, SessionUpdated(title="x", metadata={}, by=ANN), CANCELLED),
        (*FLAGGED, started(), CANCELLED),
        (*FLAGGED, FLAGGED[3], CANCELLED),
        (*RAN, STEERED, *FLAGGED[3:], CANCELLED),
        (*RAN, STEERED, *FLAGGED[3:], CANCELLED, REQUEUED[0]),
        (*RAN, STEERED, *FLAGGED[3:], CANCELLED, queued(T2, 2), REQUEUED[1]),
        (*RAN, STEERED, *FLAGGED[3:], CANCELLED, *REQUEUED, queued(LATER, 3)),
        (*FLAGGED, queued(T2, 2), CANCELLED),
    ],
)
def test_nothing_more_may_follow_a_close(events: tuple[Event, ...]) -> None:
    assert "closed" in faulty(Rows(events))


def test_what_follows_a_close_is_named_with_its_turn() -> None:
    (fault,) = audited(Rows((OPENED, CLOSED, queued())))["closed"].faults

    assert (fault.what, fault.turn_id) == ("entry 3, turn.queued, follows session.closed", T1)


def test_a_call_that_was_started_twice_under_one_id_has_one_outcome() -> None:
    events = (
        OPENED,
        queued(),
        started(),
        tool_started(),
        tool_started(),
        tool_completed(),
        completed(),
    )

    assert faulty(Rows(events)) == set()


@pytest.mark.parametrize("outcomes", [0, 1, 2])
def test_a_call_that_its_turn_waited_with_has_one_outcome_though_nothing_else_tells_of_it(
    outcomes: int,
) -> None:
    """A call that is no model's is announced by no message, and was not started."""
    call = {"call_id": CALL, "message_id": "msg_3", "name": "look", "arguments": {}}
    awaiting = TurnAwaiting(turn_id=T1, call_ids=(CALL,), expires_at_ms=9, calls=(call,))
    given_up = TurnCancelled(turn_id=T1, reason="asked", by=ANN)
    events = (OPENED, queued(), started(), awaiting, *[tool_completed()] * outcomes, given_up)

    assert faulty(Rows(events)) == (set() if outcomes == 1 else {"calls"})


def test_what_a_fork_inherited_belongs_to_no_turn() -> None:
    message = replace(asks_for(CALL), turn_id=None)
    outcome = replace(tool_completed(), turn_id=None)

    assert faulty(Rows((OPENED, message, outcome, queued(), started(), completed()))) == set()


def test_a_range_that_was_compacted_is_no_gap() -> None:
    rows = Rows()
    compacted = LogCompacted(from_seq=Seq(6), to_seq=Seq(7))
    rows.entries[6] = Entry(Seq(7), compacted.kind, None, 1_007, encode(compacted))
    of_call = rows.entries.pop(5)
    assert of_call.kind == "tool.completed"

    assert "seq" not in faulty(rows)


def test_a_compaction_that_leaves_a_hole_is_a_gap() -> None:
    rows = Rows()
    compacted = LogCompacted(from_seq=Seq(7), to_seq=Seq(7))
    rows.entries[6] = Entry(Seq(7), compacted.kind, None, 1_007, encode(compacted))
    del rows.entries[5]

    assert "seq" in faulty(rows)


def test_a_fault_never_tells_what_was_said() -> None:
    rows = Rows()
    another_output(rows)

    told: list[Any] = audited(rows)["turns"].faults

    assert "output" in told[0].what
    assert "Bob" not in told[0].what


def test_numbers_and_states_are_told() -> None:
    rows = Rows()
    another_head(rows)
    rows.head = replace(rows.head, running_turn_id=T1)
    ended_without_an_end(rows)

    checks = audited(rows)

    told = "head is 11, by the log 10, running_turn_id is trn_1, by the log None"
    assert told in checks["head"].faults[0].what
    assert "status is completed, by the log queued" in checks["turns"].faults[0].what


def test_faults_are_listed_up_to_a_limit_and_counted_beyond_it() -> None:
    check = Check("head", "…", "heads")

    for _ in range(FAULTS_MAX + 3):
        check.fault("wrong", KEY)

    assert len(check.faults) == FAULTS_MAX
    assert check.faults_unlisted == 3


class AnyLog(SessionMachine):
    """See `machines`: whatever happened in whatever order, nothing is wrong with it."""

    @invariant()
    def the_audit_finds_nothing(self) -> None:
        for key, row in self.ledger.rows.items():
            checks = SessionChecks()
            audit = Audit(key, checks)
            for turn in (*audit.take(row.log), *audit.finish(row.head, row.session)):
                audit.compare(turn, row.turns[turn.turn_id])
            assert [fault for check in checks.all for fault in check.faults] == []
            assert all(audit.knows(turn_id) for turn_id in row.turns)


class TestAnyLog(AnyLog.TestCase):
    settings = settings(EXAMPLES, max_examples=25, stateful_step_count=50)
