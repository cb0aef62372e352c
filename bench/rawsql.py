"""The floor of the store: the same rows in the same tables, written by SQL and nothing else.

No decision, no fold, no encoding: what a program could at best do that only puts these rows there.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sessile.adapters.migrations import migrate
from sessile.adapters.sqlite.files import connect_writer
from sessile.adapters.sqlite.spread import spread

HEAD = """
    UPDATE session_head SET
        head = column1, fence = column2, step = column3, next_position = column4,
        queued = column5, running_turn_id = column6, awaiting_until_ms = column7,
        cancel_turn_id = column8, steers_unread = column9, lease_owner = column10,
        lease_until_ms = column11, due_at_ms = column12
    FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
    WHERE tenant_id = column13 AND session_id = column14
"""
TURN_BORN = """
    INSERT INTO turn
        (tenant_id, session_id, turn_id, seq, position, message_id, user_id, status, attempt,
        strikes, progressed, cancel_reason, cancel_by, current_iteration, total_iterations,
        tokens_used, total_tokens, created_at_ms, started_at_ms, ended_at_ms, error, input, output)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
TURN_MOVED = """
    UPDATE turn SET
        status = column1, attempt = column2, strikes = column3, progressed = column4,
        cancel_reason = column5, cancel_by = column6, current_iteration = column7,
        total_iterations = column8, tokens_used = column9, total_tokens = column10,
        started_at_ms = column11, ended_at_ms = column12, error = column13, output = column14
    FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
    WHERE tenant_id = column15 AND session_id = column16 AND turn_id = column17
"""
ENTRY = """
    INSERT INTO entry (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
SESSION_HEAD = """
    INSERT INTO session_head
        (tenant_id, session_id, user_id, status, head, fence, step, next_position, queued,
        steers_unread, lease_until_ms)
    VALUES (?, ?, 'user', 'active', 1, 0, 0, 1, 0, 0, 0)
"""
SESSION = """
    INSERT INTO session
        (tenant_id, session_id, user_id, assistant, metadata, grants, created_at_ms, updated_at_ms)
    VALUES (?, ?, 'user', 'echo', '{}', '[]', 1, 1)
"""
OPENED = """
    INSERT INTO entry (tenant_id, session_id, seq, kind, at_ms, body)
    VALUES (?, ?, 1, 'session.opened', 1, '{"user_id":"user","assistant":"echo"}')
"""
TENANT, NODE, AT_MS = "default", "node_floor", 1_790_000_000_000


class Fact(NamedTuple):
    """An entry of the turn that all turns are copies of."""

    kind: str
    body: str


class Copied(NamedTuple):
    """What a turn writes, taken from one that a store wrote."""

    submitted: Sequence[Fact]
    finished: Sequence[Fact]
    input: str
    output: str


class Raw:
    """Sessions whose turns are written side by side: one caller each."""

    def __init__(self, path: Path, copied: Copied, sessions: Sequence[str]) -> None:
        migrate(path)
        self._connection: sqlite3.Connection = connect_writer(path, busy_seconds=10)
        self._copied = copied
        self._sessions = sessions
        self._turns = 0
        self._connection.execute("BEGIN IMMEDIATE")
        for sql in (SESSION_HEAD, SESSION, OPENED):
            self._connection.executemany(sql, [(TENANT, each) for each in sessions])
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()

    def turn_of_each(self, turn_ids: Sequence[str]) -> None:
        """The next turn of every session: begun in one transaction, ended in another."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        self._submit(turn_ids)
        run("COMMIT")
        run("BEGIN IMMEDIATE")
        self._finish(turn_ids)
        run("COMMIT")
        self._turns += 1

    def turn_at_once(self, turn_ids: Sequence[str]) -> None:
        """The same with one commit: what a program does that keeps nothing before the reply."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        self._submit(turn_ids)
        self._finish(turn_ids)
        run("COMMIT")
        self._turns += 1

    def _submit(self, turn_ids: Sequence[str]) -> None:
        copied, position = self._copied, self._turns + 1
        seq, until = 5 * self._turns + 2, AT_MS + 12_000
        pairs = list(zip(self._sessions, turn_ids, strict=True))
        self._write(
            HEAD,
            [
                (seq + 2, position, 0, position + 1, 0, turn, None, None, 0, NODE, until, until,
                 TENANT, session)
                for session, turn in pairs
            ],
        )  # fmt: skip
        self._write(
            TURN_BORN,
            [
                (TENANT, session, turn, seq, position, turn, "user", "running", 1, 0, 0, None, None,
                 0, 0, 0, 0, AT_MS, AT_MS, None, None, copied.input, None)
                for session, turn in pairs
            ],
        )  # fmt: skip
        self._entries(pairs, seq, copied.submitted)

    def _finish(self, turn_ids: Sequence[str]) -> None:
        copied, position = self._copied, self._turns + 1
        seq = 5 * self._turns + 5
        pairs = list(zip(self._sessions, turn_ids, strict=True))
        self._write(
            HEAD,
            [
                (seq + 1, position, 0, position + 1, 0, None, None, None, 0, None, 0, None,
                 TENANT, session)
                for session, turn in pairs
            ],
        )  # fmt: skip
        self._write(
            TURN_MOVED,
            [
                ("completed", 1, 0, 1, None, None, 0, 0, 0, 0, AT_MS, AT_MS, None, copied.output,
                 TENANT, session, turn)
                for session, turn in pairs
            ],
        )  # fmt: skip
        self._entries(pairs, seq, copied.finished)

    def _entries(self, pairs: Sequence[tuple[str, str]], seq: int, facts: Sequence[Fact]) -> None:
        self._write(
            ENTRY,
            [
                (TENANT, session, at, turn, fact.kind, AT_MS, fact.body)
                for session, turn in pairs
                for at, fact in enumerate(facts, start=seq)
            ],
        )

    def _write(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Many rows a statement, as the store writes them: it is the faster way."""
        begin = 0
        while left := len(rows) - begin:
            count = min(1 << left.bit_length() - 1, 64)
            values = [value for row in rows[begin : begin + count] for value in row]
            self._connection.execute(spread(sql, count), values)
            begin += count
