"""The store, in memory."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal, Self, TypeVar

from sessile.adapters.memory.records import MemoryRecords
from sessile.adapters.memory.rows import Kept
from sessile.core.attempts import authorised, check_append
from sessile.core.codec import to_json
from sessile.core.commands import Command, Decision, Named, Remembered, View, named
from sessile.core.context import Holding
from sessile.core.decide import decide
from sessile.core.events import Entry, Event, SessionSummarized
from sessile.core.fairness import in_turn
from sessile.core.ids import NodeId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.records import record_of
from sessile.core.session import FREE, SessionHead, Turn, due_at_ms
from sessile.core.settle import Changes, settle, stepped
from sessile.core.transcript import TEXT_KINDS
from sessile.ports.clock import Clock
from sessile.ports.store import Committed, Found, Identity, Sweep

T = TypeVar("T")


class MemoryStore:
    """Each method runs in one piece between two awaits, which is its transaction."""

    def __init__(self, *, clock: Clock, secret: bytes = bytes(32)) -> None:
        self._clock = clock
        self._identity = Identity(epoch=0, secret=secret)
        self._kept: dict[SessionKey, Kept] = {}
        self._due_at_ms: dict[SessionKey, int] = {}
        self._holders: dict[tuple[TenantId, str], SessionKey] = {}
        """The active sessions by their exclusive keys."""
        self._remembered: dict[tuple[TenantId, UserId, str, str], Remembered] = {}
        self.records = MemoryRecords(clock, self._kept, self._remembered, self._write)

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
        record = record_of(key, command, decision, now_ms=view.now_ms)
        audited = () if record is None else (record,)
        self.records.add(audited)
        if decision.deleted:
            return self._delete(key)._replace(audited=audited)
        if view.origin is not None and decision.events:
            self.records.forked(key, view.origin)
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
        return self._apply(key, view, decision, session_id)._replace(audited=audited)

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        key = holding.key
        view = self._view(key, Named())
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
            self._due_at_ms[holding.key] = until_ms
        return frozenset(lost)

    async def identity(self) -> Identity:
        return self._identity

    async def probe(self) -> None:
        pass

    async def sweep(
        self,
        *,
        due_max: int,
        assistants: Collection[str],
        following: Collection[SessionKey] = (),
    ) -> Sweep:
        now_ms = self._clock.now_ms()
        due = [
            (due_at_ms, key)
            for key, due_at_ms in self._due_at_ms.items()
            if due_at_ms <= now_ms and self._concerns(key, assistants)
        ]
        heads = {key: self._kept[key].head.head for key in following if key in self._kept}
        return Sweep(due=in_turn(due)[:due_max], heads=heads)

    def _concerns(self, key: SessionKey, assistants: Collection[str]) -> bool:
        kept = self._kept[key]
        return kept.head.cancel_turn_id is not None or kept.session.assistant in assistants

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
        self,
        key: SessionKey,
        *,
        after: int = 0,
        queued: bool = False,
        limit: int,
        bytes_max: int | None = None,
    ) -> tuple[Turn, ...]:
        kept = self._kept.get(key)
        if kept is None:
            return ()
        known = kept.turns
        if queued:
            waiting = (known[turn_id] for turn_id in kept.queue)
            matching = list(islice((turn for turn in waiting if turn.position > after), limit))
        else:
            first = bisect_right(kept.order, after, key=lambda turn_id: known[turn_id].position)
            matching = [known[turn_id] for turn_id in kept.order[first : first + limit]]
        return _fitting(
            matching,
            bytes_max,
            lambda turn: to_json(turn.input) + (turn.output or ""),
        )

    async def how_many(
        self,
        tenant_id: TenantId,
        what: Literal["sessions", "queue"],
        *,
        user_id: UserId | None,
        most: int,
    ) -> int:
        kept = [each for key, each in self._kept.items() if key.tenant_id == tenant_id]
        if what == "queue":
            whose = [each.turns[turn_id].by for each in kept for turn_id in each.queue]
        else:
            whose = [each.head.user_id for each in kept if each.head.status == "active"]
        return min(len(whose) if user_id is None else whose.count(user_id), most)

    async def tokens(self, tenant_id: TenantId, *, since_ms: int) -> Mapping[UserId, int]:
        used = Counter[UserId]()
        for key, kept in self._kept.items():
            for turn in kept.turns.values() if key.tenant_id == tenant_id else ():
                if turn.created_at_ms >= since_ms:
                    used[turn.by] += turn.progress.tokens_used
        return used

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
        kept = self._kept.get(key)
        if kept is None:
            return ()
        log = kept.history if history else kept.log
        first = bisect_right(log, after, key=_seq)
        end = len(log) if before is None else bisect_left(log, before, key=_seq)
        if newest_first:
            matching = log[max(first, end - limit) : end][::-1]
        else:
            matching = log[first : min(end, first + limit)]
        return _fitting(matching, bytes_max, lambda entry: entry.body)

    async def summary(self, key: SessionKey, *, before: int) -> Entry | None:
        kept = self._kept.get(key)
        summaries = [] if kept is None else kept.summaries
        end = bisect_left(summaries, before, key=_seq)
        return summaries[end - 1] if end else None

    def _view(self, key: SessionKey, names: Named) -> View:
        remembered = holder = None
        if names.once is not None:
            place = (key.tenant_id, names.once.user_id, names.once.scope, names.once.key)
            remembered = self._remembered.get(place)
        kept = self._kept.get(key)
        if kept is None and names.exclusive_key is not None:
            holder = self._holders.get((key.tenant_id, names.exclusive_key))
            kept = None if holder is None else self._kept[holder]
        if kept is None:
            origin = None
            if names.origin is not None:
                origin = self._kept.get(SessionKey(key.tenant_id, names.origin))
            return View(
                now_ms=self._clock.now_ms(),
                remembered=remembered,
                origin=None if origin is None else origin.head,
            )
        return View(
            now_ms=self._clock.now_ms(),
            head=kept.head,
            lease=kept.lease,
            session=kept.session,
            turns=self._shown(kept, names),
            remembered=remembered,
            exclusive=holder is not None,
        )

    def _shown(self, kept: Kept, names: Named) -> dict[TurnId, Turn]:
        shown: list[TurnId | None] = [kept.head.running_turn_id, names.turn_id]
        if names.queue != "none":
            shown.extend(kept.queue if names.queue == "all" else islice(kept.queue, 1))
        known = kept.turns
        return {turn_id: known[turn_id] for turn_id in shown if turn_id and turn_id in known}

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
            lost=decision.lost,
        )

    def _write(self, key: SessionKey, changes: Changes) -> None:
        kept = self._kept.get(key)
        if kept is None:
            assert changes.session is not None
            kept = Kept(head=changes.head, lease=changes.lease, session=changes.session)
            self._kept[key] = kept
        kept.head, kept.lease = changes.head, changes.lease
        if changes.session is not None:
            kept.session = changes.session
        kept.log.extend(changes.entries)
        kept.history.extend(it for it in changes.entries if it.kind in TEXT_KINDS)
        kept.summaries.extend(it for it in changes.entries if it.kind == SessionSummarized.kind)
        for turn_id, turn in changes.turns.items():
            if turn_id not in kept.turns:
                kept.order.append(turn_id)
            kept.turns[turn_id] = turn
            if turn.status == "queued":
                kept.queue[turn_id] = None
            else:
                kept.queue.pop(turn_id, None)
        due = due_at_ms(kept.head, kept.lease, now_ms=self._clock.now_ms())
        if due is None:
            self._due_at_ms.pop(key, None)
        else:
            self._due_at_ms[key] = due
        self._hold(key, kept.head)

    def _hold(self, key: SessionKey, head: SessionHead) -> None:
        if head.exclusive_key is None:
            return
        place = (key.tenant_id, head.exclusive_key)
        if head.status == "active":
            self._holders[place] = key
        elif self._holders.get(place) == key:
            del self._holders[place]

    def _delete(self, key: SessionKey) -> Committed:
        head = self._kept.pop(key).head
        self._due_at_ms.pop(key, None)
        self._hold(key, replace(head, status="closed"))
        for place, remembered in list(self._remembered.items()):
            if place[0] == key.tenant_id and remembered.session_id == key.session_id:
                del self._remembered[place]
        self.records.gone(key)
        return Committed(head=None, lease=FREE, session_id=key.session_id, deleted=True)


def _seq(entry: Entry) -> int:
    return entry.seq


def _fitting(items: Iterable[T], bytes_max: int | None, large: Callable[[T], str]) -> tuple[T, ...]:
    """The first ones that are within the limit, and one at least."""
    fitting: list[T] = []
    size = 0
    for item in items:
        size += 0 if bytes_max is None else len(large(item).encode())
        if fitting and bytes_max is not None and size > bytes_max:
            break
        fitting.append(item)
    return tuple(fitting)
