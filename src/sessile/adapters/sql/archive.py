"""A database without its server: read, and never written. Servers may use it meanwhile."""

from collections.abc import AsyncIterator

from sessile.adapters.sql import checks
from sessile.adapters.sql.checks import ENTRIES_PAGE, Database, Progress
from sessile.core.audit import Check
from sessile.core.events import Entry
from sessile.core.ids import SessionId, SessionKey

NO_DATABASE = "There is no database of Sessile's at this address."
NO_ROW = "The table `store` has no row: this is no database of Sessile's, or not all of one."


class Archive:
    """Each method may raise what the database raises where it is broken, or cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys(self, session_id: SessionId) -> tuple[SessionKey, ...]:
        """The sessions of this id: one, or none."""
        sql = "SELECT tenant_id, session_id FROM session_head WHERE session_id = $1"
        async with self._database.one_state():
            rows = [row async for row in self._database.rows(sql, session_id)]
        return tuple(SessionKey(*row) for row in rows)

    async def entries(self, key: SessionKey, *, after: int) -> AsyncIterator[Entry]:
        """The log behind the cursor, as far as it goes now."""
        while page := await self._database.entries(key, after=after, limit=ENTRIES_PAGE):
            for entry in page:
                yield entry
            after = page[-1].seq

    async def check(self, *, sessions_max: int, progress: Progress) -> tuple[Check, ...]:
        """Everything that `sessile doctor` holds the database against; a sample of the sessions
        where there are more than `sessions_max`. `progress` is told how many of how many."""
        return await checks.check(self._database, sessions_max=sessions_max, progress=progress)
