"""`sessile doctor` and `sessile log` of a PostgreSQL database, beside nodes or without them."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.cli.conftest import Ran, until
from tests.cli.test_doctor import ANN, BOB, OF_ONE, PLANTED, an_assistant
from tests.contract.dump_schema import dumped
from tests.servers.databases import bare_database, database
from tests.servers.postgres import Postgres

from sessile import Server, Settings
from sessile.adapters.postgres import PostgresStore
from sessile.adapters.postgres.archive import open_archive
from sessile.adapters.postgres.store import StorageUnreachable
from sessile.adapters.sql import archive, checks
from sessile.core.ids import SessionId

Run = Callable[..., Ran]

_numbers = count(1)


def fetch(dsn: str, *statements: str) -> list[Sequence[Any]]:
    """What the last of them answers."""

    async def asked() -> list[Sequence[Any]]:
        connection = await asyncpg.connect(dsn)
        try:
            *first, last = statements
            for statement in first:
                await connection.execute(statement)
            rows: list[Sequence[Any]] = await connection.fetch(last)
        finally:
            await connection.close()
        return rows

    return asyncio.run(asked())


async def by_two_nodes(dsn: str, directory: Path) -> None:
    """Two sessions with two turns each; each turn is accepted by another node than the last."""
    settings = Settings(data_dir=directory, store_url=dsn)
    async with (
        Server(an_assistant(), settings=settings) as one,
        Server(an_assistant(), settings=settings) as two,
    ):
        for principal in (ANN, BOB):
            session_id = (await one.open(principal)).found.head.key.session_id
            for node in (one, two):
                await node.submit(principal, session_id, "Where is it?", wait_seconds=10)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that keeps what it acknowledged. Nothing is vacuumed while a test looks."""
    with Postgres({"autovacuum_naptime": "1d"}) as postgres:
        yield postgres


@pytest.fixture(scope="module")
def made(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database that two nodes used, and left."""
    fetch(server.dsn, "CREATE DATABASE made", "SELECT 1")
    asyncio.run(by_two_nodes(server.dsn_of("made"), tmp_path_factory.mktemp("made")))
    return "made"


@pytest.fixture
def dsn(server: Postgres, made: str) -> Iterator[str]:
    """A copy of it to spoil."""
    name = f"copy_{next(_numbers)}"
    fetch(server.dsn, f"CREATE DATABASE {name} TEMPLATE {made}", "SELECT 1")
    yield server.dsn_of(name)
    fetch(server.dsn, f"DROP DATABASE {name} WITH (FORCE)", "SELECT 1")


@pytest.fixture
def check(run: Run, tmp_path: Path) -> Callable[..., dict[str, dict[str, Any]]]:
    def checked(dsn: str, *more: str) -> dict[str, dict[str, Any]]:
        ran = run("doctor", "--json", "--store-url", dsn, "--data-dir", str(tmp_path), *more)
        wire = json.loads(ran.out)
        assert wire["ok"] == (ran.code == 0)
        return {each["check"]: each for each in wire["checks"]}

    return checked


Check = Callable[..., dict[str, dict[str, Any]]]


def test_what_two_nodes_left_is_as_the_log_says(check: Check, dsn: str) -> None:
    found = check(dsn)

    assert [each["faults"] for each in found.values() if each["faults"]] == []
    counted = {name: each["checked"] for name, each in found.items()}
    assert counted | {"nodes": 1, "bodies": 1, "ids": 1} == {
        "durable": 3, "tenancy": 14, "nodes": 1, "tables": 2, "indexes": 23, "schema": 1,
        "lookups": 32, "ids": 1, "orphans": 2, "exclusive": 2, "leases": 0, "due": 0,
        "bodies": 1, "seq": 2, "head": 2, "session": 2,
        "turns": 4, "ends": 4, "calls": 4, "closed": 0, "voided": 2, "tokens": 0,
    }  # fmt: skip
    assert counted["nodes"] > 100
    assert counted["bodies"] > 20


OWN = [
    ("durable", "ALTER DATABASE {name} SET synchronous_commit = off"),
    ("nodes", "ALTER DATABASE {name} CONNECTION LIMIT 11"),
    ("tables", "ALTER TABLE session_head RESET (fillfactor)"),
    ("tables", "ALTER TABLE turn RESET (fillfactor)"),
    ("tenancy", "ALTER TABLE turn NO FORCE ROW LEVEL SECURITY"),
    ("tenancy", "ALTER TABLE entry DISABLE ROW LEVEL SECURITY"),
    ("tenancy", "DROP POLICY tenants ON session"),
    ("tenancy", "CREATE TABLE later (tenant_id text PRIMARY KEY)"),
    ("tenancy", "REVOKE UPDATE ON session_head FROM sessile_app"),
    ("tables", "ALTER TABLE session_head SET (autovacuum_enabled = off)"),
    (
        "indexes",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'entry_history'::regclass",
    ),
]


@pytest.mark.parametrize(("name", "statement"), [*PLANTED, *OWN])
def test_a_planted_fault_is_found_under_its_name(
    run: Run, check: Check, dsn: str, name: str, statement: str
) -> None:
    columns = fetch(
        dsn,
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'turn'"
        " ORDER BY ordinal_position",
    )
    turn = ", ".join("99" if column == "position" else column for (column,) in columns[3:])
    database_name = dsn.rpartition("/")[2]
    fetch(dsn, statement.replace("{turn}", turn).replace("{name}", database_name), "SELECT 1")

    assert check(dsn)[name]["faults"]
    ran = run("doctor", "--store-url", dsn)
    assert ran.code == 1
    assert f"✗ {name} " in ran.out


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        ("DROP INDEX turn_position", "the index turn_position is missing: CREATE UNIQUE INDEX"),
        (
            "DROP INDEX turn_position; CREATE INDEX turn_position ON turn (session_id)",
            "the index turn_position is another: ",
        ),
    ],
)
def test_an_index_that_is_missing_is_named_with_what_helps(
    check: Check, dsn: str, spoil: str, what: str
) -> None:
    fetch(dsn, *spoil.split("; "), "SELECT 1")

    (fault,) = check(dsn)["lookups"]["faults"]

    assert fault["what"].startswith(what)
    *_, helps = fault["what"].partition(": ")
    drop = ["DROP INDEX turn_position"] if "another" in what else []
    fetch(dsn, *drop, helps.removeprefix("drop it, then "), "SELECT 1")
    assert not check(dsn)["lookups"]["faults"]


def test_an_index_of_somebody_else_s_is_no_fault(check: Check, dsn: str) -> None:
    fetch(dsn, "CREATE INDEX mine ON session (lower(title))", "SELECT 1")

    assert not check(dsn)["lookups"]["faults"]


def test_a_table_that_lost_its_key_is_found(check: Check, dsn: str) -> None:
    fetch(dsn, "ALTER TABLE entry DROP CONSTRAINT entry_pkey", "SELECT 1")

    (fault,) = check(dsn)["lookups"]["faults"]

    assert fault["what"].endswith("has not its primary key: tenant_id, session_id, seq")


def test_two_active_sessions_with_one_exclusive_key_are_found(check: Check, dsn: str) -> None:
    spoil = "UPDATE session_head SET exclusive_key = 'support:ann'"
    fetch(dsn, "DROP INDEX session_head_exclusive", spoil, "SELECT 1")

    assert check(dsn)["exclusive"]["faults"]


def test_dead_rows_that_nobody_vacuums_are_found(check: Check, dsn: str) -> None:
    fetch(
        dsn,
        "INSERT INTO session_head SELECT 'acme', 'ses_' || n, 'ann', NULL, 'active', 0, 0, 0, 1, 0,"
        " NULL, NULL, NULL, 0, NULL, 0, NULL FROM generate_series(1, 10100) AS n",
        "DELETE FROM session_head WHERE head = 0",
        "SELECT 1",
    )

    (fault,) = check(dsn)["tables"]["faults"]

    assert fault["what"].startswith("session_head has 10100 dead rows")


@pytest.mark.parametrize(
    ("name", "setting"), [("durable", "full_page_writes"), ("tables", "autovacuum")]
)
def test_a_setting_of_the_whole_server_is_found(
    check: Check, dsn: str, name: str, setting: str
) -> None:
    def is_now(value: str) -> bool:
        return fetch(dsn, f"SHOW {setting}")[0][0] == value

    fetch(dsn, f"ALTER SYSTEM SET {setting} = off", "SELECT pg_reload_conf()")
    until(lambda: is_now("off"))
    try:
        (fault,) = check(dsn)[name]["faults"]
    finally:
        fetch(dsn, f"ALTER SYSTEM RESET {setting}", "SELECT pg_reload_conf()")
        until(lambda: is_now("on"))

    assert fault["what"].startswith(f"{setting} is off: ")


async def test_a_server_that_leaves_the_disk_to_chance_is_found(check: Check) -> None:
    """As the one is that tests share."""
    async with database() as dsn:
        found = await asyncio.to_thread(check, dsn)

    (fault,) = found["durable"]["faults"]
    assert fault["what"].startswith("fsync is off: ")


async def test_the_nodes_that_run_are_counted(check: Check, dsn: str) -> None:
    async with PostgresStore(dsn, lease_ms=12_000), PostgresStore(dsn, lease_ms=12_000):
        name = dsn.rpartition("/")[2]
        limit = f"ALTER DATABASE {name} CONNECTION LIMIT"
        await asyncio.to_thread(fetch, dsn, f"{limit} 32", "SELECT 1")
        enough = await asyncio.to_thread(check, dsn)
        await asyncio.to_thread(fetch, dsn, f"{limit} 31", "SELECT 1")
        too_few = await asyncio.to_thread(check, dsn)

    assert enough["nodes"]["faults"] == []
    (fault,) = too_few["nodes"]["faults"]
    assert fault["what"].startswith("2 nodes need 32 connections")


async def test_beside_nodes_that_write_nothing_is_wrong(
    check: Check, dsn: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, store_url=dsn)
    looked = asyncio.Event()

    async def write(node: Server) -> None:
        session_id = (await node.open(ANN)).found.head.key.session_id
        while not looked.is_set():
            await node.submit(ANN, session_id, "Where is it?", wait_seconds=10)

    async with (
        Server(an_assistant(), settings=settings) as one,
        Server(an_assistant(), settings=settings) as two,
        asyncio.TaskGroup() as tasks,
    ):
        for node in (one, two):
            tasks.create_task(write(node))
        found = [await asyncio.to_thread(check, dsn) for _ in range(3)]
        looked.set()

    faults = [fault for each in found for it in each.values() for fault in it["faults"]]
    assert faults == []


async def test_a_connection_that_is_lost_is_told(dsn: str) -> None:
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'sessile archive' AND datname = current_database()"
    )

    async def look() -> None:
        async with open_archive(dsn, busy_seconds=10) as opened:
            await asyncio.to_thread(fetch, dsn, end)
            await opened.keys(SessionId("ses_1"))

    with pytest.raises(StorageUnreachable):
        await look()


async def test_a_session_is_looked_at_in_one_state(dsn: str) -> None:
    sql = f"SELECT head FROM session_head WHERE {OF_ONE}"
    async with open_archive(dsn, busy_seconds=10) as opened:
        looking = opened._database
        async with looking.one_state():
            before = [tuple(row) async for row in looking.rows(sql)]
            grow = f"UPDATE session_head SET head = head + 1 WHERE {OF_ONE}"
            await asyncio.to_thread(fetch, dsn, grow, "SELECT 1")
            after = [tuple(row) async for row in looking.rows(sql)]

    assert after == before


def test_no_more_sessions_are_looked_at_than_asked_for(check: Check, dsn: str) -> None:
    found = check(dsn, "--sessions", "1")

    assert found["head"]["checked"] == 1
    assert found["orphans"]["checked"] == 2


def test_it_needs_no_more_than_to_read_and_shows_no_password(run: Run, dsn: str) -> None:
    fetch(
        dsn,
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN BYPASSRLS IN ROLE pg_read_all_data",
        "SELECT 1",
    )
    before = dumped(dsn)

    ran = run("doctor", "--json", "--store-url", dsn.replace("sessile@", "reader:secret@"))

    assert ran.code == 0
    assert json.loads(ran.out)["store_url"] == dsn.replace("sessile@", "reader:…@")
    assert dumped(dsn) == before


def test_a_user_who_may_read_nothing_is_told(run: Run, dsn: str) -> None:
    fetch(dsn, "DROP ROLE IF EXISTS nobody", "CREATE ROLE nobody LOGIN", "SELECT 1")

    ran = run("doctor", "--store-url", dsn.replace("sessile@", "nobody@"))

    assert ran.code == 1
    assert "permission denied" in ran.err
    assert ran.err.count("\n") == 1


async def test_a_database_without_a_schema_is_told(check: Check) -> None:
    async with bare_database() as dsn:
        found = await asyncio.to_thread(check, dsn)

    (fault,) = found["schema"]["faults"]
    assert "run `sessile migrate`" in fault["what"]


def test_long_logs_are_looked_at_page_by_page(
    run: Run, check: Check, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((session_id,),) = fetch(dsn, "SELECT min(session_id) FROM session_head")
    whole = check(dsn), run("log", session_id, "--store-url", dsn)

    monkeypatch.setattr(checks, "ENTRIES_PAGE", 2)
    monkeypatch.setattr(archive, "ENTRIES_PAGE", 2)

    assert (check(dsn), run("log", session_id, "--store-url", dsn)) == whole


def test_a_log_is_read_without_a_server(run: Run, dsn: str) -> None:
    ((session_id,),) = fetch(dsn, "SELECT min(session_id) FROM session_head")
    entries = fetch(dsn, f"SELECT seq, kind, turn_id, body FROM entry WHERE {OF_ONE} ORDER BY seq")

    for more in ((), ("--after", "3")):
        ran = run("log", session_id, "--store-url", dsn, "--json", *more)

        shown = [json.loads(line) for line in ran.out.splitlines()]
        assert [(it["seq"], it["kind"], it["turn_id"], it["body"]) for it in shown] == [
            (seq, kind, turn_id, json.loads(body))
            for seq, kind, turn_id, body in entries[3 if more else 0 :]
        ]
        assert ran.code == 0


def test_a_session_that_is_not_there_is_told(run: Run, dsn: str) -> None:
    ran = run("log", "ses_none", "--store-url", dsn)

    assert ran.code == 2
    assert "no session ses_none" in ran.err


def test_a_log_that_is_to_be_followed_needs_a_server(run: Run, dsn: str) -> None:
    ran = run("log", "ses_1", "--store-url", dsn, "--follow")

    assert ran.code == 2
    assert "--store-url" in ran.err
