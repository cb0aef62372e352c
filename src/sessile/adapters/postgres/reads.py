"""What readers ask: each is one statement, and so sees one state of the database."""

from collections.abc import Collection
from typing import Literal

from asyncpg import Connection

from sessile.adapters.sql.rows import COUNTED, head_of, session_of, turn_of
from sessile.core.errors import StorageGone
from sessile.core.events import Entry
from sessile.core.ids import SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import Turn
from sessile.ports.store import Found, Identity, Sweep

_SEQ_END = 2**63 - 1
_ID_END = "~"
"""No id contains it, and every id sorts before it."""


async def identity(connection: Connection) -> Identity:
    row = await connection.fetchrow("SELECT epoch, secret FROM store")
    if row is None:
        raise StorageGone()
    return Identity(epoch=row[0], secret=row[1])


async def sweep(
    connection: Connection,
    *,
    due_max: int,
    assistants: Collection[str],
    following: Collection[SessionKey],
) -> Sweep:
    """One question, in one statement. Other nodes are told the same: who claims first has it.

    The index is skipped through from tenant to tenant, and of each the longest due are read: a
    tenant's first comes before another's second.
    """
    sql = """
        WITH RECURSIVE tenants (tenant_id) AS (
            (
                SELECT tenant_id FROM session_head WHERE due_at_ms IS NOT NULL
                ORDER BY tenant_id LIMIT 1
            )
            UNION ALL
            SELECT (
                SELECT h.tenant_id FROM session_head AS h
                WHERE h.due_at_ms IS NOT NULL AND h.tenant_id > t.tenant_id
                ORDER BY h.tenant_id LIMIT 1
            )
            FROM tenants AS t WHERE t.tenant_id IS NOT NULL
        )
        (
            SELECT true AS due, d.tenant_id, d.session_id, d.head
            FROM tenants AS t
            CROSS JOIN LATERAL (
                SELECT first.*,
                    row_number() OVER (ORDER BY first.due_at_ms, first.session_id) AS place
                FROM (
                    SELECT h.tenant_id, h.session_id, h.head, h.due_at_ms
                    FROM session_head AS h
                    WHERE h.tenant_id = t.tenant_id AND h.due_at_ms <= (SELECT sessile_now_ms())
                        AND (h.cancel_turn_id IS NOT NULL OR h.assistant = ANY($1))
                    ORDER BY h.due_at_ms, h.session_id LIMIT $2
                ) AS first
            ) AS d
            ORDER BY d.place, d.due_at_ms, d.tenant_id, d.session_id LIMIT $2
        )
        UNION ALL
        (
            SELECT false, h.tenant_id, h.session_id, h.head
            FROM unnest($3::text[], $4::text[]) AS k(tenant_id, session_id)
            JOIN session_head AS h ON h.tenant_id = k.tenant_id AND h.session_id = k.session_id
        )
    """
    tenants = [key.tenant_id for key in following]
    ids = [key.session_id for key in following]
    rows = await connection.fetch(sql, list(assistants), due_max, tenants, ids)
    return Sweep(
        due=tuple(SessionKey(row[1], row[2]) for row in rows if row[0]),
        heads={SessionKey(row[1], row[2]): row[3] for row in rows if not row[0]},
    )


async def find(connection: Connection, key: SessionKey, turn_id: TurnId | None) -> Found | None:
    sql = """
        SELECT h.user_id, h.exclusive_key, h.status, h.head, h.fence, h.next_position,
            h.queued, h.running_turn_id, h.awaiting_until_ms, h.cancel_turn_id,
            h.steers_unread,
            s.user_id, s.assistant, s.title, s.metadata, s.grants, s.created_at_ms,
            s.updated_at_ms,
            t.turn_id, t.seq, t.position, t.message_id, t.user_id, t.status, t.attempt,
            t.strikes, t.progressed, t.cancel_reason, t.cancel_by, t.current_iteration,
            t.total_iterations, t.tokens_used, t.total_tokens, t.created_at_ms,
            t.started_at_ms, t.ended_at_ms, t.error, t.awaited, t.input, t.output
        FROM session_head AS h
        JOIN session AS s ON s.tenant_id = h.tenant_id AND s.session_id = h.session_id
        LEFT JOIN turn AS t
            ON t.tenant_id = h.tenant_id AND t.session_id = h.session_id AND t.turn_id = $3
        WHERE h.tenant_id = $1 AND h.session_id = $2
    """
    row = await connection.fetchrow(sql, *key, turn_id)
    if row is None:
        return None
    return Found(
        head=head_of(row[:11], key=key),
        session=session_of(row[11:18], key=key),
        turn=None if row[18] is None else turn_of(row[18:], key=key),
    )


async def sessions(
    connection: Connection,
    tenant_id: TenantId,
    *,
    user_id: UserId | None,
    before: SessionId | None,
    limit: int,
) -> tuple[Found, ...]:
    whose = "" if user_id is None else "AND s.user_id = $4"
    sql = f"""
        SELECT s.session_id,
            h.user_id, h.exclusive_key, h.status, h.head, h.fence, h.next_position,
            h.queued, h.running_turn_id, h.awaiting_until_ms, h.cancel_turn_id,
            h.steers_unread,
            s.user_id, s.assistant, s.title, s.metadata, s.grants, s.created_at_ms,
            s.updated_at_ms
        FROM session AS s
        JOIN session_head AS h ON h.tenant_id = s.tenant_id AND h.session_id = s.session_id
        WHERE s.tenant_id = $1 AND s.session_id < $2 {whose}
        ORDER BY s.session_id DESC LIMIT $3
    """  # no value is in it  # noqa: S608  # nosec B608
    users = () if user_id is None else (user_id,)
    rows = await connection.fetch(sql, tenant_id, before or _ID_END, limit, *users)
    keyed = ((SessionKey(tenant_id, row[0]), row) for row in rows)
    return tuple(
        Found(head=head_of(row[1:12], key=key), session=session_of(row[12:], key=key))
        for key, row in keyed
    )


async def turns(
    connection: Connection,
    key: SessionKey,
    *,
    after: int,
    queued: bool,
    limit: int,
    bytes_max: int | None,
) -> tuple[Turn, ...]:
    """The last column is how many bytes the rows have up to this one."""
    which = "AND status = 'queued'" if queued else ""
    sql = f"""
        SELECT * FROM (
            SELECT turn_id, seq, position, message_id, user_id, status, attempt, strikes,
                progressed, cancel_reason, cancel_by, current_iteration, total_iterations,
                tokens_used, total_tokens, created_at_ms, started_at_ms, ended_at_ms, error,
                awaited, input, output,
                sum(octet_length(input) + coalesce(octet_length(output), 0))
                    OVER (ORDER BY position) AS upto,
                row_number() OVER (ORDER BY position) AS place
            FROM (
                SELECT * FROM turn
                WHERE tenant_id = $1 AND session_id = $2 AND position > $3::bigint {which}
                ORDER BY position LIMIT $4
            ) AS page
        ) AS sized
        WHERE $5::bigint IS NULL OR upto <= $5 OR place = 1
        ORDER BY position
    """  # no value is in it  # noqa: S608  # nosec B608
    rows = await connection.fetch(sql, *key, after, limit, bytes_max)
    return tuple(turn_of(row, key=key) for row in rows)


async def entries(
    connection: Connection,
    key: SessionKey,
    *,
    after: int,
    before: int | None,
    history: bool,
    newest_first: bool,
    limit: int,
    bytes_max: int | None,
) -> tuple[Entry, ...]:
    which = (
        "AND kind IN ('message.added', 'tool.completed', 'tool.failed', 'tool.interrupted',"
        " 'tool.refused', 'session.summarized')"
        if history
        else ""
    )
    order = "DESC" if newest_first else "ASC"
    end = _SEQ_END if before is None else before
    if bytes_max is None:
        sql = f"""
            SELECT seq, kind, turn_id, at_ms, body FROM entry
            WHERE tenant_id = $1 AND session_id = $2 AND seq > $3 AND seq < $4 {which}
            ORDER BY seq {order} LIMIT $5
        """  # no value is in it  # noqa: S608  # nosec B608
        rows = await connection.fetch(sql, *key, after, end, limit)
    else:
        sql = f"""
            SELECT seq, kind, turn_id, at_ms, body FROM (
                SELECT *, sum(octet_length(body)) OVER sized AS upto,
                    row_number() OVER sized AS place
                FROM (
                    SELECT seq, kind, turn_id, at_ms, body FROM entry
                    WHERE tenant_id = $1 AND session_id = $2 AND seq > $3 AND seq < $4 {which}
                    ORDER BY seq {order} LIMIT $5
                ) AS page
                WINDOW sized AS (ORDER BY seq {order})
            ) AS sized
            WHERE upto <= $6 OR place = 1
            ORDER BY seq {order}
        """  # no value is in it  # noqa: S608  # nosec B608
        rows = await connection.fetch(sql, *key, after, end, limit, bytes_max)
    return tuple(Entry(*row) for row in rows)


async def summary(connection: Connection, key: SessionKey, *, before: int) -> Entry | None:
    sql = """
        SELECT seq, kind, turn_id, at_ms, body FROM entry
        WHERE tenant_id = $1 AND session_id = $2 AND seq < $3 AND kind = 'session.summarized'
        ORDER BY seq DESC LIMIT 1
    """
    row = await connection.fetchrow(sql, *key, before)
    return None if row is None else Entry(*row)


async def how_many(
    connection: Connection,
    tenant_id: TenantId,
    what: Literal["sessions", "queue"],
    *,
    user_id: UserId | None,
    most: int,
) -> int:
    table, status = COUNTED[what]
    whose = "" if user_id is None else "AND user_id = $3"
    sql = f"""
        SELECT count(*) FROM (
            SELECT 1 FROM {table} WHERE tenant_id = $1 AND status = '{status}' {whose} LIMIT $2
        ) AS counted
    """  # no value is in it  # noqa: S608  # nosec B608
    users = () if user_id is None else (user_id,)
    counted: int = await connection.fetchval(sql, tenant_id, most, *users)
    return counted


async def tokens(
    connection: Connection, tenant_id: TenantId, *, since_ms: int
) -> dict[UserId, int]:
    sql = """
        SELECT user_id, sum(tokens_used)::bigint FROM turn
        WHERE tenant_id = $1 AND created_at_ms >= $2 AND created_at_ms > 0
        GROUP BY user_id
    """
    return {UserId(row[0]): row[1] for row in await connection.fetch(sql, tenant_id, since_ms)}
