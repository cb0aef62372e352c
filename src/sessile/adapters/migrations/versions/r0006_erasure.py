"""Who did what; which sessions are forks of which; which users are to be erased; how far logs were
compacted; and what one node at a time does for all."""

from alembic import op

from sessile.adapters.sql.tenancy import SECURE

revision = "0006"
down_revision = "0005"

SQLITE = (
    """
    CREATE TABLE audit (
        tenant_id TEXT NOT NULL,
        audit_id TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        request_id TEXT NOT NULL,
        details TEXT NOT NULL,
        PRIMARY KEY (tenant_id, audit_id)
    )
    """,
    *(
        f"""
        CREATE TRIGGER audit_{verb}_never BEFORE {verb} ON audit
        BEGIN SELECT RAISE(ABORT, 'an audit record stays as it is'); END
        """
        for verb in ("UPDATE", "DELETE")
    ),
    # A row for each session that a fork comes from, and for those that these come from. They stay
    # when the origin is deleted: its user may be erased later.
    """
    CREATE TABLE fork (
        tenant_id TEXT NOT NULL,
        origin_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        origin_user_id TEXT NOT NULL,
        PRIMARY KEY (tenant_id, origin_id, session_id)
    )
    """,
    "CREATE INDEX fork_session ON fork (tenant_id, session_id)",
    "CREATE INDEX fork_by_user ON fork (tenant_id, origin_user_id, session_id)",
    """
    CREATE TABLE erasure (
        tenant_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        asked_by TEXT NOT NULL,
        asked_at_ms INTEGER NOT NULL,
        sessions INTEGER NOT NULL,
        done_at_ms INTEGER,
        PRIMARY KEY (tenant_id, user_id)
    )
    """,
    "CREATE INDEX erasure_waits ON erasure (asked_at_ms) WHERE done_at_ms IS NULL",
    """
    CREATE TABLE compaction (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        upto_seq INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, session_id)
    )
    """,
    """
    CREATE TABLE chore (
        name TEXT NOT NULL PRIMARY KEY,
        owner TEXT,
        until_ms INTEGER NOT NULL,
        remains TEXT NOT NULL
    )
    """,
    "CREATE INDEX idempotency_by_user ON idempotency (tenant_id, user_id)",
    """
    INSERT INTO fork (tenant_id, origin_id, session_id, origin_user_id)
    WITH RECURSIVE
        parent (tenant_id, session_id, origin_id) AS (
            SELECT tenant_id, session_id, json_extract(body, '$.from_session_id') FROM entry
            WHERE seq = 2 AND kind = 'session.forked'
        ),
        line (tenant_id, session_id, origin_id) AS (
            SELECT * FROM parent
            UNION
            SELECT l.tenant_id, l.session_id, p.origin_id FROM line AS l
            JOIN parent AS p ON p.tenant_id = l.tenant_id AND p.session_id = l.origin_id
        )
    SELECT l.tenant_id, l.origin_id, l.session_id, coalesce(h.user_id, '')
    FROM line AS l
    LEFT JOIN session_head AS h ON h.tenant_id = l.tenant_id AND h.session_id = l.origin_id
    """,
)

POSTGRES = (
    """
    CREATE TABLE audit (
        tenant_id text COLLATE "C" NOT NULL,
        audit_id text COLLATE "C" NOT NULL,
        at_ms bigint NOT NULL,
        actor text NOT NULL,
        action text NOT NULL,
        subject text NOT NULL,
        request_id text NOT NULL,
        details text NOT NULL,
        PRIMARY KEY (tenant_id, audit_id)
    )
    """,
    """
    CREATE FUNCTION sessile_audit_stays() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'an audit record stays as it is'; END $$
    """,
    """
    CREATE TRIGGER audit_never BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION sessile_audit_stays()
    """,
    """
    CREATE TABLE fork (
        tenant_id text COLLATE "C" NOT NULL,
        origin_id text COLLATE "C" NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        origin_user_id text COLLATE "C" NOT NULL,
        PRIMARY KEY (tenant_id, origin_id, session_id)
    )
    """,
    "CREATE INDEX fork_session ON fork (tenant_id, session_id)",
    "CREATE INDEX fork_by_user ON fork (tenant_id, origin_user_id, session_id)",
    """
    CREATE TABLE erasure (
        tenant_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        asked_by text NOT NULL,
        asked_at_ms bigint NOT NULL,
        sessions bigint NOT NULL,
        done_at_ms bigint,
        PRIMARY KEY (tenant_id, user_id)
    )
    """,
    "CREATE INDEX erasure_waits ON erasure (asked_at_ms) WHERE done_at_ms IS NULL",
    """
    CREATE TABLE compaction (
        tenant_id text COLLATE "C" NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        upto_seq bigint NOT NULL,
        PRIMARY KEY (tenant_id, session_id)
    )
    """,
    """
    CREATE TABLE chore (
        name text COLLATE "C" NOT NULL PRIMARY KEY,
        owner text,
        until_ms bigint NOT NULL,
        remains text NOT NULL
    )
    """,
    "CREATE INDEX idempotency_by_user ON idempotency (tenant_id, user_id)",
    SQLITE[-1].replace(
        "json_extract(body, '$.from_session_id')", "(body::json ->> 'from_session_id')"
    ),
)


def upgrade() -> None:
    statements = {"sqlite": SQLITE, "postgresql": POSTGRES}[op.get_bind().dialect.name]
    for statement in statements:
        op.execute(statement)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(SECURE)
