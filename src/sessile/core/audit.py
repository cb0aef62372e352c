"""Whether the rows of a session are what its log says: the log is folded again, and compared.

`Audit` is given a log page by page and keeps the turns that have not ended, and of those that have
their ids alone, so that a long log costs little memory. Nothing here is repaired.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from sessile.core.closing import Closed
from sessile.core.codec import decode, turn_of
from sessile.core.events import (
    TERMINAL_KINDS,
    Entry,
    Event,
    LogCompacted,
    MessageAdded,
    SessionClosed,
    SessionEvent,
    SessionForked,
    SessionOpened,
    SessionRedacted,
    ToolEvent,
    ToolOutcome,
    ToolStarted,
    TurnAwaiting,
)
from sessile.core.ids import CallId, Seq, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import (
    Session,
    SessionHead,
    Turn,
    evolve,
    evolve_session,
    unborn,
)
from sessile.core.turns import evolve_turn

FAULTS_MAX = 100
"""Of one check: a database that is broken throughout is not listed throughout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that does not hold, and where."""

    check: str
    what: str
    tenant_id: TenantId | None = None
    session_id: SessionId | None = None
    turn_id: TurnId | None = None


@dataclass(slots=True)
class Check:
    """One promise: how many things it was held against, and the faults found."""

    name: str
    about: str
    unit: str
    checked: int = 0
    faults: list[Fault] = field(default_factory=list[Fault])
    faults_unlisted: int = 0

    def fault(self, what: str, key: SessionKey | None = None, turn: TurnId | None = None) -> None:
        if len(self.faults) >= FAULTS_MAX:
            self.faults_unlisted += 1
            return
        tenant_id, session_id = key or (None, None)
        self.faults.append(
            Fault(
                check=self.name, what=what, tenant_id=tenant_id, session_id=session_id, turn_id=turn
            )
        )


@dataclass(slots=True)
class SessionChecks:
    """What one session's log and rows are held against."""

    bodies: Check = field(
        default_factory=lambda: Check("bodies", "every entry's body can be read", "entries")
    )
    seq: Check = field(
        default_factory=lambda: Check("seq", "every log is numbered from 1, without a gap", "logs")
    )
    head: Check = field(
        default_factory=lambda: Check(
            "head", "every session's head is the fold of its log", "heads"
        )
    )
    session: Check = field(
        default_factory=lambda: Check("session", "every session is the fold of its log", "sessions")
    )
    turns: Check = field(
        default_factory=lambda: Check("turns", "every turn is the fold of its entries", "turns")
    )
    ends: Check = field(
        default_factory=lambda: Check(
            "ends", "every ended turn ended once, and then was silent", "turns"
        )
    )
    calls: Check = field(
        default_factory=lambda: Check(
            "calls", "every tool call of an ended turn has one outcome, and one parent", "calls"
        )
    )
    closed: Check = field(
        default_factory=lambda: Check(
            "closed", "a closed session only ends the turn that ran", "sessions"
        )
    )

    voided: Check = field(
        default_factory=lambda: Check(
            "voided", "what is void in a log was voided by an entry of it", "sessions"
        )
    )

    @property
    def all(self) -> tuple[Check, ...]:
        return tuple(getattr(self, each.name) for each in fields(self))


@dataclass(slots=True)
class _Open:
    """A turn that has not ended, and its calls: how many outcomes each has, and within which call
    it was made."""

    turn: Turn
    calls: dict[CallId, int] = field(default_factory=dict[CallId, int])
    parents: dict[CallId, CallId | None] = field(default_factory=dict[CallId, CallId | None])


class Audit:
    """One session's log, folded entry by entry; what does not fit goes to the checks."""

    def __init__(self, key: SessionKey, checks: SessionChecks) -> None:
        self._key = key
        self._checks = checks
        self._head: SessionHead = unborn(key, UserId(""))
        self._session: Session | None = None
        self._open: dict[TurnId, _Open] = {}
        self._ended: set[TurnId] = set()
        self._closed: Closed | None = None
        self._reliable = True
        self._voids: Seq | None = None
        """The first entry that is void, and no entry behind it says why."""
        self._fork = False

    def take(self, entries: Iterable[Entry]) -> tuple[Turn, ...]:
        """Fold a page of the log. Answers the turns that ended in it, to be compared."""
        ended: list[Turn] = []
        bodies = self._checks.bodies
        for entry in entries:
            bodies.checked += 1
            try:
                ended.extend(self._fold(entry))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                # What no version wrote: the folds that it would have been part of are unknown.
                why = type(error).__name__
                bodies.fault(f"entry {entry.seq}, {entry.kind}: {why}", self._key, entry.turn_id)
                self._reliable = False
                self._head = replace(self._head, head=entry.seq)
        return tuple(ended)

    def compare(self, folded: Turn, row: Turn | None) -> None:
        """Hold a turn's row against the fold of its entries."""
        check = self._checks.turns
        check.checked += 1
        if row is None:
            check.fault("the log has the turn, and there is no row", self._key, folded.turn_id)
        elif self._reliable and (different := _different(folded, row)):
            check.fault(different, self._key, folded.turn_id)
            if row.ended and not folded.ended:
                self._checks.ends.fault("ended, and its log has no end", self._key, row.turn_id)

    def finish(self, head: SessionHead, session: Session | None) -> tuple[Turn, ...]:
        """The whole log was taken: hold the rows against it. Answers the turns that have not
        ended, to be compared."""
        checks = self._checks
        checks.seq.checked += 1
        checks.head.checked += 1
        checks.session.checked += 1
        if self._closed is not None:
            checks.closed.checked += 1
            if self._reliable and not self._closed.whole:
                checks.closed.fault("what was begun behind its end is not whole", self._key)
        checks.voided.checked += 1
        if self._voids is not None:
            checks.voided.fault(f"entry {self._voids} is void, and none says why", self._key)
        if self._reliable and (different := _different(self._head, head)):
            checks.head.fault(different, self._key)
        if self._session is None:
            checks.session.fault("the log has no session.opened", self._key)
        elif session is None:
            checks.session.fault("the log has the session, and there is no row", self._key)
        elif self._reliable and (different := _different(self._session, session)):
            checks.session.fault(different, self._key)
        return tuple(each.turn for each in self._open.values())

    def knows(self, turn_id: TurnId) -> bool:
        """Whether the log has this turn."""
        return turn_id in self._open or turn_id in self._ended

    def _fold(self, entry: Entry) -> Iterable[Turn]:
        event = decode(entry)
        self._number(entry, event)
        self._behind_the_end(entry, event)
        self._void(entry, event)
        self._head = replace(evolve(self._head, (event,)), head=entry.seq)
        if (turn_id := turn_of(event)) is not None:
            return tuple(self._of_turn(turn_id, entry, event))
        if isinstance(event, SessionEvent):
            self._session = evolve_session(self._session, event, key=self._key, at_ms=entry.at_ms)
        return ()

    def _number(self, entry: Entry, event: Event) -> None:
        expected = self._head.head + 1
        if isinstance(event, LogCompacted) and event.to_seq == entry.seq:
            expected = Seq(entry.seq) if event.from_seq == expected else expected
        if entry.seq != expected:
            self._checks.seq.fault(f"entry {entry.seq} stands where {expected} is due", self._key)
        if (entry.seq == 1) != isinstance(event, SessionOpened):
            self._checks.seq.fault(f"entry {entry.seq} is {event.kind}", self._key)

    def _void(self, entry: Entry, event: Event) -> None:
        """A copy in a fork may be void from its beginning."""
        if isinstance(event, SessionForked):
            self._fork = True
        elif isinstance(event, SessionRedacted):
            self._voids = None
        elif getattr(event, "redacted", False) and self._voids is None:
            copied = self._fork and entry.turn_id is None
            self._voids = None if copied else entry.seq

    def _behind_the_end(self, entry: Entry, event: Event) -> None:
        before, closed = self._head, self._closed
        if closed is None:
            if isinstance(event, SessionClosed):
                self._closed = Closed(before.running_turn_id)
            return
        allowed = closed.allows(event, steers_unread=before.steers_unread)
        if self._reliable and not allowed:
            what = f"entry {entry.seq}, {event.kind}, follows session.closed"
            self._checks.closed.fault(what, self._key, entry.turn_id)

    def _of_turn(self, turn_id: TurnId, entry: Entry, event: Event) -> Iterable[Turn]:
        checks, key = self._checks, self._key
        if turn_id in self._ended:
            checks.ends.fault(f"entry {entry.seq}, {event.kind}, follows its end", key, turn_id)
            return
        known = self._open.get(turn_id)
        turn = evolve_turn(
            None if known is None else known.turn, event, key=key, seq=entry.seq, at_ms=entry.at_ms
        )
        if turn is None and not self._reliable:
            return
        if turn is None:
            checks.turns.fault(
                f"entry {entry.seq}, {event.kind}, precedes turn.queued", key, turn_id
            )
            return
        if known is None:
            known = self._open[turn_id] = _Open(turn)
        known.turn = turn
        _count(known.calls, event)
        if isinstance(event, ToolEvent):
            parent = known.parents.setdefault(event.call_id, event.parent_call_id)
            if event.parent_call_id != parent:
                what = f"call {event.call_id} is within {parent} and within {event.parent_call_id}"
                checks.calls.fault(what, key, turn_id)
        if event.kind in TERMINAL_KINDS:
            del self._open[turn_id]
            self._ended.add(turn_id)
            checks.ends.checked += 1
            for call_id, outcomes in known.calls.items():
                checks.calls.checked += 1
                if outcomes != 1:
                    checks.calls.fault(f"call {call_id} has {outcomes} outcomes", key, turn_id)
            yield turn


def _count(calls: dict[CallId, int], event: Event) -> None:
    """A call is announced by a message, waited with or started; each outcome of it counts."""
    match event:
        case MessageAdded(role="assistant"):
            for part in event.parts:
                if part["type"] == "tool_call":
                    calls.setdefault(part["call_id"], 0)
        case TurnAwaiting():
            for call in event.calls:
                calls.setdefault(call["call_id"], 0)
        case ToolStarted():
            calls.setdefault(event.call_id, 0)
        case _ if isinstance(event, ToolOutcome):
            calls[event.call_id] = calls.get(event.call_id, 0) + 1
        case _:
            pass


def _different(folded: Any, row: Any) -> str:
    """The fields in which a row is not what the log says; never their texts."""
    names = [each.name for each in fields(folded)]
    different = [name for name in names if getattr(folded, name) != getattr(row, name)]
    return (
        f"not as the log says: {', '.join(_said(n, folded, row) for n in different)}"
        if different
        else ""
    )


def _said(name: str, folded: Any, row: Any) -> str:
    of_log, of_row = getattr(folded, name), getattr(row, name)
    plain = name == "status" or name.endswith("turn_id")
    if plain or all(isinstance(each, int | None) for each in (of_log, of_row)):
        return f"{name} is {of_row}, by the log {of_log}"
    return name
