"""The schema: made by an open, brought forward from every version there was, and never backward."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.desk import ACME, OTHER, STRANGER, Desk, holding, once, runner
from tests.doubles import CountingIds, ManualClock

from sessile.adapters import migrations
from sessile.adapters.migrations import HEAD, SchemaTooNew, migrate
from sessile.adapters.sqlite import SqliteStore
from sessile.core.ids import SessionId, SessionKey

DATA = Path(__file__).parent / "data"
REVISIONS = sorted(file.stem.removeprefix("schema_") for file in DATA.glob("schema_*.sql"))


def schema(path: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return [(name, " ".join((sql or "").split())) for name, sql in rows]


def run(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessile.db"


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_database_of_every_version_is_read_and_goes_on(path: Path, revision: str) -> None:
    run(path, (DATA / f"schema_{revision}.sql").read_text(encoding="utf-8"))
    clock = ManualClock(now_ms=1_001_000)

    async with SqliteStore(path, clock=clock) as store:
        await goes_on(Desk(store, clock, CountingIds()))


async def goes_on(desk: Desk) -> None:
    """What `dump_schema` wrote is there, and each session can be worked with."""
    orders, closed, theirs, failed, refund = (
        SessionKey(tenant_id, SessionId(f"ses_{n}"))
        for tenant_id, n in ((ACME, 1), (ACME, 2), (OTHER, 3), (ACME, 4), (ACME, 5))
    )

    desk.opened = [orders, closed, theirs, failed, refund]
    await desk.check_folds()
    found = await desk.look(orders)
    assert (found.session.title, found.session.metadata) == ("Orders ünï", {"shop": 7})
    statuses = [turn.status for turn in await desk.store.turns(orders, limit=10)]
    assert statuses == ["completed", "running", "queued", "cancelled"]
    assert (await desk.look(failed)).session.title == "Broken"
    assert (await desk.submit(orders, once=once("k1", "ses_1"))).repeated
    assert (await desk.open_as(once=once("k0", "open"))).session_id == "ses_1"
    assert set(await desk.due()) == {orders, theirs}

    taken = holding(await desk.start(orders))
    ended = await desk.finish(taken, successor=runner())
    await desk.finish(holding(ended))
    await desk.submit(theirs, "more", principal=STRANGER)
    assert (await desk.look(refund)).session.grants == ("refund",)
    (waits,) = await desk.store.turns(refund, limit=10)
    assert waits.awaited is not None
    (unanswered,) = waits.awaited.unanswered
    await desk.answer(refund, unanswered)
    assert refund in await desk.due()
    await desk.check_folds()


def test_there_is_a_kept_database_of_every_version() -> None:
    versions = Path(migrations.__file__).parent / "versions"
    scripts = sorted(file.stem[1:5] for file in versions.glob("r*.py"))

    assert scripts == REVISIONS
    assert scripts[-1] == HEAD


def test_the_newest_schema_is_the_same_whether_made_or_brought_forward(
    path: Path, tmp_path: Path
) -> None:
    migrate(path)
    for revision in REVISIONS:
        old = tmp_path / f"{revision}.db"
        run(old, (DATA / f"schema_{revision}.sql").read_text(encoding="utf-8"))
        migrate(old)

        assert schema(old) == schema(path)


def test_every_table_is_led_by_its_tenant_but_the_one_of_the_database_itself(path: Path) -> None:
    migrate(path)
    connection = sqlite3.connect(path)
    tables = {
        row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    first = "SELECT name FROM pragma_table_info(?) WHERE pk = 1"
    led_by = {table: connection.execute(first, (table,)).fetchone() for table in tables}
    connection.close()

    assert {table for table, by in led_by.items() if by != ("tenant_id",)} == {
        "store",
        "alembic_version",
        "chore",
        "webhook_work",
    }


def test_the_database_itself_has_one_row_with_a_secret_of_its_own(
    path: Path, tmp_path: Path
) -> None:
    secrets = set()
    for each in (path, tmp_path / "other.db"):
        migrate(each)
        connection = sqlite3.connect(each)
        ((epoch, secret),) = connection.execute("SELECT epoch, secret FROM store").fetchall()
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute("INSERT INTO store VALUES (2, 0, x'00', 0, 0)")
        connection.close()
        assert (epoch, len(secret)) == (0, 32)
        secrets.add(secret)

    assert len(secrets) == 2


def test_migrating_again_changes_nothing(path: Path) -> None:
    migrate(path)
    before = path.read_bytes()

    migrate(path)

    assert path.read_bytes() == before


async def test_a_database_of_a_newer_version_is_refused_as_it_is(path: Path) -> None:
    await asyncio.to_thread(migrate, path)
    run(path, "UPDATE alembic_version SET version_num = '9999'")
    before = schema(path)

    with pytest.raises(SchemaTooNew, match="9999"):
        await SqliteStore(path, clock=ManualClock()).__aenter__()

    assert schema(path) == before


def test_a_revision_that_fails_leaves_the_database_as_it_was(path: Path) -> None:
    run(path, "CREATE TABLE turn (mine TEXT)")

    with pytest.raises(Exception, match="already exists"):
        migrate(path)

    assert [name for name, _ in schema(path)] == ["turn"]


async def test_a_start_with_nothing_to_migrate_does_not_import_alembic(path: Path) -> None:
    await asyncio.to_thread(migrate, path)
    program = (
        "import pathlib, sys; from sessile.adapters.migrations import migrate;"
        f"migrate(pathlib.Path({str(path)!r}));"
        "import sessile.adapters.sqlite;"
        "print(*(name for name in ('alembic', 'sqlalchemy') if name in sys.modules))"
    )

    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ended.stdout.strip() == ""
