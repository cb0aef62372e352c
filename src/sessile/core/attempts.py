"""The fenced side of the rules: how attempts of turns begin, write and end."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import assert_never

from sessile.core.approvals import EXPIRED, counts, denials
from sessile.core.commands import Decision, FinishTurn, Runner, StartTurn, View
from sessile.core.context import Holding
from sessile.core.errors import LeaseLost, SteerUnread
from sessile.core.events import (
    ButtonPressed,
    Event,
    JsonObject,
    MessageAdded,
    ToolInterrupted,
    ToolRefused,
    ToolStarted,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
    TurnInterrupted,
    TurnQueued,
    TurnStarted,
)
from sessile.core.ids import Fence, MessageId, TurnId
from sessile.core.policy import needs_grant
from sessile.core.session import FREE, Lease, SessionHead, Turn, due_at_ms

STRIKES_MAX = 3
"""Attempts lost in a row without a durable step, after which a turn ends `interrupted`."""

SUSPECT_STRIKES_MIN = 2
"""A turn with as many is suspect: a node runs one such at a time. A single strike is what every
turn of a lost node has."""


def check_append(view: View, holding: Holding, *, step: int) -> bool:
    """Whether a fenced append is still to be written; False where a retry finds it applied.

    Raises LeaseLost under a newer fence, after the lease was let go of, and after the session was
    closed: then the fenced end of the turn is the only thing that may follow.
    """
    head = held(view, holding)
    if view.lease.step == step + 1:
        return False
    if head.status == "closed":
        raise LeaseLost("the session was closed")
    if view.lease.owner is None or view.lease.step != step:
        raise LeaseLost(f"step {step} does not follow {view.lease.step}")
    return True


def authorised(view: View, events: Iterable[Event]) -> tuple[Event, ...]:
    """As they are to be written: a call starts only while the session has the grant for it."""
    grants = () if view.session is None else view.session.grants
    return tuple(
        event.refused(verdict="needs_grant", reason=needs_grant(event.grant))
        if isinstance(event, ToolStarted) and event.grant is not None and event.grant not in grants
        else event
        for event in events
    )


def closing_of(view: View, events: Iterable[Event]) -> tuple[Event, ...]:
    """As `authorised`, for what an end carries. A call whose start comes only with the end never
    ran: refused, it has its outcome by that, and needs none that says that it was given up."""
    written = authorised(view, events)
    refused = {event.call_id for event in written if isinstance(event, ToolRefused)}
    return tuple(
        event
        for event in written
        if not isinstance(event, ToolInterrupted) or event.call_id not in refused
    )


def start(view: View, command: StartTurn) -> Decision:
    """A lost turn of a closed session is begun once more too: the outcomes of its open calls and
    its unread steers, which its end must name, are in the log, which no decision sees. The
    attempt reads it, and writes nothing but the end."""
    head = view.head
    due = None if head is None else due_at_ms(head, view.lease, now_ms=view.now_ms)
    if head is None or due is None or due > view.now_ms:
        return Decision()
    if head.cancel_turn_id is None and not knows(command.runner, view):
        return Decision()
    if head.running_turn_id is not None:
        turn = view.turns[head.running_turn_id]
        lost = None if view.lease.owner is None else view.lease
        strikes = 0 if turn.progressed else turn.strikes + (lost is not None)
        if strikes >= SUSPECT_STRIKES_MIN and not command.suspects:
            return Decision()
        started = TurnStarted(
            turn_id=turn.turn_id,
            attempt=turn.attempt + 1,
            fence=Fence(head.fence + 1),
            node=command.runner.node,
            strikes=strikes,
        )
        lease = _taken(command.runner, now_ms=view.now_ms)
        # What is unanswered still, now that the turn is due, was not answered in time.
        expired = denials(turn, by=None, reason=EXPIRED)
        return Decision(events=(*expired, started), lease=lease, turn_id=turn.turn_id, lost=lost)
    turn = queue(view)[0]
    events, lease = first_attempt(turn, head.fence, command.runner, now_ms=view.now_ms)
    return Decision(events=events, lease=lease, turn_id=turn.turn_id)


def finish(view: View, command: FinishTurn) -> Decision:
    holding = command.holding
    turn = view.turns.get(holding.turn_id)
    if turn is not None and turn.ended and turn.attempt == holding.attempt:
        # A retry whose first try was applied: only the last attempt can have ended the turn.
        return Decision(repeated=True, turn_id=turn.turn_id)
    head = held(view, holding)
    assert turn is not None
    if view.lease.step != command.step:
        raise LeaseLost(f"step {command.step} does not follow {view.lease.step}")
    cancelled = head.cancel_turn_id == turn.turn_id
    heard = len(command.unread) == head.steers_unread
    if not heard or (command.unread and command.end == "completed" and not cancelled):
        raise SteerUnread(steers_unread=head.steers_unread, cancelled=cancelled)
    end = _terminal(turn, command, cancelled=cancelled)
    written = closing_of(view, command.closing)
    closing = tuple(_marked(event) if cancelled else event for event in written)
    requeued = tuple(_requeue(head, command))
    events: tuple[Event, ...] = (*closing, end, *requeued)
    waiting: list[Turn | TurnQueued] = list(queue(view))
    waiting.extend(event for event in requeued if isinstance(event, TurnQueued))
    successor = command.successor
    if successor is None or not knows(successor, view) or head.status == "closed" or not waiting:
        return Decision(events=events, lease=FREE, turn_id=turn.turn_id)
    started, lease = first_attempt(waiting[0], head.fence, successor, now_ms=view.now_ms)
    return Decision(events=(*events, *started), lease=lease, turn_id=turn.turn_id)


def _marked(event: Event) -> Event:
    """What was never read as a whole before the cancel says so."""
    if isinstance(event, MessageAdded):
        return replace(event, state="partial")
    return event


def _terminal(turn: Turn, command: FinishTurn, *, cancelled: bool) -> Event:
    numbers = counts(command.progress.raised_to(turn.progress))
    turn_id, output = turn.turn_id, command.output
    if cancelled or command.end == "cancelled":
        reason = turn.cancel_reason or command.reason
        by = turn.cancel_by or turn.by
        return TurnCancelled(turn_id=turn_id, reason=reason, by=by, output=output, **numbers)
    match command.end:
        case "completed":
            return TurnCompleted(turn_id=turn_id, output=output, **numbers)
        case "failed":
            error = command.error or {}
            return TurnFailed(turn_id=turn_id, error=error, output=output, **numbers)
        case "interrupted":
            return TurnInterrupted(turn_id=turn_id, reason=command.reason, output=output, **numbers)
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


def held(view: View, holding: Holding) -> SessionHead:
    head = view.head
    if head is None or head.fence != holding.fence or head.running_turn_id != holding.turn_id:
        raise LeaseLost()
    if view.lease.owner not in (None, holding.node):
        # A failover that lost a claim lets the same fence be given out again.
        raise LeaseLost()
    return head


def queue(view: View) -> list[Turn]:
    return sorted(
        (turn for turn in view.turns.values() if turn.status == "queued"),
        key=lambda turn: turn.position,
    )


def knows(runner: Runner, view: View) -> bool:
    """Whether the node can run turns of this session."""
    assert view.session is not None
    return view.session.assistant in runner.assistants


def first_attempt(
    turn: Turn | TurnQueued, fence: Fence, runner: Runner, *, now_ms: int
) -> tuple[tuple[Event, ...], Lease]:
    """A turn that waited joins the history now, under a new fence."""
    started = TurnStarted(turn_id=turn.turn_id, attempt=1, fence=Fence(fence + 1), node=runner.node)
    message = user_message(turn.turn_id, turn.message_id, turn.input)
    pressed: tuple[Event, ...] = ()
    if turn.input["type"] == "button":
        button, payload = turn.input["button"], turn.input["payload"]
        pressed = (ButtonPressed(turn_id=turn.turn_id, button=button, payload=payload),)
    return (started, *pressed, message), _taken(runner, now_ms=now_ms)


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
