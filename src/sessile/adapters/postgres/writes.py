"""What a batch gathered, written in one statement: a part for each table that it touches.

PostgreSQL runs all parts of a WITH once and to their end, whether or not they are read.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from asyncpg import Connection

from sessile.adapters.postgres.columns import numbered, values
from sessile.adapters.sql.gathered import Gathered, Known
from sessile.adapters.sql.rows import (
    Row,
    born_head_row,
    born_turn_row,
    head_row,
    input_row,
    session_row,
    turn_row,
)

HEADS_MOVED = """
    UPDATE session_head AS h SET
        head = v.head, fence = v.fence, step = v.step, next_position = v.next_position,
        queued = v.queued, running_turn_id = v.running_turn_id,
        awaiting_until_ms = v.awaiting_until_ms, cancel_turn_id = v.cancel_turn_id,
        steers_unread = v.steers_unread, lease_owner = v.lease_owner,
        lease_until_ms = v.lease_until_ms, due_at_ms = v.due_at_ms, status = v.status,
        assistant = coalesce(v.assistant, h.assistant)
    FROM unnest($::bigint[], $::bigint[], $::int[], $::int[], $::int[], $::key[], $::bigint[],
        $::key[], $::int[], $::key[], $::bigint[], $::bigint[], $::key[], $::key[], $::key[],
        $::key[])
        AS v(head, fence, step, next_position, queued, running_turn_id, awaiting_until_ms,
        cancel_turn_id, steers_unread, lease_owner, lease_until_ms, due_at_ms, tenant_id,
        session_id, status, assistant)
    WHERE h.tenant_id = v.tenant_id AND h.session_id = v.session_id
"""
HEADS_BORN = """
    INSERT INTO session_head (tenant_id, session_id, user_id, exclusive_key, status, head, fence,
        step, next_position, queued, running_turn_id, awaiting_until_ms, cancel_turn_id,
        steers_unread, lease_owner, lease_until_ms, due_at_ms, assistant)
    SELECT * FROM unnest($::key[], $::key[], $::key[], $::key[], $::key[], $::bigint[],
        $::bigint[], $::int[], $::int[], $::int[], $::key[], $::bigint[], $::key[], $::int[],
        $::key[], $::bigint[], $::bigint[], $::key[])
"""
SESSIONS_BORN = """
    INSERT INTO session (tenant_id, session_id, user_id, assistant, title, metadata, grants,
        created_at_ms, updated_at_ms)
    SELECT * FROM unnest($::key[], $::key[], $::key[], $::key[], $::text[], $::text[],
        $::text[], $::bigint[], $::bigint[])
"""
SESSIONS_CHANGED = """
    UPDATE session AS s SET assistant = v.assistant, title = v.title, metadata = v.metadata,
        grants = v.grants, updated_at_ms = v.updated_at_ms
    FROM unnest($::key[], $::key[], $::key[], $::key[], $::text[], $::text[], $::text[],
        $::bigint[], $::bigint[])
        AS v(tenant_id, session_id, user_id, assistant, title, metadata, grants, created_at_ms,
        updated_at_ms)
    WHERE s.tenant_id = v.tenant_id AND s.session_id = v.session_id
"""
ENTRIES = """
    INSERT INTO entry (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
    SELECT * FROM unnest($::key[], $::key[], $::bigint[], $::key[], $::key[], $::bigint[],
        $::text[])
"""
TURNS_BORN = """
    INSERT INTO turn (tenant_id, session_id, turn_id, seq, position, message_id, user_id,
        created_at_ms, input, status, attempt, strikes, progressed, cancel_reason, cancel_by,
        current_iteration, total_iterations, tokens_used, total_tokens, started_at_ms,
        ended_at_ms, error, awaited, output)
    SELECT * FROM unnest($::key[], $::key[], $::key[], $::bigint[], $::int[], $::key[],
        $::key[], $::bigint[], $::text[], $::key[], $::int[], $::int[], $::bool[], $::key[],
        $::key[], $::bigint[], $::bigint[], $::bigint[], $::bigint[], $::bigint[], $::bigint[],
        $::key[], $::key[], $::text[])
"""
TURNS_MOVED = """
    UPDATE turn AS t SET
        status = v.status, attempt = v.attempt, strikes = v.strikes, progressed = v.progressed,
        cancel_reason = v.cancel_reason, cancel_by = v.cancel_by,
        current_iteration = v.current_iteration, total_iterations = v.total_iterations,
        tokens_used = v.tokens_used, total_tokens = v.total_tokens,
        started_at_ms = v.started_at_ms, ended_at_ms = v.ended_at_ms, error = v.error,
        awaited = v.awaited, output = v.output, input = coalesce(v.input, t.input)
    FROM unnest($::key[], $::int[], $::int[], $::bool[], $::key[], $::key[], $::bigint[],
        $::bigint[], $::bigint[], $::bigint[], $::bigint[], $::bigint[], $::key[], $::key[],
        $::text[], $::key[], $::key[], $::key[], $::key[])
        AS v(status, attempt, strikes, progressed, cancel_reason, cancel_by, current_iteration,
        total_iterations, tokens_used, total_tokens, started_at_ms, ended_at_ms, error, awaited,
        output, tenant_id, session_id, turn_id, input)
    WHERE t.tenant_id = v.tenant_id AND t.session_id = v.session_id AND t.turn_id = v.turn_id
"""
ANSWERS = """
    INSERT INTO idempotency (tenant_id, scope, user_id, key, request_hash, session_id, turn_id,
        created, at_ms)
    SELECT * FROM unnest($::key[], $::key[], $::key[], $::key[], $::key[], $::key[],
        $::key[], $::bool[], $::bigint[])
"""
DELETED = (
    *(
        f"""
    DELETE FROM {table} AS it USING unnest($::key[], $::key[], $::key[])
        AS v(tenant_id, session_id, user_id)
    WHERE it.tenant_id = v.tenant_id AND it.session_id = v.session_id
    """  # no value is in it  # noqa: S608  # nosec B608
        for table in ("session_head", "session", "entry", "turn", "fork", "compaction")
    ),
    """
    DELETE FROM idempotency AS it USING unnest($::key[], $::key[], $::key[])
        AS v(tenant_id, session_id, user_id)
    WHERE it.tenant_id = v.tenant_id AND (
        it.scope = v.session_id
        OR (it.scope = 'open' AND it.user_id = v.user_id AND it.session_id = v.session_id)
    )
    """,
)


async def write(connection: Connection, gathered: Gathered) -> None:
    """Rows are in the order of their keys, in each statement and on each node: two batches that
    meet in an index wait for each other in one order."""
    parts: list[str] = []
    columns: list[Any] = []

    def add(sql: str, rows: Sequence[Row]) -> None:
        if rows:
            parts.append(sql)
            columns.extend(values(sql, rows))

    born = gathered.born
    moved = [(key, gathered.moved[key]) for key in sorted(gathered.moved) if key not in born]
    add(
        HEADS_MOVED,
        [
            (
                *head_row(it.head, it.lease, it.due_at_ms),
                it.head.status,
                it.session.assistant if it.session and key in gathered.changed else None,
            )
            for key, it in moved
        ],
    )
    made = [born[key] for key in sorted(born)]
    add(HEADS_BORN, [born_head_row(it) for it in made])
    add(SESSIONS_BORN, _wide(made))
    changed = [gathered.changed[key] for key in sorted(gathered.changed) if key not in born]
    add(SESSIONS_CHANGED, _wide(changed))
    add(
        ENTRIES,
        [(*key, it.seq, it.turn_id, it.kind, it.at_ms, it.body) for key, it in gathered.entries],
    )
    add(
        TURNS_BORN,
        [
            born_turn_row(gathered.turns_born[place].turns[place[1]], key=place[0])
            for place in sorted(gathered.turns_born)
        ],
    )
    rows: list[Row] = []
    for place in sorted(gathered.turns_moved):
        turn, key = gathered.turns_moved[place].turns[place[1]], place[0]
        edited = input_row(turn, key=key)[0] if place in gathered.turns_edited else None
        rows.append((*turn_row(turn, key=key), edited))
    add(TURNS_MOVED, rows)
    at_ms = gathered.answered_at_ms
    add(
        ANSWERS,
        [
            (*place, it.request_hash, it.session_id, it.turn_id, it.created, at_ms)
            for place, it in sorted(gathered.answers.items())
        ],
    )
    if parts:
        await connection.execute(_joined(tuple(parts)), *columns)
    if gathered.deleted:
        gone = [(*key, user_id) for key, user_id in gathered.deleted.items()]
        await connection.execute(_joined(DELETED), *(values(DELETED[0], gone) * len(DELETED)))


def _wide(known: Iterable[Known]) -> list[Row]:
    return [session_row(it.session) for it in known if it.session is not None]


@cache
def _joined(parts: tuple[str, ...]) -> str:
    if len(parts) == 1:
        return numbered(parts[0])
    bodies = ", ".join(f"part_{number} AS ({part})" for number, part in enumerate(parts))
    return numbered(f"WITH {bodies} SELECT 1")
