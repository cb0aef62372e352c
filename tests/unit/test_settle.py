"""From a decision to rows."""

import pytest
from tests.unit.machines import KEY, OWNER, Ledger, says

from sessile.core import codec
from sessile.core.commands import Decision, View
from sessile.core.events import (
    Entry,
    MessageAdded,
    SessionGranted,
    SessionOpened,
    SessionUpdated,
    ToolStarted,
    TurnCancelled,
    TurnProgress,
    TurnQueued,
)
from sessile.core.ids import CallId, MessageId, NodeId, Seq, TurnId
from sessile.core.session import FREE, Lease, SessionHead
from sessile.core.settle import settle, stepped

NOW_MS = 5_000
OPENED = SessionOpened(user_id=OWNER.user_id, assistant="support")
QUEUED = TurnQueued(
    turn_id=TurnId("trn_1"),
    position=1,
    input=says("one"),
    message_id=MessageId("msg_1"),
    by=OWNER.user_id,
)
WITHDRAWN = TurnCancelled(turn_id=TurnId("trn_1"), reason="asked", by=OWNER.user_id)
LEASED = Lease(owner=NodeId("n1"), until_ms=7_000, step=3)


def born() -> View:
    changes = settle(View(now_ms=NOW_MS), Decision(events=(OPENED,)), key=KEY)
    return View(now_ms=NOW_MS + 1, head=changes.head, session=changes.session)


def test_a_log_begins_at_1() -> None:
    changes = settle(View(now_ms=NOW_MS), Decision(events=(OPENED, QUEUED)), key=KEY)

    assert changes.entries == (
        Entry(Seq(1), "session.opened", None, NOW_MS, codec.encode(OPENED)),
        Entry(Seq(2), "turn.queued", TurnId("trn_1"), NOW_MS, codec.encode(QUEUED)),
    )
    assert changes.head == SessionHead(
        key=KEY, user_id=OWNER.user_id, head=Seq(2), next_position=2, queued=1
    )


def test_a_log_begins_with_its_birth() -> None:
    with pytest.raises(AssertionError, match=r"session\.opened"):
        settle(View(now_ms=NOW_MS), Decision(events=(QUEUED,)), key=KEY)


def test_entries_go_on_where_the_log_ends() -> None:
    changes = settle(born(), Decision(events=(QUEUED, WITHDRAWN)), key=KEY)

    assert [entry.seq for entry in changes.entries] == [2, 3]
    assert changes.head.head == 3


def test_a_turn_that_begins_and_ends_in_one_decision_has_one_record() -> None:
    changes = settle(born(), Decision(events=(QUEUED, WITHDRAWN)), key=KEY)

    (turn,) = changes.turns.values()
    assert (turn.turn_id, turn.status, turn.seq) == ("trn_1", "cancelled", 2)
    assert changes.head.queued == 0


def test_only_rows_that_changed_are_written() -> None:
    ledger = Ledger()
    ledger.open()
    holding = ledger.run()
    row = ledger.rows[KEY]
    view = View(now_ms=NOW_MS, head=row.head, session=row.session, turns=row.turns)
    begun = ToolStarted(
        turn_id=holding.turn_id,
        call_id=CallId("call_1"),
        message_id=MessageId("msg_9"),
        name="lookup",
        arguments={},
    )

    changes = settle(view, Decision(events=(begun,)), key=KEY)

    assert changes.session is None
    assert changes.turns == {}
    assert changes.head.head == row.head.head + 1


def test_what_is_said_of_the_session_changes_its_wide_row() -> None:
    view = born()
    updated = SessionUpdated(title="New", metadata={}, by=OWNER.user_id)
    granted = SessionGranted(grant="g", by=OWNER.user_id)

    changes = settle(view, Decision(events=(updated, granted)), key=KEY)

    assert changes.session is not None
    assert (changes.session.title, changes.session.grants) == ("New", ("g",))
    assert changes.session.updated_at_ms == view.now_ms


def test_what_is_said_in_a_turn_changes_its_record() -> None:
    ledger = Ledger()
    ledger.open()
    holding = ledger.run()
    row = ledger.rows[KEY]
    view = View(now_ms=NOW_MS, head=row.head, turns=row.turns)
    steps = tuple(TurnProgress(turn_id=holding.turn_id, tokens_used=tokens) for tokens in (5, 9, 7))

    changes = settle(view, Decision(events=steps), key=KEY)

    assert changes.turns[holding.turn_id].progress.tokens_used == 9


def test_a_message_of_no_turn_is_of_no_record() -> None:
    copied = MessageAdded(turn_id=None, message_id=MessageId("msg_1"), role="user", parts=())

    changes = settle(born(), Decision(events=(copied,)), key=KEY)

    assert changes.turns == {}
    assert changes.session is None
    assert changes.entries[0].turn_id is None


def test_a_lease_that_is_not_decided_on_is_left_alone() -> None:
    ledger = Ledger()
    ledger.open()
    row = ledger.rows[KEY]
    view = View(now_ms=NOW_MS, head=row.head, lease=LEASED)

    assert settle(view, Decision(events=(QUEUED,)), key=KEY).lease == LEASED
    assert settle(view, Decision(lease=FREE), key=KEY).lease == FREE


def test_a_fenced_append_raises_the_step_and_nothing_else() -> None:
    assert stepped(LEASED) == Lease(owner=NodeId("n1"), until_ms=7_000, step=4)
