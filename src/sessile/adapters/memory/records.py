"""`ports.store.Records`, in memory."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice

from sessile.adapters.memory.rows import Kept
from sessile.core.commands import Decision, Remembered, View
from sessile.core.compaction import compact
from sessile.core.errors import SessionNotFound
from sessile.core.events import TERMINAL_KINDS, Entry
from sessile.core.ids import AuditId, NodeId, Seq, SessionId, SessionKey, TenantId, UserId
from sessile.core.notes import AuditRecord
from sessile.core.records import noted
from sessile.core.redaction import Redacted, Redaction, RedactMessage, Shown
from sessile.core.session import SessionHead
from sessile.core.settle import Changes, settle
from sessile.core.transcript import TEXT_KINDS
from sessile.ports.clock import Clock
from sessile.ports.store import Aged, Committed, Erasure

Answers = dict[tuple[TenantId, UserId, str, str], Remembered]


@dataclass(slots=True)
class _Chore:
    owner: NodeId | None = None
    until_ms: int = 0
    remains: str = ""


class MemoryRecords:
    """Over the rows of a MemoryStore. Each method runs in one piece, which is its transaction."""

    def __init__(
        self,
        clock: Clock,
        kept: dict[SessionKey, Kept],
        remembered: Answers,
        write: Callable[[SessionKey, Changes], None],
    ) -> None:
        self._clock = clock
        self._kept = kept
        self._remembered = remembered
        self._write = write
        self._audit: dict[tuple[TenantId, AuditId], AuditRecord] = {}
        self._forks: dict[SessionKey, dict[SessionKey, UserId]] = {}
        """Of each fork all that it comes from, and whose these were."""
        self._erasures: dict[tuple[TenantId, UserId], Erasure] = {}
        self._compacted: dict[SessionKey, Seq] = {}
        self._chores: dict[str, _Chore] = {}

    # -- told by the store

    def add(self, records: Iterable[AuditRecord]) -> None:
        for record in records:
            self._audit.setdefault((record.tenant_id, record.audit_id), record)

    def forked(self, key: SessionKey, origin: SessionHead) -> None:
        self._forks[key] = {**self._forks.get(origin.key, {}), origin.key: origin.user_id}

    def gone(self, key: SessionKey) -> None:
        self._forks.pop(key, None)
        self._compacted.pop(key, None)

    # -- redaction

    async def redact(self, key: SessionKey, command: RedactMessage) -> tuple[Committed, ...]:
        kept = self._kept.get(key)
        if kept is None or not command.principal.may_reach(key, kept.head.user_id):
            raise SessionNotFound()
        redaction, now_ms = Redaction(command), self._clock.now_ms()
        family = self._family(key, command)
        while any(redaction.meet(self._shown(each)) for each in family):
            pass
        redaction.check(self._shown(key))
        done = [(each, redaction.rewrite(self._shown(each))) for each in family]
        committed = [self._apply(each, it, now_ms) for each, it in done if it.events]
        if not committed:
            return (Committed(kept.head, kept.lease, key.session_id, repeated=True),)
        if command.note is not None:
            details = {"message_id": command.message_id, "reason": command.reason}
            record = noted(
                command.principal,
                command.note,
                "message.redacted",
                key.session_id,
                now_ms=now_ms,
                **details,
            )
            self.add((record,))
            committed[0] = committed[0]._replace(audited=(record,))
        return tuple(committed)

    def _family(self, key: SessionKey, command: RedactMessage) -> list[SessionKey]:
        above = self._forks.get(key, {})
        origins = {key} | {
            it for it, owner in above.items() if command.principal.may_reach(it, owner)
        }
        forks = {it for it, line in self._forks.items() if not origins.isdisjoint(line)}
        return [key, *sorted(((origins | forks) & self._kept.keys()) - {key})]

    def _shown(self, key: SessionKey) -> Shown:
        kept = self._kept[key]
        running = kept.head.running_turn_id
        return Shown(
            kept.head, kept.session, None if running is None else kept.turns[running], kept.log
        )

    def _apply(self, key: SessionKey, redacted: Redacted, now_ms: int) -> Committed:
        kept = self._kept[key]
        voided = {entry.seq: entry for entry in redacted.entries}
        for log in (kept.log, kept.history, kept.summaries):
            log[:] = [voided.get(entry.seq, entry) for entry in log]
        kept.turns.update((turn.turn_id, turn) for turn in redacted.turns)
        kept.session = redacted.session or kept.session
        for place, answer in self._remembered.items():
            if place[0] == key.tenant_id and answer.turn_id in redacted.inputs:
                self._remembered[place] = replace(answer, request_hash="")
        view = View(
            now_ms=now_ms, head=kept.head, lease=kept.lease, session=kept.session, turns=kept.turns
        )
        changes = settle(view, Decision(events=redacted.events), key=key)
        self._write(key, changes)
        turns = {turn.turn_id: turn for turn in redacted.turns} | changes.turns
        return Committed(
            kept.head,
            kept.lease,
            key.session_id,
            entries=changes.entries,
            turns=turns,
            session=kept.session,
        )

    # -- audit

    async def note(self, record: AuditRecord) -> None:
        self.add((record,))

    async def audit(
        self, tenant_id: TenantId, *, before: AuditId | None = None, limit: int
    ) -> tuple[AuditRecord, ...]:
        newest_first = sorted(self._audit, reverse=True)
        wanted = (
            self._audit[place]
            for place in newest_first
            if place[0] == tenant_id and (before is None or place[1] < before)
        )
        return tuple(islice(wanted, limit))

    # -- erasure

    async def ask_erasure(
        self, tenant_id: TenantId, user_id: UserId, record: AuditRecord
    ) -> Erasure:
        self.add((record,))
        found = self._erasures.get((tenant_id, user_id))
        if found is None or found.done_at_ms is not None:
            found = self._erasures[tenant_id, user_id] = Erasure(
                tenant_id=tenant_id,
                user_id=user_id,
                asked_by=UserId(record.actor),
                asked_at_ms=self._clock.now_ms(),
            )
        return found

    async def erasures(
        self, tenant_id: TenantId | None = None, *, user_id: UserId | None = None, limit: int
    ) -> tuple[Erasure, ...]:
        wanted = (
            it
            for it in sorted(self._erasures.values(), key=lambda it: it.asked_at_ms)
            if tenant_id in (None, it.tenant_id)
            and (it.done_at_ms is None if user_id is None else it.user_id == user_id)
        )
        return tuple(islice(wanted, limit))

    async def theirs(
        self, tenant_id: TenantId, user_id: UserId, *, limit: int
    ) -> tuple[SessionId, ...]:
        forks = [
            key
            for key, line in sorted(self._forks.items())
            if any(it.tenant_id == tenant_id and owner == user_id for it, owner in line.items())
        ]
        own = [
            key
            for key, kept in sorted(self._kept.items())
            if key.tenant_id == tenant_id and kept.head.user_id == user_id
        ]
        return tuple(dict.fromkeys(key.session_id for key in (*forks, *own)))[:limit]

    async def forget(self, tenant_id: TenantId, user_id: UserId, *, limit: int) -> int:
        places = [it for it in self._remembered if it[:2] == (tenant_id, user_id)][:limit]
        for place in places:
            del self._remembered[place]
        return len(places)

    async def erased(self, erasure: Erasure, *, sessions: int, record: AuditRecord | None) -> None:
        place = (erasure.tenant_id, erasure.user_id)
        found = self._erasures[place]
        if found.asked_at_ms == erasure.asked_at_ms and found.done_at_ms is None:
            self._erasures[place] = replace(
                found,
                sessions=found.sessions + sessions,
                done_at_ms=None if record is None else self._clock.now_ms(),
            )
        self.add(() if record is None else (record,))

    # -- what one node does for all

    async def take_chore(self, name: str, node: NodeId, *, lease_ms: int) -> str | None:
        chore, now_ms = self._chores.setdefault(name, _Chore()), self._clock.now_ms()
        if chore.owner not in (None, node) and chore.until_ms >= now_ms:
            return None
        chore.owner, chore.until_ms = node, now_ms + lease_ms
        return chore.remains

    async def leave_chore(self, name: str, node: NodeId, left: str) -> None:
        chore = self._chores.get(name)
        if chore is not None and chore.owner == node:
            chore.owner, chore.remains = None, left

    async def aged(self, after: SessionKey | None, *, limit: int) -> tuple[Aged, ...]:
        keys = (key for key in sorted(self._kept) if after is None or key > after)
        kept = (self._kept[key] for key in islice(keys, limit))
        return tuple(Aged(each.head, each.log[-1].at_ms) for each in kept)

    async def compact(self, key: SessionKey, *, before_ms: int, limit: int) -> bool:
        kept = self._kept.get(key)
        if kept is None:
            return False
        after = self._compacted.get(key, Seq(0))
        page = list(islice((it for it in kept.log if it.seq > after), limit))
        ends = [it for it in kept.log if it.kind in TERMINAL_KINDS]
        compacted = compact(page, ends, after=after, before_ms=before_ms)
        if compacted.upto == after:
            return False
        self._compacted[key] = compacted.upto
        kept.log[:] = _folded(kept.log, compacted.entries)
        assert all(it.kind not in TEXT_KINDS for it in compacted.entries)
        return len(page) == limit and compacted.upto == page[-1].seq


def _folded(log: Iterable[Entry], folds: Iterable[Entry]) -> Iterable[Entry]:
    """The log with each of `folds` instead of the range that it stands for."""
    ranges = {seq: it for it in folds for seq in range(json.loads(it.body)["from_seq"], it.seq + 1)}
    for entry in log:
        fold = ranges.get(entry.seq, entry)
        if fold.seq == entry.seq:
            yield fold
