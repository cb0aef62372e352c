"""Redaction on PostgreSQL, beside other nodes; and records that nobody changes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.contract.desk import ACME, ALL, ANN, Desk, holding
from tests.contract.nodes import connected, nodes
from tests.contract.test_records import CANARY, everywhere, fork, redact, user_message
from tests.doubles import CountingIds, ManualClock
from tests.servers.databases import database
from tests.servers.waits import waiting_for_locks

from sessile.adapters.sqlite import SqliteStore
from sessile.core.ids import AuditId
from sessile.core.notes import AuditRecord

RECORD = AuditRecord(
    tenant_id=ACME, audit_id=AuditId("aud_1"), at_ms=1, actor="a", action="b", subject="c"
)


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    async with database() as dsn:
        yield dsn


async def test_it_is_decided_behind_the_lock_of_the_head(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as holder, connected(dsn) as own:
        key = await desk.open()
        submitted = await desk.submit(key, CANARY)
        await desk.finish(holding(submitted))
        place = "WHERE tenant_id = $1 AND session_id = $2"
        await holder.execute("BEGIN")
        await holder.execute(f"SELECT 1 FROM session_head {place} FOR UPDATE", *key)

        voids = asyncio.gather(redact(desk, key, user_message(submitted)))
        await waiting_for_locks(own, name="sessile records")
        await holder.execute(f"UPDATE session_head SET next_position = 77 {place}", *key)
        await holder.execute("COMMIT")
        await voids

        assert (await desk.look(key)).head.next_position == 77
        await holder.execute(f"UPDATE session_head SET next_position = 2 {place}", *key)


async def test_no_other_node_goes_on_with_what_it_remembers(dsn: str) -> None:
    async with nodes(dsn, 2) as (one, other):
        key = await one.open(title=CANARY, metadata={"note": CANARY})
        submitted = await one.submit(key, CANARY)
        await one.finish(holding(submitted))

        await redact(other, key, user_message(submitted))
        await one.update(key, metadata={"more": 1})
        await one.finish(await one.run(key, "more"))

        assert "canary" not in await everywhere(one, key)


async def test_forks_and_redactions_that_meet_leave_no_copy(dsn: str) -> None:
    async with nodes(dsn, 2) as (one, other):
        for _ in range(10):
            key = await one.open()
            submitted = await one.submit(key, CANARY)
            await one.finish(holding(submitted))

            made, _ = await asyncio.gather(
                fork(one, key),
                redact(other, key, user_message(submitted)),
                return_exceptions=True,
            )

            there = [key] if isinstance(made, BaseException) else [key, made]
            assert "canary" not in await everywhere(one, *there)


async def test_a_record_stays_as_it_is_in_postgresql(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        await desk.store.records.note(RECORD)

        for sql in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
            with pytest.raises(asyncpg.RaiseError, match="stays as it is"):
                await own.execute(sql)

        assert await desk.store.records.audit(ACME, limit=ALL) == (RECORD,)


async def test_a_record_stays_as_it_is_in_sqlite(tmp_path: Path) -> None:
    path, clock = tmp_path / "sessile.db", ManualClock()
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, CountingIds())
        await desk.store.records.note(RECORD)

        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            for sql in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
                with pytest.raises(sqlite3.IntegrityError, match="stays as it is"):
                    file.execute(sql)

        assert await desk.store.records.audit(ANN.tenant_id, limit=ALL) == (RECORD,)
