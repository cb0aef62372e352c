"""Who may sign in: built-in users, the hashes of API keys and tokens, and what was revoked."""

from alembic import op

revision = "0002"
down_revision = "0001"

# Whether anybody was ever given a way in; told apart from the rows, which are their tenants' own.
SIGN_IN = "ALTER TABLE store ADD COLUMN sign_in INTEGER NOT NULL DEFAULT 0"
SQLITE = (
    """
    CREATE TABLE account (
        tenant_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        roles TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, user_id)
    )
    """,
    # Of API keys and tokens; scopes are NULL for all.
    """
    CREATE TABLE credential (
        tenant_id TEXT NOT NULL,
        credential_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        secret_hash TEXT NOT NULL,
        user_id TEXT NOT NULL,
        roles TEXT NOT NULL,
        scopes TEXT,
        name TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        expires_at_ms INTEGER,
        used_at_ms INTEGER,
        PRIMARY KEY (tenant_id, credential_id)
    )
    """,
    "CREATE INDEX credential_by_user ON credential (tenant_id, user_id)",
    """
    CREATE TABLE revocation (
        tenant_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, user_id)
    )
    """,
    SIGN_IN,
)

POSTGRES = (
    """
    CREATE TABLE account (
        tenant_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        roles text NOT NULL,
        password_hash text NOT NULL,
        created_at_ms bigint NOT NULL,
        PRIMARY KEY (tenant_id, user_id)
    )
    """,
    """
    CREATE TABLE credential (
        tenant_id text COLLATE "C" NOT NULL,
        credential_id text COLLATE "C" NOT NULL,
        kind text NOT NULL,
        secret_hash text NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        roles text NOT NULL,
        scopes text,
        name text NOT NULL,
        created_by text NOT NULL,
        created_at_ms bigint NOT NULL,
        expires_at_ms bigint,
        used_at_ms bigint,
        PRIMARY KEY (tenant_id, credential_id)
    )
    """,
    "CREATE INDEX credential_by_user ON credential (tenant_id, user_id)",
    """
    CREATE TABLE revocation (
        tenant_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        at_ms bigint NOT NULL,
        PRIMARY KEY (tenant_id, user_id)
    )
    """,
    SIGN_IN,
)


def upgrade() -> None:
    statements = {"sqlite": SQLITE, "postgresql": POSTGRES}[op.get_bind().dialect.name]
    for statement in statements:
        op.execute(statement)
