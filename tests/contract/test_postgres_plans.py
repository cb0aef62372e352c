"""How PostgreSQL goes about each statement where there are many idle sessions and a long log."""

import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from tests.contract.desk import ACME, KNOWN, LEASE_MS, NODE, Desk, holding, once
from tests.contract.nodes import connected, crowd, crowd_turns, nodes
from tests.contract.test_postgres_fate import ACTS
from tests.servers.databases import database

from sessile.adapters.postgres import reads
from sessile.adapters.postgres.connections import Connector, Patience
from sessile.core.ids import SessionKey, UserId

IDLE = 100_000
TABLES = "session_head|session|entry|turn|idempotency"

EXPLAINED = """
    CREATE FUNCTION explained(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
    BEGIN RETURN QUERY EXECUTE 'EXPLAIN (GENERIC_PLAN) ' || sql; END $$
"""
"""A driver that prepares each statement must give its values, and this plan is made without."""


class Explaining:
    """A connection that asks how each statement will be run, before it is: with its values, and
    with none, as the server plans it once it was asked often."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.plans: dict[str, list[str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    async def execute(self, sql: str, *values: Any) -> Any:
        await self._explain(sql, values)
        return await self.connection.execute(sql, *values)

    async def fetch(self, sql: str, *values: Any) -> Any:
        await self._explain(sql, values)
        return await self.connection.fetch(sql, *values)

    async def fetchrow(self, sql: str, *values: Any) -> Any:
        await self._explain(sql, values)
        return await self.connection.fetchrow(sql, *values)

    async def fetchval(self, sql: str, *values: Any) -> Any:
        await self._explain(sql, values)
        return await self.connection.fetchval(sql, *values)

    async def _explain(self, sql: str, values: Any) -> None:
        if sql.endswith(("BEGIN", "COMMIT", "ROLLBACK", ";")) or sql in self.plans:
            return
        own = await self.connection.fetch(f"EXPLAIN {sql}", *values)
        generic = await self.connection.fetch("SELECT explained($1)", sql)
        self.plans[sql] = ["\n".join(row[0] for row in rows) for rows in (own, generic)]


@pytest.fixture(scope="module")
async def dsn() -> AsyncIterator[str]:
    async with database() as dsn, connected(dsn) as own:
        await crowd(own, IDLE)
        await crowd_turns(own, IDLE // 5)
        await own.execute(EXPLAINED)
        yield dsn
        await own.execute("DROP FUNCTION explained")


@pytest.fixture(scope="module")
async def desk(dsn: str) -> AsyncIterator[Desk]:
    async with nodes(dsn, 1) as (desk,):
        yield desk


@pytest.fixture
async def explaining(dsn: str, request: pytest.FixtureRequest) -> AsyncIterator[Explaining]:
    connector = await Connector(dsn, Patience(12_000)).in_role()
    connection = await connector.connect("explained", lock_ms=1_000)
    await connection.tell(None if "sweep" in request.node.name else [ACME])
    yield Explaining(connection)
    await connection.close()


def scans(plan: str) -> list[str]:
    return re.findall(rf"Seq Scan on (?:{TABLES})\b", plan)


async def test_no_statement_of_a_lane_or_a_renewal_scans_a_table(desk: Desk) -> None:
    store: Any = desk.store
    lanes = store._lanes._lanes
    planted = [Explaining(lane._connection) for lane in lanes]
    for lane, each in zip(lanes, planted, strict=True):
        lane._connection = each
    planted.append(Explaining(store._renewing))
    store._renewing = planted[-1]

    for made in ACTS:
        act = await made(desk)
        for lane in lanes:
            lane._hot.clear()  # so that all of it is looked up
        await act()
    held = await desk.run(await desk.open())
    await desk.append(held, 0, "a")
    await desk.append(held, 0, "a")
    await desk.store.renew(NODE, [held], lease_ms=LEASE_MS)
    await desk.open_as(once=once("k0", "open"))

    for lane, each in zip(lanes, planted, strict=False):
        lane._connection = each.connection
    store._renewing = planted[-1].connection
    plans = {sql: plans for each in planted for sql, plans in each.plans.items()}
    for part in PARTS:
        assert any(part in sql for sql in plans), f"no statement with {part} was seen"
    for sql, both in plans.items():
        for plan in both:
            assert not scans(plan), f"{sql}\n{plan}"
        by_tenant(sql)


PARTS = (
    "FOR UPDATE OF h SKIP LOCKED", "grown AS", "turned AS", "UPDATE session_head AS h",
    "UPDATE session AS s", "UPDATE turn AS t", "INSERT INTO session_head", "INSERT INTO session ",
    "INSERT INTO entry", "INSERT INTO turn", "INSERT INTO idempotency", "DELETE FROM session_head",
    "DELETE FROM session AS", "DELETE FROM entry", "DELETE FROM turn", "DELETE FROM idempotency",
    "JOIN session AS s", "JOIN turn AS t", "SELECT * FROM turn", "JOIN idempotency AS i",
    "h.exclusive_key = k.exclusive_key", "FOR UPDATE OF h\n            ) AS locked",
)  # fmt: skip


def by_tenant(sql: str) -> None:
    """It names the tenant of each table that it touches."""
    found = re.findall(rf"(?:FROM|JOIN|UPDATE|INTO)\s+({TABLES})\b(?:\s+AS\s+(\w+))?", sql)
    for _, alias in found:
        named = rf"\b{alias}\.tenant_id\b" if alias else r"\btenant_id\b"
        assert re.search(named, sql), sql


LONG = SessionKey(ACME, "ses_idle_7")  # type: ignore[arg-type]
Read = Callable[[Any], Coroutine[Any, Any, Any]]


def page(**more: Any) -> Read:
    given = {"after": 0, "before": None, "history": False, "newest_first": False, "limit": 100}
    return lambda it: reads.entries(it, LONG, **{**given, "bytes_max": None, **more})


READS: dict[str, tuple[Read, str]] = {
    "log": (page(), "entry_pkey"),
    "log by bytes": (page(bytes_max=1000), "entry_pkey"),
    "last of the log": (page(newest_first=True), "entry_pkey"),
    "history": (page(history=True), "entry_history"),
    "history by bytes": (page(history=True, bytes_max=1000), "entry_history"),
    "last of history": (page(history=True, newest_first=True), "entry_history"),
    "last of history before": (
        page(history=True, newest_first=True, before=500, bytes_max=1000),
        "entry_history",
    ),
    "summary": (lambda it: reads.summary(it, LONG, before=900), "entry_summary"),
    "find": (lambda it: reads.find(it, LONG, None), "session_head_pkey"),
    "turns": (
        lambda it: reads.turns(it, LONG, after=0, queued=False, limit=10, bytes_max=None),
        "turn_position",
    ),
    "queue": (
        lambda it: reads.turns(it, LONG, after=0, queued=True, limit=10, bytes_max=1000),
        "turn_queued",
    ),
    "sessions": (
        lambda it: reads.sessions(it, ACME, user_id=None, before=None, limit=10),
        "session_pkey",
    ),
    "sessions of a user": (
        lambda it: reads.sessions(it, ACME, user_id=UserId("u7"), before=None, limit=10),
        "session_by_user",
    ),
    "sessions counted": (
        lambda it: reads.how_many(it, ACME, "sessions", user_id=UserId("u7"), most=10),
        "session_head_active",
    ),
    "turns counted": (
        lambda it: reads.how_many(it, ACME, "queue", user_id=UserId("u7"), most=10),
        "turn_waiting",
    ),
    "tokens": (lambda it: reads.tokens(it, ACME, since_ms=1), "turn_day"),
    "sweep": (
        lambda it: reads.sweep(it, due_max=10, assistants=KNOWN, following=[LONG]),
        "session_head_due",
    ),
}


@pytest.fixture(scope="module")
async def long_log(dsn: str) -> None:
    """1,000 entries in one session, one in ten of them of the history; and many that wait."""
    async with connected(dsn) as own:
        await own.execute(
            """
            INSERT INTO entry (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
            SELECT 'acme', 'ses_idle_7', n, 'trn_1',
                CASE WHEN n = 500 THEN 'session.summarized' WHEN n % 10 = 0 THEN 'message.added'
                ELSE 'message.delta' END, 0, '{}'
            FROM generate_series(2, 1001) AS n;
            UPDATE session_head SET due_at_ms = sessile_now_ms() + 86400000
            WHERE session_id LIKE 'ses_idle_1%';
            UPDATE session_head SET due_at_ms = sessile_now_ms() WHERE session_id = 'ses_idle_7';
            ANALYZE entry, session_head
            """
        )


@pytest.mark.usefixtures("long_log")
@pytest.mark.parametrize("name", READS)
async def test_every_page_is_read_by_its_index(explaining: Explaining, name: str) -> None:
    read, index = READS[name]

    await read(explaining)

    ((sql, plans),) = explaining.plans.items()
    by_tenant(sql)
    for plan in plans:
        assert re.search(rf"(using|on) {index}\b", plan), plan
        assert not scans(plan), plan


@pytest.mark.usefixtures("long_log")
async def test_a_sweep_looks_at_no_session_that_is_not_due(explaining: Explaining) -> None:
    await reads.sweep(explaining, due_max=10, assistants=KNOWN, following=())

    ((sql, plans),) = explaining.plans.items()
    for plan in plans:
        assert re.search(r"Index Cond: \(\(tenant_id = t.tenant_id\) AND \(due_at_ms <= ", plan)
    rows = await explaining.connection.fetch(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", ["support"], 10, [], []
    )
    (hit,) = re.findall(r'"Shared Hit Blocks": (\d+)', rows[0][0])[:1]
    assert int(hit) < 30, "of 11,000 that wait it read none"


async def test_an_append_changes_no_index(desk: Desk) -> None:
    store: Any = desk.store
    lanes = [lane._connection for lane in store._lanes._lanes]

    async def updates() -> tuple[int, int]:
        for each in lanes:
            await each.execute("SELECT pg_stat_force_next_flush()")
        return tuple(
            await lanes[0].fetchrow(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE relname = 'session_head'"
            )
        )

    held = [holding(await desk.submit(await desk.open())) for _ in range(20)]
    before = await updates()
    for step in range(40):
        for each in held:
            await desk.append(each, step, "a")
    after = await updates()

    updated, hot = (now - then for now, then in zip(after, before, strict=True))
    assert updated == 800
    assert hot >= 0.95 * updated
