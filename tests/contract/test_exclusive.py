"""G2 in the database: whoever writes to it, there is one active session an exclusive key."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.doubles import CountingIds, ManualClock

from sessile.adapters.sqlite import SqliteStore
from sessile.core.commands import CloseSession, OpenSession
from sessile.core.context import Principal
from sessile.core.ids import SessionKey, TenantId, UserId

ANN = Principal(tenant_id=TenantId("acme"), user_id=UserId("ann"))
KEY = "support:ann"


@pytest.fixture
async def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """One session of ann's is closed, and one is active."""
    ids = CountingIds()
    path = tmp_path / "sessile.db"
    async with SqliteStore(path, clock=ManualClock()) as store:
        for number in range(2):
            key = SessionKey(ANN.tenant_id, ids.session_id())
            opening = OpenSession(
                principal=ANN, assistant="support", title=None, metadata={}, exclusive_key=KEY
            )
            await store.transact(key, opening)
            if number == 0:
                await store.transact(key, CloseSession(principal=ANN))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def copied(database: sqlite3.Connection, session_id: str, **changed: str) -> None:
    """Another row like that of the active session."""
    names = [row[1] for row in database.execute("PRAGMA table_info(session_head)")]
    values = {"session_id": session_id, **changed}
    columns = ", ".join(f"'{values[name]}'" if name in values else name for name in names)
    database.execute(
        f"INSERT INTO session_head SELECT {columns} FROM session_head WHERE status = 'active'"
    )


async def test_a_second_active_session_of_the_key_cannot_be_written(
    database: sqlite3.Connection,
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="exclusive_key"):
        copied(database, "ses_9")


async def test_a_closed_session_cannot_be_made_active_beside_another(
    database: sqlite3.Connection,
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="exclusive_key"):
        database.execute("UPDATE session_head SET status = 'active'")


@pytest.mark.parametrize(
    "changed", [{"status": "closed"}, {"tenant_id": "globex"}, {"exclusive_key": "support:ben"}]
)
async def test_what_is_closed_or_another_s_stands_beside_it(
    database: sqlite3.Connection, changed: dict[str, str]
) -> None:
    copied(database, "ses_9", **changed)

    assert database.execute("SELECT count(*) FROM session_head").fetchone() == (3,)
