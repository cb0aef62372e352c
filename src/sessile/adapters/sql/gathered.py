"""What a transaction knows of its sessions, and the rows that it will write."""

from dataclasses import dataclass, field

from sessile.core.commands import Remembered
from sessile.core.events import Entry
from sessile.core.ids import SessionKey, TenantId, TurnId, UserId
from sessile.core.notes import AuditRecord
from sessile.core.session import Lease, Session, SessionHead, Turn

Place = tuple[TenantId, str, str, str]
"""Of an answer: tenant_id, scope, user_id, key."""
Holder = tuple[TenantId, str]
"""Of an exclusive key: whose, and which."""


@dataclass(slots=True)
class Known:
    """One session as it stands in the transaction, and those of its turns that were looked at."""

    head: SessionHead
    lease: Lease
    due_at_ms: int | None
    session: Session | None
    """None until it is read."""
    turns: dict[TurnId, Turn] = field(default_factory=dict[TurnId, Turn])

    def cool(self, *, queue_max: int) -> None:
        """Keep the running turn, and those that wait where they are few."""
        turns, running, queued = self.turns, self.head.running_turn_id, self.head.queued
        self.turns = {}
        if 0 < queued <= queue_max:
            self.turns = {each: turn for each, turn in turns.items() if turn.status == "queued"}
        if running is not None and running in turns:
            self.turns[running] = turns[running]


@dataclass(slots=True)
class Gathered:
    """Rows to be written. They hold what is known when they are written, not when gathered."""

    answers: dict[Place, Remembered] = field(default_factory=dict[Place, Remembered])
    answered_at_ms: int = 0
    entries: list[tuple[SessionKey, Entry]] = field(default_factory=list[tuple[SessionKey, Entry]])
    born: dict[SessionKey, Known] = field(default_factory=dict[SessionKey, Known])
    moved: dict[SessionKey, Known] = field(default_factory=dict[SessionKey, Known])
    changed: dict[SessionKey, Known] = field(default_factory=dict[SessionKey, Known])
    """Of the wide row."""
    turns_born: dict[tuple[SessionKey, TurnId], Known] = field(
        default_factory=dict[tuple[SessionKey, TurnId], Known]
    )
    turns_moved: dict[tuple[SessionKey, TurnId], Known] = field(
        default_factory=dict[tuple[SessionKey, TurnId], Known]
    )
    turns_edited: dict[tuple[SessionKey, TurnId], Known] = field(
        default_factory=dict[tuple[SessionKey, TurnId], Known]
    )

    forks: list[tuple[SessionKey, SessionHead]] = field(
        default_factory=list[tuple[SessionKey, SessionHead]]
    )
    """Sessions that were born as forks, and of which."""
    audited: list[AuditRecord] = field(default_factory=list[AuditRecord])

    deleted: dict[SessionKey, UserId] = field(default_factory=dict[SessionKey, UserId])
    """Of whom each was; to be deleted when all else is written."""

    @property
    def empty(self) -> bool:
        return not (self.moved or self.born or self.answers or self.deleted or self.audited)
