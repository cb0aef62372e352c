"""What jobs need to see beside the heads: all of it in one statement, a part for each table."""

import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from asyncpg import Connection

from sessile.adapters.postgres.columns import numbered, values
from sessile.adapters.sql.batch import Batch
from sessile.adapters.sql.gathered import Known
from sessile.adapters.sql.jobs import Needs
from sessile.adapters.sql.rows import head_of, lease_of, session_of, turn_of
from sessile.core.commands import Remembered
from sessile.core.ids import SessionKey

HEADS = """
    SELECT json_agg(json_build_array(
        h.tenant_id, h.session_id, h.user_id, h.exclusive_key, h.status, h.head, h.fence,
        h.next_position, h.queued, h.running_turn_id, h.awaiting_until_ms, h.cancel_turn_id,
        h.steers_unread, h.lease_owner, h.lease_until_ms, h.step, h.due_at_ms
    ))
    FROM unnest($::key[], $::key[]) AS k(tenant_id, session_id)
    JOIN session_head AS h ON h.tenant_id = k.tenant_id AND h.session_id = k.session_id
"""
SESSIONS = """
    SELECT json_agg(json_build_array(
        s.tenant_id, s.session_id, s.user_id, s.assistant, s.title, s.metadata, s.grants,
        s.created_at_ms, s.updated_at_ms
    ))
    FROM unnest($::key[], $::key[]) AS k(tenant_id, session_id)
    JOIN session AS s ON s.tenant_id = k.tenant_id AND s.session_id = k.session_id
"""
TURNS = """
    SELECT json_agg(json_build_array(
        t.tenant_id, t.session_id, t.turn_id, t.seq, t.position, t.message_id, t.user_id,
        t.status, t.attempt, t.strikes, t.progressed, t.cancel_reason, t.cancel_by,
        t.current_iteration, t.total_iterations, t.tokens_used, t.total_tokens, t.created_at_ms,
        t.started_at_ms, t.ended_at_ms, t.error, t.awaited, t.input, t.output
    ))
    FROM unnest($::key[], $::key[], $::key[]) AS k(tenant_id, session_id, turn_id)
    JOIN turn AS t
        ON t.tenant_id = k.tenant_id AND t.session_id = k.session_id AND t.turn_id = k.turn_id
"""
QUEUES = """
    SELECT json_agg(json_build_array(
        t.tenant_id, t.session_id, t.turn_id, t.seq, t.position, t.message_id, t.user_id,
        t.status, t.attempt, t.strikes, t.progressed, t.cancel_reason, t.cancel_by,
        t.current_iteration, t.total_iterations, t.tokens_used, t.total_tokens, t.created_at_ms,
        t.started_at_ms, t.ended_at_ms, t.error, t.awaited, t.input, t.output
    ))
    FROM unnest($::key[], $::key[], $::int[]) AS k(tenant_id, session_id, most)
    CROSS JOIN LATERAL (
        SELECT * FROM turn
        WHERE tenant_id = k.tenant_id AND session_id = k.session_id AND status = 'queued'
        ORDER BY position LIMIT k.most
    ) AS t
"""
ANSWERS = """
    SELECT json_agg(json_build_array(
        i.tenant_id, i.scope, i.user_id, i.key, i.request_hash, i.session_id, i.turn_id, i.created
    ))
    FROM unnest($::key[], $::key[], $::key[], $::key[]) AS k(tenant_id, scope, user_id, key)
    JOIN idempotency AS i ON i.tenant_id = k.tenant_id AND i.scope = k.scope
        AND i.user_id = k.user_id AND i.key = k.key
"""


async def look(connection: Connection, batch: Batch, needs: Iterable[Needs | None]) -> None:
    """Hand the batch what it needs, as far as it is there."""
    wanted = list(dict.fromkeys(each for each in needs if each is not None))
    heads = list(dict.fromkeys(each.key for each in wanted if each.head))
    wide = list(dict.fromkeys(each.key for each in wanted if each.head or each.wide))
    turns = list(dict.fromkeys((each.key, it) for each in wanted for it in each.turns))
    queues = list(dict.fromkeys((each.key, each.queue) for each in wanted if each.queue))
    answers = list(dict.fromkeys(each.answer for each in wanted if each.answer is not None))
    asked: dict[str, Sequence[Sequence[Any]]] = {
        HEADS: heads,
        SESSIONS: wide,
        TURNS: [(*key, turn_id) for key, turn_id in turns],
        QUEUES: [(*key, most) for key, most in queues],
        ANSWERS: answers,
    }
    parts = {part: rows for part, rows in asked.items() if rows}
    if not parts:
        return
    columns = [column for part, rows in parts.items() for column in values(part, rows)]
    row = await connection.fetchrow(_joined(tuple(parts)), *columns)
    assert row is not None
    found: dict[str, list[Any]] = {
        part: json.loads(text or "[]") for part, text in zip(parts, row, strict=True)
    }
    _show(batch, found, heads)
    batch.see_no_more(turns)
    for key, most in sorted(queues):
        batch.see_queue(key, most)
    for place in answers:
        batch.see_answer(place, None)
    for it in found.get(ANSWERS, ()):
        remembered = Remembered(request_hash=it[4], session_id=it[5], turn_id=it[6], created=it[7])
        batch.see_answer((it[0], it[1], it[2], it[3]), remembered)


def known_of(row: Sequence[Any], *, key: SessionKey) -> Known:
    """user_id … steers_unread as in `head_of`; lease_owner, lease_until_ms, step; due_at_ms"""
    return Known(
        head=head_of(row[:11], key=key),
        lease=lease_of(row[11:14]),
        due_at_ms=row[14],
        session=None,
    )


def _show(batch: Batch, found: dict[str, list[Any]], heads: Iterable[SessionKey]) -> None:
    for key in heads:
        batch.see(key, None)
    for row in found.get(HEADS, ()):
        key = SessionKey(row[0], row[1])
        batch.see(key, known_of(row[2:], key=key))
    for row in found.get(SESSIONS, ()):
        batch.see_session(session_of(row[2:], key=SessionKey(row[0], row[1])))
    for row in (*found.get(TURNS, ()), *found.get(QUEUES, ())):
        key = SessionKey(row[0], row[1])
        batch.see_turn(key, turn_of(row[2:], key=key))


@cache
def _joined(parts: tuple[str, ...]) -> str:
    return numbered("SELECT " + ", ".join(f"({part})" for part in parts))
