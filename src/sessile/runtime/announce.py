"""What was committed is told: hints to all who listen, ended turns to those who wait."""

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager, suppress

from sessile.core.events import TERMINAL_KINDS, Entry
from sessile.core.ids import SessionKey, TurnId
from sessile.core.notes import AuditRecord
from sessile.core.session import SessionHead, Turn, due_at_ms
from sessile.ports.notifier import Hint, Notifier
from sessile.ports.store import Committed
from sessile.runtime.telemetry import Telemetry

logger = logging.getLogger(__name__)

AUDIT_FIELDS = ("tenant_id", "audit_id", "actor", "action", "subject", "request_id")
CONTROL_KINDS = frozenset({"turn.cancel_requested", "turn.steered", "session.closed"})


REST_KINDS = TERMINAL_KINDS | {"turn.awaiting"}


def rests(turn: Turn) -> bool:
    """Nothing more comes of the turn by itself: it has ended, or waits for a person."""
    unanswered = turn.awaited.unanswered if turn.awaited is not None else ()
    return turn.ended or (turn.status == "awaiting" and bool(unanswered))


class Waiter:
    """Who waits until a turn rests. `turn` is its record once it does so on this node."""

    __slots__ = ("_bell", "turn", "turn_id")

    def __init__(self, turn_id: TurnId) -> None:
        self.turn_id = turn_id
        self.turn: Turn | None = None
        self._bell = asyncio.Event()

    def ring(self) -> None:
        self._bell.set()

    async def rung(self, *, timeout_seconds: float) -> None:
        """Returns when there may be something to see, or after the time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._bell.wait()
        self._bell.clear()


class Announcer:
    """Called in the event loop after each commit of this node. It never waits."""

    def __init__(self, *, notifier: Notifier, telemetry: Telemetry) -> None:
        self._notifier = notifier
        self._telemetry = telemetry
        self._waiting: dict[SessionKey, list[Waiter]] = {}
        self._stop_listening = notifier.listen(self._on_hint)

    def close(self) -> None:
        """Tell those who wait nothing more of what ends on other nodes."""
        self._stop_listening()

    def publish(self, committed: Committed) -> None:
        """Also where an answer was lost and asked for again: readers then read the log."""
        for record in committed.audited:
            tell_audit(record)
        if committed.head is None or committed.deleted:
            return
        entries = committed.entries
        self._telemetry.entries.inc(len(entries))
        self._tell(committed)
        self._notifier.publish(
            Hint(
                key=committed.head.key,
                head=committed.head.head,
                entries=entries,
                due=runnable(committed),
                control=_is_control(committed.head, entries),
            )
        )

    @contextmanager
    def waiting(self, key: SessionKey, turn_id: TurnId) -> Generator[Waiter, None, None]:
        """Someone who is rung when the turn may rest, here or on another node."""
        waiter = Waiter(turn_id)
        self._waiting.setdefault(key, []).append(waiter)
        try:
            yield waiter
        finally:
            waiters = self._waiting[key]
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[key]

    def _tell(self, committed: Committed) -> None:
        for turn in committed.turns.values():
            if turn.ended:
                self._telemetry.turn_ended(turn)
            if not rests(turn):
                continue
            assert committed.head is not None
            for waiter in self._waiting.get(committed.head.key, ()):
                if waiter.turn_id == turn.turn_id:
                    waiter.turn = turn
                    waiter.ring()

    def _on_hint(self, hint: Hint) -> None:
        """How it rests on another node is in the store. A hint may come without what was
        appended: then that may have been its end."""
        for waiter in self._waiting.get(hint.key, ()):
            if not hint.entries or any(
                entry.turn_id == waiter.turn_id and entry.kind in REST_KINDS
                for entry in hint.entries
            ):
                waiter.ring()


def tell_audit(record: AuditRecord) -> None:
    """The same in the process's log: ids, codes and names."""
    about = {name: getattr(record, name) for name in AUDIT_FIELDS}
    logger.info("audit", extra={**about, **record.details})


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
