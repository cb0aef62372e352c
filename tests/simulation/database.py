"""The database's end of the connections: rows that are locked, transactions that hold or do not.

What is committed stands in a MemoryStore, where the checker looks for it. It runs outside of every
node, and each of its steps in one piece; what waits, waits for a lock.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from asyncpg import exceptions as pg
from tests.simulation.loop import Node
from tests.simulation.store import Recorder, Weather, at_once

from sessile.adapters.memory import MemoryStore
from sessile.adapters.memory.rows import Kept
from sessile.adapters.sql.batch import Batch
from sessile.adapters.sql.gathered import Gathered, Holder, Known, Place
from sessile.adapters.sql.jobs import Appended, Needs
from sessile.adapters.sql.rows import head_row
from sessile.core.commands import Remembered
from sessile.core.context import Holding
from sessile.core.errors import StorageBusy, StorageFull
from sessile.core.events import Entry, SessionSummarized
from sessile.core.ids import NodeId, SessionId, SessionKey, TurnId, UserId
from sessile.core.notes import AuditRecord
from sessile.core.session import SessionHead, Turn
from sessile.core.transcript import TEXT_KINDS
from sessile.ports.store import Committed

Answer = Callable[[Any], None]
"""Takes what a statement came to: rows, or an error."""
OUTSIDE = Context()


@dataclass(slots=True, eq=False)
class Backend:
    """What serves one connection, and the transaction that it is in, if any."""

    process: Node
    lock_seconds: float
    within: bool = False
    gone: bool = False
    idle_since_seconds: float = 0.0
    drafts: dict[SessionKey, Kept | None] = field(default_factory=dict[SessionKey, Kept | None])
    """The rows that it has written, as they will be; None where they are deleted."""
    buried: dict[SessionKey, Kept] = field(default_factory=dict[SessionKey, Kept])
    """Those that it has deleted, as they stood."""
    due_at_ms: dict[SessionKey, int | None] = field(default_factory=dict[SessionKey, int | None])
    answers: dict[Place, Remembered | None] = field(default_factory=dict[Place, Remembered | None])
    audited: list[AuditRecord] = field(default_factory=list[AuditRecord])
    forks: list[tuple[SessionKey, SessionHead]] = field(
        default_factory=list[tuple[SessionKey, SessionHead]]
    )
    """Which were made, and of what."""
    notes: list[tuple[Holding, tuple[Entry, ...]]] = field(
        default_factory=list[tuple[Holding, tuple[Entry, ...]]]
    )
    """For the recorder, once it is committed: whose appends and ends it has written."""


@dataclass(frozen=True, slots=True, eq=False)
class _Wait:
    """Of a statement that has some of its locks. The first of `keys` is what it waits for."""

    backend: Backend
    keys: Sequence[SessionKey]
    had: Callable[[Exception | None], None]


class Database:
    """One server, which all nodes share. `idle_seconds`: so long a transaction may stand still."""

    def __init__(
        self,
        memory: MemoryStore,
        recorder: Recorder,
        *,
        loop: asyncio.AbstractEventLoop,
        chance: random.Random,
        weather: Weather,
        idle_seconds: float,
    ) -> None:
        self.memory = memory
        self.recorder = recorder
        self.loop = loop
        self.chance = chance
        self.weather = weather
        self.idle_seconds = idle_seconds
        self._backends: list[Backend] = []
        self._holders: dict[SessionKey, Backend] = {}
        self._waits: dict[SessionKey, deque[_Wait]] = {}

    def later(self, step: Callable[[], object], seconds: float) -> None:
        """In the context of no node."""
        self.loop.call_later(seconds, step, context=OUTSIDE.copy())

    def refuses(self, kind: type[StorageBusy | StorageFull]) -> bool:
        weather = self.weather
        if weather.refused_with is not kind or self.loop.time() >= weather.refused_until_seconds:
            return False
        return self.chance.random() < 0.8

    # -- connections

    def serve(self, process: Node, *, lock_seconds: float) -> Backend:
        backend = Backend(process, lock_seconds)
        self._backends.append(backend)
        return backend

    def drop(self, backend: Backend) -> None:
        """It is gone, and so is what it did not commit."""
        backend.gone = True
        if backend in self._backends:
            self._backends.remove(backend)
        self.roll_back(backend)

    def lost(self, process: Node) -> None:
        """The process has died: its connections are reset."""
        for backend in [it for it in self._backends if it.process is process]:
            self.drop(backend)

    def expired(self, backend: Backend) -> bool:
        """Whether it stood still in a transaction for too long; then it is dropped."""
        stood = self.loop.time() - backend.idle_since_seconds
        if backend.within and not backend.gone and stood > self.idle_seconds:
            self.drop(backend)
            return True
        return False

    # -- locks

    def lock(
        self, backend: Backend, keys: Iterable[SessionKey], had: Callable[[Exception | None], None]
    ) -> None:
        """Lock these rows one after another, then call `had`: with an error where one of them was
        held for too long. A row that is about to be born is locked, too: by its unique key."""
        left = list(keys)
        while left:
            holder = self._holders.get(left[0])
            if holder is None or holder is backend or self.expired(holder):
                self._holders[left.pop(0)] = backend
                continue
            wait = _Wait(backend, left, had)
            self._waits.setdefault(left[0], deque()).append(wait)
            self.later(partial(self._give_up, wait), backend.lock_seconds)
            return
        had(None)

    def held(self, key: SessionKey, *, by: Backend) -> bool:
        """By another."""
        holder = self._holders.get(key)
        return holder is not None and holder is not by and not self.expired(holder)

    def _give_up(self, wait: _Wait) -> None:
        for queue in self._waits.values():
            if wait not in queue:
                continue
            queue.remove(wait)
            wait.had(pg.LockNotAvailableError("canceling statement due to lock timeout"))

    def free(self, backend: Backend) -> None:
        """Its locks, which go to those who wait for them."""
        mine = [key for key, holder in self._holders.items() if holder is backend]
        for key in mine:
            del self._holders[key]
        for key in mine:
            self._hand_on(key)

    def _hand_on(self, key: SessionKey) -> None:
        queue = self._waits.get(key)
        while queue and key not in self._holders:
            wait = queue.popleft()
            if not wait.backend.gone:
                self.lock(wait.backend, wait.keys, wait.had)

    # -- transactions

    def begin(self, backend: Backend) -> None:
        backend.within = not backend.gone
        backend.idle_since_seconds = self.loop.time()

    def roll_back(self, backend: Backend) -> None:
        self._ended(backend)

    def commit(self, backend: Backend) -> None:
        memory = self.memory
        for key, origin in backend.forks:
            memory.records.forked(key, origin)
        for key, draft in backend.drafts.items():
            if draft is None:
                memory._kept.pop(key, None)
                memory.records.gone(key)
            else:
                memory._kept[key] = draft
                memory._hold(key, draft.head)
        for key, kept in backend.buried.items():
            memory._hold(key, replace(kept.head, status="closed"))
        self.recorder.buried.update(backend.buried)
        for key, due_at_ms in backend.due_at_ms.items():
            if due_at_ms is None:
                memory._due_at_ms.pop(key, None)
            else:
                memory._due_at_ms[key] = due_at_ms
        for (tenant_id, scope, user_id, key), answer in backend.answers.items():
            asked: Any = (tenant_id, user_id, scope, key)
            if answer is None:
                memory._remembered.pop(asked, None)
            else:
                memory._remembered[asked] = answer
        memory.records.add(backend.audited)
        for holding, entries in backend.notes:
            self.recorder.note(holding, entries)
        self._ended(backend)

    def _ended(self, backend: Backend) -> None:
        backend.within = False
        for rows in (backend.drafts, backend.buried, backend.due_at_ms, backend.answers):
            rows.clear()
        backend.audited, backend.forks, backend.notes = [], [], []
        self.free(backend)

    # -- statements

    def there(self, keys: Iterable[SessionKey]) -> list[SessionKey]:
        return [key for key in keys if key in self.memory._kept]

    def heads(self, backend: Backend, keys: Sequence[SessionKey]) -> list[tuple[Any, ...]]:
        """As `Transaction.lock` reads them."""
        now_ms = self.memory._clock.now_ms()
        rows: list[tuple[Any, ...]] = []
        for key in keys:
            kept = self._kept(backend, key)
            if kept is not None:
                due_at_ms = self.memory._due_at_ms.get(key)
                row = head_row(kept.head, kept.lease, due_at_ms)
                head, fence, step, position, queued, running, until, cancel, steers = row[:9]
                names = (*key, kept.head.user_id, kept.head.exclusive_key, kept.head.status)
                changing = (head, fence, position, queued, running, until, cancel, steers)
                rows.append((now_ms, *names, *changing, *row[9:11], step, due_at_ms))
        return rows or [(now_ms, None)]

    def show(self, backend: Backend, needs: Iterable[Needs]) -> Callable[[Batch], None]:
        """What they need, as it is now, to be handed to a batch."""
        heads: list[tuple[SessionKey, Known | None]] = []
        turns: list[tuple[SessionKey, Turn]] = []
        answers: list[tuple[Place, Remembered | None]] = []
        holders: list[tuple[Holder, SessionKey | None]] = []
        wide: list[Kept] = []
        wanted = list(needs)
        for need in wanted:
            kept = self._kept(backend, need.key)
            if need.head:
                due_at_ms = self.memory._due_at_ms.get(need.key)
                known = None if kept is None else Known(kept.head, kept.lease, due_at_ms, None)
                heads.append((need.key, known))
            if need.holder is not None:
                holders.append((need.holder, self.holder(backend, need.holder)))
            if need.answer is not None:
                answers.append((need.answer, self._answer(backend, need.answer)))
            if kept is None:
                continue
            if need.head or need.wide:
                wide.append(kept)
            asked = (*need.turns, *list(kept.queue)[: need.queue])
            turns += [(need.key, kept.turns[it]) for it in asked if it in kept.turns]

        def hand(batch: Batch) -> None:
            for key, known in heads:
                batch.see(key, known)
            for each in wide:
                batch.see_session(each.session)
            for key, turn in turns:
                batch.see_turn(key, turn)
            batch.see_no_more((need.key, it) for need in wanted for it in need.turns)
            for need in wanted:
                if need.queue:
                    batch.see_queue(need.key, need.queue)
            for place, answer in answers:
                batch.see_answer(place, answer)
            for holder, key_of in holders:
                batch.see_holder(holder, key_of)

        return hand

    def write(self, backend: Backend, gathered: Gathered, answer: Answer) -> None:
        def had(error: Exception | None) -> None:
            try:
                answer(error or self.insert(backend, gathered))
            except pg.UniqueViolationError as taken:
                answer(taken)

        keys = {*gathered.born, *self._behind(backend, gathered)}
        self.lock(backend, sorted(keys), had)

    def _behind(self, backend: Backend, gathered: Gathered) -> Iterable[SessionKey]:
        """What an insert waits for at the index of the exclusive keys: its place there, for which a
        name stands that no session has, and the session that has it."""
        for (tenant_id, _), known in gathered.born.items():
            if (name := known.head.exclusive_key) is not None:
                yield SessionKey(tenant_id, SessionId(name))
                if (holder := self.holder(backend, (tenant_id, name))) is not None:
                    yield holder

    def insert(self, backend: Backend, gathered: Gathered) -> None:
        """Raises UniqueViolationError."""
        for key, known in gathered.born.items():
            assert known.session is not None
            if self._kept(backend, key) is not None:
                raise pg.UniqueViolationError("session_head_pkey")
            name = known.head.exclusive_key
            if name is not None and self.holder(backend, (key.tenant_id, name)) is not None:
                raise pg.UniqueViolationError("session_head_exclusive")
            backend.drafts[key] = Kept(head=known.head, lease=known.lease, session=known.session)
            backend.due_at_ms[key] = known.due_at_ms
        for key, known in gathered.moved.items():
            draft = self._draft(backend, key)
            draft.head, draft.lease = known.head, known.lease
            backend.due_at_ms[key] = known.due_at_ms
        for key, known in gathered.changed.items():
            assert known.session is not None
            self._draft(backend, key).session = known.session
        for key, entry in gathered.entries:
            self._insert(self._draft(backend, key), entry)
        for key, turn_id in gathered.turns_born:
            self._draft(backend, key).order.append(turn_id)
            self._turn(backend, key, gathered.turns_born[key, turn_id].turns[turn_id])
        for place, known in gathered.turns_moved.items():
            key, turn_id = place
            turn = known.turns[turn_id]
            if place not in gathered.turns_edited:
                turn = replace(turn, input=self._draft(backend, key).turns[turn_id].input)
            self._turn(backend, key, turn)
        for asked, remembered in gathered.answers.items():
            if self._answer(backend, asked) is not None:
                raise pg.UniqueViolationError("idempotency_pkey")
            backend.answers[asked] = remembered
        for key, user_id in gathered.deleted.items():
            self.delete(backend, key, user_id)

    def delete(self, backend: Backend, key: SessionKey, user_id: UserId) -> None:
        """The rows that the statements of both stores delete: head, wide row, entries and turns,
        and what was answered to keys of the session, and to the user's `open` of it."""
        if (kept := self._kept(backend, key)) is not None:
            backend.buried[key] = kept
        backend.drafts[key] = backend.due_at_ms[key] = None
        for place, answer in self._answers(backend).items():
            tenant_id, scope, whose, _ = place
            opened = (scope, whose, answer.session_id) == ("open", user_id, key.session_id)
            if tenant_id == key.tenant_id and (scope == key.session_id or opened):
                backend.answers[place] = None

    def append(self, backend: Backend, jobs: Sequence[Appended], answer: Answer) -> None:
        """A statement of its own, committed with it: None for each that does not hold its turn."""

        def had(error: Exception | None) -> None:
            if error is None:
                answered = [self._appended(job) if self.holds(job) else None for job in jobs]
            self.free(backend)
            answer(error or answered)

        self.lock(backend, sorted(job.key for job in jobs if self.holds(job)), had)

    def holds(self, job: Appended) -> bool:
        kept, holding = self.memory._kept.get(job.key), job.holding
        return (
            kept is not None
            and kept.head.fence == holding.fence
            and kept.head.running_turn_id == holding.turn_id
            and kept.lease.step == job.step
            and kept.lease.owner == holding.node
            and kept.head.status == "active"
        )

    def _appended(self, job: Appended) -> Committed:
        done = at_once(self.memory.append(job.holding, job.step, job.events))
        self.recorder.note(job.holding, done.entries)
        return Committed(
            head=done.head, lease=done.lease, session_id=done.session_id, entries=done.entries
        )

    def renew(
        self, backend: Backend, node: NodeId, lease_ms: int, asked: Collection[tuple[Any, ...]]
    ) -> list[SessionKey]:
        """Those that were extended: rows that another has locked are passed over."""
        renewed: list[SessionKey] = []
        for tenant_id, session_id, fence in asked:
            key = SessionKey(tenant_id, session_id)
            if self.leased(key, node, fence) and not self.held(key, by=backend):
                kept = self.memory._kept[key]
                until_ms = self.memory._clock.now_ms() + lease_ms
                kept.lease = replace(kept.lease, until_ms=until_ms)
                self.memory._due_at_ms[key] = until_ms
                renewed.append(key)
        return renewed

    def leased(self, key: SessionKey, node: NodeId, fence: int) -> bool:
        kept = self.memory._kept.get(key)
        return kept is not None and kept.lease.owner == node and kept.head.fence == fence

    def entry(self, backend: Backend, key: SessionKey, seq: int) -> Entry | None:
        kept = self._kept(backend, key)
        return kept.log[seq - 1] if kept is not None and seq <= len(kept.log) else None

    # -- rows, as a transaction sees them

    def _kept(self, backend: Backend, key: SessionKey) -> Kept | None:
        return backend.drafts[key] if key in backend.drafts else self.memory._kept.get(key)

    def holder(self, backend: Backend, place: Holder) -> SessionKey | None:
        """The active session that has this exclusive key."""
        for key, draft in backend.drafts.items():
            if draft is not None and draft.head.status == "active":
                if (key.tenant_id, draft.head.exclusive_key) == place:
                    return key
        held = self.memory._holders.get(place)
        return None if held in backend.drafts else held

    def _answer(self, backend: Backend, place: Place) -> Remembered | None:
        if place in backend.answers:
            return backend.answers[place]
        tenant_id, scope, user_id, key = place
        return self.memory._remembered.get((tenant_id, UserId(user_id), scope, key))

    def _answers(self, backend: Backend) -> dict[Place, Remembered]:
        remembered = self.memory._remembered.items()
        places = [(tenant, scope, user, name) for (tenant, user, scope, name), _ in remembered]
        asked = dict.fromkeys((*places, *backend.answers))
        found = ((place, self._answer(backend, place)) for place in asked)
        return {place: answer for place, answer in found if answer is not None}

    def _draft(self, backend: Backend, key: SessionKey) -> Kept:
        draft = backend.drafts.get(key)
        if draft is None:
            kept = self.memory._kept[key]
            draft = backend.drafts[key] = Kept(
                head=kept.head,
                lease=kept.lease,
                session=kept.session,
                log=kept.log.copy(),
                history=kept.history.copy(),
                summaries=kept.summaries.copy(),
                turns=kept.turns.copy(),
                order=kept.order.copy(),
                queue=kept.queue.copy(),
            )
        return draft

    def _insert(self, draft: Kept, entry: Entry) -> None:
        if entry.seq <= len(draft.log):
            raise pg.UniqueViolationError("entry_pkey")
        draft.log.append(entry)
        if entry.kind in TEXT_KINDS:
            draft.history.append(entry)
        if entry.kind == SessionSummarized.kind:
            draft.summaries.append(entry)

    def _turn(self, backend: Backend, key: SessionKey, turn: Turn) -> None:
        draft, turn_id = self._draft(backend, key), TurnId(turn.turn_id)
        draft.turns[turn_id] = turn
        if turn.status == "queued":
            draft.queue[turn_id] = None
        else:
            draft.queue.pop(turn_id, None)
