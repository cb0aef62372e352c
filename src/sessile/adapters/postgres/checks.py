"""What is held against a PostgreSQL server and the tables there, beside what the log says."""

from asyncpg import Connection

from sessile.adapters.postgres.credentials import CREDENTIALS_MAX
from sessile.adapters.postgres.lanes import LANES
from sessile.adapters.postgres.store import READERS_MAX
from sessile.adapters.postgres.tenants import app_role
from sessile.adapters.postgres.webhooks import WEBHOOKS_MAX
from sessile.adapters.sql.tenancy import APP_ROLE
from sessile.core.audit import Check

NODE_CONNECTIONS = LANES + 1 + READERS_MAX + CREDENTIALS_MAX + WEBHOOKS_MAX + 1 + 2
"""Of one node at most: its lanes and the one aside, reads, those who sign in, webhooks,
renewals, and two for NOTIFY."""
DEAD_ROWS_MAX = 10_000
"""So many are left between two vacuums of a small table that is written to all the time."""

DURABLE = {
    "fsync": "a crash of the machine loses what was acknowledged (G5), or the whole database",
    "full_page_writes": "a crash in the middle of a page damages what is on it (G5)",
    "synchronous_commit": "a crash loses what was acknowledged last (G5)",
}
"""What it means where one of these is off."""
FILLFACTORS = {"session_head": 50, "turn": 80}


async def own(connection: Connection) -> tuple[Check, ...]:
    return (
        await _durable(connection),
        await _tenancy(connection),
        await _nodes(connection),
        await _tables(connection),
        await _indexes(connection),
    )


async def _durable(connection: Connection) -> Check:
    found = Check("durable", "a commit is on the disk before it is acknowledged", "settings")
    for name, why in DURABLE.items():
        found.checked += 1
        if await connection.fetchval("SELECT current_setting($1)", name) == "off":
            found.fault(f"{name} is off: {why}")
    return found


async def _tenancy(connection: Connection) -> Check:
    """Of a server that connects as this user does."""
    role = await app_role(connection)
    row = await connection.fetchrow(
        """
        SELECT coalesce(has_table_privilege(to_regclass('session_head'), 'UPDATE'), false),
            rolsuper OR rolbypassrls, rolname
        FROM pg_roles WHERE rolname = current_user
        """
    )
    assert row is not None
    writes, unbound, user = row
    bound = f"the role {role}" if role else "FORCE, for there is no role that it may take"
    about = f"a server is shown the rows of the tenants that it names: by {bound}"
    found = Check("tenancy", about, "tables")
    if writes and unbound and not role:
        found.fault(
            f"{user} is bound by nothing, since it is a superuser or has BYPASSRLS: run `sessile"
            f" migrate` as one who may make the role {APP_ROLE}, or serve as another user"
        )
    sql = """
        SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
                SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = 'tenants'
            ),
            (SELECT rolname FROM pg_roles WHERE oid = c.relowner) = $1
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = (
            SELECT relnamespace FROM pg_class WHERE oid = to_regclass('session_head')
        )
        ORDER BY 1
    """
    for table, bounded, own in await connection.fetch(sql, APP_ROLE):
        found.checked += 1
        if not bounded:
            found.fault(f"{table} shows its rows to every tenant: run `sessile migrate`")
        if own:
            found.fault(f"{APP_ROLE} owns {table}: ALTER TABLE {table} OWNER TO another user")
    return found


async def _nodes(connection: Connection) -> Check:
    about = f"there is room for every node that runs, with {NODE_CONNECTIONS} at most"
    found = Check("nodes", about, "connections")
    # Each node has one first lane.
    sql = """
        SELECT least(
                current_setting('max_connections')::int
                    - current_setting('superuser_reserved_connections')::int
                    - coalesce(current_setting('reserved_connections', true)::int, 0),
                (SELECT nullif(datconnlimit, -1) FROM pg_database
                    WHERE datname = current_database()),
                (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user)
            ),
            (SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'sessile lane 0')
    """
    row = await connection.fetchrow(sql)
    assert row is not None
    found.checked, nodes = row[0], max(1, row[1])
    if nodes * NODE_CONNECTIONS > found.checked:
        many = "1 node needs" if nodes == 1 else f"{nodes} nodes need"
        found.fault(
            f"{many} {nodes * NODE_CONNECTIONS} connections: raise max_connections, and the"
            " CONNECTION LIMIT of this database and this user if they have one"
        )
    return found


async def _tables(connection: Connection) -> Check:
    found = Check("tables", "what is written again and again has room, and is vacuumed", "tables")
    for name in ("autovacuum", "track_counts"):
        if await connection.fetchval("SELECT current_setting($1)", name) == "off":
            found.fault(f"{name} is off: dead rows are left until somebody vacuums")
    sql = """
        SELECT o.options ->> 'fillfactor',
            coalesce((o.options ->> 'autovacuum_enabled')::bool, true),
            coalesce(s.n_dead_tup, 0), coalesce(s.n_live_tup, 0)
        FROM pg_class AS c
        LEFT JOIN pg_stat_user_tables AS s ON s.relid = c.oid
        CROSS JOIN LATERAL (
            SELECT jsonb_object_agg(option_name, option_value) AS options
            FROM pg_options_to_table(c.reloptions)
        ) AS o
        WHERE c.oid = to_regclass($1)
    """
    for table, fillfactor in FILLFACTORS.items():
        row = await connection.fetchrow(sql, table)
        if row is None:
            continue  # the schema says so
        found.checked += 1
        given, vacuumed, dead, live = row
        if given is None:
            found.fault(
                f"{table} has no fillfactor, so that what changes it writes its indexes too:"
                f" ALTER TABLE {table} SET (fillfactor = {fillfactor})"
            )
        if not vacuumed:
            found.fault(
                f"{table} has autovacuum off: ALTER TABLE {table} RESET (autovacuum_enabled)"
            )
        if dead > max(DEAD_ROWS_MAX, live):
            found.fault(
                f"{table} has {dead} dead rows and {live} others: VACUUM {table}, and look for a"
                " transaction that has been open for long"
            )
    return found


async def _indexes(connection: Connection) -> Check:
    found = Check("indexes", "every index is valid", "indexes")
    sql = """
        SELECT i.indexrelid::regclass::text, i.indisvalid AND i.indisready
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indrelid
        WHERE c.relnamespace = (
            SELECT relnamespace FROM pg_class WHERE oid = to_regclass('session_head')
        ) AND c.relname IN (
            'session_head', 'session', 'entry', 'turn', 'idempotency', 'account', 'credential',
            'revocation', 'webhook', 'webhook_cursor', 'webhook_work'
        )
        ORDER BY 1
    """
    for index, valid in await connection.fetch(sql):
        found.checked += 1
        if not valid:
            found.fault(f"{index} is not valid: REINDEX INDEX {index}")
    return found
