"""Writes `data/schema_<revision>.sql`, the database that later versions must be able to open, and
`data/postgres_<revision>.sql`, the same in PostgreSQL.

Run once for each new revision, `python -m tests.contract.dump_schema`; a released one is kept.
"""

import asyncio
import re
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from tests.contract.clocked import clocked
from tests.contract.desk import BOB, STRANGER, Desk, once
from tests.doubles import CountingIds, ManualClock
from tests.servers.databases import database
from tests.servers.postgres import program

from sessile.adapters.migrations import HEAD
from sessile.adapters.sqlite import SqliteStore


async def fill(desk: Desk) -> None:
    await orders(desk)
    await desk.close(await desk.open(BOB), BOB)
    await desk.submit(await desk.open(STRANGER), "q", run=False, principal=STRANGER)
    broken = await desk.open()
    error = {"code": "model_error", "message": "no", "retry": True}
    await desk.finish(await desk.run(broken, "x"), end="failed", error=error)
    await desk.update(broken, title="Broken", retitle=True)
    await refund(desk)


async def orders(desk: Desk) -> None:
    """One turn has ended, one runs, one waits, one was withdrawn."""
    key = await desk.open(
        title="Orders ünï",
        metadata={"shop": 7},
        exclusive_key="ann@support",
        once=once("k0", "open"),
    )
    held = await desk.run(key, "where is 7?")
    desk.clock.advance(milliseconds=5)
    await desk.append(held, 0, "on its", " way")
    await desk.finish(held, step=1, output="on its way", closing=[desk.reply(held, "on its way")])
    await desk.append(await desk.run(key, "and 8?"), 0, "it")
    await desk.submit(key, "and 9?", once=once("k1", key.session_id))
    withdrawn = (await desk.submit(key, "never mind")).turn
    assert withdrawn is not None
    await desk.cancel(key, withdrawn.turn_id)


async def refund(desk: Desk) -> None:
    """A turn awaits two approvals, one of which was given; the session has a grant."""
    key = await desk.open()
    await desk.grant(key, "refund")
    first, _ = await desk.awaits(await desk.run(key, "my money"), calls=2, others=1)
    desk.clock.advance(milliseconds=7)
    await desk.answer(key, first)


async def sqlite() -> str:
    clock = ManualClock()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "sessile.db"
        async with SqliteStore(path, clock=clock) as store:
            await fill(Desk(store, clock, CountingIds()))
        connection = sqlite3.connect(path)
        lines = [line.replace(" \n", "\n") for line in connection.iterdump()]
        connection.close()
    return "\n".join(lines) + "\n"


async def postgres() -> str:
    clock = ManualClock()
    async with database() as dsn:
        async with clocked(dsn, clock) as store:
            await fill(Desk(store, clock, CountingIds()))
        return await asyncio.to_thread(dumped, dsn, "--inserts", "--exclude-table=test_clock")


def dumped(dsn: str, *options: str) -> str:
    """A PostgreSQL database as statements, without what depends on the program's version."""
    command = [str(program("pg_dump")), "--no-owner", *options, dsn]
    text = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    plain = re.sub(r"^(--|\\|SET |SELECT pg_catalog.set_config).*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"\n+", "\n", plain).lstrip()


if __name__ == "__main__":
    for name, dump in (("schema", sqlite), ("postgres", postgres)):
        target = Path(__file__).parent / "data" / f"{name}_{HEAD}.sql"
        target.write_text(asyncio.run(dump()), encoding="utf-8")
