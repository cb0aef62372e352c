"""What a batch gathered, written: a statement for many rows of a table."""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain

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
from sessile.adapters.sqlite.spread import spread


def write(connection: sqlite3.Connection, gathered: Gathered) -> None:
    """OR ROLLBACK, because a conflict is a bug here, and because SQLite then keeps no journal for
    the single statement."""
    _write_heads(connection, gathered)
    _write_turns(connection, gathered)
    _write_log(connection, gathered)
    _delete(connection, gathered)


def _write_heads(connection: sqlite3.Connection, gathered: Gathered) -> None:
    born = gathered.born
    moved = [it for key, it in gathered.moved.items() if key not in born]
    sql = """
        UPDATE OR ROLLBACK session_head SET
            head = column1, fence = column2, step = column3, next_position = column4,
            queued = column5, running_turn_id = column6, awaiting_until_ms = column7,
            cancel_turn_id = column8, steers_unread = column9, lease_owner = column10,
            lease_until_ms = column11, due_at_ms = column12
        FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
        WHERE tenant_id = column13 AND session_id = column14
    """
    _run(connection, sql, [head_row(it.head, it.lease, it.due_at_ms) for it in moved])
    # Apart from the rest: this column is indexed, so that what is closed gives up its exclusive
    # key, for one that is born below.
    sql = """
        UPDATE OR ROLLBACK session_head SET status = 'closed' FROM (VALUES (?, ?))
        WHERE tenant_id = column1 AND session_id = column2
    """
    _run(connection, sql, [it.head.key for it in moved if it.head.status == "closed"])
    sql = """
        INSERT OR ROLLBACK INTO session_head
            (tenant_id, session_id, user_id, exclusive_key, status, head, fence, step,
            next_position, queued, running_turn_id, awaiting_until_ms, cancel_turn_id,
            steers_unread, lease_owner, lease_until_ms, due_at_ms, assistant)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    """
    rows = [born_head_row(it) for it in born.values()]
    _run(connection, sql, rows)
    sql = """
        INSERT OR ROLLBACK INTO session
            (tenant_id, session_id, user_id, assistant, title, metadata, grants,
            created_at_ms, updated_at_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    """
    _run(connection, sql, _wide(born.values()))
    sql = """
        UPDATE OR ROLLBACK session SET
            assistant = column4, title = column5, metadata = column6, grants = column7,
            updated_at_ms = column9
        FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?))
        WHERE tenant_id = column1 AND session_id = column2
    """
    changed = [it for key, it in gathered.changed.items() if key not in born]
    _run(connection, sql, _wide(changed))
    sql = """
        UPDATE OR ROLLBACK session_head SET assistant = column1 FROM (VALUES (?, ?, ?))
        WHERE tenant_id = column2 AND session_id = column3
    """
    moved_on = [it.session for it in changed if it.session is not None]
    _run(connection, sql, [(it.assistant, *it.key) for it in moved_on])


def _write_turns(connection: sqlite3.Connection, gathered: Gathered) -> None:
    sql = """
        INSERT OR ROLLBACK INTO turn
            (tenant_id, session_id, turn_id, seq, position, message_id, user_id,
            created_at_ms, input, status, attempt, strikes, progressed, cancel_reason,
            cancel_by, current_iteration, total_iterations, tokens_used, total_tokens,
            started_at_ms, ended_at_ms, error, awaited, output)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    """
    born = gathered.turns_born.items()
    rows = [born_turn_row(it.turns[turn_id], key=key) for (key, turn_id), it in born]
    _run(connection, sql, rows)
    sql = """
        UPDATE OR ROLLBACK turn SET
            status = column1, attempt = column2, strikes = column3, progressed = column4,
            cancel_reason = column5, cancel_by = column6, current_iteration = column7,
            total_iterations = column8, tokens_used = column9, total_tokens = column10,
            started_at_ms = column11, ended_at_ms = column12, error = column13,
            awaited = column14, output = column15
        FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
        WHERE tenant_id = column16 AND session_id = column17 AND turn_id = column18
    """
    moved = gathered.turns_moved.items()
    rows = [turn_row(it.turns[turn_id], key=key) for (key, turn_id), it in moved]
    _run(connection, sql, rows)
    sql = """
        UPDATE OR ROLLBACK turn SET input = column1 FROM (VALUES (?, ?, ?, ?))
        WHERE tenant_id = column2 AND session_id = column3 AND turn_id = column4
    """
    edited = gathered.turns_edited.items()
    rows = [input_row(it.turns[turn_id], key=key) for (key, turn_id), it in edited]
    _run(connection, sql, rows)


def _write_log(connection: sqlite3.Connection, gathered: Gathered) -> None:
    sql = """
        INSERT OR ROLLBACK INTO entry
            (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
        VALUES (?, ?, ?, ?, ?, ?, ?)
    """
    rows: list[Row] = [
        (tenant_id, session_id, it.seq, it.turn_id, it.kind, it.at_ms, it.body)
        for (tenant_id, session_id), it in gathered.entries
    ]
    _run(connection, sql, rows)
    sql = """
        INSERT OR ROLLBACK INTO idempotency
            (tenant_id, scope, user_id, key, request_hash, session_id, turn_id, created,
            at_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    """
    at_ms = gathered.answered_at_ms
    rows = [
        (*place, it.request_hash, it.session_id, it.turn_id, it.created, at_ms)
        for place, it in gathered.answers.items()
    ]
    _run(connection, sql, rows)


def _delete(connection: sqlite3.Connection, gathered: Gathered) -> None:
    run = connection.execute
    for key, user_id in gathered.deleted.items():
        run("DELETE FROM session_head WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM session WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM entry WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM turn WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM fork WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM compaction WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM idempotency WHERE tenant_id = ? AND scope = ?", key)
        run(
            """
            DELETE FROM idempotency
            WHERE tenant_id = ? AND scope = 'open' AND user_id = ? AND session_id = ?
            """,
            (key.tenant_id, user_id, key.session_id),
        )


def _wide(known: Iterable[Known]) -> list[Row]:
    return [session_row(it.session) for it in known if it.session is not None]


def _run(connection: sqlite3.Connection, sql: str, rows: Sequence[Row]) -> None:
    begin = 0
    while left := len(rows) - begin:
        # Few enough sizes that all statements stay prepared.
        count = left if left < 8 else min(1 << left.bit_length() - 1, 64)
        values = tuple(chain.from_iterable(rows[begin : begin + count]))
        connection.execute(spread(sql, count), values)
        begin += count
