"""`sessile migrate` brings a database to this version's schema, and may be run again."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.cli.conftest import Ran, Serve
from tests.servers.databases import bare_database

from sessile.adapters.migrations import HEAD


def test_a_database_is_made_and_then_left_as_it_is(run: Callable[..., Ran], tmp_path: Path) -> None:
    directory = tmp_path / "new"

    first = run("migrate", "--data-dir", str(directory))
    second = run("migrate", "--data-dir", str(directory))

    assert first == Ran(0, f"{directory}: made, at revision {HEAD}\n", "")
    assert second == Ran(0, f"{directory}: already at revision {HEAD}\n", "")
    assert run("doctor", "--data-dir", str(directory)).code == 0


def test_a_directory_that_a_server_uses_is_left_alone(run: Callable[..., Ran], demo: Serve) -> None:
    ran = run("migrate", "--data-dir", str(demo.directory / "sessile-data"))

    assert ran.code == 2
    assert "another server uses the data directory" in ran.err


def test_a_database_of_a_newer_version_is_left_alone(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    run("migrate", "--data-dir", str(tmp_path))
    with closing(sqlite3.connect(tmp_path / "sessile.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()

    ran = run("migrate", "--data-dir", str(tmp_path))

    assert ran.code == 2
    assert "9999" in ran.err


def test_what_is_no_database_is_told(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "sessile.db").write_bytes(b"no database" * 1_000)

    ran = run("migrate", "--data-dir", str(tmp_path))

    assert ran.code == 1
    assert "file is not a database" in ran.err


def test_a_database_is_its_owners_alone(run: Callable[..., Ran], tmp_path: Path) -> None:
    """In a directory too that others can enter."""
    tmp_path.chmod(0o755)

    assert run("migrate", "--data-dir", str(tmp_path)).code == 0

    assert (tmp_path / "sessile.db").stat().st_mode & 0o777 == 0o600


async def test_a_postgresql_database_is_made_and_then_left_as_it_is(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bare_database() as dsn:
        url = dsn.replace("sessile@", "sessile:secret@")
        shown = dsn.replace("sessile@", "sessile:…@")

        first = await asyncio.to_thread(run, "migrate", "--store-url", url)
        monkeypatch.setenv("SESSILE_STORE_URL", url)
        second = await asyncio.to_thread(run, "migrate")

    assert first == Ran(0, f"{shown}: made, at revision {HEAD}\n", "")
    assert second == Ran(0, f"{shown}: already at revision {HEAD}\n", "")


async def test_a_postgresql_database_of_a_newer_version_is_left_alone(
    run: Callable[..., Ran],
) -> None:
    async with bare_database() as dsn:
        await asyncio.to_thread(run, "migrate", "--store-url", dsn)
        database = await asyncpg.connect(dsn)
        await database.execute("UPDATE alembic_version SET version_num = '9999'")
        await database.close()

        ran = await asyncio.to_thread(run, "migrate", "--store-url", dsn)

    assert ran.code == 2
    assert "9999" in ran.err


async def test_a_user_who_may_make_no_tables_is_told(run: Callable[..., Ran]) -> None:
    async with bare_database() as dsn:
        database = await asyncpg.connect(dsn)
        await database.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
        await database.close()

        ran = await asyncio.to_thread(
            run, "migrate", "--store-url", dsn.replace("sessile@", "guest@")
        )

    assert ran.code == 1
    assert ": permission denied for schema public; " in ran.err
    assert ran.err.count("\n") == 1
