"""A store reduced to its promises, the invariants of a log, and the machine that drives both.

`Ledger` shows `decide` what `named` named and nothing else, writes what `settle` made of the
answer, and keeps every row; `hold_true` then rebuilds all that it keeps from the log alone.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from itertools import count, pairwise
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessile.core import codec
from sessile.core.attempts import (
    SUSPECT_STRIKES_MIN,
    authorised,
    check_append,
    user_message,
)
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
    ApprovalAnswered,
    CallNotFound,
    IdempotencyConflict,
    InvalidInput,
    LeaseLost,
    QueueFull,
    SessileError,
    SessionBusy,
    SessionClosed,
    SessionNotFound,
    SteerUnread,
    TurnEnded,
    TurnNotFound,
    TurnNotQueued,
)
from sessile.core.events import (
    TERMINAL_KINDS,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    Entry,
    Event,
    MessageAdded,
    Progress,
    SessionGranted,
    SessionOpened,
    SessionRevoked,
    ToolCompleted,
    ToolInterrupted,
    ToolOutcome,
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
    WhenBusy,
)
from sessile.core.ids import (
    CallId,
    Fence,
    MessageId,
    NodeId,
    Seq,
    SessionId,
    SessionKey,
    TenantId,
    TurnId,
    UserId,
)
from sessile.core.session import (
    FREE,
    Lease,
    Session,
    SessionHead,
    Turn,
    due_at_ms,
    evolve,
    evolve_session,
    unborn,
)
from sessile.core.settle import settle, stepped
from sessile.core.turns import evolve_turn

# The same examples in each run: a check that fails, fails for everybody.
EXAMPLES = settings(deadline=None, derandomize=True, max_examples=60)

TENANT = TenantId("tnt_1")
OWNER = Principal(tenant_id=TENANT, user_id=UserId("ann"))
ADMIN = Principal(tenant_id=TENANT, user_id=UserId("root"), roles=frozenset({"admin"}))
STRANGER = Principal(tenant_id=TENANT, user_id=UserId("bob"), roles=frozenset({"user"}))
NAMESAKE = Principal(tenant_id=TenantId("tnt_2"), user_id=OWNER.user_id)
FOREIGN_ADMIN = replace(ADMIN, tenant_id=TenantId("tnt_2"))
OUTSIDERS = (STRANGER, NAMESAKE, FOREIGN_ADMIN)

KEY = SessionKey(TENANT, SessionId("ses_1"))
LEASE_MS = 1_000
KNOWN = frozenset({"support"})
NODE = Runner(node=NodeId("n1"), lease_ms=LEASE_MS, assistants=KNOWN)
OTHER_NODE = Runner(node=NodeId("n2"), lease_ms=LEASE_MS, assistants=KNOWN)
QUEUE_MAX = 4
DAY_MS = 86_400_000


def says(text: str) -> dict[str, str]:
    """The input of a message."""
    return {"type": "message", "text": text}


def log_of(*events: Event, after: int = 0, at_ms: int | None = None) -> list[Entry]:
    """The entries of these events, a millisecond apart where they are not all of one time."""
    return [
        Entry(
            Seq(seq),
            event.kind,
            codec.turn_of(event),
            1_000 + seq if at_ms is None else at_ms,
            codec.encode(event),
        )
        for seq, event in enumerate(events, start=after + 1)
    ]


@dataclass(kw_only=True)
class Row:
    """What the ledger keeps of one session."""

    head: SessionHead
    lease: Lease = FREE
    session: Session | None = None
    turns: dict[TurnId, Turn] = field(default_factory=dict)
    log: list[Entry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    writers: list[object] = field(default_factory=list)
    """Beside each entry what wrote it: the command, or the holding of an append."""

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.log]

    @property
    def running(self) -> Turn:
        assert self.head.running_turn_id is not None
        return self.turns[self.head.running_turn_id]

    def queue(self) -> list[TurnId]:
        """The turns that wait, in the order in which they will start."""
        waiting = [turn for turn in self.turns.values() if turn.status == "queued"]
        return [turn.turn_id for turn in sorted(waiting, key=lambda turn: turn.position)]


@dataclass
class Ledger:
    """Sessions as any store must keep them."""

    now_ms: int = 1_000_000
    rows: dict[SessionKey, Row] = field(default_factory=dict)
    remembered: dict[tuple[UserId, str, str], Remembered] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def view(self, key: SessionKey, command: Command) -> View:
        names = named(command)
        once, remembered, exclusive = names.once, None, False
        if once is not None:
            remembered = self.remembered.get((once.user_id, once.scope, once.key))
        if (holder := self._holder(key, names)) is not None:
            key, exclusive = holder, True
        if key not in self.rows:
            return View(now_ms=self.now_ms, remembered=remembered)
        row = self.rows[key]
        shown = {row.head.running_turn_id, names.turn_id}
        shown.update({"none": [], "first": row.queue()[:1], "all": row.queue()}[names.queue])
        return View(
            now_ms=self.now_ms,
            head=row.head,
            lease=row.lease,
            session=row.session if names.session else None,
            turns={turn_id: turn for turn_id, turn in row.turns.items() if turn_id in shown},
            remembered=remembered,
            exclusive=exclusive,
        )

    def _holder(self, key: SessionKey, names: Named) -> SessionKey | None:
        """The session that is shown instead of the one that would be opened."""
        if key in self.rows:
            return None
        for there, row in self.rows.items():
            if names.exclusive_key is not None and row.head.status == "active":
                if row.head.exclusive_key == names.exclusive_key:
                    return there
        return None

    def transact(self, key: SessionKey, command: Command) -> Decision:
        view = self.view(key, command)
        key = key if view.head is None else view.head.key
        decision = decide(view, command)
        once = named(command).once
        if once is not None and not decision.repeated:
            self.remembered[once.user_id, once.scope, once.key] = Remembered(
                request_hash=once.request_hash,
                session_id=decision.session_id or key.session_id,
                turn_id=decision.turn_id,
                created=decision.created,
            )
        if decision.deleted:
            del self.rows[key]
        else:
            self._write(key, view, decision, by=command)
        return decision

    def append(self, holding: Holding, step: int, *events: Event) -> bool:
        """Whether it was written: False where a retry found it applied."""
        row = self.rows[holding.key]
        turns = {turn_id: turn for turn_id, turn in row.turns.items() if turn_id == holding.turn_id}
        view = View(
            now_ms=self.now_ms, head=row.head, lease=row.lease, session=row.session, turns=turns
        )
        if not check_append(view, holding, step=step):
            return False
        decision = Decision(events=authorised(view, events), lease=stepped(row.lease))
        self._write(holding.key, view, decision, by=holding)
        return True

    def _write(self, key: SessionKey, view: View, decision: Decision, *, by: object) -> None:
        if not decision.events and decision.lease is None:
            return
        changes = settle(view, decision, key=key)
        row = self.rows.setdefault(key, Row(head=changes.head))
        row.head, row.lease = changes.head, changes.lease
        if changes.session is not None:
            row.session = changes.session
        row.turns.update(changes.turns)
        row.log.extend(changes.entries)
        row.events.extend(codec.decode(entry) for entry in changes.entries)
        row.writers.extend(by for _ in changes.entries)

    # Commands in one word, for the tests that tell a story.

    def open(self, key: SessionKey = KEY, **said: object) -> Decision:
        command = {"principal": OWNER, "assistant": "support", **said}
        return self.transact(key, OpenSession(**command))

    def submit(
        self, when_busy: WhenBusy = "enqueue", *, key: SessionKey = KEY, **said: object
    ) -> TurnId:
        """The id under which the input was accepted: its turn's, or its steer's."""
        number = next(self.numbers)
        command = SubmitTurn(
            **{
                "principal": OWNER,
                "turn_id": TurnId(f"trn_{number}"),
                "message_id": MessageId(f"msg_{number}"),
                "input": says(f"input {number}"),
                "when_busy": when_busy,
                "queue_max": QUEUE_MAX,
                **said,
            }
        )
        self.transact(key, command)
        return command.turn_id

    def start(self, runner: Runner = NODE, *, key: SessionKey = KEY, suspects: bool = True) -> bool:
        """Whether there was a turn to start."""
        return bool(self.transact(key, StartTurn(runner=runner, suspects=suspects)).events)

    def run(self, key: SessionKey = KEY) -> Holding:
        """Submit a turn that starts at once, and hold it."""
        self.submit(key=key, runner=NODE)
        return self.holding(key)

    def holding(self, key: SessionKey = KEY) -> Holding:
        """What the node that runs the session's turn holds."""
        row = self.rows[key]
        assert row.lease.owner is not None
        turn = row.running
        return Holding(key, turn.turn_id, row.head.fence, turn.attempt, row.lease.owner)

    def finish(self, holding: Holding, **said: object) -> Decision:
        row = self.rows[holding.key]
        end = {
            "end": "completed",
            "step": row.lease.step,
            "closing": interrupted(row, holding.turn_id),
            **said,
        }
        return self.transact(holding.key, FinishTurn(holding=holding, **end))

    def message(
        self, turn_id: TurnId | None, *, role: str = "assistant", steer: TurnSteered | None = None
    ) -> MessageAdded:
        if steer is not None:
            given, steer_id = steer.input, steer.steer_id
            return user_message(steer.turn_id, steer.message_id, given, steer_id=steer_id)
        return MessageAdded(
            turn_id=turn_id,
            message_id=MessageId(f"msg_{next(self.numbers)}"),
            role=role,
            parts=({"type": "text", "text": "a reply"},),
        )

    def tool(self, turn_id: TurnId | None, result: Any = None) -> ToolCompleted:
        number = next(self.numbers)
        return ToolCompleted(
            turn_id=turn_id,
            call_id=CallId(f"call_{number}"),
            message_id=MessageId(f"msg_{number}"),
            name="orders.lookup",
            arguments={"order": 7},
            result=result,
        )

    def call(
        self, turn_id: TurnId, name: str = "orders.refund", *, grant: str | None = None
    ) -> ToolStarted:
        number = next(self.numbers)
        return ToolStarted(
            turn_id=turn_id,
            call_id=CallId(f"call_{number}"),
            message_id=MessageId(f"msg_{number}"),
            name=name,
            arguments={"order": number},
            grant=grant,
        )

    def awaits(
        self, holding: Holding, *, expires_ms: int = DAY_MS, calls: int = 1, others: int = 0
    ) -> tuple[CallId, ...]:
        """Calls of the turn that need an approval, beside others that wait with them."""
        command = self.asking(holding, expires_ms=expires_ms, calls=calls, others=others)
        self.transact(holding.key, command)
        return tuple(call.call_id for call in command.asked)

    def asking(
        self, holding: Holding, *, expires_ms: int = DAY_MS, calls: int = 1, others: int = 0
    ) -> AwaitTurn:
        row = self.rows[holding.key]
        asked = tuple(self.call(holding.turn_id) for _ in range(calls))
        beside = tuple(self.call(holding.turn_id, "orders.note") for _ in range(others))
        return AwaitTurn(
            holding=holding,
            step=row.lease.step,
            asked=asked,
            open_calls=(*open_calls(row, holding.turn_id), *asked, *beside),
            expires_ms=expires_ms,
            output="so far",
            closing=(asks_for(holding.turn_id, *asked, *beside),),
        )

    def answer(
        self, call_id: CallId, granted: bool = True, *, by: Principal = OWNER, reason: str = ""
    ) -> Decision:
        command = AnswerApproval(principal=by, call_id=call_id, granted=granted, reason=reason)
        return self.transact(KEY, command)


def asks_for(turn_id: TurnId, *calls: ToolStarted) -> MessageAdded:
    """The message by which a model asked for these calls."""
    return MessageAdded(
        turn_id=turn_id,
        message_id=MessageId(f"msg_of_{'_'.join(call.call_id for call in calls)}"),
        role="assistant",
        parts=tuple(
            {
                "type": "tool_call",
                "call_id": call.call_id,
                "name": call.name,
                "arguments": call.arguments,
            }
            for call in calls
        ),
    )


def unread(row: Row, turn_id: TurnId) -> tuple[TurnSteered, ...]:
    """The inputs steered into the turn that no message has delivered."""
    steered = {e.steer_id: e for e in row.events if isinstance(e, TurnSteered)}
    for event in row.events:
        if isinstance(event, MessageAdded) and event.steer_id is not None:
            del steered[event.steer_id]
    return tuple(event for event in steered.values() if event.turn_id == turn_id)


def open_calls(row: Row, turn_id: TurnId) -> tuple[ToolStarted, ...]:
    """The calls of the turn that have no outcome."""
    calls: dict[CallId, ToolStarted] = {}
    for event in row.events:
        match event:
            case ToolStarted(turn_id=of) if of == turn_id:
                calls[event.call_id] = event
            case TurnAwaiting(turn_id=of) if of == turn_id:
                for call in event.calls:
                    calls.setdefault(call["call_id"], ToolStarted(turn_id=turn_id, **call))
            case _ if isinstance(event, ToolOutcome):
                calls.pop(event.call_id, None)
    return tuple(calls.values())


def interrupted(row: Row, turn_id: TurnId) -> tuple[ToolInterrupted, ...]:
    """What must be written of them before the turn ends."""
    return tuple(
        ToolInterrupted(
            turn_id=turn_id,
            call_id=call.call_id,
            message_id=call.message_id,
            name=call.name,
            arguments=call.arguments,
            reason="The turn ended.",
        )
        for call in open_calls(row, turn_id)
    )


# What holds of every session after every step ---------------------------------------------------


def hold_true(row: Row, key: SessionKey) -> None:
    the_log_has_no_gap(row)
    the_head_is_a_fold(row, key)
    the_wide_row_and_the_turns_are_folds(row, key)
    each_turn_ends_once(row)
    turns_do_not_overlap_and_fences_rise(row)
    turns_start_in_the_order_accepted(row)
    a_closed_session_only_ends_what_ran(row)
    nothing_is_written_twice(row)
    who_waits_is_answered_and_left_alone(row)
    each_call_of_an_ended_turn_has_one_outcome(row)
    a_call_starts_only_with_its_grant(row)


def the_log_has_no_gap(row: Row) -> None:
    assert [entry.seq for entry in row.log] == list(range(1, len(row.log) + 1))
    assert [codec.turn_of(event) for event in row.events] == [e.turn_id for e in row.log]


def the_head_is_a_fold(row: Row, key: SessionKey) -> None:
    opened = row.events[0]
    assert isinstance(opened, SessionOpened)
    at_once = evolve(unborn(key, opened.user_id), row.events)
    one_by_one = unborn(key, opened.user_id)
    for event in row.events:
        one_by_one = evolve(one_by_one, (event,))
    statuses = Counter(turn.status for turn in row.turns.values())

    assert row.head == at_once == one_by_one
    assert row.head.head == len(row.log)
    assert row.head.queued == statuses["queued"]
    assert statuses["running"] + statuses["awaiting"] <= 1
    assert (row.head.running_turn_id is not None) == bool(
        statuses["running"] + statuses["awaiting"]
    )
    if row.head.running_turn_id is not None:
        assert row.running.status in {"running", "awaiting"}
        assert row.head.steers_unread == len(unread(row, row.running.turn_id))
    else:
        assert row.lease.owner is None
        assert row.head.cancel_turn_id is None
        assert row.head.awaiting_until_ms is None
        assert row.head.steers_unread == 0
    if row.lease.owner is None:
        assert row.lease.until_ms == 0
    assert row.head.queued + row.head.steers_unread <= QUEUE_MAX


def the_wide_row_and_the_turns_are_folds(row: Row, key: SessionKey) -> None:
    session: Session | None = None
    turns: dict[TurnId, Turn] = {}
    for entry, event in zip(row.log, row.events, strict=True):
        session = evolve_session(session, event, key=key, at_ms=entry.at_ms)
        if entry.turn_id is None:
            continue
        before = turns.get(entry.turn_id)
        after = evolve_turn(before, event, key=key, seq=entry.seq, at_ms=entry.at_ms)
        assert after is not None, f"{entry.kind} of a turn that was never queued"
        if before is not None:
            assert all(new >= old for old, new in zip(numbers(before), numbers(after), strict=True))
        turns[entry.turn_id] = after

    assert row.session == session
    assert row.turns == turns


def numbers(turn: Turn) -> tuple[int, ...]:
    progress = turn.progress
    return (
        progress.current_iteration,
        progress.total_iterations,
        progress.tokens_used,
        progress.total_tokens,
    )


def each_turn_ends_once(row: Row) -> None:
    ends = Counter(entry.turn_id for entry in row.log if entry.kind in TERMINAL_KINDS)

    assert dict(ends) == {turn.turn_id: 1 for turn in row.turns.values() if turn.ended}


def turns_do_not_overlap_and_fences_rise(row: Row) -> None:
    current: TurnId | None = None
    fences: list[Fence] = []
    attempts: Counter[TurnId] = Counter()
    for event in row.events:
        match event:
            case TurnStarted():
                assert current in {None, event.turn_id}, "a turn began within another"
                current = event.turn_id
                attempts[event.turn_id] += 1
                assert event.attempt == attempts[event.turn_id]
                fences.append(event.fence)
            case TurnCompleted() | TurnFailed() | TurnCancelled() | TurnInterrupted():
                if event.turn_id == current:
                    current = None
                else:
                    assert isinstance(event, TurnCancelled), "only a cancel ends what never ran"
                    assert not attempts[event.turn_id]
            case TurnQueued() | TurnEdited():
                pass
            case TurnSteered() | TurnCancelRequested() | TurnProgress() | TurnAwaiting():
                assert event.turn_id == current
            case MessageAdded() | ToolStarted() | ApprovalRequested():
                assert event.turn_id == current
            case ApprovalGranted() | ApprovalDenied():
                assert event.turn_id == current
            case _ if isinstance(event, ToolOutcome):
                assert event.turn_id == current

    assert current == row.head.running_turn_id
    assert all(earlier < later for earlier, later in pairwise(fences))
    assert row.head.fence == (fences[-1] if fences else 0)


def turns_start_in_the_order_accepted(row: Row) -> None:
    """When a turn starts, none that was accepted before it still waits; and its message follows."""
    positions: dict[TurnId, int] = {}
    inputs: dict[TurnId, object] = {}
    for event, behind in zip(row.events, [*row.events[1:], None], strict=True):
        match event:
            case TurnQueued():
                assert event.position == len(inputs) + 1
                positions[event.turn_id] = event.position
                inputs[event.turn_id] = event.input
            case TurnEdited():
                assert event.turn_id in positions
                inputs[event.turn_id] = event.input
            case TurnStarted(attempt=1):
                assert min(positions.values()) == positions.pop(event.turn_id)
                assert isinstance(behind, MessageAdded)
                assert behind.role == "user"
                assert behind.parts[0]["text"] == inputs[event.turn_id]["text"]
            case TurnCancelled():
                positions.pop(event.turn_id, None)


def a_closed_session_only_ends_what_ran(row: Row) -> None:
    """Behind session.closed stand further attempts of the turn that ran, and then its end.

    An attempt is how a lost turn gets the fence that its end is written under. What had been
    steered into the turn and was never read is told its fate within that same end.
    """
    if "session.closed" not in row.kinds:
        assert row.head.status == "active"
        return
    at = row.kinds.index("session.closed")
    assert row.head.status == "closed"
    assert row.head.queued == 0
    tail = list(zip(row.events, row.writers, strict=True))[at + 1 :]
    ends = {id(writer) for _, writer in tail if isinstance(writer, FinishTurn)}
    assert len(ends) <= 1
    for (event, writer), (behind, _) in zip(tail, [*tail, (None, None)][1:], strict=True):
        if isinstance(writer, FinishTurn):
            if isinstance(event, TurnQueued):
                assert isinstance(behind, TurnCancelled)
                assert behind.turn_id == event.turn_id
            assert not isinstance(event, TurnStarted)
        else:
            assert isinstance(event, TurnStarted)
            assert event.attempt > 1
    if ends:
        assert isinstance(tail[-1][1], FinishTurn), "the end is the last thing written"
        assert row.head.running_turn_id is None


def it_is_due_when_a_turn_can_run(row: Row, *, now_ms: int) -> None:
    due = due_at_ms(row.head, row.lease, now_ms=now_ms)
    alive = [turn for turn in row.turns.values() if not turn.ended]

    assert (due is None) == (not alive)
    claim = StartTurn(runner=NODE, suspects=True)
    claimed = decide(
        View(now_ms=now_ms, head=row.head, lease=row.lease, session=row.session, turns=row.turns),
        claim,
    )
    assert bool(claimed.events) == (due is not None and due <= now_ms)
    if row.lease.owner is None and row.head.cancel_turn_id is not None:
        assert due == now_ms, "what awaits an approval is not left waiting when it is cancelled"


def nothing_is_written_twice(row: Row) -> None:
    said = Counter(event.message_id for event in row.events if isinstance(event, MessageAdded))
    queued = Counter(event.turn_id for event in row.events if isinstance(event, TurnQueued))
    steered = Counter(event.steer_id for event in row.events if isinstance(event, TurnSteered))

    for counted in (said, queued, steered):
        assert all(times == 1 for times in counted.values()), counted


def who_waits_is_answered_and_left_alone(row: Row) -> None:
    """Each request is answered once, nothing else is written of the turn until all are, and no
    turn ends before."""
    asked: Counter[CallId] = Counter()
    answered: Counter[CallId] = Counter()
    waiting: set[CallId] = set()
    alone = False
    ran = {event.turn_id for event in row.events if isinstance(event, TurnStarted)}
    for event in row.events:
        match event:
            case ApprovalRequested():
                asked[event.call_id] += 1
            case TurnAwaiting():
                assert not waiting
                waiting, alone = set(event.call_ids), True
            case ApprovalGranted() | ApprovalDenied():
                answered[event.call_id] += 1
                waiting.remove(event.call_id)
                assert event.unanswered == len(waiting)
            case TurnStarted() if event.attempt > 1:
                assert not waiting
                alone = False
            case TurnCancelled() | TurnCompleted() | TurnFailed() | TurnInterrupted():
                if event.turn_id in ran:
                    assert not waiting
                    alone = False
            case ToolStarted() | ToolCompleted() | MessageAdded() | TurnSteered() | TurnProgress():
                assert not alone, f"{event.kind} of a turn that awaits"

    assert all(times == 1 for times in (*asked.values(), *answered.values()))
    assert set(answered) == set(asked) - waiting
    if row.head.running_turn_id is not None:
        awaited = row.running.awaited
        assert waiting == set(() if awaited is None else awaited.unanswered)
        assert (row.head.awaiting_until_ms is not None) == bool(waiting)
        assert (row.running.status == "awaiting") == alone
    else:
        assert not waiting
    for turn in row.turns.values():
        if turn.awaited is not None:
            assert (turn.awaited.since_ms is not None) == (turn.status == "awaiting")


def each_call_of_an_ended_turn_has_one_outcome(row: Row) -> None:
    outcomes = Counter(event.call_id for event in row.events if isinstance(event, ToolOutcome))

    assert all(times == 1 for times in outcomes.values())
    for turn in row.turns.values():
        if turn.ended:
            assert not open_calls(row, turn.turn_id)


def a_call_starts_only_with_its_grant(row: Row) -> None:
    """That the session had at that moment; else it is told which one it lacked."""
    grants: set[str] = set()
    begun: Counter[CallId] = Counter()
    for event in row.events:
        match event:
            case SessionGranted():
                grants.add(event.grant)
            case SessionRevoked():
                grants.remove(event.grant)
            case ToolStarted():
                begun[event.call_id] += 1
                assert event.grant is None or event.grant in grants
            case ToolRefused(verdict="needs_grant"):
                begun[event.call_id] += 1
                assert not any(repr(grant) in event.reason for grant in grants)

    assert all(times == 1 for times in begun.values())


def every_input_ended_once(row: Row, accepted: Iterable[TurnId]) -> None:
    """Of a session that has come to rest: each input was a turn that ended, or was read in one."""
    ends = Counter(entry.turn_id for entry in row.log if entry.kind in TERMINAL_KINDS)
    queued = {event.turn_id for event in row.events if isinstance(event, TurnQueued)}
    steered = {event.steer_id for event in row.events if isinstance(event, TurnSteered)}
    read = {event.steer_id for event in row.events if isinstance(event, MessageAdded)}

    assert queued | steered == set(accepted)
    for turn_id in accepted:
        assert (ends[turn_id], turn_id in read) == ((1, False) if turn_id in queued else (0, True))


# The machine ------------------------------------------------------------------------------------


@dataclass
class Attempt:
    """A node's side of an attempt: what it believes, which may be long out of date."""

    holding: Holding
    step: int = 0
    unanswered: tuple[Event, ...] = ()
    """Sent under this step; the answer was lost, so it is sent again before anything else."""
    released: bool = False
    asked: bool = False
    """It asked for approvals: that was the last that it wrote."""


REFUSALS = (
    ApprovalAnswered,
    CallNotFound,
    SessionBusy,
    SessionClosed,
    QueueFull,
    IdempotencyConflict,
    TurnNotQueued,
    TurnNotFound,
    TurnEnded,
)
PICK = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 4, 5))
"""Counted from the youngest: 0 is the last session, turn or attempt that there was."""
CALLER = st.sampled_from((OWNER, OWNER, ADMIN))
RUNNER = st.sampled_from((None, NODE, OTHER_NODE))
SESSIONS_MAX = 2
GRANTS = ("export", "manage_sessions", "refund")
APPENDED = ("reply", "tool", "call", "progress", "steers")


class SessionMachine(RuleBasedStateMachine):
    """Any command in any order: from callers, from nodes that hold a turn, and from nodes that
    held one; and any of them once more."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.keys: list[SessionKey] = []
        self.accepted: dict[SessionKey, list[TurnId]] = {}
        self.applied: list[tuple[SessionKey, Command]] = []
        self.attempts: list[Attempt] = []
        self.sent: list[tuple[Holding, int, tuple[Event, ...]]] = []
        self.seen: dict[SessionKey, tuple[Entry, ...]] = {}

    # Callers

    @initialize(exclusive=st.booleans(), runner=RUNNER)
    def birth(self, exclusive: bool, runner: Runner | None) -> None:
        self.open(exclusive=exclusive)
        self.submit_now("enqueue", runner=runner)

    @precondition(lambda self: len(self.keys) < SESSIONS_MAX)
    @rule(exclusive=st.booleans())
    def open(self, exclusive: bool) -> None:
        key = SessionKey(TENANT, SessionId(f"ses_{next(self.ledger.numbers)}"))
        exclusive_key = "ann support" if exclusive else None
        command = OpenSession(principal=OWNER, assistant="support", exclusive_key=exclusive_key)
        there = [
            key.session_id
            for key, row in self.ledger.rows.items()
            if row.head.exclusive_key and row.head.status == "active"
        ]

        decision = self.ledger.transact(key, command)

        assert len(there) <= 1
        if exclusive and there:
            assert decision == Decision()
        else:
            self.keys.append(key)
            self.accepted[key] = []
            self.applied.append((key, command))

    @rule(
        when_busy=st.sampled_from(("enqueue", "enqueue", "reject", "interrupt", "steer")),
        which=PICK,
        by=CALLER,
        runner=RUNNER,
        idempotency_key=st.sampled_from((None, None, None, "k1", "k2")),
        request_hash=st.sampled_from(("h1", "h1", "h2")),
    )
    def submit(self, when_busy: WhenBusy, **said: Any) -> None:
        self.submit_now(when_busy, **said)

    @precondition(lambda self: any(r.head.running_turn_id for r in self.ledger.rows.values()))
    @rule(which=PICK, by=CALLER)
    def steer(self, which: int, by: Principal) -> None:
        self.submit_now("steer", which=which, by=by)

    def submit_now(
        self,
        when_busy: WhenBusy,
        *,
        which: int = 0,
        by: Principal = OWNER,
        runner: Runner | None = None,
        idempotency_key: str | None = None,
        request_hash: str = "h1",
    ) -> None:
        key, row = self.session(which)
        once = None
        if idempotency_key is not None:
            once = Once(
                user_id=by.user_id,
                scope=key.session_id,
                key=idempotency_key,
                request_hash=request_hash,
            )
        number = next(self.ledger.numbers)
        command = SubmitTurn(
            principal=by,
            turn_id=TurnId(f"trn_{number}"),
            message_id=MessageId(f"msg_{number}"),
            input=says(f"input {number}"),
            when_busy=when_busy,
            queue_max=QUEUE_MAX,
            runner=runner,
            once=once,
        )

        decision = self.ask(key, command)

        if decision is None:
            return
        if decision.repeated:
            assert not decision.events
            assert decision.turn_id in row.turns
            return
        assert "session.closed" not in row.kinds
        self.accepted[key].append(command.turn_id)
        if when_busy == "interrupt":
            spared = {command.turn_id, row.head.cancel_turn_id, None}
            assert {*row.queue(), row.head.running_turn_id} <= spared
        if decision.lease is not None:
            self.hold(key)

    @rule(
        what=st.sampled_from((*("edit", "cancel") * 3, "update", "close")),
        which=PICK,
        turn=PICK,
        by=CALLER,
    )
    def command(self, what: str, which: int, turn: int, by: Principal) -> None:
        key, _ = self.session(which)
        turn_id = youngest([TurnId("trn_none"), *self.accepted[key]], turn)
        number = next(self.ledger.numbers)
        match what:
            case "edit":
                edited = says(f"edited {number}")
                self.ask(key, EditTurn(principal=by, turn_id=turn_id, input=edited))
            case "cancel":
                self.ask(key, CancelTurn(principal=by, turn_id=turn_id))
            case "update":
                self.ask(key, UpdateSession(principal=by, metadata={"number": number}))
            case _:
                self.ask(key, CloseSession(principal=by))

    @rule(which=PICK, turn=PICK, outsider=st.sampled_from(OUTSIDERS), data=st.data())
    def an_outsider_asks(
        self, which: int, turn: int, outsider: Principal, data: st.DataObject
    ) -> None:
        """Whatever it asks, it learns that there is no such session."""
        key, row = self.session(which)
        turn_id = youngest([TurnId("trn_none"), *self.accepted[key]], turn)
        command = data.draw(st.sampled_from(asked_by(outsider, turn_id)))
        before = row.head, row.lease

        assert refusal_of(self.ledger, key, command) == NO_SUCH_SESSION
        assert refusal_of(Ledger(), key, command) == NO_SUCH_SESSION
        assert (row.head, row.lease) == before

    @precondition(lambda self: self.applied)
    @rule(which=PICK)
    def send_a_command_again(self, which: int) -> None:
        """Its answer was lost. It writes nothing more, and what it answers is no refusal."""
        key, command = youngest(self.applied, which)
        row = self.ledger.rows[key]
        before = row.head, row.lease

        try:
            self.ledger.transact(key, command)
        except LeaseLost:
            assert isinstance(command, ReleaseTurn | AwaitTurn)
        except CallNotFound:
            assert isinstance(command, AnswerApproval), "the turn has ended"

        assert (row.head, row.lease) == before

    @precondition(lambda self: any(r.head.running_turn_id for r in self.ledger.rows.values()))
    @rule(which=PICK, call=PICK, granted=st.booleans(), by=CALLER)
    def answer(self, which: int, call: int, granted: bool, by: Principal) -> None:
        key, row = self.session(which)
        asked = [event.call_id for event in row.events if isinstance(event, ApprovalRequested)]
        call_id = youngest([CallId("call_none"), *asked], call)
        awaited = row.running.awaited if row.head.running_turn_id is not None else None
        known = None if awaited is None else awaited.answers.get(call_id)
        waits = awaited is not None and call_id in awaited.unanswered

        decision = self.ask(key, AnswerApproval(principal=by, call_id=call_id, granted=granted))

        same = known == ("granted" if granted else "denied")
        assert (decision is not None) == (waits or same)
        if decision is not None:
            assert decision.repeated == same
            assert decision.lease is None, "an answer is no turn"

    @rule(which=PICK, grants=st.lists(st.sampled_from(GRANTS), max_size=3), by=CALLER)
    def grant(self, which: int, grants: list[str], by: Principal) -> None:
        key, row = self.session(which)
        assert row.session is not None
        had = set(row.session.grants)

        decision = self.ask(key, SetGrants(principal=by, grants=tuple(grants)))

        assert (decision is None) == (row.head.status == "closed")
        if decision is not None:
            assert row.session.grants == tuple(sorted(set(grants)))
            assert len(decision.events) == len(had ^ set(grants))

    # Nodes

    @precondition(lambda self: any(map(self.is_due, self.keys)))
    @rule(which=PICK, runner=st.sampled_from((NODE, OTHER_NODE)), suspects=st.booleans())
    def start(self, which: int, runner: Runner, suspects: bool) -> None:
        key, row = self.session(which)
        before = row.running if row.head.running_turn_id else None
        leased = row.lease.owner is not None

        if not self.ledger.start(runner, key=key, suspects=suspects):
            return

        self.hold(key)
        turn = row.running
        if before is None:
            assert (turn.attempt, turn.strikes) == (1, 0)
        else:
            lost = 0 if before.progressed else before.strikes + leased
            assert (turn.turn_id, turn.strikes) == (before.turn_id, lost)
            assert suspects or lost < SUSPECT_STRIKES_MIN

    @precondition(lambda self: self.attempts)
    @rule(which=PICK, what=st.sampled_from(APPENDED), data=st.data())
    def append(self, which: int, what: str, data: st.DataObject) -> None:
        attempt = youngest(self.attempts, which)
        holding, turn_id = attempt.holding, attempt.holding.turn_id
        row = self.ledger.rows[holding.key]
        if attempt.asked:
            return
        match what:
            case "reply":
                events: tuple[Event, ...] = (self.ledger.message(turn_id),)
            case "tool":
                made = self.ledger.tool(turn_id)
                calls = [(call.call_id, call.message_id) for call in open_calls(row, turn_id)]
                call_id, card = youngest([(made.call_id, made.message_id), *calls], which)
                events = (replace(made, call_id=call_id, message_id=card),)
            case "call":
                grant = data.draw(st.sampled_from(GRANTS), label="grant")
                events = (self.ledger.call(turn_id, grant=grant),)
            case "progress":
                events = (TurnProgress(turn_id=turn_id, **progress_fields(data.draw(PROGRESS))),)
            case _:
                events = tuple(self.ledger.message(turn_id, steer=s) for s in unread(row, turn_id))

        if events and self.answered(attempt) and self.send(attempt, events):
            if data.draw(st.sampled_from((False, False, True)), label="the answer is lost"):
                attempt.unanswered = events
            else:
                attempt.step += 1

    @precondition(lambda self: self.sent)
    @rule(which=PICK)
    def an_append_arrives_again(self, which: int) -> None:
        """It was sent twice, and one of the two was long on its way."""
        holding, step, events = youngest(self.sent, which)
        row = self.ledger.rows[holding.key]
        before = row.head, row.lease

        with suppress(LeaseLost):
            assert not self.ledger.append(holding, step, *events)

        assert (row.head, row.lease) == before

    @precondition(lambda self: self.attempts)
    @rule(which=PICK)
    def hand_back(self, which: int) -> None:
        attempt = youngest(self.attempts, which)
        holding = attempt.holding
        if not self.is_current(attempt) or not self.answered(attempt):
            return
        attempt.released = True
        command = ReleaseTurn(holding=holding)
        self.ledger.transact(holding.key, command)
        self.applied.append((holding.key, command))

    @precondition(lambda self: self.attempts)
    @rule(
        which=PICK,
        calls=st.integers(1, 3),
        others=st.integers(0, 1),
        milliseconds=st.sampled_from((1, LEASE_MS, 10 * LEASE_MS)),
    )
    def ask_for_approvals(self, which: int, calls: int, others: int, milliseconds: int) -> None:
        attempt = youngest(self.attempts, which)
        holding = attempt.holding
        row = self.ledger.rows[holding.key]
        if attempt.asked or not self.answered(attempt):
            return
        command = self.ledger.asking(holding, expires_ms=milliseconds, calls=calls, others=others)
        command = replace(command, step=attempt.step)
        may = self.is_current(attempt) and not attempt.released
        before = row.head, row.lease

        try:
            decision = self.ledger.transact(holding.key, command)
        except LeaseLost:
            assert not may or row.head.cancel_turn_id == holding.turn_id
            assert (row.head, row.lease) == before
            return

        assert may
        assert decision.turn_id == holding.turn_id
        assert due_at_ms(row.head, row.lease, now_ms=self.ledger.now_ms) == (
            self.ledger.now_ms + milliseconds
        )
        attempt.asked = attempt.released = True
        self.applied.append((holding.key, command))

    @precondition(lambda self: self.attempts)
    @rule(
        which=PICK,
        end=st.sampled_from(("completed", "completed", "failed", "cancelled", "interrupted")),
        closing=st.integers(min_value=0, max_value=2),
        missed=st.sampled_from((0, 0, 0, 1)),
        successor=RUNNER,
        data=st.data(),
    )
    def finish(
        self,
        which: int,
        end: str,
        closing: int,
        missed: int,
        successor: Runner | None,
        data: st.DataObject,
    ) -> None:
        attempt = youngest(self.attempts, which)
        holding, turn_id = attempt.holding, attempt.holding.turn_id
        row = self.ledger.rows[holding.key]
        current = self.is_current(attempt)
        if not self.answered(attempt):
            return
        steers = unread(row, turn_id)
        command = FinishTurn(
            holding=holding,
            step=attempt.step,
            end=end,
            error={"code": "agent_failed", "message": "", "retry": False},
            progress=data.draw(PROGRESS),
            closing=(
                *interrupted(row, turn_id),
                *(self.ledger.tool(turn_id), self.ledger.message(turn_id))[:closing],
            ),
            unread=steers[missed:],
            successor=successor,
        )
        before, cancelled = row.head, row.head.cancel_turn_id == turn_id

        try:
            decision = self.ledger.transact(holding.key, command)
        except LeaseLost:
            assert attempt.released or not current
            assert row.head == before
            return
        except SteerUnread:
            assert steers
            assert row.head == before
            return

        if not current:
            assert decision == Decision(repeated=True, turn_id=turn_id)
            assert row.head == before
            return
        self.applied.append((holding.key, command))
        assert len(command.unread) == len(steers)
        assert row.turns[turn_id].status == ("cancelled" if cancelled else end)
        assert row.lease.owner == (row.head.running_turn_id and successor.node)
        if row.head.running_turn_id is not None:
            self.hold(holding.key)
        else:
            assert successor is None or not row.queue()

    @rule(milliseconds=st.sampled_from((1, LEASE_MS // 2, LEASE_MS, 20 * LEASE_MS)))
    def time_passes(self, milliseconds: int) -> None:
        self.ledger.now_ms += milliseconds

    # What must hold

    @invariant()
    def everything_holds(self) -> None:
        for key, row in self.ledger.rows.items():
            log = tuple(row.log)
            before = self.seen.get(key, ())
            assert log[: len(before)] == before, "an earlier read is a prefix of a later one"
            if len(log) > len(before):
                hold_true(row, key)
            it_is_due_when_a_turn_can_run(row, now_ms=self.ledger.now_ms)
            self.seen[key] = log

    def teardown(self) -> None:
        """Let every session come to rest: whatever is due is started, and ends."""
        for key in self.keys:
            row = self.ledger.rows[key]
            for _ in range(len(self.accepted[key]) + 1):
                due = due_at_ms(row.head, row.lease, now_ms=self.ledger.now_ms)
                if due is None:
                    break
                self.ledger.now_ms = max(self.ledger.now_ms, due)
                assert self.ledger.start(key=key), "what is due can be started"
                holding, steers = self.ledger.holding(key), unread(row, row.running.turn_id)
                if row.head.status == "active":
                    delivered = (self.ledger.message(None, steer=steer) for steer in steers)
                    steers = () if self.ledger.append(holding, 0, *delivered) else steers
                self.ledger.finish(holding, unread=steers)
            hold_true(row, key)
            assert due_at_ms(row.head, row.lease, now_ms=self.ledger.now_ms) is None
            every_input_ended_once(row, self.accepted[key])

    # Choices

    def session(self, which: int) -> tuple[SessionKey, Row]:
        key = youngest(self.keys, which)
        return key, self.ledger.rows[key]

    def is_due(self, key: SessionKey) -> bool:
        row = self.ledger.rows[key]
        due = due_at_ms(row.head, row.lease, now_ms=self.ledger.now_ms)
        return due is not None and due <= self.ledger.now_ms

    def ask(self, key: SessionKey, command: Command) -> Decision | None:
        """None where it was refused: then it left no trace."""
        row = self.ledger.rows[key]
        before = row.head, row.lease, dict(row.turns), dict(self.ledger.remembered)
        try:
            decision = self.ledger.transact(key, command)
        except REFUSALS as refusal:
            if isinstance(refusal, SessionClosed):
                assert row.head.status == "closed"
            assert (row.head, row.lease, row.turns, self.ledger.remembered) == before
            return None
        if safe_to_send_again(command):
            self.applied.append((key, command))
        return decision

    def hold(self, key: SessionKey) -> None:
        self.attempts.append(Attempt(self.ledger.holding(key)))

    def is_current(self, attempt: Attempt) -> bool:
        """Whether nothing came between: by the log, not by the head."""
        row = self.ledger.rows[attempt.holding.key]
        started = [event for event in row.events if isinstance(event, TurnStarted)]
        ended = {entry.turn_id for entry in row.log if entry.kind in TERMINAL_KINDS}
        return started[-1].fence == attempt.holding.fence and attempt.holding.turn_id not in ended

    def answered(self, attempt: Attempt) -> bool:
        """Send again what had no answer. False where that told the node to stop."""
        if not attempt.unanswered:
            return True
        events, attempt.unanswered = attempt.unanswered, ()
        current = self.is_current(attempt)
        try:
            assert not self.ledger.append(attempt.holding, attempt.step, *events)
        except LeaseLost:
            assert attempt.released or not current
            return False
        attempt.step += 1
        return True

    def send(self, attempt: Attempt, events: tuple[Event, ...]) -> bool:
        row = self.ledger.rows[attempt.holding.key]
        allowed = self.is_current(attempt) and row.head.status == "active"
        before = row.head
        try:
            assert self.ledger.append(attempt.holding, attempt.step, *events)
        except LeaseLost:
            assert attempt.released or not allowed
            assert row.head == before
            return False
        assert allowed, "a node that lost a session writes nothing more"
        self.sent.append((attempt.holding, attempt.step, events))
        return True


PROGRESS = st.builds(
    Progress,
    current_iteration=st.integers(0, 9),
    total_iterations=st.integers(0, 9),
    tokens_used=st.integers(0, 9),
    total_tokens=st.integers(0, 9),
)


def progress_fields(progress: Progress) -> dict[str, int]:
    return {each.name: getattr(progress, each.name) for each in fields(progress)}


NO_SUCH_SESSION = (SessionNotFound, ("There is no such session.",), {})


def asked_by(principal: Principal, turn_id: TurnId) -> tuple[Command, ...]:
    """Every command that a caller can give to a session that there is."""
    submit = SubmitTurn(
        principal=principal,
        turn_id=TurnId("trn_new"),
        message_id=MessageId("msg_new"),
        input=says("hello"),
        when_busy="enqueue",
        queue_max=QUEUE_MAX,
        runner=NODE,
    )
    once = Once(user_id=principal.user_id, scope="ses_1", key="k1", request_hash="h1")
    return (
        submit,
        replace(submit, when_busy="reject"),
        replace(submit, when_busy="interrupt"),
        replace(submit, when_busy="steer"),
        replace(submit, once=once),
        replace(submit, input=Press(readings={"support": says("View")})),
        replace(submit, input=Press(readings={})),
        replace(submit, input=Press(readings={}, malformed=InvalidInput("no button"))),
        replace(submit, turn_id=turn_id),
        EditTurn(principal=principal, turn_id=turn_id, input=says("edited")),
        CancelTurn(principal=principal, turn_id=turn_id),
        UpdateSession(principal=principal, title="mine", retitle=True),
        CloseSession(principal=principal),
        SetGrants(principal=principal, grants=("export",)),
        AnswerApproval(principal=principal, call_id=CallId("call_none"), granted=True),
        DeleteSession(principal=principal),
        ExpireSession(principal=principal, head=Seq(1)),
    )


def refusal_of(ledger: Ledger, key: SessionKey, command: Command) -> object:
    """All that a caller can tell one refusal from another by; None where it was accepted."""
    try:
        ledger.transact(key, command)
    except SessileError as refusal:
        return type(refusal), refusal.args, refusal.details
    return None


T = TypeVar("T")


def youngest(things: Sequence[T], which: int) -> T:
    return things[-1 - which % len(things)]


def safe_to_send_again(command: Command) -> bool:
    """An edit, update or grant that comes late says what was true then; a steer needs a key to be
    known again."""
    match command:
        case EditTurn() | UpdateSession() | SetGrants():
            return False
        case SubmitTurn():
            return command.when_busy != "steer" or command.once is not None
        case _:
            return True
