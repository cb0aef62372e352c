"""Everything in memory: the reference that the other stores are held against, and the test
double. Nothing survives the process."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Self

from sessile.core.attempts import authorised, check_append
from sessile.core.commands import Command, Decision, Named, Remembered, View, named
from sessile.core.context import Holding
from sessile.core.decide import decide
from sessile.core.events import EPHEMERAL_KINDS, Entry, Event
from sessile.core.ids import NodeId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import FREE, Lease, Session, SessionHead, Turn, due_at_ms
from sessile.core.settle import Changes, settle, stepped
from sessile.ports.clock import Clock
from sessile.ports.notifier import Hint
from sessile.ports.store import Committed, Found, Sweep


@dataclass(slots=True)
class _Kept:
    """The rows of one session."""

    head: SessionHead
    lease: Lease
    session: Session
    log: list[Entry] = field(default_factory=list[Entry])
    turns: dict[TurnId, Turn] = field(default_factory=dict[TurnId, Turn])
    due_at_ms: int | None = None


class MemoryStore:
    """Each method runs in one piece between two awaits, which is its transaction."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[SessionKey, _Kept] = {}
        self._remembered: dict[tuple[TenantId, UserId, str, str], Remembered] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        names = named(command)
        view = self._view(key, names)
        if view.exclusive:
            assert view.head is not None
            key = view.head.key
        decision = decide(view, command)
        if decision.deleted:
            return self._delete(key)
        session_id = decision.session_id or key.session_id
        once = names.once
        if once is not None and not decision.repeated:
            place = (key.tenant_id, once.user_id, once.scope, once.key)
            self._remembered[place] = Remembered(
                request_hash=once.request_hash,
                session_id=session_id,
                turn_id=decision.turn_id,
                created=decision.created,
            )
        return self._apply(key, view, decision, session_id)

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        key = holding.key
        kept = self._kept.get(key)
        view = View(now_ms=self._clock.now_ms())
        if kept is not None:
            view = replace(
                view, head=kept.head, lease=kept.lease, session=kept.session, turns=kept.turns
            )
        if not check_append(view, holding, step=step):
            return self._apply(key, view, Decision(repeated=True), key.session_id)
        decision = Decision(events=authorised(view, events), lease=stepped(view.lease))
        return self._apply(key, view, decision, key.session_id)

    async def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        lost: set[SessionKey] = set()
        for holding in holdings:
            kept = self._kept.get(holding.key)
            if kept is None or kept.lease.owner != node or kept.head.fence != holding.fence:
                lost.add(holding.key)
                continue
            until_ms = self._clock.now_ms() + lease_ms
            kept.lease = replace(kept.lease, until_ms=until_ms)
            kept.due_at_ms = until_ms
        return frozenset(lost)

    async def sweep(
        self,
        *,
        due_max: int,
        assistants: Collection[str],
        following: Collection[SessionKey] = (),
    ) -> Sweep:
        now_ms = self._clock.now_ms()
        due = [
            (kept.due_at_ms, key)
            for key, kept in self._kept.items()
            if kept.due_at_ms is not None
            and kept.due_at_ms <= now_ms
            and (kept.head.cancel_turn_id is not None or kept.session.assistant in assistants)
        ]
        heads = {key: self._kept[key].head.head for key in following if key in self._kept}
        return Sweep(due=tuple(key for _, key in sorted(due)[:due_max]), heads=heads)

    async def find(self, key: SessionKey, turn_id: TurnId | None = None) -> Found | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        turn = None if turn_id is None else kept.turns.get(turn_id)
        return Found(head=kept.head, session=kept.session, turn=turn)

    async def sessions(
        self,
        tenant_id: TenantId,
        *,
        user_id: UserId | None = None,
        before: SessionId | None = None,
        limit: int,
    ) -> tuple[Found, ...]:
        youngest_first = sorted(self._kept, key=lambda key: key.session_id, reverse=True)
        matching = (
            Found(head=self._kept[key].head, session=self._kept[key].session)
            for key in youngest_first
            if key.tenant_id == tenant_id
            and (user_id is None or self._kept[key].head.user_id == user_id)
            and (before is None or key.session_id < before)
        )
        return tuple(islice(matching, limit))

    async def turns(
        self, key: SessionKey, *, after: int = 0, queued: bool = False, limit: int
    ) -> tuple[Turn, ...]:
        kept = self._kept.get(key)
        matching = (
            (
                turn
                for turn in sorted(kept.turns.values(), key=lambda turn: turn.position)
                if turn.position > after and (turn.status == "queued" or not queued)
            )
            if kept is not None
            else iter(())
        )
        return tuple(islice(matching, limit))

    async def read(
        self,
        key: SessionKey,
        *,
        after: int = 0,
        before: int | None = None,
        history: bool = False,
        newest_first: bool = False,
        limit: int,
    ) -> tuple[Entry, ...]:
        kept = self._kept.get(key)
        log = [] if kept is None else kept.log
        matching = (
            entry
            for entry in (reversed(log) if newest_first else log)
            if entry.seq > after
            and (before is None or entry.seq < before)
            and not (history and entry.kind in EPHEMERAL_KINDS)
        )
        return tuple(islice(matching, limit))

    def _view(self, key: SessionKey, names: Named) -> View:
        remembered = holder = None
        if names.once is not None:
            place = (key.tenant_id, names.once.user_id, names.once.scope, names.once.key)
            remembered = self._remembered.get(place)
        kept = self._kept.get(key)
        if kept is None and names.exclusive_key is not None:
            holder = self._holder(key.tenant_id, names.exclusive_key)
            kept = None if holder is None else self._kept[holder]
        if kept is None:
            return View(now_ms=self._clock.now_ms(), remembered=remembered)
        return View(
            now_ms=self._clock.now_ms(),
            head=kept.head,
            lease=kept.lease,
            session=kept.session,
            turns=kept.turns,
            remembered=remembered,
            exclusive=holder is not None,
        )

    def _holder(self, tenant_id: TenantId, exclusive_key: str) -> SessionKey | None:
        for key, kept in self._kept.items():
            head = kept.head
            if (
                key.tenant_id == tenant_id
                and head.exclusive_key == exclusive_key
                and head.status == "active"
            ):
                return key
        return None

    def _apply(
        self, key: SessionKey, view: View, decision: Decision, session_id: SessionId
    ) -> Committed:
        entries: tuple[Entry, ...] = ()
        turns: dict[TurnId, Turn] = {}
        if decision.events or decision.lease is not None:
            changes = settle(view, decision, key=key)
            self._write(key, changes)
            entries, turns = changes.entries, changes.turns
        kept = self._kept.get(SessionKey(key.tenant_id, session_id))
        turn = None
        if kept is not None and decision.turn_id is not None:
            turn = kept.turns.get(decision.turn_id)
        return Committed(
            head=None if kept is None else kept.head,
            lease=FREE if kept is None else kept.lease,
            session_id=session_id,
            entries=entries,
            turns=turns,
            turn=turn,
            session=None if kept is None else kept.session,
            created=decision.created,
            repeated=decision.repeated,
        )

    def _write(self, key: SessionKey, changes: Changes) -> None:
        kept = self._kept.get(key)
        if kept is None:
            assert changes.session is not None
            kept = _Kept(head=changes.head, lease=changes.lease, session=changes.session)
            self._kept[key] = kept
        kept.head, kept.lease = changes.head, changes.lease
        if changes.session is not None:
            kept.session = changes.session
        kept.log.extend(changes.entries)
        kept.turns.update(changes.turns)
        kept.due_at_ms = due_at_ms(kept.head, kept.lease, now_ms=self._clock.now_ms())

    def _delete(self, key: SessionKey) -> Committed:
        del self._kept[key]
        for place, remembered in list(self._remembered.items()):
            if place[0] == key.tenant_id and remembered.session_id == key.session_id:
                del self._remembered[place]
        return Committed(head=None, lease=FREE, session_id=key.session_id, deleted=True)


class LocalNotifier:
    """Hints within one process."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Hint], None]] = []

    def publish(self, hint: Hint) -> None:
        for listener in tuple(self._listeners):
            listener(hint)

    def listen(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)
