"""The floor of the PostgreSQL store: the same rows, by one statement a transaction and no more.

No lock, no look, no decision, no fold, no encoding: what a program could at best do that only puts
these rows there.
"""

from collections.abc import Sequence

import asyncpg

from bench.rawsql import AT_MS, NODE, TENANT, Copied, Fact

HEADS = """
    UPDATE session_head AS h SET
        head = v.head, fence = v.fence, step = 0, next_position = v.fence + 1, queued = 0,
        running_turn_id = v.turn_id, lease_owner = v.owner, lease_until_ms = v.until_ms,
        due_at_ms = v.due_at_ms
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
        $7::bigint[], $8::bigint[])
        AS v(tenant_id, session_id, head, fence, turn_id, owner, until_ms, due_at_ms)
    WHERE h.tenant_id = v.tenant_id AND h.session_id = v.session_id
"""
ENTRIES = """
    INSERT INTO entry (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
    SELECT * FROM unnest($9::text[], $10::text[], $11::bigint[], $12::text[], $13::text[],
        $14::bigint[], $15::text[])
"""
BORN = """
    INSERT INTO turn (tenant_id, session_id, turn_id, seq, position, message_id, user_id, status,
        attempt, strikes, progressed, current_iteration, total_iterations, tokens_used,
        total_tokens, created_at_ms, started_at_ms, input)
    SELECT *, 'user', 'running', 1, 0, false, 0, 0, 0, 0, 1, 1, '{}' FROM unnest($16::text[],
        $17::text[], $18::text[], $19::bigint[], $20::int[], $21::text[])
"""
MOVED = """
    UPDATE turn AS t SET status = 'completed', progressed = true, ended_at_ms = 1,
        output = v.output
    FROM unnest($16::text[], $17::text[], $18::text[], $19::text[])
        AS v(tenant_id, session_id, turn_id, output)
    WHERE t.tenant_id = v.tenant_id AND t.session_id = v.session_id AND t.turn_id = v.turn_id
"""
SUBMIT = f"WITH h AS ({HEADS}), e AS ({ENTRIES}), t AS ({BORN}) SELECT 1"
FINISH = f"WITH h AS ({HEADS}), e AS ({ENTRIES}), t AS ({MOVED}) SELECT 1"


class RawPostgres:
    """Sessions whose turns one connection writes, so many in a transaction."""

    def __init__(self, connection: asyncpg.Connection, copied: Copied, sessions: Sequence[str]):
        self._connection = connection
        self._copied = copied
        self._sessions = sessions
        self._turns = 0

    async def open(self) -> None:
        for session in self._sessions:
            key = (TENANT, session)
            await self._connection.execute(
                """
                INSERT INTO session_head (tenant_id, session_id, user_id, status, head, fence, step,
                    next_position, queued, steers_unread, lease_until_ms)
                VALUES ($1, $2, 'user', 'active', 1, 0, 0, 1, 0, 0, 0)
                """,
                *key,
            )

    async def turn_of_each(self, turn_ids: Sequence[str], *, size: int) -> None:
        """The next turn of every session: begun in one transaction, ended in another, `size` of
        them together."""
        pairs = list(zip(self._sessions, turn_ids, strict=True))
        for begin in range(0, len(pairs), size):
            await self._submit(pairs[begin : begin + size])
        for begin in range(0, len(pairs), size):
            await self._finish(pairs[begin : begin + size])
        self._turns += 1

    async def _submit(self, pairs: Sequence[tuple[str, str]]) -> None:
        position, seq, until = self._turns + 1, 5 * self._turns + 2, AT_MS + 12_000
        heads = [
            (TENANT, session, seq + 2, position, turn, NODE, until, until)
            for session, turn in pairs
        ]
        turns = [(TENANT, session, turn, seq, position, turn) for session, turn in pairs]
        entries = self._entries(pairs, seq, self._copied.submitted)
        await self._run(SUBMIT, heads, entries, turns)

    async def _finish(self, pairs: Sequence[tuple[str, str]]) -> None:
        position, seq = self._turns + 1, 5 * self._turns + 5
        heads = [(TENANT, session, seq + 1, position, None, None, 0, None) for session, _ in pairs]
        turns = [(TENANT, session, turn, self._copied.output) for session, turn in pairs]
        entries = self._entries(pairs, seq, self._copied.finished)
        await self._run(FINISH, heads, entries, turns)

    async def _run(self, sql: str, *tables: Sequence[Sequence[object]]) -> None:
        values = [column for rows in tables for column in zip(*rows, strict=True)]
        await self._connection.execute(sql, *values)

    @staticmethod
    def _entries(
        pairs: Sequence[tuple[str, str]], seq: int, facts: Sequence[Fact]
    ) -> list[tuple[object, ...]]:
        return [
            (TENANT, session, at, turn, fact.kind, AT_MS, fact.body)
            for session, turn in pairs
            for at, fact in enumerate(facts, start=seq)
        ]
