"""The schema in PostgreSQL: as in SQLite, and by many nodes at once."""

import asyncio
import sys

import asyncpg
import pytest
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine
from tests.contract.clocked import clocked
from tests.contract.desk import Desk
from tests.contract.dump_schema import dumped
from tests.contract.test_migrations import DATA, REVISIONS, goes_on
from tests.doubles import CountingIds, ManualClock
from tests.servers.databases import bare_database, until_waiting

from sessile.adapters.migrations import (
    ADVISORY_KEY,
    HEAD,
    SchemaTooNew,
    migrate_postgres,
    revision_postgres,
    upgrade,
)
from sessile.adapters.postgres import PostgresStore

LEASE_IS_OVER = 1_020_000


async def run(dsn: str, script: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(script)
    await connection.close()


async def schema(dsn: str) -> str:
    return await asyncio.to_thread(dumped, dsn, "--schema-only")


def kept(revision: str) -> str:
    return (DATA / f"postgres_{revision}.sql").read_text(encoding="utf-8")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_database_of_every_version_is_read_and_goes_on(revision: str) -> None:
    clock = ManualClock(now_ms=LEASE_IS_OVER)
    async with bare_database() as dsn:
        await run(dsn, kept(revision))

        async with clocked(dsn, clock) as store:
            await goes_on(Desk(store, clock, CountingIds()))


async def test_every_table_is_led_by_its_tenant_but_the_one_of_the_database_itself() -> None:
    async with bare_database() as dsn:
        await migrate_postgres(dsn)
        own = await asyncpg.connect(dsn)
        rows = await own.fetch(
            """
            SELECT c.relname, a.attname FROM pg_index AS i
            JOIN pg_class AS c ON c.oid = i.indrelid
            JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
            WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace
            """
        )
        secret = await own.fetchval("SELECT secret FROM store WHERE epoch = 0")
        with pytest.raises(asyncpg.CheckViolationError):
            await own.execute("INSERT INTO store VALUES (2, 0, '', 0)")
        await own.close()

    not_led = {table for table, column in rows if column != "tenant_id"}
    assert not_led == {"store", "alembic_version", "chore", "webhook_work"}
    assert len(rows) > len(not_led)
    assert len(secret) == 32


async def test_the_newest_schema_is_the_same_whether_made_or_brought_forward() -> None:
    async with bare_database() as made:
        await migrate_postgres(made)
        for revision in REVISIONS:
            async with bare_database() as old:
                await run(old, kept(revision))
                await migrate_postgres(old)

                assert await schema(old) == await schema(made)


async def test_migrating_again_changes_nothing() -> None:
    async with bare_database() as dsn:
        await migrate_postgres(dsn)
        before = await asyncio.to_thread(dumped, dsn)

        await migrate_postgres(dsn)

        assert await asyncio.to_thread(dumped, dsn) == before


async def test_a_database_of_a_newer_version_is_refused_as_it_is() -> None:
    async with bare_database() as dsn:
        await migrate_postgres(dsn)
        await run(dsn, "UPDATE alembic_version SET version_num = '9999'")
        before = await asyncio.to_thread(dumped, dsn)

        with pytest.raises(SchemaTooNew, match="9999"):
            await PostgresStore(dsn, lease_ms=12_000).__aenter__()

        assert await asyncio.to_thread(dumped, dsn) == before


async def test_a_revision_that_fails_leaves_the_database_as_it_was() -> None:
    async with bare_database() as dsn:
        await run(dsn, "CREATE TABLE turn (mine text)")
        before = await schema(dsn)

        with pytest.raises(asyncpg.DuplicateTableError, match="already exists"):
            await migrate_postgres(dsn)

        assert await schema(dsn) == before


async def test_what_only_asyncpg_understands_may_stand_in_the_address() -> None:
    async with bare_database() as dsn:
        await migrate_postgres(f"{dsn}?sslmode=disable&application_name=me")

        assert await revision_postgres(dsn) == HEAD


async def test_three_processes_that_migrate_at_once_make_one_schema() -> None:
    async with bare_database() as made, bare_database() as dsn:
        await migrate_postgres(made)
        command = (sys.executable, "-m", "sessile", "migrate", "--store-url", dsn)
        held = await asyncpg.connect(dsn)
        await held.execute("SELECT pg_advisory_lock($1)", ADVISORY_KEY)

        migrating = [
            await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            for _ in range(3)
        ]
        await until_waiting(dsn, 3)
        await held.close()
        told = [(await each.communicate())[0].decode() for each in migrating]

        assert [each.returncode for each in migrating] == [0, 0, 0]
        assert all(line.endswith(f"made, at revision {HEAD}\n") for line in told)
        assert await schema(dsn) == await schema(made)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
async def test_a_node_that_starts_while_another_migrates_waits(isolation: str) -> None:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn)

    async with bare_database() as dsn, asyncio.TaskGroup() as tasks:
        name = dsn.rpartition("/")[2]
        await run(dsn, f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=connect, poolclass=NullPool
        )
        store = PostgresStore(dsn, lease_ms=12_000)
        async with engine.begin() as another:
            await another.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_KEY})"))
            await another.run_sync(upgrade)

            starting = tasks.create_task(store.__aenter__())
            await until_waiting(dsn, 1)
            assert not starting.done()

        await starting
        assert await revision_postgres(dsn) == HEAD
        await store.__aexit__()
