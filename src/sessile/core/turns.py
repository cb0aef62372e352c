"""What the entries of a turn make of its record: a fold like the others, and the longest."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, assert_never

from sessile.core.events import (
    ApprovalDenied,
    ApprovalGranted,
    Event,
    JsonObject,
    MessageAdded,
    Progress,
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
)
from sessile.core.ids import Seq, SessionKey
from sessile.core.session import Answer, Awaited, Turn, TurnStatus


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
            _waited(turn, changed, at_ms)
        case TurnCompleted() | TurnFailed() | TurnCancelled() | TurnInterrupted():
            status, error = _end(event)
            changed |= {
                "status": status,
                "output": event.output,
                "error": error,
                "progress": _numbers(turn, changed).raised_to(event).settled(),
                "ended_at_ms": at_ms,
            }
            _waited(turn, changed, at_ms)
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
            _progress(turn, changed)
            changed["status"] = "awaiting"
            changed["awaited"] = Awaited(
                calls=event.calls,
                call_ids=event.call_ids,
                answers={} if before is None else before.answers,
                output=event.output,
                since_ms=at_ms,
                waited_ms=0 if before is None else before.waited_ms,
                open_message_id=event.open_message_id,
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


def _waited(turn: Turn | None, changed: dict[str, Any], at_ms: int) -> None:
    """A wait is over, if there was one."""
    awaited = _awaited(turn, changed)
    if awaited is not None and awaited.since_ms is not None:
        waited_ms = awaited.waited_ms + at_ms - awaited.since_ms
        changed["awaited"] = replace(awaited, since_ms=None, waited_ms=waited_ms)


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
