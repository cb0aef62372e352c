"""`sessile doctor` finds each fault that is planted into a database, under its name."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import Ran, Serve
from tests.contract.desk import Desk
from tests.contract.test_folds import begin
from tests.doubles import CountingIds, ManualClock

from sessile import Assistant, Principal, Server, Settings, Tools, TurnContext
from sessile.adapters.sql.checks import LOGS
from sessile.adapters.sqlite import SqliteStore
from sessile.core.ids import TenantId, UserId
from sessile.core.transcript import History

ANN = Principal(tenant_id=TenantId("acme"), user_id=UserId("ann"))
BOB = Principal(tenant_id=TenantId("acme"), user_id=UserId("bob"))


def an_assistant() -> Assistant:
    support = Assistant("support", exclusive=True)

    @support.tool("orders.lookup", idempotent=True)
    async def lookup(turn: TurnContext, number: int) -> str:
        return f"order {number} is shipped"

    @support.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        result = await tools.call("orders.lookup", {"number": 7})
        return str(result.value)

    return support


async def two_sessions(directory: Path) -> None:
    async with Server(an_assistant(), settings=Settings(data_dir=directory)) as server:
        for principal in (ANN, BOB):
            opened = await server.open(principal)
            for text in ("Where is order 7?", "And now?"):
                session_id = opened.found.head.key.session_id
                await server.submit(principal, session_id, text, wait_seconds=10)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of two sessions with two turns each, made by a server that has ended."""
    directory = tmp_path_factory.mktemp("made")
    asyncio.run(two_sessions(directory))
    return directory


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    for file in ("sessile.db", "sessile.db-wal"):
        if (made / file).exists():
            (tmp_path / file).write_bytes((made / file).read_bytes())
    (tmp_path / "dev-tokens").touch(mode=0o600)
    return tmp_path


def spoil(directory: Path, *statements: str) -> None:
    with closing(sqlite3.connect(directory / "sessile.db", isolation_level=None)) as database:
        for statement in statements:
            assert database.execute(statement).rowcount != 0, statement


def checks(run: Callable[..., Ran], directory: Path, *more: str) -> dict[str, dict[str, object]]:
    ran = run("doctor", "--json", "--data-dir", str(directory), *more)
    wire = json.loads(ran.out)
    return {check["check"]: check for check in wire["checks"]}


def test_a_good_database_has_no_fault_and_is_told_what_was_looked_at(
    run: Callable[..., Ran], directory: Path
) -> None:
    found = checks(run, directory)

    assert [name for name, check in found.items() if check["faults"]] == []
    counted = {name: check["checked"] for name, check in found.items()}
    assert counted | {"integrity": 1, "wal": 0, "bodies": 1, "ids": 1} == {
        "integrity": 1, "wal": 0, "schema": 1, "lookups": 32, "ids": 1, "orphans": 2,
        "exclusive": 2, "leases": 0, "due": 0, "bodies": 1, "seq": 2, "head": 2, "session": 2,
        "turns": 4, "ends": 4, "calls": 4, "closed": 0, "voided": 2,
        "tokens": 1,
    }  # fmt: skip
    assert counted["bodies"] > 20  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happened_in_whatever_order_nothing_is_wrong_with_it(
    run: Callable[..., Ran], tmp_path: Path, seed: int
) -> None:
    clock = ManualClock()
    async with SqliteStore(tmp_path / "sessile.db", clock=clock) as store:
        walk = await begin(Desk(store, clock, CountingIds()), seed)
        for _ in range(400):
            await walk.step()

    found = await asyncio.to_thread(checks, run, tmp_path)

    assert found["turns"]["checked"] > 5  # type: ignore[operator]
    # That clock stands long ago, and the walk's tools end more than once.
    wrong = {name for name, check in found.items() if check["faults"]}
    assert wrong <= {"leases", "calls"}


ONE = "(SELECT min(session_id) FROM session_head)"
OF_ONE = f"session_id = {ONE}"

PLANTED = [
    ("ids", f"UPDATE session SET session_id = '' WHERE {OF_ONE}"),
    ("ids", f"UPDATE session_head SET session_id = 'null' WHERE {OF_ONE}"),
    ("ids", f"UPDATE turn SET session_id = 'ses_a b' WHERE {OF_ONE}"),
    ("ids", f"UPDATE entry SET session_id = 'None' WHERE {OF_ONE} AND seq = 3"),
    ("ids", f"UPDATE entry SET tenant_id = '' WHERE {OF_ONE}"),
    ("orphans", f"DELETE FROM session WHERE {OF_ONE}"),
    ("orphans", f"DELETE FROM session_head WHERE {OF_ONE}"),
    ("orphans", f"UPDATE entry SET session_id = 'ses_9' WHERE {OF_ONE} AND seq = 3"),
    ("orphans", f"UPDATE entry SET tenant_id = 'zeta' WHERE {OF_ONE}"),
    (
        "leases",
        "UPDATE session_head SET lease_owner = 'n', lease_until_ms = 1, due_at_ms = 1"
        f" WHERE {OF_ONE}",
    ),
    ("due", f"UPDATE session_head SET queued = 1, due_at_ms = NULL WHERE {OF_ONE}"),
    ("due", f"UPDATE session_head SET running_turn_id = 'trn_1' WHERE {OF_ONE}"),
    ("head", f"UPDATE session_head SET head = head + 1 WHERE {OF_ONE}"),
    ("head", f"UPDATE session_head SET fence = 0 WHERE {OF_ONE}"),
    ("head", f"UPDATE session_head SET queued = queued + 1, due_at_ms = 1 WHERE {OF_ONE}"),
    ("session", f"UPDATE session SET assistant = 'other' WHERE {OF_ONE}"),
    ("session", f"UPDATE session SET user_id = 'bob2' WHERE {OF_ONE}"),
    ("seq", f"DELETE FROM entry WHERE {OF_ONE} AND seq = 4"),
    ("seq", f"DELETE FROM entry WHERE {OF_ONE} AND seq = 1"),
    ("bodies", f"UPDATE entry SET body = '{{' WHERE {OF_ONE} AND seq = 3"),
    ("bodies", f"UPDATE entry SET body = '[]' WHERE {OF_ONE} AND seq = 3"),
    ("turns", f"UPDATE turn SET output = 'other' WHERE {OF_ONE} AND position = 1"),
    ("turns", f"UPDATE turn SET tokens_used = 7 WHERE {OF_ONE} AND position = 1"),
    ("turns", f"DELETE FROM turn WHERE {OF_ONE} AND position = 2"),
    (
        "turns",
        f"INSERT INTO turn SELECT tenant_id, session_id, 'trn_x', {{turn}} FROM turn"
        f" WHERE {OF_ONE} AND position = 2",
    ),
    ("ends", f"DELETE FROM entry WHERE {OF_ONE} AND kind = 'turn.completed'"),
    (
        "ends",
        "INSERT INTO entry SELECT tenant_id, session_id,"
        " (SELECT max(seq) + 1 FROM entry AS e WHERE e.session_id = entry.session_id),"
        f" turn_id, kind, at_ms, body FROM entry WHERE {OF_ONE} AND kind = 'turn.completed'"
        " LIMIT 1",
    ),
    ("calls", f"DELETE FROM entry WHERE {OF_ONE} AND kind = 'tool.completed'"),
    ("schema", "UPDATE alembic_version SET version_num = '9999'"),
    ("schema", "DELETE FROM alembic_version"),
    ("schema", "DELETE FROM store"),
    ("schema", "DROP TABLE idempotency"),
    ("schema", "DROP TABLE store"),
    ("schema", "ALTER TABLE turn RENAME COLUMN strikes TO strokes"),
    ("lookups", "DROP INDEX turn_queued"),
]


def columns_after_position(directory: Path) -> str:
    """The columns of a turn behind its id, with another position."""
    with closing(sqlite3.connect(directory / "sessile.db")) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(turn)")]
    return ", ".join("99" if name == "position" else name for name in names[3:])


@pytest.mark.parametrize(("check", "statement"), PLANTED)
def test_a_planted_fault_is_found_under_its_name(
    run: Callable[..., Ran], directory: Path, check: str, statement: str
) -> None:
    spoil(directory, statement.replace("{turn}", columns_after_position(directory)))

    ran = run("doctor", "--data-dir", str(directory))

    assert ran.code == 1
    assert f"✗ {check} " in ran.out
    assert checks(run, directory)[check]["faults"]


def test_two_active_sessions_with_one_exclusive_key_are_found(
    run: Callable[..., Ran], directory: Path
) -> None:
    spoil(
        directory,
        "DROP INDEX session_head_exclusive",
        "UPDATE session_head SET exclusive_key = 'support:ann'",
    )

    assert checks(run, directory)["exclusive"]["faults"]


def test_an_index_that_is_missing_is_named_with_the_statement_that_makes_it(
    run: Callable[..., Ran], directory: Path
) -> None:
    spoil(directory, "DROP INDEX turn_position", "DROP INDEX session_head_due")

    (due, position) = checks(run, directory)["lookups"]["faults"]  # type: ignore[misc]

    spoil(directory, due["what"].partition(": ")[2], position["what"].partition(": ")[2])
    assert "turn_position" in position["what"]
    assert not checks(run, directory)["lookups"]["faults"]


@pytest.mark.parametrize(
    "other",
    [
        "CREATE INDEX turn_position ON turn (tenant_id, session_id, position)",
        "CREATE UNIQUE INDEX turn_position ON turn (tenant_id, position, session_id)",
        "CREATE UNIQUE INDEX turn_position ON entry (tenant_id, session_id, seq)",
    ],
)
def test_an_index_that_is_another_is_found(
    run: Callable[..., Ran], directory: Path, other: str
) -> None:
    spoil(directory, "DROP INDEX turn_position", other)

    (fault,) = checks(run, directory)["lookups"]["faults"]  # type: ignore[misc]

    assert fault["what"].startswith("the index turn_position is another: ")


def test_an_index_of_somebody_else_s_is_no_fault(run: Callable[..., Ran], directory: Path) -> None:
    spoil(directory, "CREATE INDEX mine ON session (lower(title))")

    assert not checks(run, directory)["lookups"]["faults"]


def test_a_table_that_lost_its_key_is_found(run: Callable[..., Ran], directory: Path) -> None:
    spoil(
        directory,
        "CREATE TABLE kept AS SELECT * FROM idempotency",
        "DROP TABLE idempotency",
        "ALTER TABLE kept RENAME TO idempotency",
    )

    fault, _ = checks(run, directory)["lookups"]["faults"]  # type: ignore[misc]

    assert fault["what"].startswith("the table idempotency has not its primary key")


def test_a_broken_file_is_found(run: Callable[..., Ran], directory: Path) -> None:
    file = directory / "sessile.db"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = b"\xff" * 4096
    file.write_bytes(content)

    assert checks(run, directory)["integrity"]["faults"]


def test_a_file_that_is_no_database_is_told(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "sessile.db").write_bytes(b"no database" * 1000)

    ran = run("doctor", "--data-dir", str(tmp_path))

    assert ran.code == 1
    assert "file is not a database" in ran.out
    assert "sessile migrate" not in ran.out, "it would not help"
    assert "put a backup in its place" in ran.err


def test_a_write_ahead_log_that_has_outgrown_its_limit_is_found(
    run: Callable[..., Ran], directory: Path
) -> None:
    with (directory / "sessile.db-wal").open("wb") as wal:
        wal.truncate(300 * 1024 * 1024)

    assert checks(run, directory)["wal"]["faults"]


def test_tokens_that_others_may_read_are_found(run: Callable[..., Ran], directory: Path) -> None:
    (directory / "dev-tokens").chmod(0o640)

    ran = run("doctor", "--data-dir", str(directory))

    assert ran.code == 1
    assert "0640" in ran.out


def test_it_changes_nothing(run: Callable[..., Ran], directory: Path) -> None:
    before = (directory / "sessile.db").read_bytes()

    checks(run, directory)

    assert (directory / "sessile.db").read_bytes() == before


def test_a_log_is_skipped_however_long_it_is(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "sessile.db")) as database:
        plan = database.execute(f"EXPLAIN QUERY PLAN {LOGS} SELECT * FROM logs").fetchall()

    sought = [step[3] for step in plan if " e USING COVERING INDEX " in step[3]]
    ways = {step[step.index("(") :] for step in sought}
    assert ways == {"(tenant_id=? AND session_id>?)", "(tenant_id>?)"}


def test_no_more_sessions_are_looked_at_than_asked_for(
    run: Callable[..., Ran], directory: Path
) -> None:
    found = checks(run, directory, "--sessions", "1")

    assert found["head"]["checked"] == 1
    assert found["orphans"]["checked"] == 2


def test_it_may_be_run_beside_a_server(run: Callable[..., Ran], demo: Serve) -> None:
    ran = run("doctor", "--data-dir", str(demo.directory / "sessile-data"))

    assert ran.code == 0


def test_a_directory_without_a_database_is_told(run: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run("doctor", "--data-dir", str(tmp_path))

    assert ran.code == 2
    assert "--data-dir" in ran.err
    assert not list(tmp_path.iterdir())
