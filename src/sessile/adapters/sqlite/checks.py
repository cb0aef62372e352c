"""What `sessile doctor` holds a database against: SQLite's own structure, what must hold between
rows, and each session against the fold of its log. Read only; beside a server that runs, each
session is looked at in one state of the database."""

import json
import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sessile.adapters.migrations import HEAD
from sessile.adapters.sql.rows import turn_of
from sessile.adapters.sqlite import reads
from sessile.adapters.sqlite.files import WAL_BYTES_MAX
from sessile.core.audit import Audit, Check, SessionChecks
from sessile.core.ids import SessionKey, TurnId
from sessile.core.session import Turn

ENTRIES_PAGE = 1_000
LEASE_GRACE_MS = 60_000
"""A server that runs takes a lost lease over within seconds."""
WAL_MARGIN = 4
"""The write-ahead log may pass its size limit while a checkpoint waits for readers."""

Progress = Callable[[int, int], None]


def check(
    connection: sqlite3.Connection,
    path: Path,
    *,
    now_ms: int,
    sessions_max: int,
    progress: Progress,
) -> tuple[Check, ...]:
    integrity = _integrity(connection)
    wal = _wal(path)
    schema = _schema(connection)
    if integrity.faults or schema.faults:
        # What is asked below would be answered wrongly, or not at all.
        return (integrity, wal, schema)
    rows = (
        _ids(connection),
        _orphans(connection),
        _exclusive(connection),
        _leases(connection, now_ms=now_ms),
        _due(connection),
    )
    sessions = SessionChecks()
    keys = _sample(connection, sessions_max)
    for done, key in enumerate(keys):
        progress(done, len(keys))
        _session(connection, key, sessions)
    progress(len(keys), len(keys))
    return (integrity, wal, schema, *rows, *sessions.all)


def _integrity(connection: sqlite3.Connection) -> Check:
    found = Check("integrity", "PRAGMA integrity_check finds the file's structure whole", "pages")
    try:
        ((found.checked,),) = connection.execute("PRAGMA page_count").fetchall()
        for (line,) in connection.execute("PRAGMA integrity_check(100)"):
            if line != "ok":
                found.fault(line)
    except sqlite3.DatabaseError as error:
        found.fault(str(error))
    return found


def _wal(path: Path) -> Check:
    found = Check("wal", "the write-ahead log is not much longer than its limit", "bytes")
    wal = path.with_name(path.name + "-wal")
    found.checked = wal.stat().st_size if wal.exists() else 0
    if found.checked > WAL_MARGIN * WAL_BYTES_MAX:
        found.fault(f"{found.checked} bytes: a reader holds it, or no checkpoint gets through")
    return found


def _schema(connection: sqlite3.Connection) -> Check:
    found = Check("schema", "the schema is the one that this version knows", "revisions")
    try:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.OperationalError as error:
        rows = []
        found.fault(str(error))
    except sqlite3.DatabaseError as error:
        # No migration makes a database of what is none.
        found.fault(str(error))
        return found
    found.checked = len(rows)
    if [row[0] for row in rows] != [HEAD]:
        names = ", ".join(str(row[0]) for row in rows) or "none"
        found.fault(f"revision {names}, not {HEAD}: run `sessile migrate`, or the version it is of")
    return found


def _ids(connection: sqlite3.Connection) -> Check:
    found = Check("ids", "no session id is null or malformed", "ids")
    # The log is skipped through from session to session, not walked.
    sql = """
        WITH RECURSIVE logs (tenant_id, session_id) AS (
            SELECT * FROM (
                SELECT tenant_id, session_id FROM entry ORDER BY tenant_id, session_id LIMIT 1
            )
            UNION ALL
            SELECT n.tenant_id, n.session_id FROM logs, entry AS n
            WHERE n.rowid = (
                SELECT e.rowid FROM entry AS e
                WHERE (e.tenant_id, e.session_id) > (logs.tenant_id, logs.session_id)
                ORDER BY e.tenant_id, e.session_id LIMIT 1
            )
        ),
        named (place, tenant_id, session_id) AS (
            SELECT 'session_head', tenant_id, session_id FROM session_head
            UNION ALL SELECT 'session', tenant_id, session_id FROM session
            UNION ALL SELECT 'turn', tenant_id, session_id FROM turn
            UNION ALL SELECT 'idempotency', tenant_id, session_id FROM idempotency
            UNION ALL SELECT 'entry', tenant_id, session_id FROM logs
        )
        SELECT place, tenant_id, session_id,
            coalesce(tenant_id, '') <> '' AND session_id IS NOT NULL
            AND session_id GLOB 'ses_?*' AND length(session_id) <= 68
            AND substr(session_id, 5) NOT GLOB '*[^A-Za-z0-9_-]*'
        FROM named
    """
    for place, tenant_id, session_id, well_formed in connection.execute(sql):
        found.checked += 1
        if not well_formed:
            found.fault(f"{place} has {session_id!r} of tenant {tenant_id!r}")
    return found


def _orphans(connection: sqlite3.Connection) -> Check:
    found = Check("orphans", "no row stands without its session", "sessions")
    ((found.checked,),) = connection.execute("SELECT count(*) FROM session_head").fetchall()
    sql = """
        WITH RECURSIVE logs (tenant_id, session_id) AS (
            SELECT * FROM (
                SELECT tenant_id, session_id FROM entry ORDER BY tenant_id, session_id LIMIT 1
            )
            UNION ALL
            SELECT n.tenant_id, n.session_id FROM logs, entry AS n
            WHERE n.rowid = (
                SELECT e.rowid FROM entry AS e
                WHERE (e.tenant_id, e.session_id) > (logs.tenant_id, logs.session_id)
                ORDER BY e.tenant_id, e.session_id LIMIT 1
            )
        ),
        named (place, tenant_id, session_id) AS (
            SELECT 'session_head without session', tenant_id, session_id FROM session_head AS h
            WHERE NOT EXISTS (
                SELECT 1 FROM session AS s
                WHERE s.tenant_id = h.tenant_id AND s.session_id = h.session_id
            )
            UNION ALL SELECT 'session', tenant_id, session_id FROM session
            UNION ALL SELECT DISTINCT 'turn', tenant_id, session_id FROM turn
            UNION ALL SELECT DISTINCT 'idempotency', tenant_id, session_id FROM idempotency
            UNION ALL SELECT 'entry', tenant_id, session_id FROM logs
        )
        SELECT place, tenant_id, session_id FROM named
        WHERE place = 'session_head without session' OR NOT EXISTS (
            SELECT 1 FROM session_head AS h
            WHERE h.tenant_id = named.tenant_id AND h.session_id = named.session_id
        )
    """
    for place, tenant_id, session_id in connection.execute(sql):
        found.fault(place, SessionKey(tenant_id, session_id))
    return found


def _exclusive(connection: sqlite3.Connection) -> Check:
    found = Check("exclusive", "no exclusive key has two active sessions", "keys")
    sql = """
        SELECT tenant_id, min(session_id), count(*) FROM session_head NOT INDEXED
        WHERE status = 'active' AND exclusive_key IS NOT NULL
        GROUP BY tenant_id, exclusive_key
    """
    for tenant_id, session_id, sessions in connection.execute(sql):
        found.checked += 1
        if sessions > 1:
            found.fault(f"{sessions} active sessions", SessionKey(tenant_id, session_id))
    return found


def _leases(connection: sqlite3.Connection, *, now_ms: int) -> Check:
    found = Check("leases", "no lease is overdue: none was left behind", "leases")
    # A lease that ends at 0 was let go of when a server started, which takes it when it can.
    sql = """
        SELECT tenant_id, session_id, running_turn_id, lease_until_ms FROM session_head
        WHERE lease_owner IS NOT NULL
    """
    for tenant_id, session_id, turn_id, until_ms in connection.execute(sql):
        found.checked += 1
        if 0 < until_ms < now_ms - LEASE_GRACE_MS:
            seconds = (now_ms - until_ms) // 1000
            found.fault(
                f"overdue for {seconds} s; a server that starts takes the turn over",
                SessionKey(tenant_id, session_id),
                turn_id,
            )
    return found


def _due(connection: sqlite3.Connection) -> Check:
    found = Check("due", "every session with a turn to run is in sight of the sweep", "sessions")
    sql = """
        SELECT tenant_id, session_id, due_at_ms IS NOT NULL FROM session_head
        WHERE lease_owner IS NOT NULL OR running_turn_id IS NOT NULL
            OR (queued > 0 AND status = 'active')
    """
    for tenant_id, session_id, seen in connection.execute(sql):
        found.checked += 1
        if not seen:
            found.fault("it has a turn to run and is never due", SessionKey(tenant_id, session_id))
    return found


def _sample(connection: sqlite3.Connection, sessions_max: int) -> list[SessionKey]:
    sql = "SELECT tenant_id, session_id FROM session_head ORDER BY random() LIMIT ?"
    return [SessionKey(*row) for row in connection.execute(sql, (sessions_max,))]


def _session(connection: sqlite3.Connection, key: SessionKey, checks: SessionChecks) -> None:
    with _one_state(connection):
        found = reads.find(connection, key, None)
        if found is None:
            return  # deleted meanwhile, or an orphan, which has its own check
        audit = Audit(key, checks)
        after = 0
        while page := reads.entries(
            connection,
            key,
            after=after,
            before=None,
            history=False,
            newest_first=False,
            limit=ENTRIES_PAGE,
        ):
            after = page[-1].seq
            _compare(connection, key, audit, audit.take(page))
        _compare(connection, key, audit, audit.finish(found.head, found.session))
        for turn_id in _turn_ids(connection, key):
            if not audit.knows(turn_id):
                checks.turns.fault("there is a row, and the log has no such turn", key, turn_id)


def _compare(
    connection: sqlite3.Connection, key: SessionKey, audit: Audit, folded: Sequence[Turn]
) -> None:
    if not folded:
        return
    sql = """
        SELECT turn_id, seq, position, message_id, user_id, status, attempt, strikes, progressed,
            cancel_reason, cancel_by, current_iteration, total_iterations, tokens_used,
            total_tokens, created_at_ms, started_at_ms, ended_at_ms, error, awaited, input,
            output
        FROM turn WHERE tenant_id = ? AND session_id = ?
            AND turn_id IN (SELECT value FROM json_each(?))
    """
    ids = json.dumps([turn.turn_id for turn in folded])
    rows = {row[0]: row for row in connection.execute(sql, (*key, ids))}
    for turn in folded:
        row = rows.get(turn.turn_id)
        audit.compare(turn, None if row is None else turn_of(row, key=key))


def _turn_ids(connection: sqlite3.Connection, key: SessionKey) -> Iterator[TurnId]:
    sql = "SELECT turn_id FROM turn WHERE tenant_id = ? AND session_id = ?"
    for (turn_id,) in connection.execute(sql, key):
        yield turn_id


@contextmanager
def _one_state(connection: sqlite3.Connection) -> Generator[None, None, None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")
