"""A database file without its server: read, and never written.

It may be open beside a server that runs.
"""

import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sessile.adapters.migrations import migrate, revision
from sessile.adapters.sqlite import checks, reads
from sessile.adapters.sqlite.files import DirectoryLock, connect_reader
from sessile.core.audit import Check
from sessile.core.events import Entry
from sessile.core.ids import SessionId, SessionKey

ENTRIES_PAGE = 1_000


class Archive:
    """Each method may raise sqlite3.Error where the file is no database, or a broken one."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    def keys(self, session_id: SessionId) -> tuple[SessionKey, ...]:
        """The sessions of this id: one, or none."""
        sql = "SELECT tenant_id, session_id FROM session_head WHERE session_id = ?"
        rows = self._connection.execute(sql, (session_id,)).fetchall()
        return tuple(SessionKey(*row) for row in rows)

    def entries(self, key: SessionKey, *, after: int) -> Iterator[Entry]:
        """The log behind the cursor, as far as it goes now."""
        while page := reads.entries(
            self._connection,
            key,
            after=after,
            before=None,
            history=False,
            newest_first=False,
            limit=ENTRIES_PAGE,
        ):
            yield from page
            after = page[-1].seq

    def check(
        self, *, now_ms: int, sessions_max: int, progress: Callable[[int, int], None]
    ) -> tuple[Check, ...]:
        """Everything that `sessile doctor` holds the database against; a sample of the sessions
        where there are more than `sessions_max`. `progress` is told how many of how many."""
        return checks.check(
            self._connection,
            self._path,
            now_ms=now_ms,
            sessions_max=sessions_max,
            progress=progress,
        )


@contextmanager
def open_archive(path: Path, *, busy_seconds: float) -> Generator[Archive, None, None]:
    """Raises sqlite3.OperationalError where there is no such file."""
    connection = connect_reader(path, busy_seconds=busy_seconds)
    try:
        yield Archive(path, connection)
    finally:
        connection.close()


def migrate_file(path: Path, *, busy_seconds: float) -> Mapping[str, str | None]:
    """Bring the file to the newest revision. Answers the revisions `before` and `after`.

    Raises DataDirectoryLocked where a server uses it, and what `migrate` raises.
    """
    lock = DirectoryLock(path.parent)
    try:
        before = revision(path)
        migrate(path, busy_seconds=busy_seconds)
        return {"before": before, "after": revision(path)}
    finally:
        lock.release()
