"""What a session, its head and its turns are: folds of the log, and nothing else.

`SessionHead` is the narrow row that decisions are made on; `Session` is what seldom changes;
`Turn` is the record of one turn, whose fold is in `turns`. A property test rebuilds all three from
the log and compares them with what the stores hold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

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
    TurnAwaiting,
    TurnCancelled,
    TurnCancelRequested,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
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
    """What a turn waited for, the last time that it did: `calls`, `output` and `open_message_id`
    as in `turn.awaiting`. `answers` of all its waits; `since_ms` only while it waits;
    `waited_ms`: all its waits before."""

    calls: tuple[JsonObject, ...]
    call_ids: tuple[CallId, ...]
    answers: Mapping[CallId, Answer]
    output: str
    since_ms: int | None
    waited_ms: int
    open_message_id: MessageId | None = None

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
    lease's end while one runs, the expiry while one awaits an answer that has not come."""
    if lease.owner is not None:
        return lease.until_ms
    if head.awaiting_until_ms is not None:
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
