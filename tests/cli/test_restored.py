"""`sessile restored` raises the epoch of a database, and of nothing else."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.cli.conftest import Ran, Serve
from tests.servers.databases import bare_database

from sessile.adapters.migrations import migrate_postgres


def told(at: object, epoch: int) -> Ran:
    said = f"{at}: now epoch {epoch}; whoever read it before starts again from a snapshot."
    return Ran(0, f"{said} Start the nodes.\n", "")


def test_the_epoch_of_a_file_is_raised_and_nothing_else(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    run("migrate", "--data-dir", str(tmp_path))

    with closing(sqlite3.connect(tmp_path / "sessile.db")) as database:
        before = [*database.iterdump()]
    ran = [run("restored", "--data-dir", str(tmp_path)) for _ in range(2)]

    assert ran == [told(tmp_path, 1), told(tmp_path, 2)]
    with closing(sqlite3.connect(tmp_path / "sessile.db")) as database:
        after = [*database.iterdump()]
    changed = [line for line in after if line not in before]
    assert len(changed) == 1
    assert changed[0].startswith('INSERT INTO "store" VALUES(1,2,')
    assert run("doctor", "--data-dir", str(tmp_path)).code == 0


async def test_the_epoch_of_a_postgresql_database_is_raised(run: Callable[..., Ran]) -> None:
    async with bare_database() as dsn:
        await migrate_postgres(dsn)

        ran = await asyncio.to_thread(run, "restored", "--store-url", dsn)

        assert ran == told(dsn, 1)
        database = await asyncpg.connect(dsn)
        assert await database.fetchval("SELECT epoch FROM store") == 1
        await database.close()


def test_a_directory_that_a_server_uses_is_left_alone(run: Callable[..., Ran], demo: Serve) -> None:
    ran = run("restored", "--data-dir", str(demo.directory / "sessile-data"))

    assert ran.code == 2
    assert "another server uses the data directory" in ran.err


def test_where_there_is_no_database_none_is_made(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("restored", "--data-dir", str(tmp_path))

    assert ran.code == 2
    assert f"there is no database {tmp_path}/sessile.db; give" in ran.err
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("statement", ["VACUUM", "CREATE TABLE theirs (a)"])
def test_a_file_that_is_none_of_sessile_s_is_left_as_it_is(
    run: Callable[..., Ran], tmp_path: Path, statement: str
) -> None:
    """An empty one among them, as a restore leaves it that went wrong."""
    with closing(sqlite3.connect(tmp_path / "sessile.db")) as database:
        database.execute(statement)
        before = [*database.iterdump()]

    ran = run("restored", "--data-dir", str(tmp_path))

    assert ran == Ran(2, "", "sessile: There is no database of Sessile's at this address.\n")
    with closing(sqlite3.connect(tmp_path / "sessile.db")) as database:
        assert [*database.iterdump()] == before


async def test_where_postgresql_has_none_none_is_made(run: Callable[..., Ran]) -> None:
    async with bare_database() as dsn:
        ran = await asyncio.to_thread(run, "restored", "--store-url", dsn)

        assert ran == Ran(2, "", "sessile: There is no database of Sessile's at this address.\n")
        database = await asyncpg.connect(dsn)
        assert await database.fetchval("SELECT to_regclass('store')") is None
        await database.close()


def test_a_database_without_its_row_is_told(run: Callable[..., Ran], tmp_path: Path) -> None:
    run("migrate", "--data-dir", str(tmp_path))
    with closing(sqlite3.connect(tmp_path / "sessile.db")) as database:
        database.execute("DELETE FROM store")
        database.commit()

    ran = run("restored", "--data-dir", str(tmp_path))

    assert ran.code == 2
    assert "has no row" in ran.err
    assert ran.err.count("\n") == 1
