"""The floor of the PostgreSQL store: the same rows in the same tables, written by SQL and nothing
else.

No lock, no look, no decision, no fold, no encoding: what a program could at best do that only puts
these rows there. As the floor of SQLite's, a transaction has a statement for each table; `at_once`
has all of it in one statement, which is a transaction by itself.
"""

from collections.abc import Sequence

import asyncpg

from bench.rawsql import AT_MS, NODE, TENANT, Copied, Fact

HEADS = """
    UPDATE session_head AS h SET
        head = v.head, fence = v.fence, step = 0, next_position = v.fence + 1, queued = 0,
        running_turn_id = v.turn_id, lease_owner = v.owner, lease_until_ms = v.until_ms,
        due_at_ms = v.due_at_ms
    FROM unnest($::text[], $::text[], $::bigint[], $::bigint[], $::text[], $::text[],
        $::bigint[], $::bigint[])
        AS v(tenant_id, session_id, head, fence, turn_id, owner, until_ms, due_at_ms)
    WHERE h.tenant_id = v.tenant_id AND h.session_id = v.session_id
"""
ENTRIES = """
    INSERT INTO entry (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
    SELECT * FROM unnest($::text[], $::text[], $::bigint[], $::text[], $::text[],
        $::bigint[], $::text[])
"""
BORN = """
    INSERT INTO turn (tenant_id, session_id, turn_id, seq, position, message_id, user_id, status,
        attempt, strikes, progressed, current_iteration, total_iterations, tokens_used,
        total_tokens, created_at_ms, started_at_ms, input)
    SELECT *, 'user', 'running', 1, 0, false, 0, 0, 0, 0, 1, 1, '{}' FROM unnest($::text[],
        $::text[], $::text[], $::bigint[], $::int[], $::text[])
"""
MOVED = """
    UPDATE turn AS t SET status = 'completed', progressed = true, ended_at_ms = 1,
        output = v.output
    FROM unnest($::text[], $::text[], $::text[], $::text[])
        AS v(tenant_id, session_id, turn_id, output)
    WHERE t.tenant_id = v.tenant_id AND t.session_id = v.session_id AND t.turn_id = v.turn_id
"""
SUBMIT = (HEADS, ENTRIES, BORN)
FINISH = (HEADS, ENTRIES, MOVED)


class RawPostgres:
    """Sessions whose turns one connection writes, so many in a transaction."""

    def __init__(self, connection: asyncpg.Connection, copied: Copied, sessions: Sequence[str]):
        self._connection = connection
        self._copied = copied
        self._sessions = sessions
        self._turns = 0
        self._at_once = False

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

    async def turn_of_each(
        self, turn_ids: Sequence[str], *, size: int, at_once: bool = False
    ) -> None:
        """The next turn of every session: begun in one transaction, ended in another, `size` of
        them together."""
        self._at_once = at_once
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

    async def _run(self, parts: tuple[str, ...], *tables: Sequence[Sequence[object]]) -> None:
        run = self._connection.execute
        columns = [list(zip(*rows, strict=True)) for rows in tables]
        if self._at_once:
            named = ", ".join(f"t{n} AS ({part})" for n, part in enumerate(parts))
            await run(_numbered(f"WITH {named} SELECT 1"), *(c for each in columns for c in each))
            return
        await run("BEGIN")
        for part, values in zip(parts, columns, strict=True):
            await run(_numbered(part), *values)
        await run("COMMIT")

    @staticmethod
    def _entries(
        pairs: Sequence[tuple[str, str]], seq: int, facts: Sequence[Fact]
    ) -> list[tuple[object, ...]]:
        return [
            (TENANT, session, at, turn, fact.kind, AT_MS, fact.body)
            for session, turn in pairs
            for at, fact in enumerate(facts, start=seq)
        ]


def _numbered(sql: str) -> str:
    """With each bare `$` as the parameter of its place."""
    first, *rest = sql.split("$")
    return first + "".join(f"${number}{piece}" for number, piece in enumerate(rest, start=1))
