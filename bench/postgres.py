"""The PostgreSQL store alone: durable turns a second, beside a floor that writes the same rows in
as many transactions."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from tests.servers.postgres import Postgres

from bench.rawpg import RawPostgres
from bench.rawsql import Copied
from bench.report import Report, at_least, middle, percentile
from bench.store import Callers, copied, new_ids
from sessile.adapters.postgres import PostgresStore
from sessile.adapters.postgres.lanes import LANES
from sessile.cli.serving import spare_garbage

SECTION = "postgres"
CALLERS = (1, 16, 64, 256)


async def measure(
    report: Report, *, callers: Sequence[int] = CALLERS, rounds: int = 5, turns: int = 6_000
) -> None:
    """`turns`: of all callers together, in each round."""
    with TemporaryDirectory(dir=report.directory) as name:
        template = await copied(Path(name))
    for count in callers:
        with Postgres({"shared_buffers": "256MB"}) as server:
            each = max(turns // (count * 4 if count == 1 else count), 1)
            await _compare(report, server.dsn, template, count, rounds, each)


async def _compare(
    report: Report, dsn: str, template: Copied, count: int, rounds: int, turns: int
) -> None:
    rates: dict[str, list[float]] = {"store": [], "floor": [], "at once": []}
    shares: list[float] = []
    latencies: list[float] = []
    lanes = min(LANES, count)
    async with PostgresStore(dsn, lease_ms=12_000) as store:
        stood = Callers(store, count)
        await stood.open()
        raws = []
        for _ in range(lanes):
            connection = await asyncpg.connect(dsn)
            raw = RawPostgres(connection, template, new_ids(count // lanes))
            await raw.open()
            raws.append(raw)
        sizes: list[float] = []
        for _ in range(rounds):
            spare_garbage()
            before = await _commits(dsn)
            seconds, took = await stood.run(turns)
            sizes.append(2 * count * turns / max(1, await _commits(dsn) - before))
            rates["store"].append(count * turns / seconds)
            latencies.extend(took)
            size = max(1, round(sizes[-1]))
            for floor in ("floor", "at once"):
                ids = [[new_ids(count // lanes) for _ in raws] for _ in range(turns)]
                begun = time.perf_counter()
                await asyncio.gather(
                    *(
                        _run(raw, ids, n, size=size, at_once=floor == "at once")
                        for n, raw in enumerate(raws)
                    )
                )
                rates[floor].append(count * turns / (time.perf_counter() - begun))
            shares.append(rates["store"][-1] / rates["floor"][-1])
    who = f"{count} caller{'s' * (count > 1)}"
    report.add(SECTION, f"{who}: turns", middle(rates["store"]), "/s")
    report.add(SECTION, f"{who}: floor, same rows and commits", middle(rates["floor"]), "/s")
    report.add(SECTION, f"{who}: floor, all in one statement", middle(rates["at once"]), "/s")
    aim = at_least(0.6) if count == 64 else None
    report.add(SECTION, f"{who}: share of the floor", middle(shares), "", aim)
    report.add(SECTION, f"{who}: jobs a commit", middle(sizes), "")
    report.add(SECTION, f"{who}: p50", percentile(latencies, 0.5), "ms")
    report.add(SECTION, f"{who}: p99", percentile(latencies, 0.99), "ms")


async def _run(
    raw: RawPostgres, ids: Sequence[Sequence[Sequence[str]]], n: int, *, size: int, at_once: bool
) -> None:
    for turn_ids in ids:
        await raw.turn_of_each(turn_ids[n], size=size, at_once=at_once)


async def _commits(dsn: str) -> int:
    """How many transactions wrote something until now: each of these, and no other, has an id."""
    connection = await asyncpg.connect(dsn)
    try:
        sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        return int(await connection.fetchval(sql))
    finally:
        await connection.close()
