"""Commands, and what they make of a session: stories first, then anything in any order."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from tests.unit.machines import (
    ADMIN,
    EXAMPLES,
    KEY,
    LEASE_MS,
    NO_SUCH_SESSION,
    NODE,
    OTHER_NODE,
    OUTSIDERS,
    OWNER,
    QUEUE_MAX,
    STRANGER,
    TENANT,
    Ledger,
    Row,
    SessionMachine,
    asked_by,
    refusal_of,
    says,
    unread,
)

from sessile.core.attempts import STRIKES_MAX, check_append
from sessile.core.commands import (
    AnswerApproval,
    AwaitTurn,
    CancelTurn,
    CloseSession,
    Command,
    Decision,
    DeleteSession,
    EditTurn,
    ExpireSession,
    FinishTurn,
    Named,
    Once,
    OpenSession,
    Press,
    ReleaseTurn,
    Remembered,
    Runner,
    SetGrants,
    StartTurn,
    SubmitTurn,
    UpdateSession,
    View,
    named,
)
from sessile.core.context import Holding, Principal
from sessile.core.decide import decide
from sessile.core.errors import (
    AssistantNotHere,
    IdempotencyConflict,
    InvalidInput,
    LeaseLost,
    LimitReached,
    OriginMoved,
    QueueFull,
    RoleRequired,
    SessionBusy,
    SessionClosed,
    SessionNotFound,
    SteerUnread,
    TurnEnded,
    TurnNotFound,
    TurnNotQueued,
)
from sessile.core.events import (
    ButtonPressed,
    MessageAdded,
    Progress,
    SessionForked,
    SessionHandedOff,
    SessionOpened,
    SessionUpdated,
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
)
from sessile.core.events import SessionClosed as SessionClosedEvent
from sessile.core.ids import CallId, Fence, MessageId, NodeId, Seq, SessionId, SessionKey, TurnId
from sessile.core.session import FREE, Lease

OTHER_KEY = SessionKey(TENANT, SessionId("ses_2"))
ONCE = Once(user_id=OWNER.user_id, scope=KEY.session_id, key="k1", request_hash="h1")
SUBMIT = SubmitTurn(
    principal=OWNER,
    turn_id=TurnId("trn_a"),
    message_id=MessageId("msg_a"),
    input=says("hello"),
    when_busy="enqueue",
    queue_max=QUEUE_MAX,
)
LIMITED = LimitReached("as many as there may be", limit="sessions_max")
UNKNOWN = Press(readings={"sales": says("view")})
"""A press, on a node that does not have the session's assistant."""
PRESSED = replace(
    SUBMIT,
    input=Press(
        readings={"support": says("View"), "cards": InvalidInput("none of its buttons")},
    ),
)
STRANGER_NODE = replace(NODE, node=NodeId("n3"), assistants=frozenset({"sales"}))
OPEN = OpenSession(principal=OWNER, assistant="support")
CLOSE = CloseSession(principal=OWNER)


@pytest.fixture
def ledger() -> Ledger:
    """One session, which is idle."""
    ledger = Ledger()
    ledger.open()
    return ledger


@pytest.fixture
def row(ledger: Ledger) -> Row:
    return ledger.rows[KEY]


def new(row: Row, since: int) -> list[Any]:
    return row.events[since:]


# Opening ----------------------------------------------------------------------------------------


def test_a_session_is_born_with_what_was_asked_for() -> None:
    ledger = Ledger()

    ledger.open(title="Hi", metadata={"a": 1}, exclusive_key="k")

    assert ledger.rows[KEY].events == [
        SessionOpened(
            user_id=OWNER.user_id,
            assistant="support",
            title="Hi",
            metadata={"a": 1},
            exclusive_key="k",
        )
    ]


def test_a_fork_says_where_it_comes_from_before_what_it_inherits() -> None:
    forked = SessionForked(
        from_session_id=SessionId("ses_0"), from_turn_id=TurnId("trn_0"), from_seq=Seq(9)
    )
    said = MessageAdded(turn_id=None, message_id=MessageId("msg_0"), role="user", parts=())
    ledger = Ledger()

    ledger.open(forked=forked, inherited=(said, said))

    assert ledger.rows[KEY].kinds == ["session.opened", "session.forked", *["message.added"] * 2]
    assert ledger.rows[KEY].head.queued == 0


def test_a_fork_of_what_went_on_since_it_was_read_is_told_how_far(row: Row) -> None:
    forking = replace(OPEN, forked=FORKED, origin_seen=Seq(9))

    with pytest.raises(OriginMoved) as refused:
        decide(View(now_ms=1, origin=row.head), forking)

    assert refused.value.details == {"head": row.head.head}


def test_g2_an_exclusive_session_is_found_and_not_opened_twice() -> None:
    ledger = Ledger()
    ledger.open(exclusive_key="k")

    decision = ledger.open(OTHER_KEY, exclusive_key="k")

    assert decision == Decision()
    assert OTHER_KEY not in ledger.rows


def test_g2_closing_frees_the_exclusive_key() -> None:
    ledger = Ledger()
    ledger.open(exclusive_key="k")
    ledger.transact(KEY, CLOSE)

    ledger.open(OTHER_KEY, exclusive_key="k")

    assert ledger.rows[OTHER_KEY].head.status == "active"


def test_sessions_that_are_not_exclusive_stand_side_by_side(ledger: Ledger) -> None:
    ledger.open(OTHER_KEY)
    ledger.open(SessionKey(TENANT, SessionId("ses_3")), exclusive_key="k")

    assert len(ledger.rows) == 3


def test_g10_an_open_under_the_same_key_is_the_same_session() -> None:
    ledger = Ledger()
    once = replace(ONCE, scope="open")
    ledger.open(once=once)

    decision = ledger.open(OTHER_KEY, once=once)

    assert decision == Decision(repeated=True, session_id=KEY.session_id, created=True)
    assert OTHER_KEY not in ledger.rows


def test_g10_an_open_under_the_same_key_with_another_body_is_refused() -> None:
    ledger = Ledger()
    ledger.open(once=ONCE)

    with pytest.raises(IdempotencyConflict):
        ledger.open(OTHER_KEY, once=replace(ONCE, request_hash="h2"))

    assert OTHER_KEY not in ledger.rows


@pytest.mark.parametrize("exclusive_key", [None, "k"])
def test_an_open_that_is_sent_again_opens_nothing_more(exclusive_key: str | None) -> None:
    """Its answer was lost, its id is the one that was minted before the first try."""
    ledger = Ledger()
    ledger.open(exclusive_key=exclusive_key)

    decision = ledger.open(exclusive_key=exclusive_key)

    assert decision == Decision(repeated=True, created=True)
    assert ledger.rows[KEY].kinds == ["session.opened"]


def test_a_session_is_opened_with_its_first_turn() -> None:
    ledger = Ledger()

    decision = ledger.open(first=replace(SUBMIT, runner=NODE))

    row = ledger.rows[KEY]
    assert (decision.created, decision.turn_id) == (True, SUBMIT.turn_id)
    assert (row.running.turn_id, row.running.position, row.head.fence) == (SUBMIT.turn_id, 1, 1)
    assert row.kinds == ["session.opened", "turn.queued", "turn.started", "message.added"]


@pytest.mark.parametrize(
    "said", [{"limited": LIMITED}, {"limited": LIMITED, "first": SUBMIT},
             {"first": replace(SUBMIT, limited=LIMITED)}],
)  # fmt: skip
def test_who_has_as_much_as_it_may_have_opens_nothing(said: dict[str, Any]) -> None:
    ledger = Ledger()

    with pytest.raises(LimitReached) as refused:
        ledger.open(**said)

    assert refused.value is LIMITED
    assert not ledger.rows


@pytest.mark.parametrize("runner", [None, STRANGER_NODE])
def test_a_first_turn_waits_where_nobody_can_run_it(runner: Runner | None) -> None:
    ledger = Ledger()

    ledger.open(first=replace(SUBMIT, runner=runner))

    assert ledger.rows[KEY].kinds == ["session.opened", "turn.queued"]
    assert ledger.start(NODE)


def test_a_first_turn_goes_to_the_exclusive_session_that_there_is() -> None:
    ledger = Ledger()
    ledger.open(exclusive_key="k", first=replace(SUBMIT, runner=NODE))
    second = replace(SUBMIT, turn_id=TurnId("trn_b"), message_id=MessageId("msg_b"), runner=NODE)

    decision = ledger.open(OTHER_KEY, exclusive_key="k", first=second)

    assert (decision.created, decision.turn_id) == (False, second.turn_id)
    assert OTHER_KEY not in ledger.rows
    assert ledger.rows[KEY].queue() == [second.turn_id]


def test_a_first_turn_that_is_refused_leaves_no_trace() -> None:
    ledger = Ledger()
    ledger.open(exclusive_key="k", first=replace(SUBMIT, runner=NODE))
    once = replace(ONCE, scope="open")
    before = ledger.rows[KEY].head
    first = replace(SUBMIT, turn_id=TurnId("trn_b"), when_busy="reject")

    with pytest.raises(SessionBusy):
        ledger.open(OTHER_KEY, exclusive_key="k", first=first, once=once)

    assert ledger.rows[KEY].head == before
    assert not ledger.remembered


@pytest.mark.parametrize("exclusive_key", [None, "k"])
def test_an_open_with_a_turn_is_repeated_whole(exclusive_key: str | None) -> None:
    ledger = Ledger()
    once = replace(ONCE, scope="open")
    ledger.open(exclusive_key=exclusive_key, first=SUBMIT, once=once)
    first = replace(SUBMIT, turn_id=TurnId("trn_b"), message_id=MessageId("msg_b"))

    again = ledger.open(OTHER_KEY, exclusive_key=exclusive_key, first=first, once=once)
    same = ledger.open(exclusive_key=exclusive_key, first=SUBMIT)

    asked = Decision(repeated=True, turn_id=SUBMIT.turn_id, created=True)
    assert again == asked._replace(session_id=KEY.session_id)
    assert same == asked


def test_a_repeat_says_again_that_the_session_was_found() -> None:
    ledger = Ledger()
    once = replace(ONCE, scope="open")
    ledger.open(exclusive_key="k")
    ledger.open(OTHER_KEY, exclusive_key="k", once=once)

    again = ledger.open(OTHER_KEY, exclusive_key="k", once=once)

    assert again == Decision(repeated=True, session_id=KEY.session_id, created=False)


def test_an_exclusive_session_of_somebody_else_is_not_found() -> None:
    ledger = Ledger()
    ledger.open(exclusive_key="k")

    with pytest.raises(SessionNotFound):
        ledger.open(OTHER_KEY, exclusive_key="k", principal=STRANGER)


@pytest.mark.parametrize("outsider", OUTSIDERS)
def test_an_id_that_is_taken_by_somebody_else_opens_nothing(
    outsider: Principal, ledger: Ledger, row: Row
) -> None:
    with pytest.raises(SessionNotFound):
        ledger.open(principal=outsider)

    assert row.kinds == ["session.opened"]


# Submitting -------------------------------------------------------------------------------------


def test_g5_an_input_is_in_the_log_whole(ledger: Ledger, row: Row) -> None:
    decision = ledger.transact(KEY, SUBMIT)

    assert decision.turn_id == "trn_a"
    assert new(row, 1) == [
        TurnQueued(
            turn_id=TurnId("trn_a"),
            position=1,
            input=says("hello"),
            message_id=MessageId("msg_a"),
            by=OWNER.user_id,
        )
    ]
    assert row.lease == FREE


def test_an_idle_session_starts_the_turn_where_there_is_a_slot(ledger: Ledger, row: Row) -> None:
    ledger.transact(KEY, replace(SUBMIT, runner=NODE))

    _, started, message = new(row, 1)
    assert started == TurnStarted(turn_id=TurnId("trn_a"), attempt=1, fence=Fence(1), node="n1")
    assert message == MessageAdded(
        turn_id=TurnId("trn_a"),
        message_id=MessageId("msg_a"),
        role="user",
        parts=({"type": "text", "text": "hello"},),
    )
    assert row.lease == Lease(owner=NODE.node, until_ms=ledger.now_ms + LEASE_MS, step=0)


@pytest.mark.parametrize("when_busy", ["enqueue", "reject", "interrupt", "steer"])
@pytest.mark.parametrize("runner", [None, NODE])
def test_an_idle_session_takes_any_input(
    when_busy: Any, runner: Runner | None, ledger: Ledger, row: Row
) -> None:
    ledger.submit(when_busy, runner=runner)

    kinds = ["turn.queued", "turn.started", "message.added"] if runner else ["turn.queued"]
    assert row.kinds[1:] == kinds
    assert row.events[1].when_busy == when_busy


def test_g6_a_busy_session_queues_an_input_and_starts_nothing(ledger: Ledger, row: Row) -> None:
    ledger.run()
    before = row.head.head

    waiting = ledger.submit("enqueue", runner=OTHER_NODE)

    assert row.kinds[before:] == ["turn.queued"]
    assert row.queue() == [waiting]


def test_g6_an_input_does_not_overtake_one_that_waits(ledger: Ledger, row: Row) -> None:
    first = ledger.submit()

    second = ledger.submit(runner=NODE)

    assert row.queue() == [first, second]
    assert row.lease == FREE


def test_a_busy_session_rejects_where_that_is_asked_for(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    before = row.head

    with pytest.raises(SessionBusy) as refused:
        ledger.submit("reject", runner=NODE)

    assert refused.value.details == {"running_turn_id": holding.turn_id}
    assert row.head == before


def test_a_session_with_a_queue_is_busy_though_nothing_runs(ledger: Ledger) -> None:
    ledger.submit()

    with pytest.raises(SessionBusy):
        ledger.submit("reject", runner=NODE)


def test_a_session_that_awaits_an_approval_is_busy(ledger: Ledger) -> None:
    ledger.awaits(ledger.run())

    with pytest.raises(SessionBusy):
        ledger.submit("reject", runner=NODE)


def test_an_interrupt_displaces_what_runs_and_what_waits(ledger: Ledger, row: Row) -> None:
    running = ledger.run().turn_id
    waiting = [ledger.submit(), ledger.submit()]
    before = row.head.head

    urgent = ledger.submit("interrupt", runner=OTHER_NODE, principal=ADMIN)

    assert new(row, before)[:3] == [
        *(TurnCancelled(turn_id=w, reason="displaced", by=ADMIN.user_id) for w in waiting),
        TurnCancelRequested(turn_id=running, reason="displaced", by=ADMIN.user_id),
    ]
    assert row.queue() == [urgent]
    assert row.head.cancel_turn_id == running


def test_an_interrupt_of_a_queue_that_nobody_runs_starts_at_once(ledger: Ledger, row: Row) -> None:
    waiting = ledger.submit()

    urgent = ledger.submit("interrupt", runner=NODE)

    assert row.turns[waiting].status == "cancelled"
    assert row.running.turn_id == urgent


def test_an_interrupt_keeps_the_reason_of_an_earlier_cancel(ledger: Ledger, row: Row) -> None:
    running = ledger.run().turn_id
    ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=running))

    ledger.submit("interrupt")

    assert row.kinds.count("turn.cancel_requested") == 1
    assert row.turns[running].cancel_reason == "asked"


def test_a_steer_adds_its_message_to_the_turn_that_runs(ledger: Ledger, row: Row) -> None:
    running = ledger.run().turn_id
    before = row.head.head

    steer = replace(SUBMIT, when_busy="steer", runner=OTHER_NODE)
    decision = ledger.transact(KEY, steer)

    assert decision.turn_id == running
    assert new(row, before) == [
        TurnSteered(
            turn_id=running,
            steer_id=TurnId("trn_a"),
            message_id=MessageId("msg_a"),
            input=says("hello"),
            by=OWNER.user_id,
        )
    ]
    assert row.head.queued == 0


def test_a_steer_passes_by_what_waits(ledger: Ledger, row: Row) -> None:
    ledger.run()
    ledger.submit()

    ledger.submit("steer")

    assert (row.head.queued, row.head.steers_unread) == (1, 1)


def test_a_turn_that_is_to_be_cancelled_is_not_steered(ledger: Ledger, row: Row) -> None:
    running = ledger.run().turn_id
    ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=running))

    waiting = ledger.submit("steer")

    assert row.queue() == [waiting]


def test_a_turn_that_awaits_an_approval_is_not_steered(ledger: Ledger, row: Row) -> None:
    ledger.awaits(ledger.run())

    waiting = ledger.submit("steer")

    assert row.queue() == [waiting]


@pytest.mark.parametrize("when_busy", ["enqueue", "steer"])
def test_a_full_queue_takes_no_more(when_busy: Any, ledger: Ledger, row: Row) -> None:
    ledger.run()
    for _ in range(QUEUE_MAX):
        ledger.submit()
    before = row.head

    with pytest.raises(QueueFull) as refused:
        ledger.submit(when_busy)

    assert refused.value.details == {"queue_max": QUEUE_MAX}
    assert row.head == before


@pytest.mark.parametrize("when_busy", ["enqueue", "steer", "interrupt"])
def test_steers_that_are_unread_count_as_queued(when_busy: Any, ledger: Ledger) -> None:
    """Each becomes a queued turn if it is not read: the limit of the queue is theirs too."""
    ledger.run()
    for _ in range(QUEUE_MAX):
        ledger.submit("steer")

    with pytest.raises(QueueFull):
        ledger.submit(when_busy)


def test_a_queue_never_grows_past_its_limit(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    for when_busy in ("enqueue", "steer") * QUEUE_MAX:
        refusal_of(
            ledger,
            KEY,
            replace(SUBMIT, turn_id=TurnId(f"trn_{row.head.head}"), when_busy=when_busy),
        )

    ledger.finish(holding, end="failed", error={"code": "x"}, unread=unread(row, holding.turn_id))

    assert row.head.queued == QUEUE_MAX


def test_an_interrupt_has_room_since_it_empties_the_queue(ledger: Ledger, row: Row) -> None:
    ledger.run()
    for _ in range(QUEUE_MAX):
        ledger.submit()

    urgent = ledger.submit("interrupt", queue_max=1)

    assert row.queue() == [urgent]


@pytest.mark.parametrize("when_busy", ["enqueue", "reject", "interrupt", "steer"])
@pytest.mark.parametrize("running", [False, True])
def test_a_closed_session_takes_no_input(
    when_busy: Any, running: bool, ledger: Ledger, row: Row
) -> None:
    if running:
        ledger.run()
    ledger.transact(KEY, CLOSE)
    before = row.head

    with pytest.raises(SessionClosed):
        ledger.submit(when_busy, runner=NODE)

    assert row.head == before


def test_g10_the_same_key_gives_the_same_turn(ledger: Ledger, row: Row) -> None:
    ledger.transact(KEY, replace(SUBMIT, once=ONCE))
    before = row.head

    again = replace(SUBMIT, turn_id=TurnId("trn_b"), message_id=MessageId("msg_b"), once=ONCE)
    decision = ledger.transact(KEY, again)

    assert decision == Decision(repeated=True, turn_id="trn_a", session_id=KEY.session_id)
    assert row.head == before


@pytest.mark.parametrize("state", ["running", "full", "closed"])
def test_g10_a_repeat_is_answered_whatever_came_after(state: str, ledger: Ledger, row: Row) -> None:
    ledger.transact(KEY, replace(SUBMIT, runner=NODE, once=ONCE))
    if state == "full":
        for _ in range(QUEUE_MAX):
            ledger.submit()
    elif state == "closed":
        ledger.transact(KEY, CLOSE)

    again = replace(SUBMIT, turn_id=TurnId("trn_b"), when_busy="reject", once=ONCE)

    assert ledger.transact(KEY, again).turn_id == "trn_a"


def test_g10_a_steer_is_repeated_too(ledger: Ledger, row: Row) -> None:
    running = ledger.run().turn_id
    ledger.transact(KEY, replace(SUBMIT, when_busy="steer", once=ONCE))

    again = replace(SUBMIT, turn_id=TurnId("trn_b"), when_busy="steer", once=ONCE)
    decision = ledger.transact(KEY, again)

    assert (decision.repeated, decision.turn_id) == (True, running)
    assert row.head.steers_unread == 1


def test_g10_a_press_is_repeated_though_the_session_has_another_assistant(
    ledger: Ledger, row: Row
) -> None:
    ledger.transact(KEY, replace(PRESSED, runner=NODE, once=ONCE))
    handed_off(ledger)

    again = replace(PRESSED, turn_id=TurnId("trn_b"), once=ONCE)

    assert ledger.transact(KEY, again).turn_id == "trn_a"


def test_a_press_is_read_by_the_assistant_that_has_the_session_now(
    ledger: Ledger, row: Row
) -> None:
    ledger.transact(KEY, PRESSED)
    assert row.turns[TurnId("trn_a")].input == says("View")

    ledger.start()
    handed_off(ledger)
    with pytest.raises(InvalidInput, match="none of its buttons"):
        ledger.transact(KEY, replace(PRESSED, turn_id=TurnId("trn_b"), when_busy="reject"))


def test_a_press_that_no_assistant_here_can_read_is_for_another_node(
    ledger: Ledger, row: Row
) -> None:
    with pytest.raises(AssistantNotHere) as refused:
        ledger.transact(KEY, replace(PRESSED, input=UNKNOWN))

    assert refused.value.details == {"assistant": "support"}
    assert row.turns == {}


def test_a_press_that_is_none_is_so_on_every_node(ledger: Ledger) -> None:
    nothing = Press(readings={}, malformed=InvalidInput("a button has a name"))

    with pytest.raises(InvalidInput, match="has a name"):
        ledger.transact(KEY, replace(PRESSED, input=nothing))


def test_a_press_that_opens_a_session_is_read_by_its_assistant() -> None:
    ledger = Ledger()
    ledger.open(first=PRESSED)
    assert ledger.rows[KEY].turns[TurnId("trn_a")].input == says("View")

    with pytest.raises(InvalidInput):
        ledger.open(OTHER_KEY, assistant="cards", first=PRESSED)
    assert OTHER_KEY not in ledger.rows


def test_a_press_on_the_exclusive_session_is_read_by_who_has_it_now() -> None:
    ledger = Ledger()
    ledger.open(exclusive_key="k")
    ledger.run()
    handed_off(ledger)

    with pytest.raises(InvalidInput):
        ledger.open(OTHER_KEY, exclusive_key="k", first=PRESSED)


def test_a_queued_input_is_edited_to_what_the_assistant_reads(ledger: Ledger, row: Row) -> None:
    turn_id = ledger.submit()
    edit = EditTurn(principal=OWNER, turn_id=turn_id, input=PRESSED.input)

    ledger.transact(KEY, edit)

    assert row.turns[turn_id].input == says("View")


@pytest.mark.parametrize(
    "press",
    [PRESSED.input, UNKNOWN, Press(readings={}, malformed=InvalidInput("none of its buttons"))],
)
def test_a_closed_session_takes_no_press_whatever_it_looks_like(
    press: Press, ledger: Ledger
) -> None:
    ledger.transact(KEY, CLOSE)

    with pytest.raises(SessionClosed):
        ledger.transact(KEY, replace(PRESSED, input=press))


def handed_off(ledger: Ledger) -> None:
    """By the turn that runs, to an assistant without buttons."""
    ledger.append(ledger.holding(), 0, SessionHandedOff(assistant="cards", reason=""))


def test_g10_another_body_under_the_same_key_is_refused(ledger: Ledger, row: Row) -> None:
    ledger.transact(KEY, replace(SUBMIT, once=ONCE))
    before = row.head

    with pytest.raises(IdempotencyConflict):
        ledger.transact(
            KEY, replace(SUBMIT, turn_id=TurnId("trn_b"), once=replace(ONCE, request_hash="h2"))
        )

    assert row.head == before


def test_a_refusal_is_not_remembered(ledger: Ledger) -> None:
    running = ledger.run()
    rejected = replace(SUBMIT, when_busy="reject", once=ONCE)
    with pytest.raises(SessionBusy):
        ledger.transact(KEY, rejected)
    ledger.finish(running)

    assert not ledger.transact(KEY, rejected).repeated


@pytest.mark.parametrize("state", ["queued", "running", "ended", "closed"])
def test_a_submit_that_is_sent_again_writes_nothing_more(
    state: str, ledger: Ledger, row: Row
) -> None:
    """Its answer was lost, its ids are those that were minted before the first try."""
    submit = replace(SUBMIT, runner=None if state == "queued" else NODE)
    ledger.transact(KEY, submit)
    if state == "ended":
        ledger.finish(ledger.holding())
    elif state == "closed":
        ledger.transact(KEY, CLOSE)
    before = row.head

    decision = ledger.transact(KEY, submit)

    assert decision == Decision(repeated=True, turn_id="trn_a")
    assert row.head == before


# Editing, cancelling, updating, closing, deleting -----------------------------------------------


def test_a_queued_input_can_be_edited(ledger: Ledger, row: Row) -> None:
    waiting = ledger.submit()

    decision = ledger.transact(KEY, EditTurn(principal=ADMIN, turn_id=waiting, input=says("other")))

    assert decision.turn_id == waiting
    assert row.events[-1] == TurnEdited(turn_id=waiting, input=says("other"), by=ADMIN.user_id)
    ledger.start()
    assert row.events[-1].parts == ({"type": "text", "text": "other"},)


@pytest.mark.parametrize("state", ["running", "awaiting", "completed", "cancelled"])
def test_an_input_that_left_the_queue_is_not_edited(state: str, ledger: Ledger, row: Row) -> None:
    turn_id = in_state(ledger, state)
    before = row.head

    with pytest.raises(TurnNotQueued) as refused:
        ledger.transact(KEY, EditTurn(principal=OWNER, turn_id=turn_id, input=says("other")))

    assert refused.value.details == {"status": state}
    assert row.head == before


@pytest.mark.parametrize("command", [EditTurn, CancelTurn])
def test_a_turn_of_another_session_is_not_found(command: Any, ledger: Ledger) -> None:
    ledger.open(OTHER_KEY)
    elsewhere = ledger.submit(key=OTHER_KEY)
    said = {"input": says("other")} if command is EditTurn else {}

    with pytest.raises(TurnNotFound):
        ledger.transact(KEY, command(principal=OWNER, turn_id=elsewhere, **said))


def test_a_queued_turn_is_cancelled_at_once(ledger: Ledger, row: Row) -> None:
    ledger.run()
    waiting = ledger.submit()

    decision = ledger.transact(KEY, CancelTurn(principal=ADMIN, turn_id=waiting, reason="no more"))

    assert decision.turn_id == waiting
    assert row.events[-1] == TurnCancelled(turn_id=waiting, reason="no more", by=ADMIN.user_id)
    assert row.head.queued == 0


def test_a_running_turn_is_asked_to_stop(ledger: Ledger, row: Row) -> None:
    running = ledger.run().turn_id

    decision = ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=running))

    assert decision.turn_id == running
    assert row.events[-1] == TurnCancelRequested(turn_id=running, by=OWNER.user_id)
    assert row.turns[running].status == "running"


@pytest.mark.parametrize("state", ["queued", "running", "awaiting", "cancelled"])
def test_cancelling_again_changes_nothing(state: str, ledger: Ledger, row: Row) -> None:
    turn_id = in_state(ledger, state)
    cancel = CancelTurn(principal=OWNER, turn_id=turn_id)
    ledger.transact(KEY, cancel)
    before = row.head

    decision = ledger.transact(KEY, cancel)

    assert decision == Decision(repeated=True, turn_id=turn_id)
    assert row.head == before


@pytest.mark.parametrize("state", ["completed", "failed", "interrupted"])
def test_a_turn_that_ended_otherwise_is_not_cancelled(state: str, ledger: Ledger) -> None:
    turn_id = in_state(ledger, state)

    with pytest.raises(TurnEnded) as refused:
        ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=turn_id))

    assert refused.value.details == {"status": state}


def test_metadata_is_merged_key_by_key_and_a_null_removes_its_key(ledger: Ledger) -> None:
    ledger.open(OTHER_KEY, title="Hi", metadata={"a": 1, "b": 2, "n": None})

    ledger.transact(OTHER_KEY, UpdateSession(principal=ADMIN, metadata={"b": None, "c": {"d": 3}}))

    assert ledger.rows[OTHER_KEY].events[-1] == SessionUpdated(
        title="Hi", metadata={"a": 1, "n": None, "c": {"d": 3}}, by=ADMIN.user_id
    )


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ({}, "Hi"),
        ({"title": "New"}, "Hi"),
        ({"title": "New", "retitle": True}, "New"),
        ({"retitle": True}, None),
    ],
)
def test_a_title_changes_only_where_that_is_asked_for(
    said: dict[str, Any], title: str | None, ledger: Ledger
) -> None:
    ledger.open(OTHER_KEY, title="Hi")

    ledger.transact(OTHER_KEY, UpdateSession(principal=OWNER, **said))

    session = ledger.rows[OTHER_KEY].session
    assert session is not None
    assert session.title == title


def test_a_closed_session_is_not_updated(ledger: Ledger) -> None:
    ledger.transact(KEY, CLOSE)

    with pytest.raises(SessionClosed):
        ledger.transact(KEY, UpdateSession(principal=OWNER, title="New", retitle=True))


def test_closing_cancels_what_waits_and_flags_what_runs(ledger: Ledger, row: Row) -> None:
    running = ledger.run().turn_id
    waiting = [ledger.submit(), ledger.submit()]
    before = row.head.head

    ledger.transact(KEY, CloseSession(principal=ADMIN, reason="done"))

    assert new(row, before) == [
        *(TurnCancelled(turn_id=w, reason="closed", by=ADMIN.user_id) for w in waiting),
        TurnCancelRequested(turn_id=running, reason="closed", by=ADMIN.user_id),
        SessionClosedEvent(by=ADMIN.user_id, reason="done"),
    ]


def test_closing_again_changes_nothing(ledger: Ledger, row: Row) -> None:
    ledger.transact(KEY, CLOSE)
    before = row.head

    assert ledger.transact(KEY, CLOSE) == Decision(repeated=True)
    assert row.head == before


def test_a_deleted_session_leaves_no_last_words(ledger: Ledger) -> None:
    ledger.run()

    assert decide(ledger.view(KEY, CLOSE), DeleteSession(principal=OWNER)) == Decision(deleted=True)


@pytest.mark.parametrize("since", ["nothing", "an entry", "a turn that waits", "one that runs"])
def test_a_session_expires_only_while_it_is_idle_and_as_it_was_found(
    since: str, ledger: Ledger, row: Row
) -> None:
    match since:
        case "an entry":
            ledger.transact(KEY, UpdateSession(principal=OWNER))
        case "a turn that waits":
            ledger.submit()
        case "one that runs":
            ledger.run()
    head = Seq(1) if since == "an entry" else row.head.head
    expire = ExpireSession(principal=OWNER, head=head)

    expired = since == "nothing"
    assert decide(ledger.view(KEY, expire), expire) == Decision(
        deleted=expired, repeated=not expired
    )


# Who may ----------------------------------------------------------------------------------------


def in_state(ledger: Ledger, state: str) -> TurnId:
    """The id of a turn that is in this state."""
    if state in {"idle", "closed"}:
        if state == "closed":
            ledger.transact(KEY, CLOSE)
        return TurnId("trn_none")
    if state == "queued":
        return ledger.submit()
    holding = ledger.run()
    match state:
        case "running":
            pass
        case "running, closed":
            ledger.transact(KEY, CLOSE)
        case "awaiting":
            ledger.awaits(holding)
        case _:
            ledger.finish(holding, end=state, error={"code": "x"})
            assert ledger.rows[KEY].turns[holding.turn_id].status == state
    return holding.turn_id


STATES = ("idle", "queued", "running", "awaiting", "completed", "cancelled", "closed")


@pytest.mark.parametrize("state", [*STATES, "running, closed"])
@pytest.mark.parametrize("outsider", OUTSIDERS)
def test_g11_to_an_outsider_no_session_exists(
    state: str, outsider: Principal, ledger: Ledger, row: Row
) -> None:
    """Nothing is written, and the refusal is that of a session that there never was."""
    answer = Remembered(
        request_hash="h1", session_id=KEY.session_id, turn_id=TurnId("trn_1"), created=False
    )
    ledger.remembered[outsider.user_id, KEY.session_id, "k1"] = answer
    turn_id = in_state(ledger, state)
    before = row.head, row.lease, dict(row.turns)

    for command in asked_by(outsider, turn_id):
        assert refusal_of(ledger, KEY, command) == NO_SUCH_SESSION
        assert refusal_of(Ledger(), KEY, command) == NO_SUCH_SESSION

    assert (row.head, row.lease, row.turns) == before


@pytest.mark.parametrize("principal", [OWNER, ADMIN])
def test_g11_owner_and_admin_are_never_told_that_there_is_no_session(principal: Principal) -> None:
    for number in range(len(asked_by(principal, TurnId("trn_none")))):
        ledger = Ledger()
        ledger.open()
        turn_id = ledger.submit()

        command = asked_by(principal, turn_id)[number]

        assert refusal_of(ledger, KEY, command) != NO_SUCH_SESSION


@pytest.mark.parametrize(("scope", "may"), [("read", False), ("write", True), ("admin", True)])
def test_what_is_good_for_reading_changes_nothing(scope: str, may: bool) -> None:
    principal = replace(OWNER, scopes=frozenset({scope}))
    asked = [(KEY, command) for command in asked_by(principal, TurnId("trn_1"))]
    for key, command in (*asked, (OTHER_KEY, replace(OPEN, principal=principal))):
        ledger = Ledger()
        ledger.open()
        ledger.submit()

        refusal: Any = refusal_of(ledger, key, command)

        assert (refusal is not None and refusal[0] is RoleRequired) is not may, command


# What must be read --------------------------------------------------------------------------------

CALL = Ledger().call(TurnId("trn_a"))
GATED = replace(CALL, grant="refund")
HELD = Holding(KEY, TurnId("trn_a"), Fence(1), 1, NODE.node)
FORKED = SessionForked(
    from_session_id=SessionId("ses_0"), from_turn_id=TurnId("trn_0"), from_seq=Seq(9)
)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (OPEN, Named()),
        (replace(OPEN, forked=FORKED), Named(origin=SessionId("ses_0"))),
        (replace(OPEN, once=ONCE, exclusive_key="k"), Named(once=ONCE, exclusive_key="k")),
        (replace(OPEN, first=SUBMIT, once=ONCE), Named(turn_id=TurnId("trn_a"), once=ONCE)),
        (
            replace(OPEN, first=replace(SUBMIT, when_busy="interrupt"), exclusive_key="k"),
            Named(turn_id=TurnId("trn_a"), queue="all", exclusive_key="k"),
        ),
        (SUBMIT, Named(turn_id=TurnId("trn_a"))),
        (PRESSED, Named(turn_id=TurnId("trn_a"), session=True)),
        (
            EditTurn(principal=OWNER, turn_id=TurnId("trn_b"), input=says("other")),
            Named(turn_id=TurnId("trn_b")),
        ),
        (
            EditTurn(principal=OWNER, turn_id=TurnId("trn_b"), input=UNKNOWN),
            Named(turn_id=TurnId("trn_b"), session=True),
        ),
        (replace(SUBMIT, when_busy="reject", once=ONCE), Named(turn_id=TurnId("trn_a"), once=ONCE)),
        (replace(SUBMIT, when_busy="steer"), Named(turn_id=TurnId("trn_a"))),
        (replace(SUBMIT, when_busy="interrupt"), Named(turn_id=TurnId("trn_a"), queue="all")),
        (CancelTurn(principal=OWNER, turn_id=TurnId("trn_b")), Named(turn_id=TurnId("trn_b"))),
        (UpdateSession(principal=OWNER), Named(session=True)),
        (CLOSE, Named(queue="all", session=True)),
        (DeleteSession(principal=OWNER), Named()),
        (replace(SUBMIT, runner=NODE), Named(turn_id=TurnId("trn_a"), session=True)),
        (StartTurn(runner=NODE, suspects=True), Named(queue="first", session=True)),
        (ReleaseTurn(holding=HELD), Named()),
        (SetGrants(principal=OWNER, grants=()), Named(session=True)),
        (AnswerApproval(principal=OWNER, call_id=CallId("call_1"), granted=True), Named()),
        (
            AwaitTurn(holding=HELD, step=0, asked=(), open_calls=(), expires_ms=1),
            Named(turn_id=TurnId("trn_a")),
        ),
        (
            FinishTurn(holding=HELD, step=0, end="completed"),
            Named(turn_id=TurnId("trn_a"), queue="first"),
        ),
        (
            FinishTurn(holding=HELD, step=0, end="completed", successor=NODE),
            Named(turn_id=TurnId("trn_a"), queue="first", session=True),
        ),
        (
            FinishTurn(holding=HELD, step=0, end="completed", closing=(CALL, GATED)),
            Named(turn_id=TurnId("trn_a"), queue="first", session=True),
        ),
        (
            FinishTurn(holding=HELD, step=0, end="completed", closing=(CALL,)),
            Named(turn_id=TurnId("trn_a"), queue="first"),
        ),
    ],
)
def test_g14_a_command_names_no_more_than_it_needs(command: Command, names: Named) -> None:
    """Whether it is enough, every other test shows: the ledger reads what is named alone."""
    assert named(command) == names
    assert not Named().session


# Starting ---------------------------------------------------------------------------------------


def test_there_is_nothing_to_start_where_nothing_waits(ledger: Ledger) -> None:
    start = StartTurn(runner=NODE, suspects=True)

    assert ledger.transact(KEY, start) == Decision()
    assert decide(View(now_ms=0), start) == Decision()


def test_the_first_of_the_queue_starts(ledger: Ledger, row: Row) -> None:
    first, second = ledger.submit(), ledger.submit()

    decision = ledger.transact(KEY, StartTurn(runner=NODE, suspects=True))

    assert decision.turn_id == row.running.turn_id == first
    assert row.queue() == [second]
    assert row.kinds[-2:] == ["turn.started", "message.added"]


@pytest.mark.parametrize("queued", [False, True])
def test_a_turn_that_begins_with_a_press_says_so_before_the_message_that_it_reads_as(
    queued: bool, ledger: Ledger, row: Row
) -> None:
    pressed = {"type": "button", "button": "refund", "payload": {"order": 7}, "text": "Refund"}
    turn_id = ledger.submit(input=pressed, runner=None if queued else NODE)
    if queued:
        ledger.start()

    _, press, message = row.events[-3:]

    assert row.kinds[-3] == "turn.started"
    assert press == ButtonPressed(turn_id=turn_id, button="refund", payload={"order": 7})
    assert isinstance(message, MessageAdded)
    assert message.parts == ({"type": "text", "text": "Refund"},)


def test_a_turn_waits_for_a_node_that_knows_its_assistant(ledger: Ledger, row: Row) -> None:
    submitted = ledger.submit(runner=STRANGER_NODE)

    assert row.queue() == [submitted]
    assert not ledger.start(STRANGER_NODE)
    assert ledger.start(NODE)


def test_a_lost_turn_waits_for_a_node_that_knows_its_assistant(ledger: Ledger) -> None:
    ledger.run()
    ledger.now_ms += LEASE_MS

    assert not ledger.start(STRANGER_NODE)
    assert ledger.start(NODE)


def test_a_cancelled_turn_is_ended_by_any_node(ledger: Ledger, row: Row) -> None:
    """It takes no agent; else the session would be busy until its assistant is back."""
    lost = ledger.run()
    ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=lost.turn_id))
    waiting = ledger.submit()
    ledger.now_ms += LEASE_MS

    assert ledger.start(STRANGER_NODE)
    ledger.finish(ledger.holding(), successor=STRANGER_NODE)

    assert row.turns[lost.turn_id].status == "cancelled"
    assert (row.queue(), row.lease) == ([waiting], FREE)


def test_g6_a_session_that_runs_a_turn_starts_no_other(ledger: Ledger, row: Row) -> None:
    ledger.run()
    ledger.submit()
    ledger.now_ms += LEASE_MS - 1

    assert not ledger.start(OTHER_NODE)


def test_g7_a_lost_turn_is_taken_over_under_a_new_fence(ledger: Ledger, row: Row) -> None:
    lost = ledger.run()
    waiting = ledger.submit()
    was = row.lease
    ledger.now_ms += LEASE_MS

    decision = ledger.transact(KEY, StartTurn(runner=OTHER_NODE, suspects=True))

    assert (decision.turn_id, decision.lost) == (lost.turn_id, was)
    assert row.events[-1] == TurnStarted(
        turn_id=lost.turn_id, attempt=2, fence=Fence(2), node="n2", strikes=1
    )
    assert row.lease == Lease(owner=OTHER_NODE.node, until_ms=ledger.now_ms + LEASE_MS)
    assert row.queue() == [waiting]


def test_a_turn_that_was_handed_back_is_taken_at_once_and_gets_no_strike(
    ledger: Ledger, row: Row
) -> None:
    ledger.transact(KEY, ReleaseTurn(holding=ledger.run()))
    assert row.lease.owner is None

    assert ledger.start(OTHER_NODE, suspects=False)

    assert (row.running.attempt, row.running.strikes) == (2, 0)


def test_a_lost_attempt_with_a_durable_step_is_no_strike(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.append(holding, 0, ledger.message(holding.turn_id))
    ledger.now_ms += LEASE_MS

    assert ledger.start(OTHER_NODE, suspects=False)

    assert row.running.strikes == 0


def test_three_attempts_may_be_lost_without_a_step() -> None:
    assert STRIKES_MAX == 3


def test_strikes_add_up_until_a_step_takes_them_back(ledger: Ledger, row: Row) -> None:
    ledger.run()
    for strikes in range(1, STRIKES_MAX + 1):
        ledger.now_ms += LEASE_MS
        ledger.start()
        assert row.running.strikes == strikes

    ledger.append(ledger.holding(), 0, ledger.tool(row.running.turn_id))
    ledger.now_ms += LEASE_MS
    ledger.start()

    assert row.running.strikes == 0


def test_a_turn_that_was_lost_once_is_taken_over_beside_a_suspect(ledger: Ledger, row: Row) -> None:
    ledger.run()
    ledger.now_ms += LEASE_MS

    assert ledger.start(OTHER_NODE, suspects=False)
    assert row.running.strikes == 1


def test_a_suspect_that_is_handed_back_stays_one(ledger: Ledger, row: Row) -> None:
    ledger.run()
    for _ in range(2):
        ledger.now_ms += LEASE_MS
        ledger.start()
    ledger.transact(KEY, ReleaseTurn(holding=ledger.holding()))

    assert not ledger.start(suspects=False)
    assert ledger.start()
    assert row.running.strikes == 2


def test_a_node_that_has_a_suspect_takes_no_second_one(ledger: Ledger, row: Row) -> None:
    ledger.run()
    ledger.now_ms += LEASE_MS
    ledger.start()
    ledger.now_ms += LEASE_MS

    assert not ledger.start(OTHER_NODE, suspects=False)
    assert ledger.start(OTHER_NODE, suspects=True)


def test_a_turn_that_awaits_an_approval_is_left_alone_until_it_expires(
    ledger: Ledger, row: Row
) -> None:
    ledger.awaits(ledger.run(), expires_ms=2 * LEASE_MS)
    ledger.submit(runner=NODE)
    ledger.now_ms += 2 * LEASE_MS - 1
    assert not ledger.start()

    ledger.now_ms += 1

    assert ledger.start()
    assert (row.running.status, row.running.attempt, row.running.strikes) == ("running", 2, 0)


def test_a_closed_session_gives_its_lost_turn_a_fence_to_end_under(
    ledger: Ledger, row: Row
) -> None:
    lost = ledger.run()
    ledger.transact(KEY, CLOSE)
    ledger.now_ms += LEASE_MS

    assert ledger.start(OTHER_NODE)
    ledger.finish(ledger.holding())

    assert row.turns[lost.turn_id].status == "cancelled"
    assert row.kinds[-3:] == ["session.closed", "turn.started", "turn.cancelled"]


# Writing ----------------------------------------------------------------------------------------


def test_appends_apply_in_their_order_once_each(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    first, second = ledger.message(holding.turn_id), ledger.message(holding.turn_id)

    assert ledger.append(holding, 0, first)
    assert not ledger.append(holding, 0, first)
    assert ledger.append(holding, 1, second)
    assert not ledger.append(holding, 1, second)

    assert new(row, 4) == [first, second]
    assert row.lease.step == 2


@pytest.mark.parametrize("step", [0, 1, 4, 9])
def test_a_step_that_does_not_follow_is_refused(step: int, ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    for number in range(3):
        ledger.append(holding, number, ledger.message(holding.turn_id))
    before = row.head

    with pytest.raises(LeaseLost):
        ledger.append(holding, step, ledger.message(holding.turn_id))

    assert row.head == before


def stale(ledger: Ledger, how: str) -> Holding:
    """A holding whose time is over, though its node does not know."""
    holding = ledger.run()
    match how:
        case "taken over":
            ledger.now_ms += LEASE_MS
            ledger.start(OTHER_NODE)
        case "taken over by itself":
            ledger.now_ms += LEASE_MS
            ledger.start(NODE)
        case "given out twice":
            # As after a failover that lost the claim.
            return replace(holding, node=OTHER_NODE.node)
        case "ended":
            ledger.finish(holding)
        case "followed":
            ledger.submit()
            ledger.finish(holding, successor=OTHER_NODE)
        case _:
            del ledger.rows[KEY]
    return holding


STALE = ("taken over", "taken over by itself", "given out twice", "ended", "followed", "deleted")


@pytest.mark.parametrize("how", STALE)
def test_g7_an_old_fence_writes_nothing(how: str, ledger: Ledger) -> None:
    holding = stale(ledger, how)
    view = ledger.view(KEY, StartTurn(runner=NODE, suspects=True))

    for step in range(3):
        with pytest.raises(LeaseLost):
            check_append(view, holding, step=step)


@pytest.mark.parametrize("how", STALE)
def test_g7_an_old_fence_hands_nothing_back(how: str, ledger: Ledger) -> None:
    holding = stale(ledger, how)

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, ReleaseTurn(holding=holding))


@pytest.mark.parametrize(
    "how", ["taken over", "taken over by itself", "given out twice", "deleted"]
)
def test_g7_an_old_fence_ends_nothing(how: str, ledger: Ledger) -> None:
    holding = stale(ledger, how)

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, FinishTurn(holding=holding, step=0, end="completed"))


def test_a_lease_that_ran_out_unnoticed_is_still_held(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.now_ms += 10 * LEASE_MS

    assert ledger.append(holding, 0, ledger.message(holding.turn_id))
    ledger.finish(holding)

    assert row.turns[holding.turn_id].status == "completed"


def test_nothing_is_appended_to_a_closed_session(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.transact(KEY, CLOSE)
    before = row.head

    with pytest.raises(LeaseLost):
        ledger.append(holding, 0, ledger.message(holding.turn_id))

    assert row.head == before


def test_an_append_that_was_applied_before_the_close_is_known_as_such(
    ledger: Ledger, row: Row
) -> None:
    """Else its node would name a step too few at the turn's end, and could not end it."""
    holding = ledger.run()
    message = ledger.message(holding.turn_id)
    ledger.append(holding, 0, message)
    ledger.transact(KEY, CLOSE)

    assert not ledger.append(holding, 0, message)
    ledger.finish(holding, step=1)

    assert row.turns[holding.turn_id].status == "cancelled"


def test_an_append_that_comes_again_after_the_release_is_not_applied_twice(
    ledger: Ledger, row: Row
) -> None:
    """The first try was slow, not lost: the second was applied, and the turn handed back."""
    holding = ledger.run()
    message = ledger.message(holding.turn_id)
    ledger.append(holding, 0, message)
    ledger.transact(KEY, ReleaseTurn(holding=holding))

    assert not ledger.append(holding, 0, message)

    assert row.events.count(message) == 1


def test_a_release_can_be_sent_again(ledger: Ledger, row: Row) -> None:
    release = ReleaseTurn(holding=ledger.run())
    ledger.transact(KEY, release)
    before = row.head, row.lease

    ledger.transact(KEY, release)

    assert (row.head, row.lease) == before


# Ending -----------------------------------------------------------------------------------------

NUMBERS = Progress(current_iteration=2, total_iterations=0, tokens_used=30, total_tokens=0)
COUNTED = {"current_iteration": 2, "total_iterations": 2, "tokens_used": 30, "total_tokens": 30}
ERROR = {"code": "agent_failed", "message": "gave up", "retry": True}


@pytest.mark.parametrize(
    ("end", "made"),
    [
        ("completed", lambda t: TurnCompleted(turn_id=t, output="so far", **COUNTED)),
        ("failed", lambda t: TurnFailed(turn_id=t, output="so far", error=ERROR, **COUNTED)),
        (
            "cancelled",
            lambda t: TurnCancelled(
                turn_id=t, output="so far", reason="why", by=OWNER.user_id, **COUNTED
            ),
        ),
        (
            "interrupted",
            lambda t: TurnInterrupted(turn_id=t, output="so far", reason="why", **COUNTED),
        ),
    ],
)
def test_g8_a_turn_ends_as_its_runner_says(
    end: str, made: Callable[[TurnId], Any], ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    closing = (ledger.tool(holding.turn_id), ledger.message(holding.turn_id))
    before = row.head.head

    decision = ledger.finish(
        holding,
        end=end,
        output="so far",
        error=ERROR,
        reason="why",
        progress=NUMBERS,
        closing=closing,
    )

    assert new(row, before) == [*closing, made(holding.turn_id)]
    assert decision.turn_id == holding.turn_id
    assert row.lease == FREE


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "interrupted"])
def test_g8_a_turn_that_was_asked_to_stop_is_cancelled_however_it_ended(
    end: str, ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    cancel = CancelTurn(principal=ADMIN, turn_id=holding.turn_id, reason="enough")
    ledger.transact(KEY, cancel)

    ledger.finish(holding, end=end, output="so far", error=ERROR, reason="why", progress=NUMBERS)

    assert row.events[-1] == TurnCancelled(
        turn_id=holding.turn_id, output="so far", reason="enough", by=ADMIN.user_id, **COUNTED
    )


def test_g8_a_cancel_holds_in_recovery(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=holding.turn_id))
    ledger.now_ms += LEASE_MS
    ledger.start(OTHER_NODE)

    ledger.finish(ledger.holding(), end="completed")

    assert row.turns[holding.turn_id].status == "cancelled"


def test_a_message_that_a_cancel_cut_off_says_so(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=holding.turn_id))
    outcome, message = ledger.tool(holding.turn_id), ledger.message(holding.turn_id)

    ledger.finish(holding, closing=(outcome, message))

    assert new(row, -3)[:2] == [outcome, replace(message, state="partial")]


def test_the_end_of_another_turn_is_no_cancel_of_this_one(ledger: Ledger, row: Row) -> None:
    first = ledger.run()
    ledger.submit("interrupt")
    ledger.finish(first, successor=NODE)

    ledger.finish(ledger.holding())

    assert [turn.status for turn in row.turns.values()] == ["cancelled", "completed"]


def test_g13_the_end_counts_what_the_record_had(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.append(
        holding,
        0,
        TurnProgress(
            turn_id=holding.turn_id,
            current_iteration=5,
            total_iterations=9,
            tokens_used=7,
            total_tokens=7,
        ),
    )

    ledger.finish(holding, progress=NUMBERS)

    end = row.events[-1]
    assert (end.current_iteration, end.total_iterations) == (5, 9)
    assert (end.tokens_used, end.total_tokens) == (30, 30)


def test_an_end_that_is_sent_again_is_written_once(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.finish(holding, step=0)
    before = row.head

    decision = ledger.finish(holding, step=0)

    assert decision == Decision(repeated=True, turn_id=holding.turn_id)
    assert row.head == before


def test_an_end_that_is_sent_again_does_not_start_a_second_successor(
    ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    ledger.submit()
    ledger.submit()
    ledger.finish(holding, step=0, successor=NODE)
    before = row.head, row.lease

    ledger.finish(holding, step=0, successor=NODE)

    assert (row.head, row.lease) == before


def test_an_end_of_an_older_attempt_is_no_retry(ledger: Ledger, row: Row) -> None:
    lost = ledger.run()
    ledger.now_ms += LEASE_MS
    ledger.start(OTHER_NODE)
    ledger.finish(ledger.holding())

    with pytest.raises(LeaseLost):
        ledger.finish(lost)


@pytest.mark.parametrize("step", [0, 2])
def test_an_end_whose_step_does_not_follow_is_refused(step: int, ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.append(holding, 0, ledger.message(holding.turn_id))
    before = row.head

    with pytest.raises(LeaseLost):
        ledger.finish(holding, step=step)

    assert row.head == before


def test_a_successor_starts_in_the_transaction_of_the_end(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    first, second = ledger.submit(), ledger.submit()
    before = row.head.head

    decision = ledger.finish(holding, successor=OTHER_NODE)

    assert decision.turn_id == holding.turn_id, "the answer is about the turn that ended"
    assert row.kinds[before:] == ["turn.completed", "turn.started", "message.added"]
    assert (row.running.turn_id, row.head.fence) == (first, 2)
    assert row.queue() == [second]
    assert row.lease == Lease(owner=OTHER_NODE.node, until_ms=ledger.now_ms + LEASE_MS)


@pytest.mark.parametrize("waits", [False, True])
def test_without_a_slot_or_a_queue_the_lease_is_released(
    waits: bool, ledger: Ledger, row: Row
) -> None:
    holding = ledger.run()
    if waits:
        ledger.submit()

    ledger.finish(holding, successor=None if waits else NODE)

    assert row.lease == FREE
    assert row.head.running_turn_id is None


# Steers that nobody read ------------------------------------------------------------------------


def test_a_turn_with_an_unread_steer_is_not_complete(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.submit("steer")
    before = row.head

    for seen in ((), unread(row, holding.turn_id)):
        with pytest.raises(SteerUnread) as refused:
            ledger.finish(holding, unread=seen)
        assert refused.value.details == {"steers_unread": 1, "cancelled": False}

    assert row.head == before


def test_a_steer_that_was_read_lets_the_turn_end(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.submit("steer")
    (steer,) = unread(row, holding.turn_id)
    ledger.append(holding, 0, ledger.message(None, steer=steer))

    ledger.finish(holding)

    assert row.turns[holding.turn_id].status == "completed"
    assert list(row.turns) == [holding.turn_id]


@pytest.mark.parametrize("end", ["failed", "cancelled", "interrupted", "asked to stop"])
def test_an_unread_steer_becomes_a_queued_turn(end: str, ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    steers = [ledger.submit("steer"), ledger.submit("steer", principal=ADMIN)]
    waiting = ledger.submit()
    seen = unread(row, holding.turn_id)
    if end == "asked to stop":
        ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=holding.turn_id))
        end = "completed"

    ledger.finish(holding, end=end, error=ERROR, unread=seen)

    assert row.queue() == [waiting, *steers]
    assert new(row, -2) == [
        TurnQueued(
            turn_id=steer.steer_id,
            position=position,
            input=steer.input,
            message_id=steer.message_id,
            by=steer.by,
            when_busy="steer",
        )
        for position, steer in enumerate(seen, start=3)
    ]


def test_an_unread_steer_can_be_the_successor(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    steer = ledger.submit("steer")

    ledger.finish(
        holding, end="failed", error=ERROR, unread=unread(row, holding.turn_id), successor=NODE
    )

    assert row.running.turn_id == steer
    assert row.kinds[-4:] == ["turn.failed", "turn.queued", "turn.started", "message.added"]


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("end", ["failed", "cancelled", "interrupted"])
def test_an_end_must_know_of_every_steer(end: str, stopped: bool, ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    ledger.submit("steer")
    seen = unread(row, holding.turn_id)
    ledger.submit("steer")
    if stopped:
        ledger.transact(KEY, CancelTurn(principal=OWNER, turn_id=holding.turn_id))

    with pytest.raises(SteerUnread) as refused:
        ledger.finish(holding, end=end, error=ERROR, unread=seen)

    assert refused.value.details == {"steers_unread": 2, "cancelled": stopped}


def test_in_a_closed_session_an_unread_steer_is_cancelled(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    steer = ledger.submit("steer", principal=ADMIN)
    ledger.transact(KEY, CLOSE)

    ledger.finish(holding, unread=unread(row, holding.turn_id), successor=NODE)

    assert row.kinds[-4:] == ["session.closed", "turn.cancelled", "turn.queued", "turn.cancelled"]
    assert row.events[-1] == TurnCancelled(turn_id=steer, reason="closed", by=ADMIN.user_id)
    assert (row.head.queued, row.lease) == (0, FREE)


# Anything in any order --------------------------------------------------------------------------


class TestAnySession(SessionMachine.TestCase):
    """See `machines`: what it does, and what must hold after each step."""

    settings = settings(EXAMPLES, max_examples=100, stateful_step_count=50)
