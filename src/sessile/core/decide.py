"""What each command makes of a session: `decide(view, command) -> Decision`.

A store calls `decide` inside the session's lock with what the command named, and writes what it
answers; nothing is read before the lock, and nothing is decided after it. A refusal is raised,
and leaves no trace.
"""

from typing import assert_never

from sessile.core import approvals
from sessile.core.approvals import released
from sessile.core.attempts import finish, first_attempt, held, knows, start
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
    Once,
    OpenSession,
    Press,
    ReleaseTurn,
    Runner,
    SetGrants,
    StartTurn,
    SubmitTurn,
    UpdateSession,
    View,
)
from sessile.core.context import Principal
from sessile.core.displaced import displace, stopped
from sessile.core.errors import (
    Forbidden,
    IdempotencyConflict,
    QueueFull,
    SessionBusy,
    SessionClosed,
    SessionNotFound,
    TurnEnded,
    TurnNotFound,
    TurnNotQueued,
)
from sessile.core.events import (
    Event,
    JsonObject,
    SessionGranted,
    SessionOpened,
    SessionRevoked,
    SessionUpdated,
    TurnCancelled,
    TurnEdited,
    TurnQueued,
    TurnSteered,
)
from sessile.core.events import SessionClosed as SessionClosedEvent
from sessile.core.forks import check_origin
from sessile.core.ids import Fence, TurnId
from sessile.core.session import SessionHead, Turn


def decide(view: View, command: Command) -> Decision:
    """Raises a `SessileError` where the command is refused."""
    match command:
        case SubmitTurn():
            return _submit(view, command)
        case FinishTurn():
            return finish(view, command)
        case OpenSession():
            return _open(view, command)
        case EditTurn():
            return _edit(view, command)
        case CancelTurn():
            return _cancel(view, command)
        case UpdateSession():
            return _update(view, command)
        case CloseSession():
            return _close(view, command)
        case SetGrants():
            return _grant(view, command)
        case DeleteSession():
            _reached(view, command.principal)
            return Decision(deleted=True)
        case ExpireSession():
            return _expire(view, command)
        case StartTurn():
            return start(view, command)
        case ReleaseTurn():
            held(view, command.holding)
            return Decision(lease=released(view))
        case AwaitTurn():
            return approvals.begin(view, held(view, command.holding), command)
        case AnswerApproval():
            return approvals.answer(view, _reached(view, command.principal), command)
        case _:
            assert_never(command)


def _reached(view: View, principal: Principal) -> SessionHead:
    head = view.head
    if head is None or not principal.may_reach(head.key, head.user_id):
        raise SessionNotFound()
    principal.check_scope("write")
    return head


def _repeat(view: View, once: Once | None) -> Decision | None:
    if once is None or view.remembered is None:
        return None
    if view.remembered.request_hash != once.request_hash:
        raise IdempotencyConflict()
    return Decision(
        repeated=True,
        turn_id=view.remembered.turn_id,
        session_id=view.remembered.session_id,
        created=view.remembered.created,
    )


def _open(view: View, command: OpenSession) -> Decision:
    command.principal.check_scope("write")
    if repeat := _repeat(view, command.once):
        return repeat
    first = command.first
    if view.head is not None:
        _reached(view, command.principal)
        if view.exclusive:
            return Decision() if first is None else _submit(view, first)
        # A retry whose first try was applied: the id was minted before that.
        turn_id = None if first is None else first.turn_id
        return Decision(repeated=True, created=True, turn_id=turn_id)
    if refusal := command.limited or (first and first.limited):
        raise refusal
    if command.origin_seen is not None:
        check_origin(view, command)
    opened = SessionOpened(
        user_id=command.principal.user_id,
        assistant=command.assistant,
        title=command.title,
        metadata=command.metadata,
        exclusive_key=command.exclusive_key,
    )
    forked = () if command.forked is None else (command.forked,)
    events = (opened, *forked, *command.inherited)
    if first is None:
        return Decision(events=events, created=True)
    runner = first.runner
    if runner is not None and command.assistant not in runner.assistants:
        runner = None
    accepted = _accepted(
        first,
        _read(first.input, command.assistant),
        position=1,
        fence=Fence(0),
        runner=runner,
        now_ms=view.now_ms,
        before=events,
    )
    return accepted._replace(created=True)


def _expire(view: View, command: ExpireSession) -> Decision:
    head = _reached(view, command.principal)
    busy = head.running_turn_id is not None or head.queued > 0
    if busy or head.head != command.head:
        return Decision(repeated=True)
    return Decision(deleted=True)


def _submit(view: View, command: SubmitTurn) -> Decision:
    head = _reached(view, command.principal)
    if repeat := _repeat(view, command.once):
        return repeat
    if command.turn_id in view.turns:
        # A retry whose first try was applied: the id was minted before that.
        return Decision(repeated=True, turn_id=command.turn_id)
    if head.status == "closed":
        raise SessionClosed()
    if command.limited is not None:
        raise command.limited
    given = _read(command.input, view.assistant)
    running = head.running_turn_id
    busy = running is not None or head.queued > 0
    if busy and command.when_busy == "reject":
        raise SessionBusy(running_turn_id=running)
    # A steer that is not read in time becomes a queued turn: its place is kept free for it.
    waiting = head.steers_unread + (0 if command.when_busy == "interrupt" else head.queued)
    if waiting >= command.queue_max:
        raise QueueFull(queue_max=command.queue_max)
    if command.when_busy == "steer" and _steerable(view, head):
        assert running is not None
        steered = TurnSteered(
            turn_id=running,
            steer_id=command.turn_id,
            message_id=command.message_id,
            input=given,
            by=command.principal.user_id,
        )
        return Decision(events=(steered,), turn_id=running)
    displaced: tuple[Event, ...] = ()
    if command.when_busy == "interrupt":
        displaced = tuple(displace(view, head, by=command.principal, reason="displaced"))
    ended = any(
        isinstance(event, TurnCancelled) and event.turn_id == running for event in displaced
    )
    free = (running is None or ended) and (head.queued == 0 or command.when_busy == "interrupt")
    runner = command.runner
    return _accepted(
        command,
        given,
        position=head.next_position,
        fence=head.fence,
        runner=runner if free and runner is not None and knows(runner, view) else None,
        now_ms=view.now_ms,
        before=displaced,
    )


def _read(given: JsonObject | Press, assistant: str | None) -> JsonObject:
    """A press as the session's assistant reads it, which may be another by now."""
    if not isinstance(given, Press):
        return given
    assert assistant is not None, "the wide row comes with a press"
    return given.read_by(assistant)


def _accepted(
    command: SubmitTurn,
    given: JsonObject,
    *,
    position: int,
    fence: Fence,
    runner: Runner | None,
    now_ms: int,
    before: tuple[Event, ...],
) -> Decision:
    """A turn of its own, which `runner` starts at once."""
    turn_id = command.turn_id
    queued = TurnQueued(
        turn_id=turn_id,
        position=position,
        input=given,
        message_id=command.message_id,
        by=command.principal.user_id,
        when_busy=command.when_busy,
    )
    if runner is None:
        return Decision(events=(*before, queued), turn_id=turn_id)
    started, lease = first_attempt(queued, fence, runner, now_ms=now_ms)
    return Decision(events=(*before, queued, *started), lease=lease, turn_id=turn_id)


def _steerable(view: View, head: SessionHead) -> bool:
    """Nobody would read it while the turn waits for a person, nor once it is to stop."""
    running = head.running_turn_id
    if running is None or head.cancel_turn_id is not None:
        return False
    return view.turns[running].status != "awaiting"


def _edit(view: View, command: EditTurn) -> Decision:
    turn = _named_turn(view, command.principal, command.turn_id)
    if turn.status != "queued":
        raise TurnNotQueued(status=turn.status)
    given = _read(command.input, view.assistant)
    edited = TurnEdited(turn_id=turn.turn_id, input=given, by=command.principal.user_id)
    return Decision(events=(edited,), turn_id=turn.turn_id)


def _cancel(view: View, command: CancelTurn) -> Decision:
    turn = _named_turn(view, command.principal, command.turn_id)
    if turn.status == "cancelled" or (not turn.ended and turn.cancel_reason is not None):
        return Decision(repeated=True, turn_id=turn.turn_id)
    if turn.ended:
        raise TurnEnded(status=turn.status)
    by, reason = command.principal, command.reason
    if turn.status == "queued":
        cancelled = TurnCancelled(turn_id=turn.turn_id, reason=reason, by=by.user_id)
        return Decision(events=(cancelled,), turn_id=turn.turn_id)
    assert view.head is not None
    ends = tuple(stopped(view.head, turn, by=by, reason=reason))
    return Decision(events=ends, turn_id=turn.turn_id)


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
    removed = {name for name, value in command.metadata.items() if value is None}
    updated = SessionUpdated(
        title=command.title if command.retitle else view.session.title,
        metadata={name: value for name, value in merged.items() if name not in removed},
        by=command.principal.user_id,
    )
    return Decision(events=(updated,))


def _grant(view: View, command: SetGrants) -> Decision:
    head = _reached(view, command.principal)
    if head.status == "closed":
        raise SessionClosed()
    assert view.session is not None
    by, had, wanted = command.principal.user_id, view.session.grants, dict.fromkeys(command.grants)
    changed = set(had) ^ set(wanted)
    if command.changeable is not None and not changed <= command.changeable:
        raise Forbidden(
            "only an operator or admin sets these grants",
            grants=sorted(changed - command.changeable),
        )
    granted = (SessionGranted(grant=each, by=by) for each in wanted if each not in had)
    revoked = (SessionRevoked(grant=each, by=by) for each in had if each not in wanted)
    return Decision(events=(*granted, *revoked))


def _close(view: View, command: CloseSession) -> Decision:
    head = _reached(view, command.principal)
    if head.status == "closed":
        return Decision(repeated=True)
    displaced = displace(view, head, by=command.principal, reason="closed")
    closed = SessionClosedEvent(by=command.principal.user_id, reason=command.reason)
    return Decision(events=(*displaced, closed))
