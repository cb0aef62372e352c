"""The rows of a session that is kept in memory."""

from dataclasses import dataclass, field

from sessile.core.events import Entry
from sessile.core.ids import TurnId
from sessile.core.session import Lease, Session, SessionHead, Turn


@dataclass(slots=True)
class Kept:
    """The rows of one session."""

    head: SessionHead
    lease: Lease
    session: Session
    log: list[Entry] = field(default_factory=list[Entry])
    history: list[Entry] = field(default_factory=list[Entry])
    """What a transcript is made of."""
    summaries: list[Entry] = field(default_factory=list[Entry])
    turns: dict[TurnId, Turn] = field(default_factory=dict[TurnId, Turn])
    order: list[TurnId] = field(default_factory=list[TurnId])
    """The turns by position."""
    queue: dict[TurnId, None] = field(default_factory=dict[TurnId, None])
    """Those that wait, by position."""
