"""What readers ask. Each is one statement, and so sees one state of the database; or two where
bytes bound a page: how many rows fit, and then these rows.

A page comes as one JSON array: one step of SQLite for all its rows (see `spread`).
"""

import json
import sqlite3
from collections.abc import Collection, Iterable
from itertools import accumulate
from typing import Any, Literal

from sessile.adapters.sql.rows import COUNTED, head_of, session_of, turn_of
from sessile.core.errors import StorageGone
from sessile.core.events import Entry
from sessile.core.fairness import in_turn
from sessile.core.ids import Seq, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import Turn
from sessile.ports.store import Found, Identity

_SEQ_END = 2**63 - 1
_BYTES = "coalesce(length(CAST({} AS BLOB)), 0)"
_ID_END = "~"
"""No id contains it, and every id sorts before it."""


def identity(connection: sqlite3.Connection) -> Identity:
    rows = connection.execute("SELECT epoch, secret FROM store").fetchall()
    if len(rows) != 1:
        raise StorageGone()
    return Identity(epoch=rows[0][0], secret=rows[0][1])


def due(
    connection: sqlite3.Connection, *, now_ms: int, due_max: int, assistants: Collection[str]
) -> tuple[SessionKey, ...]:
    """The index is skipped through from tenant to tenant, and of each the longest due are read."""
    sql = """
        SELECT tenant_id FROM session_head WHERE due_at_ms IS NOT NULL AND tenant_id > ?
        ORDER BY tenant_id LIMIT 1
    """
    known = json.dumps(list(assistants))
    found: list[tuple[int, SessionKey]] = []
    tenant_id = TenantId("")
    while row := connection.execute(sql, (tenant_id,)).fetchone():
        tenant_id = row[0]
        found += due_of(connection, tenant_id, now_ms=now_ms, due_max=due_max, known=known)
    return in_turn(found)[:due_max]


def due_of(
    connection: sqlite3.Connection, tenant_id: TenantId, *, now_ms: int, due_max: int, known: str
) -> list[tuple[int, SessionKey]]:
    """Each with the time it is due at. `known`: the assistants, as JSON."""
    sql = """
        SELECT json_group_array(json_array(due_at_ms, tenant_id, session_id))
        FROM (
            SELECT due_at_ms, tenant_id, session_id FROM session_head
            WHERE tenant_id = ? AND due_at_ms <= ? AND (
                cancel_turn_id IS NOT NULL OR assistant IN (SELECT value FROM json_each(?))
            )
            ORDER BY due_at_ms, session_id LIMIT ?
        )
    """
    rows = _page(connection, sql, tenant_id, now_ms, known, due_max)
    return [(row[0], SessionKey(row[1], row[2])) for row in rows]


def heads(
    connection: sqlite3.Connection, following: Collection[SessionKey]
) -> dict[SessionKey, Seq]:
    sql = """
        SELECT json_group_array(json_array(tenant_id, session_id, head))
        FROM json_each(?) AS followed
        CROSS JOIN session_head ON tenant_id = json_extract(followed.value, '$[0]')
            AND session_id = json_extract(followed.value, '$[1]')
    """
    rows = _page(connection, sql, json.dumps(list(following)))
    return {SessionKey(row[0], row[1]): row[2] for row in rows}


def find(connection: sqlite3.Connection, key: SessionKey, turn_id: TurnId | None) -> Found | None:
    sql = """
        SELECT json_group_array(json_array(
            h.user_id, exclusive_key, h.status, head, fence, next_position, queued,
            running_turn_id, awaiting_until_ms, cancel_turn_id, steers_unread,
            s.user_id, s.assistant, title, metadata, grants, s.created_at_ms, updated_at_ms,
            turn_id, seq, position, message_id, t.user_id, t.status, attempt, strikes, progressed,
            cancel_reason, cancel_by, current_iteration, total_iterations, tokens_used,
            total_tokens, t.created_at_ms, started_at_ms, ended_at_ms, error, awaited, input,
            output
        ))
        FROM session_head AS h
        JOIN session AS s ON s.tenant_id = h.tenant_id AND s.session_id = h.session_id
        LEFT JOIN turn AS t
            ON t.tenant_id = h.tenant_id AND t.session_id = h.session_id AND t.turn_id = ?
        WHERE h.tenant_id = ? AND h.session_id = ?
    """
    for row in _page(connection, sql, turn_id, *key):
        return Found(
            head=head_of(row[:11], key=key),
            session=session_of(row[11:18], key=key),
            turn=None if row[18] is None else turn_of(row[18:], key=key),
        )
    return None


def sessions(
    connection: sqlite3.Connection,
    tenant_id: TenantId,
    *,
    user_id: UserId | None,
    before: SessionId | None,
    limit: int,
) -> tuple[Found, ...]:
    if user_id is None:
        sql = """
            SELECT json_group_array(json_array(
                h.session_id, h.user_id, exclusive_key, status, head, fence, next_position,
                queued, running_turn_id, awaiting_until_ms, cancel_turn_id, steers_unread,
                s.user_id, s.assistant, title, metadata, grants, created_at_ms, updated_at_ms
            ))
            FROM (
                SELECT * FROM session WHERE tenant_id = ? AND session_id < ?
                ORDER BY session_id DESC LIMIT ?
            ) AS s
            CROSS JOIN session_head AS h
                ON h.tenant_id = s.tenant_id AND h.session_id = s.session_id
        """
        rows = _page(connection, sql, tenant_id, before or _ID_END, limit)
    else:
        sql = """
            SELECT json_group_array(json_array(
                h.session_id, h.user_id, exclusive_key, status, head, fence, next_position,
                queued, running_turn_id, awaiting_until_ms, cancel_turn_id, steers_unread,
                s.user_id, s.assistant, title, metadata, grants, created_at_ms, updated_at_ms
            ))
            FROM (
                SELECT * FROM session WHERE tenant_id = ? AND user_id = ? AND session_id < ?
                ORDER BY session_id DESC LIMIT ?
            ) AS s
            CROSS JOIN session_head AS h
                ON h.tenant_id = s.tenant_id AND h.session_id = s.session_id
        """
        rows = _page(connection, sql, tenant_id, user_id, before or _ID_END, limit)
    keyed = ((SessionKey(tenant_id, row[0]), row) for row in rows)
    return tuple(
        Found(head=head_of(row[1:12], key=key), session=session_of(row[12:], key=key))
        for key, row in keyed
    )


def turns(
    connection: sqlite3.Connection,
    key: SessionKey,
    *,
    after: int,
    queued: bool,
    limit: int,
    bytes_max: int | None = None,
) -> tuple[Turn, ...]:
    if queued:
        sql = """
            SELECT json_group_array(json_array(
                turn_id, seq, position, message_id, user_id, status, attempt, strikes, progressed,
                cancel_reason, cancel_by, current_iteration, total_iterations, tokens_used,
                total_tokens, created_at_ms, started_at_ms, ended_at_ms, error, awaited, input,
                output
            ))
            FROM (
                SELECT * FROM turn
                WHERE tenant_id = ? AND session_id = ? AND position > ? AND status = 'queued'
                ORDER BY position LIMIT ?
            )
        """
    else:
        sql = """
            SELECT json_group_array(json_array(
                turn_id, seq, position, message_id, user_id, status, attempt, strikes, progressed,
                cancel_reason, cancel_by, current_iteration, total_iterations, tokens_used,
                total_tokens, created_at_ms, started_at_ms, ended_at_ms, error, awaited, input,
                output
            ))
            FROM (
                SELECT * FROM turn WHERE tenant_id = ? AND session_id = ? AND position > ?
                ORDER BY position LIMIT ?
            )
        """
    if bytes_max is not None:
        sizes = sql.replace(_array(sql), f"{_BYTES.format('input')} + {_BYTES.format('output')}")
        limit = _fitting(_page(connection, sizes, *key, after, limit), bytes_max)
    return tuple(turn_of(row, key=key) for row in _page(connection, sql, *key, after, limit))


def entries(
    connection: sqlite3.Connection,
    key: SessionKey,
    *,
    after: int,
    before: int | None,
    history: bool,
    newest_first: bool,
    limit: int,
    bytes_max: int | None = None,
) -> tuple[Entry, ...]:
    match history, newest_first:
        case False, False:
            sql = """
                SELECT json_group_array(json_array(seq, kind, turn_id, at_ms, body))
                FROM (
                    SELECT * FROM entry
                    WHERE tenant_id = ? AND session_id = ? AND seq > ? AND seq < ?
                    ORDER BY seq LIMIT ?
                )
            """
        case False, True:
            sql = """
                SELECT json_group_array(json_array(seq, kind, turn_id, at_ms, body))
                FROM (
                    SELECT * FROM entry
                    WHERE tenant_id = ? AND session_id = ? AND seq > ? AND seq < ?
                    ORDER BY seq DESC LIMIT ?
                )
            """
        case True, False:
            sql = """
                SELECT json_group_array(json_array(seq, kind, turn_id, at_ms, body))
                FROM (
                    SELECT * FROM entry INDEXED BY entry_history
                    WHERE tenant_id = ? AND session_id = ? AND seq > ? AND seq < ?
                    AND kind IN ('message.added', 'tool.completed', 'tool.failed',
                        'tool.interrupted', 'tool.refused', 'session.summarized')
                    ORDER BY seq LIMIT ?
                )
            """
        case _:
            sql = """
                SELECT json_group_array(json_array(seq, kind, turn_id, at_ms, body))
                FROM (
                    SELECT * FROM entry INDEXED BY entry_history
                    WHERE tenant_id = ? AND session_id = ? AND seq > ? AND seq < ?
                    AND kind IN ('message.added', 'tool.completed', 'tool.failed',
                        'tool.interrupted', 'tool.refused', 'session.summarized')
                    ORDER BY seq DESC LIMIT ?
                )
            """
    end = _SEQ_END if before is None else before
    if bytes_max is not None:
        sizes = sql.replace(_array(sql), _BYTES.format("body"))
        limit = _fitting(_page(connection, sizes, *key, after, end, limit), bytes_max)
    return tuple(Entry(*row) for row in _page(connection, sql, *key, after, end, limit))


def summary(connection: sqlite3.Connection, key: SessionKey, *, before: int) -> Entry | None:
    sql = """
        SELECT json_group_array(json_array(seq, kind, turn_id, at_ms, body))
        FROM (
            SELECT * FROM entry INDEXED BY entry_summary
            WHERE tenant_id = ? AND session_id = ? AND seq < ? AND kind = 'session.summarized'
            ORDER BY seq DESC LIMIT 1
        )
    """
    for row in _page(connection, sql, *key, before):
        return Entry(*row)
    return None


def _page(connection: sqlite3.Connection, sql: str, *values: object) -> list[Any]:
    ((text,),) = connection.execute(sql, values).fetchall()
    rows: list[Any] = json.loads(text)
    return rows


def _array(sql: str) -> str:
    """What a page has for each row. In its place, a page of sizes has the row's bytes."""
    return sql[sql.index("json_array(") : sql.index("FROM")].strip().removesuffix(")")


def _fitting(sizes: Iterable[int], bytes_max: int) -> int:
    """How many of the first rows are within the limit, and one at least."""
    return max(1, sum(upto <= bytes_max for upto in accumulate(sizes)))


def how_many(
    connection: sqlite3.Connection,
    tenant_id: TenantId,
    what: Literal["sessions", "queue"],
    *,
    user_id: UserId | None,
    most: int,
) -> int:
    table, status = COUNTED[what]
    whose = "" if user_id is None else "AND user_id = ?"
    sql = f"""
        SELECT count(*) FROM (
            SELECT 1 FROM {table} WHERE tenant_id = ? AND status = '{status}' {whose} LIMIT ?
        )
    """  # no value is in it  # noqa: S608  # nosec B608
    users = () if user_id is None else (user_id,)
    counted: int = connection.execute(sql, (tenant_id, *users, most)).fetchone()[0]
    return counted


def tokens(
    connection: sqlite3.Connection, tenant_id: TenantId, *, since_ms: int
) -> dict[UserId, int]:
    sql = """
        SELECT user_id, sum(tokens_used) FROM turn
        WHERE tenant_id = ? AND created_at_ms >= ? AND created_at_ms > 0
        GROUP BY user_id
    """
    return {UserId(who): used for who, used in connection.execute(sql, (tenant_id, since_ms))}
