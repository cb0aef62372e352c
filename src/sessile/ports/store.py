"""The store: the only arbiter. What it acknowledged is durable; what it refused left no trace."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from sessile.core.commands import Command
from sessile.core.context import Holding
from sessile.core.events import Entry, Event
from sessile.core.ids import (
    AuditId,
    NodeId,
    Seq,
    SessionId,
    SessionKey,
    TenantId,
    TurnId,
    UserId,
)
from sessile.core.notes import AuditRecord
from sessile.core.redaction import RedactMessage
from sessile.core.session import Lease, Session, SessionHead, Turn


class Committed(NamedTuple):
    """What a transaction wrote, and how the session stands after it.

    `head` is None only where the session does not exist (a StartTurn found nothing, or it was
    deleted). `session_id` is the session that the answer is about: another than the one asked
    about where an open found an exclusive or a repeated one. `created`: it was made by this
    command, or by the one that it repeats. `repeated`: nothing was written. `lost`: of a turn that
    was taken over, the lease that its lost node had; until 0 where it was ended by a restart.
    """

    head: SessionHead | None
    lease: Lease
    session_id: SessionId
    entries: tuple[Entry, ...] = ()
    turns: Mapping[TurnId, Turn] = MappingProxyType({})
    turn: Turn | None = None
    session: Session | None = None
    created: bool = False
    repeated: bool = False
    deleted: bool = False
    lost: Lease | None = None
    audited: tuple[AuditRecord, ...] = ()
    """Written with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One session as it stands; `turn` only where one was asked for and exists."""

    head: SessionHead
    session: Session
    turn: Turn | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """`due`: sessions with a turn that can run. Each tenant's first comes before any tenant's
    second; among these, and within a tenant, the longest due comes first. `heads`: of the sessions
    asked about, the last seq of each that exists."""

    due: tuple[SessionKey, ...]
    heads: Mapping[SessionKey, Seq]


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Everything of a user is to go. `sessions`: so many are gone; `done_at_ms`: all is."""

    tenant_id: TenantId
    user_id: UserId
    asked_by: UserId
    asked_at_ms: int
    sessions: int = 0
    done_at_ms: int | None = None


class Aged(NamedTuple):
    """A session, and when something was last said or done in it."""

    head: SessionHead
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What belongs to the database itself, of no tenant.

    `epoch`: how often it was put back to an earlier state. `secret`: 32 bytes of chance, by which
    the nodes that share it know each other.
    """

    epoch: int
    secret: bytes = field(repr=False)


class Records(Protocol):
    """See `Store` for what any method may raise."""

    async def redact(self, key: SessionKey, command: RedactMessage) -> tuple[Committed, ...]:
        """Void the message in the session, in its forks, and in those that it is a fork of, as far
        as the caller reaches them: all of it in one transaction, durable on return. Answers for
        each session that changed, the named one first; where nothing was left to void, only that
        it is `repeated`.

        Raises SessionNotFound, and what `core.redaction.Redaction.check` does.
        """
        ...

    async def note(self, record: AuditRecord) -> None:
        """Of an act that is no transaction. A record that is there stays as it is."""
        ...

    async def audit(
        self, tenant_id: TenantId, *, before: AuditId | None = None, limit: int
    ) -> tuple[AuditRecord, ...]:
        """A tenant's records, the newest first. None is ever changed, or removed."""
        ...

    async def ask_erasure(
        self, tenant_id: TenantId, user_id: UserId, record: AuditRecord
    ) -> Erasure:
        """That the user is to be erased, durable on return. One that is asked for already is
        answered as it stands; one that was done begins again."""
        ...

    async def erasures(
        self, tenant_id: TenantId | None = None, *, user_id: UserId | None = None, limit: int
    ) -> tuple[Erasure, ...]:
        """One user's; else those that are not done, of a tenant or of all, the oldest first."""
        ...

    async def theirs(
        self, tenant_id: TenantId, user_id: UserId, *, limit: int
    ) -> tuple[SessionId, ...]:
        """Some of the sessions that hold what the user said: the user's, and forks of them."""
        ...

    async def forget(self, tenant_id: TenantId, user_id: UserId, *, limit: int) -> int:
        """Remove what was answered to the user's idempotency keys, so many at most. Answers how
        many there were."""
        ...

    async def erased(self, erasure: Erasure, *, sessions: int, record: AuditRecord | None) -> None:
        """So many more sessions are gone; with the record of it, the erasure is done."""
        ...

    async def take_chore(self, name: str, node: NodeId, *, lease_ms: int) -> str | None:
        """The right of one node to do this, until the lease ends, and what was left by `leave`;
        None where another has it. Who has it is given it again."""
        ...

    async def leave_chore(self, name: str, node: NodeId, left: str) -> None:
        """What is kept for whoever does it next, and the right is given back."""
        ...

    async def aged(self, after: SessionKey | None, *, limit: int) -> tuple[Aged, ...]:
        """The sessions behind one, in the order of their keys."""
        ...

    async def compact(self, key: SessionKey, *, before_ms: int, limit: int) -> bool:
        """Fold what nobody needs of turns that ended before then, in the next so many entries that
        were not looked at yet. Answers whether there may be more."""
        ...


class Store(Protocol):
    """Any method may raise StorageBusy, StorageFull or StorageDamaged; then nothing was written;
    but a StorageBusy of a database that went away in the middle of a commit, and did not come back
    in time, says that this is not known.

    Leases are judged by the store's own clock. A read sees every write that was acknowledged
    before the read began.
    """

    @property
    def records(self) -> Records:
        """What is kept besides the logs, and how what is kept is voided."""
        ...

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        """Lock the session, let `core.decide` answer the command, write what it decided.

        All of it in one transaction, durable on return. Raises what `decide` raises, and then
        wrote nothing. Commands of one session are applied one after another. Where the exclusive
        key of an OpenSession is held, the session that holds it is locked and shown instead.
        """
        ...

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        """Append to a running turn under its fence; durable on return. A `tool.started` whose
        grant the session does not have is written as `tool.refused`.

        `step` is the number of appends made before under this fence: a retry with the same step
        applies once, and answers with no entries. Raises LeaseLost where
        `core.attempts.check_append` does, and then wrote nothing.
        """
        ...

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        """Extend these leases; answers the sessions whose lease was lost, or not extended."""
        ...

    async def identity(self) -> Identity:
        """As it is now. Raises StorageGone where the database has lost it."""
        ...

    async def probe(self) -> None:
        """Write something that nobody reads; durable on return. Raises what a write would."""
        ...

    async def sweep(
        self,
        *,
        due_max: int,
        assistants: Collection[str],
        following: Collection[SessionKey] = (),
    ) -> Sweep:
        """What is due of these assistants, or is to be cancelled, and how far the logs are that
        somebody follows. Idle sessions cost it nothing."""
        ...

    async def find(self, key: SessionKey, turn_id: TurnId | None = None) -> Found | None:
        """The session and, where asked for, one of its turns."""
        ...

    async def sessions(
        self,
        tenant_id: TenantId,
        *,
        user_id: UserId | None = None,
        before: SessionId | None = None,
        limit: int,
    ) -> tuple[Found, ...]:
        """Sessions of a tenant, or of one user in it, the youngest first."""
        ...

    async def turns(
        self,
        key: SessionKey,
        *,
        after: int = 0,
        queued: bool = False,
        limit: int,
        bytes_max: int | None = None,
    ) -> tuple[Turn, ...]:
        """The session's turns by position, from the one behind `after` on; `queued`: only those
        that wait. `bytes_max` bounds their inputs and outputs, but for the first one's."""
        ...

    async def how_many(
        self,
        tenant_id: TenantId,
        what: Literal["sessions", "queue"],
        *,
        user_id: UserId | None,
        most: int,
    ) -> int:
        """How many active sessions, or turns that wait, the tenant has, or one user in it: no more
        than `most` are counted."""
        ...

    async def tokens(self, tenant_id: TenantId, *, since_ms: int) -> Mapping[UserId, int]:
        """What the turns that were accepted since then have used so far, by whose they are."""
        ...

    async def read(
        self,
        key: SessionKey,
        *,
        after: int = 0,
        before: int | None = None,
        history: bool = False,
        newest_first: bool = False,
        limit: int,
        bytes_max: int | None = None,
    ) -> tuple[Entry, ...]:
        """Entries with `after < seq < before`, at most `limit`, in log order or from the end.

        `bytes_max` bounds their bodies, but for the first one's: there is always one to go on from.
        `history`: only what a transcript is made of (`core.transcript.TEXT_KINDS`), by an index of
        nothing else.
        A gap in the log that retention made is filled by the `log.compacted` entry behind it.
        """
        ...

    async def summary(self, key: SessionKey, *, before: int) -> Entry | None:
        """The last `session.summarized` with `seq < before`, however far back, by an index of
        nothing else."""
        ...
