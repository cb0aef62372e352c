"""What a transaction will write: gathered as values, put into rows and statements at its end.

A head that five jobs changed is written once, and many rows go in one statement.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

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
from sessile.core.commands import Remembered
from sessile.core.events import Entry
from sessile.core.ids import SessionId, SessionKey, TenantId, TurnId
from sessile.core.session import Lease, Session, SessionHead, Turn

Place = tuple[str, str, str, str]
"""Of an answer: tenant_id, scope, user_id, key."""


@dataclass(slots=True)
class Known:
    """One session as it stands in the transaction, and those of its turns that were looked at."""

    head: SessionHead
    lease: Lease
    due_at_ms: int | None
    session: Session
    turns: dict[TurnId, Turn] = field(default_factory=dict[TurnId, Turn])

    def cool(self, *, queue_max: int) -> None:
        """Keep the running turn, and those that wait where they are few."""
        turns, running, queued = self.turns, self.head.running_turn_id, self.head.queued
        self.turns = {}
        if 0 < queued <= queue_max:
            self.turns = {each: turn for each, turn in turns.items() if turn.status == "queued"}
        if running is not None and running in turns:
            self.turns[running] = turns[running]


class Writes:
    """Rows hold what is known when they are flushed, not when they were gathered."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.answers: dict[Place, Remembered] = {}
        self.exclusive: dict[tuple[TenantId, str], SessionId] = {}
        """The sessions born here that hold an exclusive key."""
        self.closed: set[SessionKey] = set()
        self._answered_at_ms = 0
        self._born: dict[SessionKey, Known] = {}
        self._moved: dict[SessionKey, Known] = {}
        self._changed: dict[SessionKey, Known] = {}
        self._entries: list[Row] = []
        self._turns_born: dict[tuple[SessionKey, TurnId], Known] = {}
        self._turns_moved: dict[tuple[SessionKey, TurnId], Known] = {}
        self._turns_edited: dict[tuple[SessionKey, TurnId], Known] = {}

    def answer(self, place: Place, answer: Remembered, *, at_ms: int) -> None:
        self.answers[place] = answer
        self._answered_at_ms = at_ms

    def born(self, known: Known) -> None:
        key, exclusive_key = known.head.key, known.head.exclusive_key
        self._born[key] = known
        if exclusive_key is not None:
            self.exclusive[key.tenant_id, exclusive_key] = key.session_id

    def moved(self, known: Known) -> None:
        self._moved[known.head.key] = known

    def closes(self, known: Known) -> None:
        key, exclusive_key = known.head.key, known.head.exclusive_key
        self.closed.add(key)
        if exclusive_key is not None:
            self.exclusive.pop((key.tenant_id, exclusive_key), None)

    def changed(self, known: Known) -> None:
        """Of the wide row."""
        self._changed[known.head.key] = known

    def entries(self, key: SessionKey, entries: Sequence[Entry]) -> None:
        tenant_id, session_id = key
        self._entries.extend(
            [
                (tenant_id, session_id, it.seq, it.turn_id, it.kind, it.at_ms, it.body)
                for it in entries
            ]
        )

    def turn(self, known: Known, turn_id: TurnId, turn: Turn) -> None:
        before = known.turns.get(turn_id)
        place = (known.head.key, turn_id)
        if before is None:
            self._turns_born[place] = known
        elif place not in self._turns_born:
            self._turns_moved[place] = known
            if turn.input is not before.input:
                self._turns_edited[place] = known
        known.turns[turn_id] = turn

    def flush(self) -> None:
        """Write what was gathered. OR ROLLBACK, because a conflict is a bug here, and because
        SQLite then keeps no journal for the single statement."""
        self._write_heads()
        self._write_turns()
        if self._entries:
            sql = """
                INSERT OR ROLLBACK INTO entry
                    (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
                VALUES (?, ?, ?, ?, ?, ?, ?)
            """
            self._write(sql, self._entries)
            self._entries = []
        if self.answers:
            sql = """
                INSERT OR ROLLBACK INTO idempotency
                    (tenant_id, scope, user_id, key, request_hash, session_id, turn_id, created,
                    at_ms)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """
            rows = [
                (
                    *place,
                    it.request_hash,
                    it.session_id,
                    it.turn_id,
                    it.created,
                    self._answered_at_ms,
                )
                for place, it in self.answers.items()
            ]
            self._write(sql, rows)
            self.answers = {}

    def _write_heads(self) -> None:
        if self._moved:
            sql = """
                UPDATE OR ROLLBACK session_head SET
                    head = column1, fence = column2, step = column3, next_position = column4,
                    queued = column5, running_turn_id = column6, awaiting_until_ms = column7,
                    cancel_turn_id = column8, steers_unread = column9, lease_owner = column10,
                    lease_until_ms = column11, due_at_ms = column12
                FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
                WHERE tenant_id = column13 AND session_id = column14
            """
            moved = [it for key, it in self._moved.items() if key not in self._born]
            self._write(sql, [head_row(it.head, it.lease, it.due_at_ms) for it in moved])
            self._moved = {}
        if self.closed:
            # Apart from the rest: this column is indexed, so that what is closed gives up its
            # exclusive key, for one that is born below.
            sql = """
                UPDATE OR ROLLBACK session_head SET status = 'closed' FROM (VALUES (?, ?))
                WHERE tenant_id = column1 AND session_id = column2
            """
            self._write(sql, [key for key in self.closed if key not in self._born])
            self.closed = set()
        if self._born:
            sql = """
                INSERT OR ROLLBACK INTO session_head
                    (tenant_id, session_id, user_id, exclusive_key, status, head, fence, step,
                    next_position, queued, running_turn_id, awaiting_until_ms, cancel_turn_id,
                    steers_unread, lease_owner, lease_until_ms, due_at_ms)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """
            born = self._born.values()
            self._write(sql, [born_head_row(it.head, it.lease, it.due_at_ms) for it in born])
            sql = """
                INSERT OR ROLLBACK INTO session
                    (tenant_id, session_id, user_id, assistant, title, metadata, grants,
                    created_at_ms, updated_at_ms)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            """
            self._write(sql, [session_row(it.session) for it in born])
        if self._changed:
            sql = """
                UPDATE OR ROLLBACK session SET
                    assistant = column4, title = column5, metadata = column6, grants = column7,
                    updated_at_ms = column9
                FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?))
                WHERE tenant_id = column1 AND session_id = column2
            """
            changed = [it for key, it in self._changed.items() if key not in self._born]
            self._write(sql, [session_row(it.session) for it in changed])
            self._changed = {}
        self._born, self.exclusive = {}, {}

    def _write_turns(self) -> None:
        if self._turns_born:
            sql = """
                INSERT OR ROLLBACK INTO turn
                    (tenant_id, session_id, turn_id, seq, position, message_id, user_id,
                    created_at_ms, input, status, attempt, strikes, progressed, cancel_reason,
                    cancel_by, current_iteration, total_iterations, tokens_used, total_tokens,
                    started_at_ms, ended_at_ms, error, awaited, output)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            """
            born = self._turns_born.items()
            rows = [born_turn_row(it.turns[turn_id], key=key) for (key, turn_id), it in born]
            self._write(sql, rows)
            self._turns_born = {}
        if self._turns_moved:
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
            moved = self._turns_moved.items()
            self._write(sql, [turn_row(it.turns[turn], key=key) for (key, turn), it in moved])
            self._turns_moved = {}
        if self._turns_edited:
            sql = """
                UPDATE OR ROLLBACK turn SET input = column1 FROM (VALUES (?, ?, ?, ?))
                WHERE tenant_id = column2 AND session_id = column3 AND turn_id = column4
            """
            edited = self._turns_edited.items()
            rows = [input_row(it.turns[turn_id], key=key) for (key, turn_id), it in edited]
            self._write(sql, rows)
            self._turns_edited = {}

    def _write(self, sql: str, rows: Sequence[Row]) -> None:
        begin = 0
        while left := len(rows) - begin:
            # Few enough sizes that all statements stay prepared.
            count = left if left < 8 else min(1 << left.bit_length() - 1, 64)
            values = tuple(chain.from_iterable(rows[begin : begin + count]))
            self._connection.execute(spread(sql, count), values)
            begin += count
