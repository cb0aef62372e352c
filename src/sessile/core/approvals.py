"""Turns that wait for an approval: how they begin to, what answers them, how they are given up."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sessile.core.commands import AnswerApproval, AwaitTurn, Decision, View
from sessile.core.errors import ApprovalAnswered, CallNotFound, LeaseLost
from sessile.core.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    Event,
    JsonObject,
    MessageReset,
    Progress,
    ToolStarted,
    TurnAwaiting,
    TurnCancelled,
)
from sessile.core.ids import UserId
from sessile.core.session import FREE, Lease, SessionHead, Turn

EXPIRED = "Nobody answered in time."
DENIED = "The call was denied."


def begin(view: View, head: SessionHead, command: AwaitTurn) -> Decision:
    """Raises LeaseLost where the turn was cancelled: its end is still to be written."""
    turn_id = command.holding.turn_id
    open_ids = {call.call_id for call in command.open_calls}
    assert command.asked, "nobody could end the wait"
    assert open_ids.issuperset(call.call_id for call in command.asked)
    if view.lease.owner is None and view.lease.step == command.step + 1:
        return Decision(repeated=True, turn_id=turn_id)
    if view.lease.owner is None or view.lease.step != command.step:
        raise LeaseLost(f"step {command.step} does not follow {view.lease.step}")
    if head.cancel_turn_id == turn_id:
        raise LeaseLost("the turn was cancelled")
    requests = (
        ApprovalRequested(
            turn_id=turn_id,
            call_id=call.call_id,
            message_id=call.message_id,
            name=call.name,
            arguments=call.arguments,
        )
        for call in command.asked
    )
    awaiting = TurnAwaiting(
        turn_id=turn_id,
        call_ids=tuple(call.call_id for call in command.asked),
        expires_at_ms=view.now_ms + command.expires_ms,
        calls=tuple(_shown(call) for call in command.open_calls),
        output=command.output,
        open_message_id=command.open_message_id,
    )
    events = (*command.closing, *requests, awaiting)
    # A step as of any fenced append: what its holder sends after it comes too late.
    lease = replace(FREE, step=command.step + 1)
    return Decision(events=events, lease=lease, turn_id=turn_id)


def answer(view: View, head: SessionHead, command: AnswerApproval) -> Decision:
    """Each call is answered once; the same answer again changes nothing."""
    turn = None if head.running_turn_id is None else view.turns[head.running_turn_id]
    awaited = None if turn is None else turn.awaited
    if turn is None or awaited is None:
        raise CallNotFound()
    known = awaited.answers.get(command.call_id)
    if known is not None:
        if (known == "granted") != command.granted:
            raise ApprovalAnswered(answer=known)
        return Decision(repeated=True, turn_id=turn.turn_id)
    if command.call_id not in awaited.call_ids:
        raise CallNotFound()
    by, unanswered = command.principal.user_id, len(awaited.unanswered) - 1
    event: Event
    if command.granted:
        event = ApprovalGranted(
            turn_id=turn.turn_id, call_id=command.call_id, by=by, unanswered=unanswered
        )
    else:
        event = ApprovalDenied(
            turn_id=turn.turn_id,
            call_id=command.call_id,
            by=by,
            unanswered=unanswered,
            reason=command.reason,
        )
    return Decision(events=(event,), turn_id=turn.turn_id)


def released(view: View) -> Lease:
    """Nobody's. The step stays: an append that was sent twice must not apply twice when the slower
    one comes after the release."""
    return replace(FREE, step=view.lease.step)


def denials(turn: Turn, *, by: UserId | None, reason: str) -> Iterator[ApprovalDenied]:
    """Of all that is still unanswered."""
    unanswered = () if turn.awaited is None else turn.awaited.unanswered
    for answered, call_id in enumerate(unanswered, start=1):
        yield ApprovalDenied(
            turn_id=turn.turn_id,
            call_id=call_id,
            by=by,
            unanswered=len(unanswered) - answered,
            reason=reason,
        )


def give_up(turn: Turn, *, by: UserId, reason: str) -> Iterator[Event]:
    """End a turn that waits: what is unanswered is denied, a message that is open is void, and
    each open call has an outcome."""
    awaited = turn.awaited
    assert awaited is not None
    yield from denials(turn, by=by, reason=reason)
    if awaited.open_message_id is not None:
        yield MessageReset(turn_id=turn.turn_id, message_id=awaited.open_message_id)
    for shown in awaited.calls:
        call = _started(turn, shown)
        answered = awaited.answers.get(call.call_id)
        if call.call_id in awaited.call_ids and answered != "granted":
            unasked = "The turn was cancelled before anybody approved."
            yield call.refused(verdict="denied", reason=DENIED if answered else unasked)
        else:
            yield call.interrupted("The turn was cancelled before this call was made.")
    yield TurnCancelled(
        turn_id=turn.turn_id, reason=reason, by=by, output=awaited.output, **counts(turn.progress)
    )


def counts(progress: Progress) -> dict[str, Any]:
    """What a terminal event says of a turn's numbers."""
    numbers = progress.settled()
    return {
        "current_iteration": numbers.current_iteration,
        "total_iterations": numbers.total_iterations,
        "tokens_used": numbers.tokens_used,
        "total_tokens": numbers.total_tokens,
    }


def _started(turn: Turn, shown: JsonObject) -> ToolStarted:
    """As far as an outcome goes. An older version named no parent."""
    return ToolStarted(
        turn_id=turn.turn_id,
        call_id=shown["call_id"],
        message_id=shown["message_id"],
        name=shown["name"],
        arguments=shown["arguments"],
        parent_call_id=shown.get("parent_call_id"),
    )


def _shown(call: ToolStarted) -> JsonObject:
    return {
        "call_id": call.call_id,
        "message_id": call.message_id,
        "name": call.name,
        "arguments": call.arguments,
        "parent_call_id": call.parent_call_id,
    }
