"""What `sessile doctor` holds any database against: what must hold between rows, and each session
against the fold of its log. Read only; beside servers that run, each session is looked at in one
state of the database."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from sessile.adapters.migrations import HEAD
from sessile.adapters.sql.rows import Row
from sessile.adapters.sql.schema import Schema, whole_schema
from sessile.core.audit import Audit, Check, SessionChecks
from sessile.core.events import Entry
from sessile.core.ids import SessionKey, TurnId, well_formed
from sessile.core.session import Turn
from sessile.ports.store import Found

ENTRIES_PAGE = 1_000
LEASE_GRACE_MS = 60_000
"""A server that runs takes a lost lease over within seconds."""

# The log is skipped through from session to session, not walked. A tenant's sessions and the next
# tenant are asked for apart: SQLite walks for pairs that are greater than a pair.
LOGS = """
    WITH RECURSIVE logs (tenant_id, session_id) AS (
        SELECT * FROM (
            SELECT tenant_id, session_id FROM entry ORDER BY tenant_id, session_id LIMIT 1
        ) AS first_log
        UNION ALL
        SELECT
            coalesce(
                (
                    SELECT e.tenant_id FROM entry AS e
                    WHERE e.tenant_id = logs.tenant_id AND e.session_id > logs.session_id
                    ORDER BY e.session_id LIMIT 1
                ),
                (
                    SELECT e.tenant_id FROM entry AS e WHERE e.tenant_id > logs.tenant_id
                    ORDER BY e.tenant_id LIMIT 1
                )
            ),
            coalesce(
                (
                    SELECT e.session_id FROM entry AS e
                    WHERE e.tenant_id = logs.tenant_id AND e.session_id > logs.session_id
                    ORDER BY e.session_id LIMIT 1
                ),
                (
                    SELECT e.session_id FROM entry AS e WHERE e.tenant_id > logs.tenant_id
                    ORDER BY e.tenant_id, e.session_id LIMIT 1
                )
            )
        FROM logs WHERE session_id IS NOT NULL
    )
"""

Progress = Callable[[int, int], None]


class Database(Protocol):
    """One connection that reads, and what each database is asked in a way of its own."""

    def one_state(self) -> AbstractAsyncContextManager[None]:
        """What is asked within sees one state of the database."""
        ...

    def rows(self, sql: str, *values: object) -> AsyncIterator[Row]:
        """To be asked within one state; `$1` stands for the first value."""
        ...

    async def now_ms(self) -> int:
        """The clock that leases are judged by."""
        ...

    async def revisions(self) -> tuple[str, ...]:
        """Those of the schema: one, unless it is none of Sessile's."""
        ...

    async def schema(self) -> Schema:
        """What the database has of tables, columns and indexes."""
        ...

    async def own(self) -> tuple[Check, ...]:
        """What is to be held against this kind of database only."""
        ...

    async def find(self, key: SessionKey) -> Found | None: ...

    async def entries(self, key: SessionKey, *, after: int, limit: int) -> Sequence[Entry]: ...

    async def turns(self, key: SessionKey, turn_ids: Collection[TurnId]) -> Iterable[Turn]:
        """Those of these that there are."""
        ...


async def check(database: Database, *, sessions_max: int, progress: Progress) -> tuple[Check, ...]:
    """A sample of the sessions where there are more than `sessions_max`. `progress` is told how
    many of how many."""
    # With a fault in the first two, what is asked next would be answered wrongly, or not at all.
    own = await database.own()
    if any(each.faults for each in own if each.name == "integrity"):
        return own
    schema = await _schema(database)
    if schema.faults:
        return (*own, schema)
    whole, there = whole_schema(), await database.schema()
    for lacking in there.lacks_columns(whole):
        schema.fault(lacking)
    if not schema.faults and not await _has_row(database):
        schema.fault("the row of `store` is gone, which no node starts without")
    if schema.faults:
        return (*own, schema)
    lookups = Check("lookups", "every index of the schema is there", "indexes")
    lookups.checked = len(whole.keys) + len(whole.indexes)
    for lacking in there.lacks_indexes(whole):
        lookups.fault(lacking)
    rows = [await each(database) for each in (_ids, _orphans, _exclusive, _leases, _due)]
    sessions = SessionChecks()
    keys = await _sample(database, sessions_max)
    for done, key in enumerate(keys):
        progress(done, len(keys))
        async with database.one_state():
            await _session(database, key, sessions)
    progress(len(keys), len(keys))
    return (*own, schema, lookups, *rows, *sessions.all)


async def _schema(database: Database) -> Check:
    found = Check("schema", "the schema is the one that this version knows", "revisions")
    revisions = await database.revisions()
    found.checked = len(revisions)
    if revisions != (HEAD,):
        names = ", ".join(revisions) or "none"
        found.fault(f"revision {names}, not {HEAD}: run `sessile migrate`, or the version it is of")
    return found


async def _has_row(database: Database) -> bool:
    async with database.one_state():
        return [row[0] async for row in database.rows("SELECT one FROM store")] == [1]


async def _ids(database: Database) -> Check:
    found = Check("ids", "no session id is null or malformed", "ids")
    sql = f"""
        {LOGS}
        SELECT 'session_head', tenant_id, session_id FROM session_head
        UNION ALL SELECT 'session', tenant_id, session_id FROM session
        UNION ALL SELECT 'turn', tenant_id, session_id FROM turn
        UNION ALL SELECT 'idempotency', tenant_id, session_id FROM idempotency
        UNION ALL SELECT 'entry', tenant_id, session_id FROM logs WHERE session_id IS NOT NULL
    """  # no value is in it  # noqa: S608  # nosec B608
    async with database.one_state():
        async for place, tenant_id, session_id in database.rows(sql):
            found.checked += 1
            if not tenant_id or not well_formed(str(session_id), prefix="ses"):
                found.fault(f"{place} has {session_id!r} of tenant {tenant_id!r}")
    return found


async def _orphans(database: Database) -> Check:
    found = Check("orphans", "no row stands without its session", "sessions")
    sql = f"""
        {LOGS},
        named (place, tenant_id, session_id) AS (
            SELECT 'session', tenant_id, session_id FROM session
            UNION ALL SELECT DISTINCT 'turn', tenant_id, session_id FROM turn
            UNION ALL SELECT DISTINCT 'idempotency', tenant_id, session_id FROM idempotency
            UNION ALL SELECT DISTINCT 'fork', tenant_id, session_id FROM fork
            UNION ALL SELECT 'compaction', tenant_id, session_id FROM compaction
            UNION ALL SELECT 'entry', tenant_id, session_id FROM logs WHERE session_id IS NOT NULL
        )
        SELECT 'session_head without session', tenant_id, session_id FROM session_head AS h
        WHERE NOT EXISTS (
            SELECT 1 FROM session AS s
            WHERE s.tenant_id = h.tenant_id AND s.session_id = h.session_id
        )
        UNION ALL
        SELECT place, tenant_id, session_id FROM named AS n
        WHERE NOT EXISTS (
            SELECT 1 FROM session_head AS h
            WHERE h.tenant_id = n.tenant_id AND h.session_id = n.session_id
        )
    """  # no value is in it  # noqa: S608  # nosec B608
    async with database.one_state():
        async for (sessions,) in database.rows("SELECT count(*) FROM session_head"):
            found.checked = sessions
        async for place, tenant_id, session_id in database.rows(sql):
            found.fault(place, SessionKey(tenant_id, session_id))
    return found


async def _exclusive(database: Database) -> Check:
    found = Check("exclusive", "no exclusive key has two active sessions", "keys")
    # Written so that it cannot be answered by the index that it is held against.
    sql = """
        SELECT tenant_id, min(session_id), count(*) FROM session_head
        WHERE status || '' = 'active' AND exclusive_key IS NOT NULL
        GROUP BY tenant_id, exclusive_key
    """
    async with database.one_state():
        async for tenant_id, session_id, sessions in database.rows(sql):
            found.checked += 1
            if sessions > 1:
                found.fault(f"{sessions} active sessions", SessionKey(tenant_id, session_id))
    return found


async def _leases(database: Database) -> Check:
    found = Check("leases", "no lease is overdue: none was left behind", "leases")
    # A lease that ends at 0 was let go of when a server started, which takes it when it can.
    sql = """
        SELECT tenant_id, session_id, running_turn_id, lease_until_ms FROM session_head
        WHERE lease_owner IS NOT NULL
    """
    async with database.one_state():
        now_ms = await database.now_ms()
        async for tenant_id, session_id, turn_id, until_ms in database.rows(sql):
            found.checked += 1
            if 0 < until_ms < now_ms - LEASE_GRACE_MS:
                seconds = (now_ms - until_ms) // 1000
                found.fault(
                    f"overdue for {seconds} s; a server that starts takes the turn over",
                    SessionKey(tenant_id, session_id),
                    turn_id,
                )
    return found


async def _due(database: Database) -> Check:
    found = Check("due", "every session with a turn to run is in sight of the sweep", "sessions")
    sql = """
        SELECT tenant_id, session_id, due_at_ms IS NOT NULL FROM session_head
        WHERE lease_owner IS NOT NULL OR running_turn_id IS NOT NULL
            OR (queued > 0 AND status = 'active')
    """
    async with database.one_state():
        async for tenant_id, session_id, seen in database.rows(sql):
            found.checked += 1
            if not seen:
                key = SessionKey(tenant_id, session_id)
                found.fault("it has a turn to run and is never due", key)
    return found


async def _sample(database: Database, sessions_max: int) -> list[SessionKey]:
    sql = "SELECT tenant_id, session_id FROM session_head ORDER BY random() LIMIT $1"
    async with database.one_state():
        return [SessionKey(*row) async for row in database.rows(sql, sessions_max)]


async def _session(database: Database, key: SessionKey, checks: SessionChecks) -> None:
    found = await database.find(key)
    if found is None:
        return  # deleted meanwhile, or an orphan, which has its own check
    audit = Audit(key, checks)
    after = 0
    while page := await database.entries(key, after=after, limit=ENTRIES_PAGE):
        after = page[-1].seq
        await _compare(database, key, audit, audit.take(page))
    await _compare(database, key, audit, audit.finish(found.head, found.session))
    sql = "SELECT turn_id FROM turn WHERE tenant_id = $1 AND session_id = $2"
    async for (turn_id,) in database.rows(sql, *key):
        if not audit.knows(turn_id):
            checks.turns.fault("there is a row, and the log has no such turn", key, turn_id)


async def _compare(
    database: Database, key: SessionKey, audit: Audit, folded: Sequence[Turn]
) -> None:
    if not folded:
        return
    rows = {each.turn_id: each for each in await database.turns(key, [it.turn_id for it in folded])}
    for turn in folded:
        audit.compare(turn, rows.get(turn.turn_id))
