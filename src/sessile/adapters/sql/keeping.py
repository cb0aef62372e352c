"""Audit, erasure and retention as statements."""

import json
from collections.abc import Sequence

from sessile.adapters.sql.gathered import Gathered
from sessile.adapters.sql.redactions import ENTRY_COLUMNS
from sessile.adapters.sql.rows import Row, head_of
from sessile.adapters.sql.scripts import Ask, Each, Now, Script, Tenants
from sessile.core.codec import to_json
from sessile.core.compaction import compact as folded
from sessile.core.events import TERMINAL_KINDS, Entry
from sessile.core.ids import AuditId, NodeId, Seq, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.notes import AuditRecord
from sessile.ports.store import Aged, Erasure

_ID_END = "~"
"""No id contains it, and every id sorts before it."""
_ERASURE = "tenant_id, user_id, asked_by, asked_at_ms, sessions, done_at_ms"


def beside(gathered: Gathered) -> Script[None]:
    """What a batch writes besides its sessions."""
    yield from notes(gathered.audited)
    for (tenant_id, session_id), origin in gathered.forks:
        sql = """
            INSERT INTO fork (tenant_id, origin_id, session_id, origin_user_id)
            SELECT tenant_id, origin_id, $2, origin_user_id FROM fork
            WHERE tenant_id = $1 AND session_id = $3
        """
        yield Ask(sql, (tenant_id, session_id, origin.key.session_id))
        sql = """
            INSERT INTO fork (tenant_id, origin_id, session_id, origin_user_id)
            VALUES ($1, $2, $3, $4)
        """
        yield Ask(sql, (tenant_id, origin.key.session_id, session_id, origin.user_id))


def notes(records: Sequence[AuditRecord]) -> Script[None]:
    sql = """
        INSERT INTO audit
            (tenant_id, audit_id, at_ms, actor, action, subject, request_id, details)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING
    """
    rows = [
        (
            it.tenant_id,
            it.audit_id,
            it.at_ms,
            it.actor,
            it.action,
            it.subject,
            it.request_id,
            to_json(it.details),
        )
        for it in records
    ]
    if rows:
        yield Each(sql, rows)


def audit(
    tenant_id: TenantId, *, before: AuditId | None, limit: int
) -> Script[tuple[AuditRecord, ...]]:
    sql = """
        SELECT audit_id, at_ms, actor, action, subject, request_id, details FROM audit
        WHERE tenant_id = $1 AND audit_id < $2 ORDER BY audit_id DESC LIMIT $3
    """
    rows: Sequence[Row] = yield Ask(sql, (tenant_id, before or _ID_END, limit))
    return tuple(
        AuditRecord(
            tenant_id=tenant_id,
            audit_id=row[0],
            at_ms=row[1],
            actor=row[2],
            action=row[3],
            subject=row[4],
            request_id=row[5],
            details=json.loads(row[6]),
        )
        for row in rows
    )


def ask_erasure(tenant_id: TenantId, user_id: UserId, record: AuditRecord) -> Script[Erasure]:
    now_ms: int = yield Now()
    sql = """
        INSERT INTO erasure (tenant_id, user_id, asked_by, asked_at_ms, sessions, done_at_ms)
        VALUES ($1, $2, $3, $4, 0, NULL)
        ON CONFLICT (tenant_id, user_id) DO UPDATE
        SET asked_by = $3, asked_at_ms = $4, sessions = 0, done_at_ms = NULL
        WHERE erasure.done_at_ms IS NOT NULL
    """
    yield Ask(sql, (tenant_id, user_id, record.actor, now_ms))
    yield from notes([record])
    (found,) = yield from erasures(tenant_id, user_id=user_id, limit=1)
    return found


def erasures(
    tenant_id: TenantId | None, *, user_id: UserId | None, limit: int
) -> Script[tuple[Erasure, ...]]:
    wanted, values = "done_at_ms IS NULL", tuple[str, ...]()
    if tenant_id is not None:
        wanted, values = f"tenant_id = $2 AND {wanted}", (tenant_id,)
        if user_id is not None:
            wanted, values = "tenant_id = $2 AND user_id = $3", (tenant_id, user_id)
    sql = f"""
        SELECT {_ERASURE} FROM erasure WHERE {wanted}
        ORDER BY asked_at_ms, tenant_id, user_id LIMIT $1
    """  # no value is in it  # noqa: S608  # nosec B608
    rows: Sequence[Row] = yield Ask(sql, (limit, *values))
    return tuple(
        Erasure(
            tenant_id=row[0],
            user_id=row[1],
            asked_by=row[2],
            asked_at_ms=row[3],
            sessions=row[4],
            done_at_ms=row[5],
        )
        for row in rows
    )


def theirs(tenant_id: TenantId, user_id: UserId, *, limit: int) -> Script[tuple[SessionId, ...]]:
    sql = """
        SELECT DISTINCT session_id FROM fork
        WHERE tenant_id = $1 AND origin_user_id = $2 ORDER BY session_id LIMIT $3
    """
    forks: Sequence[Row] = yield Ask(sql, (tenant_id, user_id, limit))
    sql = """
        SELECT session_id FROM session WHERE tenant_id = $1 AND user_id = $2
        ORDER BY session_id LIMIT $3
    """
    own: Sequence[Row] = yield Ask(sql, (tenant_id, user_id, limit))
    return tuple(dict.fromkeys(SessionId(row[0]) for row in (*forks, *own)))[:limit]


def forget(tenant_id: TenantId, user_id: UserId, *, limit: int) -> Script[int]:
    sql = """
        SELECT scope, key FROM idempotency WHERE tenant_id = $1 AND user_id = $2 LIMIT $3
    """
    rows: Sequence[Row] = yield Ask(sql, (tenant_id, user_id, limit))
    sql = """
        DELETE FROM idempotency
        WHERE tenant_id = $1 AND user_id = $2 AND scope = $3 AND key = $4
    """
    if rows:
        yield Each(sql, [(tenant_id, user_id, *row) for row in rows])
    return len(rows)


def erased(erasure: Erasure, *, sessions: int, record: AuditRecord | None) -> Script[None]:
    now_ms: int = yield Now()
    sql = """
        UPDATE erasure SET sessions = sessions + $3, done_at_ms = $4
        WHERE tenant_id = $1 AND user_id = $2 AND asked_at_ms = $5 AND done_at_ms IS NULL
    """
    place = (erasure.tenant_id, erasure.user_id)
    done_at_ms = None if record is None else now_ms
    yield Ask(sql, (*place, sessions, done_at_ms, erasure.asked_at_ms))
    yield from notes([] if record is None else [record])


def take_chore(name: str, node: NodeId, *, lease_ms: int) -> Script[str | None]:
    now_ms: int = yield Now()
    sql = """
        INSERT INTO chore (name, owner, until_ms, remains) VALUES ($1, $2, $3, '')
        ON CONFLICT (name) DO UPDATE SET owner = $2, until_ms = $3
        WHERE chore.owner IS NULL OR chore.owner = $2 OR chore.until_ms < $4
        RETURNING remains
    """
    rows: Sequence[Row] = yield Ask(sql, (name, node, now_ms + lease_ms, now_ms))
    return rows[0][0] if rows else None


def leave_chore(name: str, node: NodeId, left: str) -> Script[None]:
    sql = "UPDATE chore SET owner = NULL, remains = $3 WHERE name = $1 AND owner = $2"
    yield Ask(sql, (name, node, left))


def aged(after: SessionKey | None, *, limit: int) -> Script[tuple[Aged, ...]]:
    """Tenant by tenant, as every statement is about one."""
    tenant_id, session_id = after or ("", "")
    found: list[Aged] = []
    while True:
        sql = """
            SELECT h.user_id, h.exclusive_key, h.status, h.head, h.fence, h.next_position,
                h.queued, h.running_turn_id, h.awaiting_until_ms, h.cancel_turn_id,
                h.steers_unread, h.session_id, e.at_ms
            FROM session_head AS h
            JOIN entry AS e
                ON e.tenant_id = h.tenant_id AND e.session_id = h.session_id AND e.seq = h.head
            WHERE h.tenant_id = $1 AND h.session_id > $2 ORDER BY h.session_id LIMIT $3
        """
        yield Tenants((TenantId(tenant_id),))
        rows: Sequence[Row] = yield Ask(sql, (tenant_id, session_id, limit - len(found)))
        for row in rows:
            key = SessionKey(TenantId(tenant_id), row[11])
            found.append(Aged(head_of(row, key=key), row[12]))
        if len(found) >= limit:
            return tuple(found)
        sql = """
            SELECT tenant_id FROM session_head WHERE tenant_id > $1 ORDER BY tenant_id LIMIT 1
        """
        yield Tenants(None)
        following: Sequence[Row] = yield Ask(sql, (tenant_id,))
        if not following:
            return tuple(found)
        tenant_id, session_id = following[0][0], ""


def compact(key: SessionKey, *, before_ms: int, limit: int) -> Script[bool]:
    sql = "SELECT head FROM session_head WHERE tenant_id = $1 AND session_id = $2"
    if not (yield Ask(sql, key, locks=True)):
        return False
    sql = "SELECT upto_seq FROM compaction WHERE tenant_id = $1 AND session_id = $2"
    looked: Sequence[Row] = yield Ask(sql, key)
    after = Seq(looked[0][0] if looked else 0)
    sql = f"""
        SELECT {ENTRY_COLUMNS} FROM entry
        WHERE tenant_id = $1 AND session_id = $2 AND seq > $3 ORDER BY seq LIMIT $4
    """  # no value is in it  # noqa: S608  # nosec B608
    rows: Sequence[Row] = yield Ask(sql, (*key, after, limit))
    page = [Entry(*row) for row in rows]
    ends = yield from _ends(key, page)
    compacted = folded(page, ends, after=after, before_ms=before_ms)
    if compacted.upto == after:
        return False
    ranges = [(json.loads(it.body)["from_seq"], it) for it in compacted.entries]
    sql = """
        DELETE FROM entry
        WHERE tenant_id = $1 AND session_id = $2 AND seq >= $3 AND seq <= $4
    """
    yield Each(sql, [(*key, begin, it.seq) for begin, it in ranges])
    sql = """
        INSERT INTO entry (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
    """
    rows = [(*key, it.seq, it.turn_id, it.kind, it.at_ms, it.body) for _, it in ranges]
    yield Each(sql, rows)
    sql = """
        INSERT INTO compaction (tenant_id, session_id, upto_seq) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id, session_id) DO UPDATE SET upto_seq = $3
    """
    yield Ask(sql, (*key, compacted.upto))
    return len(page) == limit and compacted.upto == page[-1].seq


def _ends(key: SessionKey, page: Sequence[Entry]) -> Script[Sequence[Entry]]:
    """Of the turns on the page, as far as they have ended: on it, or behind it."""
    ends = {it.turn_id: it for it in page if it.kind in TERMINAL_KINDS}
    missing = {it.turn_id: it.seq for it in page if it.turn_id not in ends}
    kinds = ", ".join(f"'{kind}'" for kind in sorted(TERMINAL_KINDS))
    for turn_id, seq in missing.items():
        if turn_id is None:
            continue
        found = yield from _end(key, turn_id, seq, kinds)
        ends |= {it.turn_id: it for it in found}
    return tuple(ends.values())


def _end(key: SessionKey, turn_id: TurnId, seq: Seq, kinds: str) -> Script[Sequence[Entry]]:
    sql = f"""
        SELECT {ENTRY_COLUMNS} FROM entry
        WHERE tenant_id = $1 AND session_id = $2 AND seq > $3 AND turn_id = $4
            AND kind IN ({kinds})
        ORDER BY seq LIMIT 1
    """  # no value is in it  # noqa: S608  # nosec B608
    rows: Sequence[Row] = yield Ask(sql, (*key, seq, turn_id))
    return [Entry(*row) for row in rows]
