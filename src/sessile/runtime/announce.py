"""What was committed is told: hints to all who listen, ended turns to those who wait."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from sessile.core.events import Entry
from sessile.core.ids import TurnId
from sessile.core.session import SessionHead, Turn, due_at_ms
from sessile.ports.notifier import Hint, Notifier
from sessile.ports.store import Committed
from sessile.runtime.telemetry import Telemetry

CONTROL_KINDS = frozenset({"turn.cancel_requested", "turn.steered", "session.closed"})


class Announcer:
    """Called in the event loop after each commit of this node. It never waits."""

    def __init__(self, *, notifier: Notifier, telemetry: Telemetry) -> None:
        self._notifier = notifier
        self._telemetry = telemetry
        self._waiting: dict[TurnId, list[asyncio.Future[Turn]]] = {}

    def publish(self, committed: Committed) -> None:
        """Also where an answer was lost and asked for again: readers then read the log."""
        if committed.head is None or committed.deleted:
            return
        entries = committed.entries
        self._telemetry.entries.inc(len(entries))
        self._notifier.publish(
            Hint(
                key=committed.head.key,
                head=committed.head.head,
                entries=entries,
                due=runnable(committed),
                control=_is_control(committed.head, entries),
            )
        )
        for turn in committed.turns.values():
            if turn.ended:
                self._telemetry.turn_ended(turn)
                for waiter in self._waiting.get(turn.turn_id, ()):
                    if not waiter.done():
                        waiter.set_result(turn)

    @contextmanager
    def waiting(self, turn_id: TurnId) -> Generator[asyncio.Future[Turn], None, None]:
        """A future of the turn's record, set when the turn ends on this node."""
        waiter: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(turn_id, []).append(waiter)
        try:
            yield waiter
        finally:
            waiter.cancel()
            waiters = self._waiting[turn_id]
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[turn_id]


def _is_control(head: SessionHead, entries: tuple[Entry, ...]) -> bool:
    """Where an answer was lost, or asked for again, the head says whether something was said."""
    if entries:
        return any(entry.kind in CONTROL_KINDS for entry in entries)
    return head.cancel_turn_id is not None or head.steers_unread > 0


def runnable(committed: Committed) -> bool:
    """A turn of the session can run, and nobody runs it."""
    head = committed.head
    if head is None or committed.lease.owner is not None or head.awaiting_until_ms is not None:
        return False
    return due_at_ms(head, committed.lease, now_ms=0) is not None
