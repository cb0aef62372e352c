"""Whom tenants want told of what, how far each was told, and which node tells."""

from alembic import op

from sessile.adapters.sql.tenancy import SECURE

revision = "0007"
down_revision = "0006"

SQLITE = (
    # The secret as it is: what is sent is signed with it.
    """
    CREATE TABLE webhook (
        tenant_id TEXT NOT NULL,
        webhook_id TEXT NOT NULL,
        url TEXT NOT NULL,
        kinds TEXT NOT NULL,
        secret TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        disabled TEXT NOT NULL,
        last_status INTEGER,
        last_error TEXT NOT NULL,
        last_at_ms INTEGER,
        failing_since_ms INTEGER,
        behind INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, webhook_id)
    )
    """,
    """
    CREATE TABLE webhook_cursor (
        tenant_id TEXT NOT NULL,
        webhook_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, webhook_id, session_id)
    )
    """,
    # By which a node finds whose webhooks nobody delivers: of all tenants, and nothing else of
    # them.
    """
    CREATE TABLE webhook_work (
        tenant TEXT PRIMARY KEY NOT NULL,
        lease_owner TEXT,
        lease_until_ms INTEGER NOT NULL
    )
    """,
)

POSTGRES = (
    """
    CREATE TABLE webhook (
        tenant_id text COLLATE "C" NOT NULL,
        webhook_id text COLLATE "C" NOT NULL,
        url text NOT NULL,
        kinds text NOT NULL,
        secret text NOT NULL,
        created_by text COLLATE "C" NOT NULL,
        created_at_ms bigint NOT NULL,
        disabled text NOT NULL,
        last_status integer,
        last_error text NOT NULL,
        last_at_ms bigint,
        failing_since_ms bigint,
        behind integer NOT NULL,
        PRIMARY KEY (tenant_id, webhook_id)
    )
    """,
    """
    CREATE TABLE webhook_cursor (
        tenant_id text COLLATE "C" NOT NULL,
        webhook_id text COLLATE "C" NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        seq bigint NOT NULL,
        PRIMARY KEY (tenant_id, webhook_id, session_id)
    )
    """,
    """
    CREATE TABLE webhook_work (
        tenant text COLLATE "C" PRIMARY KEY,
        lease_owner text,
        lease_until_ms bigint NOT NULL
    )
    """,
)


def upgrade() -> None:
    statements = {"sqlite": SQLITE, "postgresql": POSTGRES}[op.get_bind().dialect.name]
    for statement in statements:
        op.execute(statement)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(SECURE)
