"""`sessile erase` removes a user from a database, with or without servers beside it."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.cli.conftest import Ran, Serve
from tests.contract.desk import ANN, BOB, Desk
from tests.doubles import CountingIds, ManualClock
from tests.servers.databases import database

from sessile.adapters.postgres import PostgresStore
from sessile.adapters.sqlite import SqliteStore


async def filled(store: SqliteStore | PostgresStore) -> None:
    desk = Desk(store, ManualClock(), CountingIds())
    for n in range(3):
        await desk.finish(await desk.run(await desk.open(ANN), f"canary {n}"))
    await desk.submit(await desk.open(BOB), "kept", run=False, principal=BOB)


async def test_a_user_of_a_file_is_erased(run: Callable[..., Ran], tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "sessile.db", clock=ManualClock()) as store:
        await filled(store)

    ran = await asyncio.to_thread(run, "erase", "acme", "ann", "--data-dir", str(tmp_path))

    assert (ran.code, ran.out) == (0, "ann of acme: erased, 3 sessions\n")
    with closing(sqlite3.connect(tmp_path / "sessile.db")) as file:
        assert file.execute("SELECT user_id FROM session").fetchall() == [("bob",)]
        acts = file.execute("SELECT actor, action FROM audit ORDER BY audit_id").fetchall()
    assert acts[0] == ("operator", "user.erasure_asked")
    assert acts[-1] == ("operator", "user.erased")
    assert b"canary" not in (tmp_path / "sessile.db").read_bytes()
    assert (await asyncio.to_thread(run, "doctor", "--data-dir", str(tmp_path))).code == 0


async def test_a_user_of_a_postgresql_database_is_erased(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    async with database() as dsn, PostgresStore(dsn, lease_ms=12_000) as store:
        await filled(store)

        at = ("--store-url", dsn, "--data-dir", str(tmp_path))
        ran = await asyncio.to_thread(run, "erase", "acme", "ann", *at)

        assert ran.out == "ann of acme: erased, 3 sessions\n"
        left = await store.sessions(ANN.tenant_id, limit=10)
        assert [found.head.user_id for found in left] == ["bob"]


def test_a_directory_that_a_server_uses_is_left_alone(run: Callable[..., Ran], demo: Serve) -> None:
    at = str(demo.directory / "sessile-data")

    ran = run("erase", "demo", "admin", "--data-dir", at)

    assert ran.code == 2
    assert "another server uses the data directory" in ran.err


def test_where_there_is_no_database_none_is_made(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("erase", "acme", "ann", "--data-dir", str(tmp_path))

    assert ran.code == 2
    assert not (tmp_path / "sessile.db").exists()
