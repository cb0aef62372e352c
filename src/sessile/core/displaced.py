"""What must make room: turns that wait, and the one that runs."""

from collections.abc import Iterator

from sessile.core.approvals import denials, give_up
from sessile.core.attempts import queue
from sessile.core.commands import View
from sessile.core.context import Principal
from sessile.core.events import Event, TurnCancelled, TurnCancelRequested
from sessile.core.session import SessionHead, Turn


def displace(view: View, head: SessionHead, *, by: Principal, reason: str) -> Iterator[Event]:
    """Cancels all that waits, and flags the turn that runs."""
    for turn in queue(view):
        yield TurnCancelled(turn_id=turn.turn_id, reason=reason, by=by.user_id)
    running = head.running_turn_id
    if running is not None and head.cancel_turn_id is None:
        yield from stopped(head, view.turns[running], by=by, reason=reason)


def stopped(head: SessionHead, turn: Turn, *, by: Principal, reason: str) -> Iterator[Event]:
    """A turn that waits ends at once, but for one with a steer that nobody has read: it becomes a
    turn when the end is written by who can read it. Its calls are denied at once in both."""
    if turn.status == "awaiting" and not head.steers_unread:
        yield from give_up(turn, by=by.user_id, reason=reason)
        return
    yield from denials(turn, by=by.user_id, reason=reason)
    yield TurnCancelRequested(turn_id=turn.turn_id, by=by.user_id, reason=reason)
