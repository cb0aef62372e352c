"""Commands, and what each of them makes of a session: `decide(view, command) -> Decision`.

A store calls `decide` inside the session's lock with what the command named, and writes what it
answers; nothing is read before the lock, and nothing is decided after it. A refusal is raised,
and leaves no trace.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, assert_never

from sessile.core.context import Holding, Principal
from sessile.core.errors import (
    IdempotencyConflict,
    LeaseLost,
    QueueFull,
    SessionBusy,
    SessionClosed,
    SessionNotFound,
    SteerUnread,
    TurnEnded,
    TurnNotFound,
    TurnNotQueued,
)
from sessile.core.events import (
    Event,
    JsonObject,
    MessageAdded,
    Progress,
    SessionForked,
    SessionOpened,
    SessionUpdated,
    TurnCancelled,
    TurnCancelRequested,
    TurnCompleted,
    TurnEdited,
    TurnFailed,
    TurnInterrupted,
    TurnQueued,
    TurnStarted,
    TurnSteered,
    WhenBusy,
)
from sessile.core.events import SessionClosed as SessionClosedEvent
from sessile.core.ids import Fence, MessageId, NodeId, SessionId, TurnId, UserId
from sessile.core.session import FREE, Lease, Session, SessionHead, Turn

STRIKES_MAX = 3
"""Attempts lost in a row without a durable step, after which a turn ends `interrupted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """An idempotency key as its user sent it. `scope`: the session, or `open`."""

    user_id: UserId
    scope: str
    key: str
    request_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What was answered under an idempotency key."""

    request_hash: str
    session_id: SessionId
    turn_id: TurnId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A node that has a slot free for a turn, and what its lease would be."""

    node: NodeId
    lease_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """`inherited`: what a fork copies, after `forked` says from where."""

    principal: Principal
    assistant: str
    title: str | None = None
    metadata: JsonObject = field(default_factory=dict[str, Any])
    exclusive_key: str | None = None
    forked: SessionForked | None = None
    inherited: tuple[Event, ...] = ()
    once: Once | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitTurn:
    """`runner`: starts the turn at once if the session is free; `None`: it is queued only."""

    principal: Principal
    turn_id: TurnId
    message_id: MessageId
    input: JsonObject
    when_busy: WhenBusy
    queue_max: int
    runner: Runner | None = None
    once: Once | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditTurn:
    principal: Principal
    turn_id: TurnId
    input: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTurn:
    principal: Principal
    turn_id: TurnId
    reason: str = "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSession:
    """Merges `metadata` key by key (a null removes its key); `title` only where `retitle`."""

    principal: Principal
    title: str | None = None
    retitle: bool = False
    metadata: JsonObject = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSession:
    principal: Principal
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSession:
    principal: Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTurn:
    """Claims what is due: a lost or handed-back turn first, else the queue's first.

    `suspects`: whether to take a turn whose last attempt was lost without a durable step.
    """

    runner: Runner
    suspects: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTurn:
    """Hands the lease back unfinished; the next attempt is no strike."""

    holding: Holding


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTurn:
    """Ends the turn. `closing`: what must be written before the end, in the same transaction.

    `unread`: the steered inputs that the agent has not read. `successor`: take the session's
    next turn under a new fence; `None`: release the lease.
    """

    holding: Holding
    step: int
    end: Literal["completed", "failed", "cancelled", "interrupted"]
    output: str = ""
    error: JsonObject | None = None
    reason: str = ""
    progress: Progress = Progress()
    closing: tuple[Event, ...] = ()
    unread: tuple[TurnSteered, ...] = ()
    successor: Runner | None = None


Command = (
    OpenSession
    | SubmitTurn
    | EditTurn
    | CancelTurn
    | UpdateSession
    | CloseSession
    | DeleteSession
    | StartTurn
    | ReleaseTurn
    | FinishTurn
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a store shows `decide`, read inside the session's lock."""

    now_ms: int
    head: SessionHead | None = None
    lease: Lease = FREE
    session: Session | None = None
    turns: Mapping[TurnId, Turn] = field(default_factory=dict[TurnId, Turn])
    """The turn that the command names, the running one, and as much of the queue as it named."""
    remembered: Remembered | None = None
    exclusive: SessionId | None = None
    """The active session that holds the exclusive key of an `OpenSession`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to write, in one transaction. `lease=None` leaves the lease alone."""

    events: tuple[Event, ...] = ()
    lease: Lease | None = None
    turn_id: TurnId | None = None
    """The turn that the answer is about."""
    session_id: SessionId | None = None
    """The session that the answer is about, where it is not the one that was locked."""
    repeated: bool = False
    """Nothing is written: the answer was given before."""
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The rows that a command needs beside the head, the lease and the running turn."""

    turn_id: TurnId | None = None
    queue: Literal["none", "first", "all"] = "none"
    session: bool = False
    once: Once | None = None
    exclusive_key: str | None = None


def named(command: Command) -> Named:
    """What a store must read for `decide`. Stated apart, so that a batch is read in one go."""
    match command:
        case OpenSession():
            return Named(once=command.once, exclusive_key=command.exclusive_key)
        case SubmitTurn():
            queue: Literal["none", "all"] = "all" if command.when_busy == "interrupt" else "none"
            return Named(once=command.once, queue=queue)
        case EditTurn() | CancelTurn():
            return Named(turn_id=command.turn_id)
        case UpdateSession():
            return Named(session=True)
        case CloseSession():
            return Named(queue="all", session=True)
        case DeleteSession() | ReleaseTurn():
            return Named()
        case StartTurn():
            return Named(queue="first")
        case FinishTurn():
            return Named(turn_id=command.holding.turn_id, queue="first")
        case _:
            assert_never(command)


def decide(view: View, command: Command) -> Decision:
    """Raises a `SessileError` where the command is refused."""
    match command:
        case OpenSession():
            return _open(view, command)
        case SubmitTurn():
            return _submit(view, command)
        case EditTurn():
            return _edit(view, command)
        case CancelTurn():
            return _cancel(view, command)
        case UpdateSession():
            return _update(view, command)
        case CloseSession():
            return _close(view, command)
        case DeleteSession():
            _reached(view, command.principal)
            return Decision(deleted=True)
        case StartTurn():
            return _start(view, command)
        case ReleaseTurn():
            _held(view, command.holding)
            return Decision(lease=FREE)
        case FinishTurn():
            return _finish(view, command)
        case _:
            assert_never(command)


def check_append(view: View, holding: Holding, *, step: int) -> bool:
    """Whether a fenced append is still to be written; False where a retry finds it applied.

    Raises LeaseLost under a newer fence, or after the session was closed: then the fenced end
    of the turn is the only thing that may follow.
    """
    head = _held(view, holding)
    if head.status == "closed":
        raise LeaseLost("the session was closed")
    if view.lease.step == step + 1:
        return False
    if view.lease.step != step:
        raise LeaseLost(f"step {step} does not follow {view.lease.step}")
    return True


def _reached(view: View, principal: Principal) -> SessionHead:
    head = view.head
    if head is None or not principal.may_reach(head.key, head.user_id):
        raise SessionNotFound()
    return head


def _held(view: View, holding: Holding) -> SessionHead:
    head = view.head
    if head is None or head.fence != holding.fence or head.running_turn_id != holding.turn_id:
        raise LeaseLost()
    return head


def _repeat(view: View, once: Once | None) -> Decision | None:
    if once is None or view.remembered is None:
        return None
    if view.remembered.request_hash != once.request_hash:
        raise IdempotencyConflict()
    return Decision(
        repeated=True, turn_id=view.remembered.turn_id, session_id=view.remembered.session_id
    )


def _open(view: View, command: OpenSession) -> Decision:
    if repeat := _repeat(view, command.once):
        return repeat
    if view.exclusive is not None:
        return Decision(session_id=view.exclusive)
    assert view.head is None, "a session id is born once"
    opened = SessionOpened(
        user_id=command.principal.user_id,
        assistant=command.assistant,
        title=command.title,
        metadata=command.metadata,
        exclusive_key=command.exclusive_key,
    )
    forked = () if command.forked is None else (command.forked,)
    return Decision(events=(opened, *forked, *command.inherited))


def _submit(view: View, command: SubmitTurn) -> Decision:
    head = _reached(view, command.principal)
    if repeat := _repeat(view, command.once):
        return repeat
    if head.status == "closed":
        raise SessionClosed()
    running = head.running_turn_id
    busy = running is not None or head.queued > 0
    if busy and command.when_busy == "reject":
        raise SessionBusy(running_turn_id=running)
    by = command.principal.user_id
    steerable = head.awaiting_until_ms is None and head.cancel_turn_id is None
    if command.when_busy == "steer" and running is not None and steerable:
        if head.steers_unread >= command.queue_max:
            raise QueueFull(queue_max=command.queue_max)
        steered = TurnSteered(
            turn_id=running,
            steer_id=command.turn_id,
            message_id=command.message_id,
            input=command.input,
            by=by,
        )
        return Decision(events=(steered,), turn_id=running)
    displaced: tuple[Event, ...] = ()
    if command.when_busy == "interrupt":
        displaced = tuple(_displace(view, head, by=command.principal, reason="displaced"))
    elif head.queued >= command.queue_max:
        raise QueueFull(queue_max=command.queue_max)
    queued = TurnQueued(
        turn_id=command.turn_id,
        position=head.next_position,
        input=command.input,
        message_id=command.message_id,
        by=by,
        when_busy=command.when_busy,
    )
    free = running is None and (head.queued == 0 or command.when_busy == "interrupt")
    if free and command.runner is not None:
        started, lease = _first_attempt(queued, head.fence, command.runner, now_ms=view.now_ms)
        return Decision(events=(*displaced, queued, *started), lease=lease, turn_id=command.turn_id)
    return Decision(events=(*displaced, queued), turn_id=command.turn_id)


def _displace(view: View, head: SessionHead, *, by: Principal, reason: str) -> Iterator[Event]:
    """Cancels all that waits, and flags the turn that runs."""
    for turn in _queue(view):
        yield TurnCancelled(turn_id=turn.turn_id, reason=reason, by=by.user_id)
    running = head.running_turn_id
    if running is not None and head.cancel_turn_id is None:
        yield TurnCancelRequested(turn_id=running, by=by.user_id, reason=reason)


def _queue(view: View) -> list[Turn]:
    return sorted(
        (turn for turn in view.turns.values() if turn.status == "queued"),
        key=lambda turn: turn.position,
    )


def _first_attempt(
    turn: Turn | TurnQueued, fence: Fence, runner: Runner, *, now_ms: int
) -> tuple[tuple[Event, Event], Lease]:
    """A turn that waited joins the history now, under a new fence."""
    started = TurnStarted(turn_id=turn.turn_id, attempt=1, fence=Fence(fence + 1), node=runner.node)
    message = user_message(turn.turn_id, turn.message_id, turn.input)
    return (started, message), _taken(runner, now_ms=now_ms)


def user_message(
    turn_id: TurnId, message_id: MessageId, given: JsonObject, *, steer_id: TurnId | None = None
) -> MessageAdded:
    """The message by which an input joins the history."""
    return MessageAdded(
        turn_id=turn_id,
        message_id=message_id,
        role="user",
        parts=({"type": "text", "text": given["text"]},),
        steer_id=steer_id,
    )


def _taken(runner: Runner, *, now_ms: int) -> Lease:
    return Lease(owner=runner.node, until_ms=now_ms + runner.lease_ms, step=0)


def _edit(view: View, command: EditTurn) -> Decision:
    turn = _named_turn(view, command.principal, command.turn_id)
    if turn.status != "queued":
        raise TurnNotQueued(status=turn.status)
    edited = TurnEdited(turn_id=turn.turn_id, input=command.input, by=command.principal.user_id)
    return Decision(events=(edited,), turn_id=turn.turn_id)


def _cancel(view: View, command: CancelTurn) -> Decision:
    turn = _named_turn(view, command.principal, command.turn_id)
    if turn.status == "cancelled" or (not turn.ended and turn.cancel_reason is not None):
        return Decision(repeated=True, turn_id=turn.turn_id)
    if turn.ended:
        raise TurnEnded(status=turn.status)
    by = command.principal.user_id
    event: Event
    if turn.status == "queued":
        event = TurnCancelled(turn_id=turn.turn_id, reason=command.reason, by=by)
    else:
        event = TurnCancelRequested(turn_id=turn.turn_id, by=by, reason=command.reason)
    return Decision(events=(event,), turn_id=turn.turn_id)


def _named_turn(view: View, principal: Principal, turn_id: TurnId) -> Turn:
    _reached(view, principal)
    turn = view.turns.get(turn_id)
    if turn is None:
        raise TurnNotFound()
    return turn


def _update(view: View, command: UpdateSession) -> Decision:
    head = _reached(view, command.principal)
    if head.status == "closed":
        raise SessionClosed()
    assert view.session is not None
    merged = {**view.session.metadata, **command.metadata}
    updated = SessionUpdated(
        title=command.title if command.retitle else view.session.title,
        metadata={name: value for name, value in merged.items() if value is not None},
        by=command.principal.user_id,
    )
    return Decision(events=(updated,))


def _close(view: View, command: CloseSession) -> Decision:
    head = _reached(view, command.principal)
    if head.status == "closed":
        return Decision(repeated=True)
    displaced = _displace(view, head, by=command.principal, reason="closed")
    closed = SessionClosedEvent(by=command.principal.user_id, reason=command.reason)
    return Decision(events=(*displaced, closed))


def _start(view: View, command: StartTurn) -> Decision:
    head = view.head
    leased = view.lease.owner is not None
    if head is None or (leased and view.lease.until_ms > view.now_ms):
        return Decision()
    if head.running_turn_id is not None:
        turn = view.turns[head.running_turn_id]
        strikes = 0 if turn.progressed else turn.strikes + leased
        if strikes and not command.suspects:
            return Decision()
        started = TurnStarted(
            turn_id=turn.turn_id,
            attempt=turn.attempt + 1,
            fence=Fence(head.fence + 1),
            node=command.runner.node,
            strikes=strikes,
        )
        lease = _taken(command.runner, now_ms=view.now_ms)
        return Decision(events=(started,), lease=lease, turn_id=turn.turn_id)
    for turn in _queue(view)[:1]:
        events, lease = _first_attempt(turn, head.fence, command.runner, now_ms=view.now_ms)
        return Decision(events=events, lease=lease, turn_id=turn.turn_id)
    return Decision()


def _finish(view: View, command: FinishTurn) -> Decision:
    holding = command.holding
    turn = view.turns.get(holding.turn_id)
    if turn is not None and turn.ended and turn.attempt == holding.attempt:
        # A retry whose first try was applied: only the last attempt can have ended the turn.
        return Decision(repeated=True, turn_id=turn.turn_id)
    head = _held(view, holding)
    assert turn is not None
    if view.lease.step != command.step:
        raise LeaseLost(f"step {command.step} does not follow {view.lease.step}")
    cancelled = head.cancel_turn_id == turn.turn_id
    if len(command.unread) != head.steers_unread:
        raise SteerUnread(steers_unread=head.steers_unread)
    if command.unread and command.end == "completed" and not cancelled:
        raise SteerUnread(steers_unread=head.steers_unread)
    end = _terminal(turn, command, cancelled=cancelled)
    closing = tuple(_marked(event) if cancelled else event for event in command.closing)
    requeued = tuple(_requeue(head, command))
    events: tuple[Event, ...] = (*closing, end, *requeued)
    waiting: list[Turn | TurnQueued] = list(_queue(view))
    waiting.extend(event for event in requeued if isinstance(event, TurnQueued))
    if command.successor is None or head.status == "closed" or not waiting:
        return Decision(events=events, lease=FREE, turn_id=turn.turn_id)
    started, lease = _first_attempt(waiting[0], head.fence, command.successor, now_ms=view.now_ms)
    return Decision(events=(*events, *started), lease=lease, turn_id=turn.turn_id)


def _marked(event: Event) -> Event:
    """What was never read as a whole before the cancel says so."""
    if isinstance(event, MessageAdded):
        return replace(event, state="partial")
    return event


def _terminal(turn: Turn, command: FinishTurn, *, cancelled: bool) -> Event:
    numbers = command.progress.raised_to(turn.progress).settled()
    counts = {
        "current_iteration": numbers.current_iteration,
        "total_iterations": numbers.total_iterations,
        "tokens_used": numbers.tokens_used,
        "total_tokens": numbers.total_tokens,
    }
    turn_id, output = turn.turn_id, command.output
    if cancelled or command.end == "cancelled":
        reason = turn.cancel_reason or command.reason
        by = turn.cancel_by or turn.by
        return TurnCancelled(turn_id=turn_id, reason=reason, by=by, output=output, **counts)
    match command.end:
        case "completed":
            return TurnCompleted(turn_id=turn_id, output=output, **counts)
        case "failed":
            error = command.error or {}
            return TurnFailed(turn_id=turn_id, error=error, output=output, **counts)
        case "interrupted":
            return TurnInterrupted(turn_id=turn_id, reason=command.reason, output=output, **counts)
        case _:
            assert_never(command.end)


def _requeue(head: SessionHead, command: FinishTurn) -> Iterator[Event]:
    """Steered inputs that were never read become turns; in a closed session, cancelled ones."""
    for position, steer in enumerate(command.unread, start=head.next_position):
        yield TurnQueued(
            turn_id=steer.steer_id,
            position=position,
            input=steer.input,
            message_id=steer.message_id,
            by=steer.by,
            when_busy="steer",
        )
        if head.status == "closed":
            yield TurnCancelled(turn_id=steer.steer_id, reason="closed", by=steer.by)
