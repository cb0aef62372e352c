"""What may follow the end of a session in its log."""

from dataclasses import dataclass

from sessile.core.codec import turn_of
from sessile.core.events import (
    TERMINAL_KINDS,
    Event,
    LogCompacted,
    SessionRedacted,
    TurnCancelled,
    TurnProgress,
    TurnQueued,
    TurnStarted,
)
from sessile.core.ids import TurnId


@dataclass(slots=True)
class Closed:
    """What may follow `session.closed`: attempts that take the running turn over once it was
    lost, then what is written with its end, the end, and what was steered into it and never
    read: each such input as a turn that is cancelled."""

    running: TurnId | None
    ending: bool = False
    unread: int = 0
    requeued: TurnId | None = None

    @property
    def whole(self) -> bool:
        """What may not be left half done is not."""
        return not self.ending and not self.unread and self.requeued is None

    def allows(self, event: Event, *, steers_unread: int) -> bool:
        """`steers_unread`: by the head before this event."""
        match event:
            case LogCompacted() | SessionRedacted():
                return True
            case TurnQueued() if self.unread:
                self.unread -= 1
                half_done, self.requeued = self.requeued, event.turn_id
                return half_done is None and event.when_busy == "steer"
            case TurnCancelled() if event.turn_id == self.requeued:
                self.requeued = None
                return True
            case _:
                return self._ends(event, steers_unread)

    def _ends(self, event: Event, steers_unread: int) -> bool:
        if self.running is None or turn_of(event) != self.running:
            return False
        if isinstance(event, TurnStarted):
            return event.attempt > 1 and not self.ending
        if event.kind in TERMINAL_KINDS:
            self.running, self.ending, self.unread = None, False, steers_unread
            return True
        self.ending = True
        return not event.kind.startswith("turn.") or isinstance(event, TurnProgress)
