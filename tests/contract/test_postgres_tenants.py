"""Row-level security: what a connection is shown, whoever owns the tables and whoever connects."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from tests.contract.desk import ACME, STRANGER, Desk
from tests.contract.nodes import connected, nodes
from tests.servers.databases import bare_database, database
from tests.servers.postgres import Postgres

from sessile.adapters.migrations import migrate_postgres
from sessile.adapters.postgres import PostgresStore
from sessile.adapters.postgres.archive import migrate_database, open_archive
from sessile.adapters.postgres.connections import Connector, Patience, StorageUnreachable
from sessile.adapters.postgres.tenants import TenantConnection
from sessile.adapters.sql.tenancy import APP_ROLE
from sessile.core.audit import Check
from sessile.core.ids import TenantId

OTHER = STRANGER.tenant_id
_numbers = count(1)

RIGHTS = {"DELETE", "INSERT", "SELECT", "UPDATE"}
FAULTS = """
    SELECT c.relname, 'has a tenant_id, and no policy that is forced' AS what
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT (
        c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
            SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'tenants'
                AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polpermissive
        )
    )
    UNION ALL
    SELECT c.relname, 'has no tenant_id, and is none of those that need none'
    FROM pg_class AS c
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
        AND c.relname NOT IN ('store', 'chore', 'alembic_version', 'webhook_work')
        AND NOT EXISTS (
            SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'
        )
    UNION ALL
    SELECT c.relname, 'has a policy more'
    FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid
    WHERE NOT (
        p.polname = 'tenants'
        OR (
            p.polname = 'sweep' AND c.relname IN ('session_head', 'erasure') AND p.polcmd = 'r'
        )
        OR (p.polname = 'audit' AND p.polcmd = 'r' AND p.polroles = ARRAY[c.relowner])
    )
    UNION ALL
    SELECT c.relname, 'is owned' FROM pg_class AS c
    WHERE c.relowner = 'sessile_app'::regrole AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    UNION ALL
    SELECT c.relname, 'may be ' || g.privilege_type FROM pg_class AS c
    CROSS JOIN LATERAL aclexplode(c.relacl) AS g
    WHERE g.grantee IN (0, 'sessile_app'::regrole) AND c.relnamespace = 'public'::regnamespace
        AND NOT (
            g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') AND EXISTS (
                SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id'
            )
            OR g.privilege_type = 'SELECT' AND c.relname IN ('store', 'alembic_version')
            OR g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE') AND c.relname = 'chore'
            OR g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
                AND c.relname = 'webhook_work'
        )
    UNION ALL
    SELECT c.relname, 'has a column that may be ' || g.privilege_type FROM pg_attribute AS a
    JOIN pg_class AS c ON c.oid = a.attrelid
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
    WHERE g.grantee IN (0, 'sessile_app'::regrole) AND c.relnamespace = 'public'::regnamespace
        AND NOT (c.relname = 'store' AND a.attname IN ('written_at_ms', 'sign_in'))
    UNION ALL
    SELECT 'public', 'may hold what the role makes'
    WHERE has_schema_privilege('sessile_app', 'public', 'CREATE')
    UNION ALL
    SELECT rolname, 'is more than a role' FROM pg_roles WHERE rolname = 'sessile_app' AND (
        rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin OR rolreplication
    )
"""


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    async with bare_database() as dsn:
        await migrate_postgres(dsn)
        yield dsn


async def faults(dsn: str) -> list[tuple[str, str]]:
    async with connected(dsn) as own:
        return [tuple(row) for row in await own.fetch(FAULTS)]


async def test_every_table_is_shown_by_tenant_and_the_role_may_do_no_more(dsn: str) -> None:
    assert await faults(dsn) == []


@pytest.mark.parametrize(
    ("spoil", "table"),
    [
        ("CREATE TABLE later (tenant_id text)", "later"),
        ("CREATE TABLE later (tenant text)", "later"),
        ("ALTER TABLE turn NO FORCE ROW LEVEL SECURITY", "turn"),
        ("ALTER TABLE turn DISABLE ROW LEVEL SECURITY", "turn"),
        ("DROP POLICY tenants ON entry", "entry"),
        ("CREATE POLICY mine ON entry USING (true)", "entry"),
        ("CREATE POLICY sweep ON entry FOR SELECT USING (true)", "entry"),
        ("ALTER TABLE session OWNER TO sessile_app", "session"),
        ("GRANT TRUNCATE ON turn TO sessile_app", "turn"),
        ("GRANT SELECT ON turn TO PUBLIC; GRANT TRIGGER ON turn TO PUBLIC", "turn"),
        ("GRANT UPDATE ON store TO sessile_app", "store"),
        ("GRANT UPDATE (epoch) ON store TO sessile_app", "store"),
        ("CREATE TABLE mine (x int); GRANT SELECT ON mine TO sessile_app", "mine"),
        ("GRANT CREATE ON SCHEMA public TO sessile_app", "public"),
    ],
)
async def test_what_is_amiss_is_found(dsn: str, spoil: str, table: str) -> None:
    async with connected(dsn) as own:
        await own.execute(spoil)

    assert {found for found, _ in await faults(dsn)} == {table}


async def test_a_table_that_comes_later_is_secured_by_the_next_migration(dsn: str) -> None:
    async with connected(dsn) as own:
        await own.execute("CREATE TABLE later (tenant_id text)")

    await migrate_database(dsn, busy_seconds=10)

    assert await faults(dsn) == []


TABLES = ("session_head", "session", "entry", "turn", "idempotency")


@pytest.fixture
async def two_tenants() -> AsyncIterator[tuple[Desk, TenantConnection]]:
    """A session of each with a turn, and a connection as the store has them."""
    async with database() as dsn, nodes(dsn, 1) as (desk,):
        for principal in (None, STRANGER):
            who = {} if principal is None else {"principal": principal}
            key = await desk.open(*(who.values()))
            await desk.submit(key, "hello", run=False, **who)
        connector = await Connector(dsn, Patience(12_000)).in_role()
        connection = await connector.connect("test", lock_ms=1_000)
        yield desk, connection
        await connection.close()


async def seen(connection: TenantConnection, table: str) -> set[str]:
    return {row[0] for row in await connection.fetch(f"SELECT tenant_id FROM {table}")}


WITH_ROWS = ("session_head", "session", "entry", "turn")


async def test_who_was_told_no_tenant_sees_no_row(
    two_tenants: tuple[Desk, TenantConnection],
) -> None:
    _, connection = two_tenants

    assert await connection.fetchval("SELECT current_user") == APP_ROLE
    for table in TABLES:
        assert await seen(connection, table) == set()


async def test_no_statement_reaches_a_tenant_that_was_not_told(
    two_tenants: tuple[Desk, TenantConnection],
) -> None:
    _, connection = two_tenants
    await connection.tell([ACME])

    for table in WITH_ROWS:
        assert await seen(connection, table) == {ACME}
        for changed in (
            f"UPDATE {table} SET session_id = session_id WHERE tenant_id = $1",
            f"DELETE FROM {table} WHERE tenant_id = $1",
        ):
            assert (await connection.execute(changed, OTHER)).endswith(" 0")
        for insert in (
            f"INSERT INTO {table} SELECT * FROM jsonb_populate_record((SELECT t FROM {table} AS t"
            f' LIMIT 1), \'{{"tenant_id": "{OTHER}", "session_id": "ses_planted"}}\')',
            f"UPDATE {table} SET tenant_id = '{OTHER}'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await connection.execute(insert)
    await connection.tell([OTHER])
    for table in WITH_ROWS:
        assert await seen(connection, table) == {OTHER}


async def test_who_sweeps_sees_the_narrow_rows_and_changes_none(
    two_tenants: tuple[Desk, TenantConnection],
) -> None:
    _, connection = two_tenants
    await connection.tell(None)

    assert await seen(connection, "session_head") == {ACME, OTHER}
    for table in TABLES[1:]:
        assert await seen(connection, table) == set()
    assert await connection.execute("UPDATE session_head SET due_at_ms = 0") == "UPDATE 0"
    locked = "SELECT 1 FROM session_head FOR UPDATE"
    assert await connection.fetch(locked) == []
    await connection.tell([ACME])
    assert await seen(connection, "session_head") == {ACME}


async def test_the_mark_of_those_who_audit_is_nothing_to_the_role(
    two_tenants: tuple[Desk, TenantConnection],
) -> None:
    _, connection = two_tenants
    await connection.execute("SET sessile.audit = 'on'")

    for table in TABLES:
        assert await seen(connection, table) == set()


async def test_a_connection_is_told_only_what_it_does_not_know() -> None:
    connection: Any = SimpleNamespace(told=frozenset(), sweeps=False)

    def telling(tenants: list[TenantId] | None) -> str:
        return TenantConnection.telling(connection, tenants)

    assert telling([TenantId("a'b"), ACME]) == ("""SET sessile.tenants = '{"a''b","acme"}';""")
    assert telling([ACME, TenantId("a'b")]) == ""
    assert telling([ACME]) == """SET sessile.tenants = '{"acme"}';"""
    assert telling(None) == "SET sessile.tenants = '{}';SET sessile.sweep = 'on';"
    assert telling([TenantId("a\0"), TenantId("\ud800")]) == "SET sessile.sweep = '';"


async def test_what_a_transaction_was_told_is_told_again_after_its_rollback() -> None:
    async with database() as dsn, nodes(dsn, 1) as (desk,):
        store: Any = desk.store
        await desk.open()
        lane = store._lanes._lanes[0]
        connection = lane._connection
        await connection.execute(connection.telling([OTHER]) + "BEGIN")
        await lane._roll_back(connection)

        await connection.tell([OTHER])

        told = await connection.fetchval("SELECT current_setting('sessile.tenants')")
        assert told == '{"other"}'


# -- deployments


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One without the role."""
    with Postgres({"fsync": "off"}) as postgres:
        yield postgres


async def run(dsn: str, *statements: str) -> None:
    async with connected(dsn) as own:
        for each in statements:
            await own.execute(each)


@pytest.fixture
async def made(server: Postgres) -> AsyncIterator[str]:
    """The name of a database whose owner, of the same name, may make no roles."""
    name = f"shop_{next(_numbers)}"
    await run(server.dsn, f"CREATE ROLE {name} LOGIN", f"CREATE DATABASE {name} OWNER {name}")
    yield name
    await run(server.dsn, f"DROP DATABASE {name} WITH (FORCE)")
    await run(server.dsn, f"DROP OWNED BY {name}", f"DROP ROLE {name}")
    await run(server.dsn, f"DROP ROLE IF EXISTS {APP_ROLE}")


def of(server: Postgres, user: str, name: str) -> str:
    return server.dsn_of(name).replace("sessile@", f"{user}@")


async def tenancy(dsn: str) -> Check:
    async with open_archive(dsn, busy_seconds=10) as archive:
        found = await archive.check(sessions_max=10, progress=lambda *_: None)
    assert next(each for each in found if each.name == "head").checked == 2
    return next(each for each in found if each.name == "tenancy")


async def use(dsn: str) -> str:
    """A session of each of two tenants; answers as whom the store worked."""
    async with nodes(dsn, 1) as (desk,):
        for who in ((), (STRANGER,)):
            await desk.open(*who)
        store: Any = desk.store
        user: str = await store._renewing.fetchval("SELECT current_user")
        return user


async def test_an_owner_who_may_make_no_role_is_bound_all_the_same(
    server: Postgres, made: str
) -> None:
    dsn = of(server, made, made)
    await migrate_database(dsn, busy_seconds=10)

    assert await use(dsn) == made

    async with connected(dsn) as own:
        assert await own.fetch("SELECT 1 FROM session_head") == []
    found = await tenancy(dsn)
    assert not found.faults
    assert "by FORCE" in found.about


async def test_an_owner_who_may_make_roles_serves_as_the_role(server: Postgres, made: str) -> None:
    await run(server.dsn, f"ALTER ROLE {made} CREATEROLE")
    dsn = of(server, made, made)
    await migrate_database(dsn, busy_seconds=10)

    assert await use(dsn) == APP_ROLE

    found = await tenancy(dsn)
    assert not found.faults
    assert APP_ROLE in found.about


async def test_the_role_is_taken_once_it_is_there(server: Postgres, made: str) -> None:
    dsn = of(server, made, made)
    await migrate_database(dsn, busy_seconds=10)
    await run(server.dsn, f"CREATE ROLE {APP_ROLE} NOLOGIN", f"GRANT {APP_ROLE} TO {made}")

    await migrate_database(dsn, busy_seconds=10)

    assert await use(dsn) == APP_ROLE


async def test_a_login_of_the_role_serves_what_another_migrated(
    server: Postgres, made: str
) -> None:
    await run(server.dsn, f"ALTER ROLE {made} CREATEROLE")
    owner, app = of(server, made, made), of(server, "web", made)
    await migrate_database(owner, busy_seconds=10)
    await run(server.dsn, f"CREATE ROLE web LOGIN IN ROLE {APP_ROLE}")
    try:
        assert await use(app) == APP_ROLE

        async with connected(app) as own:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await own.execute("TRUNCATE turn")
        with pytest.raises(StorageUnreachable, match="owns"):
            async with open_archive(app, busy_seconds=10):
                pass
        assert not (await tenancy(owner)).faults
    finally:
        await run(server.dsn, "DROP ROLE web")


async def test_a_superuser_without_the_role_is_a_fault(server: Postgres, made: str) -> None:
    owner = of(server, made, made)
    await migrate_database(owner, busy_seconds=10)
    dsn = server.dsn_of(made)

    assert await use(dsn) == "sessile"

    (fault,) = (await tenancy(dsn)).faults
    assert "bound by nothing" in fault.what


async def test_three_that_secure_at_once_do_not_hinder_each_other(dsn: str) -> None:
    await asyncio.gather(*(migrate_database(dsn, busy_seconds=10) for _ in range(3)))

    assert await faults(dsn) == []
    async with PostgresStore(dsn, lease_ms=12_000):
        pass
