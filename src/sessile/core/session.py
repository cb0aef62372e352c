"""What a session, its head and its turns are: folds of the log, and nothing else.

`SessionHead` is the narrow row that decisions are made on; `Session` is what seldom changes;
`Turn` is the record of one turn. Each has one `evolve`, and a property test rebuilds all three
from the log and compares them with what the stores hold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never

from sessile.core.events import (
    ApprovalDenied,
    ApprovalGranted,
    Event,
    JsonObject,
    MessageAdded,
    Progress,
    SessionClosed,
    SessionGranted,
    SessionHandedOff,
    SessionOpened,
    SessionRevoked,
    SessionUpdated,
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
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
)
from sessile.core.ids import (
    CallId,
    Fence,
    MessageId,
    NodeId,
    Seq,
    SessionId,
    SessionKey,
    TurnId,
    UserId,
)

SessionStatus = Literal["active", "closed"]
TurnStatus = Literal[
    "queued", "running", "awaiting", "completed", "failed", "cancelled", "interrupted"
]
Answer = Literal["granted", "denied"]
ENDED: frozenset[TurnStatus] = frozenset({"completed", "failed", "cancelled", "interrupted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHead:
    """The state that decisions are made on. `head`: the last seq, 0 before birth."""

    key: SessionKey
    user_id: UserId
    status: SessionStatus = "active"
    exclusive_key: str | None = None
    head: Seq = Seq(0)
    fence: Fence = Fence(0)
    next_position: int = 1
    queued: int = 0
    running_turn_id: TurnId | None = None
    awaiting_until_ms: int | None = None
    cancel_turn_id: TurnId | None = None
    steers_unread: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who runs the session's turn. Not a fold of the log: it is renewed without an entry.

    `step` counts the fenced writes under the current fence, so that a retry applies once.
    """

    owner: NodeId | None = None
    until_ms: int = 0
    step: int = 0


FREE = Lease()


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The wide row."""

    key: SessionKey
    user_id: UserId
    assistant: str
    title: str | None
    metadata: JsonObject
    grants: tuple[str, ...]
    created_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """What a turn waited for, the last time that it did: `calls` as in `turn.awaiting`, and the
    answers that came. `since_ms` only while it waits; `waited_ms`: all its waits before."""

    calls: tuple[JsonObject, ...]
    call_ids: tuple[CallId, ...]
    answers: Mapping[CallId, Answer]
    output: str
    since_ms: int | None
    waited_ms: int

    @property
    def unanswered(self) -> tuple[CallId, ...]:
        return tuple(call_id for call_id in self.call_ids if call_id not in self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The record of one turn. `strikes` and `progressed` serve the poison rule."""

    session_id: SessionId
    turn_id: TurnId
    seq: Seq
    """Its place in the log: the entry that accepted it."""
    position: int
    message_id: MessageId
    by: UserId
    input: JsonObject
    status: TurnStatus = "queued"
    attempt: int = 0
    strikes: int = 0
    progressed: bool = False
    cancel_reason: str | None = None
    cancel_by: UserId | None = None
    awaited: Awaited | None = None
    output: str | None = None
    error: JsonObject | None = None
    progress: Progress = Progress()
    created_at_ms: int = 0
    started_at_ms: int | None = None
    ended_at_ms: int | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def unborn(key: SessionKey, user_id: UserId) -> SessionHead:
    """The head before the first entry, which must be `session.opened`."""
    return SessionHead(key=key, user_id=user_id)


def evolve(head: SessionHead, happened: Iterable[Event]) -> SessionHead:
    """The head after these events. One pass and one new value however many there are."""
    seq, status, exclusive_key = int(head.head), head.status, head.exclusive_key
    user_id, fence, next_position = head.user_id, head.fence, head.next_position
    queued, running, awaiting = head.queued, head.running_turn_id, head.awaiting_until_ms
    cancel, steers = head.cancel_turn_id, head.steers_unread
    for event in happened:
        seq += 1
        match event:
            case MessageAdded(steer_id=steer_id):
                steers -= steer_id is not None
            case TurnQueued(position=position):
                next_position, queued = position + 1, queued + 1
            case TurnStarted(attempt=attempt):
                queued -= attempt == 1
                running, fence, awaiting = event.turn_id, event.fence, None
            case TurnCompleted() | TurnFailed() | TurnCancelled() | TurnInterrupted():
                if event.turn_id == running:
                    running, awaiting, cancel, steers = None, None, None, 0
                else:
                    queued -= 1
            case TurnSteered():
                steers += 1
            case TurnCancelRequested():
                cancel = event.turn_id
            case TurnAwaiting():
                awaiting = event.expires_at_ms
            case ApprovalGranted(unanswered=0) | ApprovalDenied(unanswered=0):
                awaiting = None
            case SessionOpened():
                user_id, exclusive_key = event.user_id, event.exclusive_key
            case SessionClosed():
                status = "closed"
            case _:
                pass
    return SessionHead(
        key=head.key,
        user_id=user_id,
        status=status,
        exclusive_key=exclusive_key,
        head=Seq(seq),
        fence=fence,
        next_position=next_position,
        queued=queued,
        running_turn_id=running,
        awaiting_until_ms=awaiting,
        cancel_turn_id=cancel,
        steers_unread=steers,
    )


def due_at_ms(head: SessionHead, lease: Lease, *, now_ms: int) -> int | None:
    """When the sweep must look at the session: `None` when idle, now when a turn can run, the
    lease's end while one runs, the expiry while one awaits an approval and is not cancelled."""
    if lease.owner is not None:
        return lease.until_ms
    if head.awaiting_until_ms is not None and head.cancel_turn_id is None:
        return head.awaiting_until_ms
    if head.running_turn_id is not None or (head.queued and head.status == "active"):
        return now_ms
    return None


def evolve_session(
    session: Session | None, event: Event, *, key: SessionKey, at_ms: int
) -> Session | None:
    """The wide row after an event; most events leave it as it is."""
    if isinstance(event, SessionOpened):
        return Session(
            key=key,
            user_id=event.user_id,
            assistant=event.assistant,
            title=event.title,
            metadata=event.metadata,
            grants=(),
            created_at_ms=at_ms,
            updated_at_ms=at_ms,
        )
    if session is None:
        return None
    match event:
        case SessionUpdated():
            session = replace(session, title=event.title, metadata=event.metadata)
        case SessionHandedOff():
            session = replace(session, assistant=event.assistant)
        case SessionGranted():
            session = replace(session, grants=tuple(sorted({*session.grants, event.grant})))
        case SessionRevoked():
            session = replace(
                session, grants=tuple(grant for grant in session.grants if grant != event.grant)
            )
        case SessionClosed():
            pass
        case _:
            return session
    return replace(session, updated_at_ms=at_ms)


def evolve_turn(
    turn: Turn | None, event: Event, *, key: SessionKey, seq: Seq, at_ms: int
) -> Turn | None:
    """The turn's record after an event of this turn; `None` before it was queued."""
    return evolve_turn_by(turn, ((seq, event),), key=key, at_ms=at_ms)


def evolve_turn_by(
    turn: Turn | None, happened: Iterable[tuple[Seq, Event]], *, key: SessionKey, at_ms: int
) -> Turn | None:
    """The same after several events, each with its place. One new value however many they are."""
    changed: dict[str, Any] = {}
    for seq, event in happened:
        if isinstance(event, TurnQueued):
            turn = None
            changed = {
                "session_id": key.session_id,
                "turn_id": event.turn_id,
                "seq": seq,
                "position": event.position,
                "message_id": event.message_id,
                "by": event.by,
                "input": event.input,
                "created_at_ms": at_ms,
            }
        elif turn is not None or changed:
            _change(turn, changed, event, at_ms)
    if turn is None:
        return Turn(**changed) if changed else None
    return replace(turn, **changed) if changed else turn


def _change(turn: Turn | None, changed: dict[str, Any], event: Event, at_ms: int) -> None:
    """What an event makes of a turn that is `changed` already; None is one that begins by it."""
    match event:
        case MessageAdded():
            if event.role == "assistant":
                _progress(turn, changed)
        case TurnStarted():
            changed |= {
                "status": "running",
                "attempt": event.attempt,
                "strikes": event.strikes,
                "progressed": False,
            }
            if turn is None or turn.started_at_ms is None:
                changed.setdefault("started_at_ms", at_ms)
            if (awaited := _awaited(turn, changed)) is not None and awaited.since_ms is not None:
                waited_ms = awaited.waited_ms + at_ms - awaited.since_ms
                changed["awaited"] = replace(awaited, since_ms=None, waited_ms=waited_ms)
        case TurnCompleted() | TurnFailed() | TurnCancelled() | TurnInterrupted():
            status, error = _end(event)
            changed |= {
                "status": status,
                "output": event.output,
                "error": error,
                "progress": _numbers(turn, changed).raised_to(event).settled(),
                "ended_at_ms": at_ms,
            }
        case TurnProgress():
            changed["progress"] = _numbers(turn, changed).raised_to(event)
        case ToolCompleted() | ToolFailed() | ToolInterrupted() | ToolRefused():
            _progress(turn, changed)
        case TurnEdited():
            changed["input"] = event.input
        case TurnCancelRequested():
            changed |= {"cancel_reason": event.reason, "cancel_by": event.by}
        case TurnAwaiting():
            before = _awaited(turn, changed)
            changed["status"] = "awaiting"
            changed["awaited"] = Awaited(
                calls=event.calls,
                call_ids=event.call_ids,
                answers={},
                output=event.output,
                since_ms=at_ms,
                waited_ms=0 if before is None else before.waited_ms,
            )
        case ApprovalGranted() | ApprovalDenied():
            if (awaited := _awaited(turn, changed)) is not None:
                answer: Answer = "granted" if isinstance(event, ApprovalGranted) else "denied"
                answers = {**awaited.answers, event.call_id: answer}
                changed["awaited"] = replace(awaited, answers=answers)
        case _:
            pass


def _awaited(turn: Turn | None, changed: dict[str, Any]) -> Awaited | None:
    before = None if turn is None else turn.awaited
    awaited: Awaited | None = changed.get("awaited", before)
    return awaited


def _progress(turn: Turn | None, changed: dict[str, Any]) -> None:
    if turn is None or not turn.progressed or "progressed" in changed:
        changed["progressed"] = True


def _numbers(turn: Turn | None, changed: dict[str, Any]) -> Progress:
    numbers: Progress = changed.get("progress", Progress() if turn is None else turn.progress)
    return numbers


def _end(
    event: TurnCompleted | TurnFailed | TurnCancelled | TurnInterrupted,
) -> tuple[TurnStatus, JsonObject | None]:
    match event:
        case TurnCompleted():
            return "completed", None
        case TurnFailed():
            return "failed", event.error
        case TurnCancelled():
            return "cancelled", {"code": "cancelled", "message": event.reason, "retry": False}
        case TurnInterrupted():
            return "interrupted", {"code": "interrupted", "message": event.reason, "retry": True}
        case _:
            assert_never(event)
