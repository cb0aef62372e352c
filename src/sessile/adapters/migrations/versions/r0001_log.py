"""The log, the heads and the turns that are folds of it, what was answered to which key, and one
row that belongs to the database itself."""

from alembic import op

revision = "0001"
down_revision = None

SQLITE = (
    # Narrow, and updated by each append; no index covers a column that an append changes.
    """
    CREATE TABLE session_head (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        exclusive_key TEXT,
        status TEXT NOT NULL,
        head INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        step INTEGER NOT NULL,
        next_position INTEGER NOT NULL,
        queued INTEGER NOT NULL,
        running_turn_id TEXT,
        awaiting_until_ms INTEGER,
        cancel_turn_id TEXT,
        steers_unread INTEGER NOT NULL,
        lease_owner TEXT,
        lease_until_ms INTEGER NOT NULL,
        due_at_ms INTEGER,
        PRIMARY KEY (tenant_id, session_id)
    )
    """,
    """
    CREATE UNIQUE INDEX session_head_exclusive ON session_head (tenant_id, exclusive_key)
    WHERE status = 'active' AND exclusive_key IS NOT NULL
    """,
    "CREATE INDEX session_head_due ON session_head (due_at_ms) WHERE due_at_ms IS NOT NULL",
    """
    CREATE TABLE session (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        assistant TEXT NOT NULL,
        title TEXT,
        metadata TEXT NOT NULL,
        grants TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, session_id)
    )
    """,
    "CREATE INDEX session_by_user ON session (tenant_id, user_id, session_id)",
    """
    CREATE TABLE entry (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        turn_id TEXT,
        kind TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (tenant_id, session_id, seq)
    )
    """,
    """
    CREATE INDEX entry_history ON entry (tenant_id, session_id, seq)
    WHERE kind IN (
        'message.added', 'tool.completed', 'tool.failed', 'tool.interrupted', 'tool.refused',
        'session.summarized'
    )
    """,
    """
    CREATE INDEX entry_summary ON entry (tenant_id, session_id, seq)
    WHERE kind = 'session.summarized'
    """,
    # What is long comes last: a row's other columns are then read without its overflow pages.
    """
    CREATE TABLE turn (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        turn_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        position INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        status TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        strikes INTEGER NOT NULL,
        progressed INTEGER NOT NULL,
        cancel_reason TEXT,
        cancel_by TEXT,
        current_iteration INTEGER NOT NULL,
        total_iterations INTEGER NOT NULL,
        tokens_used INTEGER NOT NULL,
        total_tokens INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        started_at_ms INTEGER,
        ended_at_ms INTEGER,
        error TEXT,
        awaited TEXT,
        input TEXT NOT NULL,
        output TEXT,
        PRIMARY KEY (tenant_id, session_id, turn_id)
    )
    """,
    "CREATE UNIQUE INDEX turn_position ON turn (tenant_id, session_id, position)",
    """
    CREATE INDEX turn_queued ON turn (tenant_id, session_id, position) WHERE status = 'queued'
    """,
    # The scope leads the user, so that the keys of a deleted session are found by it.
    """
    CREATE TABLE idempotency (
        tenant_id TEXT NOT NULL,
        scope TEXT NOT NULL,
        user_id TEXT NOT NULL,
        key TEXT NOT NULL,
        request_hash TEXT NOT NULL,
        session_id TEXT NOT NULL,
        turn_id TEXT,
        created INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, scope, user_id, key)
    )
    """,
    # One row, of no tenant. The secret is of the database's own chance.
    """
    CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch INTEGER NOT NULL,
        secret BLOB NOT NULL,
        written_at_ms INTEGER NOT NULL
    )
    """,
    "INSERT INTO store (one, epoch, secret, written_at_ms) VALUES (1, 0, randomblob(32), 0)",
)

# As above, with what PostgreSQL has besides: room on a page for the next version of a head, so that
# an append changes no index; ids in the order of their bytes, whatever the database's own is; and
# the clock that leases are judged by, which is one for all nodes.
POSTGRES = (
    """
    CREATE FUNCTION sessile_now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$
    """,
    """
    CREATE TABLE session_head (
        tenant_id text COLLATE "C" NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        exclusive_key text COLLATE "C",
        status text NOT NULL,
        head bigint NOT NULL,
        fence bigint NOT NULL,
        step integer NOT NULL,
        next_position integer NOT NULL,
        queued integer NOT NULL,
        running_turn_id text,
        awaiting_until_ms bigint,
        cancel_turn_id text,
        steers_unread integer NOT NULL,
        lease_owner text,
        lease_until_ms bigint NOT NULL,
        due_at_ms bigint,
        PRIMARY KEY (tenant_id, session_id)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE UNIQUE INDEX session_head_exclusive ON session_head (tenant_id, exclusive_key)
    WHERE status = 'active' AND exclusive_key IS NOT NULL
    """,
    "CREATE INDEX session_head_due ON session_head (due_at_ms) WHERE due_at_ms IS NOT NULL",
    """
    CREATE TABLE session (
        tenant_id text COLLATE "C" NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        assistant text NOT NULL,
        title text,
        metadata text NOT NULL,
        grants text NOT NULL,
        created_at_ms bigint NOT NULL,
        updated_at_ms bigint NOT NULL,
        PRIMARY KEY (tenant_id, session_id)
    )
    """,
    "CREATE INDEX session_by_user ON session (tenant_id, user_id, session_id)",
    """
    CREATE TABLE entry (
        tenant_id text COLLATE "C" NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        seq bigint NOT NULL,
        turn_id text,
        kind text NOT NULL,
        at_ms bigint NOT NULL,
        body text NOT NULL,
        PRIMARY KEY (tenant_id, session_id, seq)
    )
    """,
    """
    CREATE INDEX entry_history ON entry (tenant_id, session_id, seq)
    WHERE kind IN (
        'message.added', 'tool.completed', 'tool.failed', 'tool.interrupted', 'tool.refused',
        'session.summarized'
    )
    """,
    """
    CREATE INDEX entry_summary ON entry (tenant_id, session_id, seq)
    WHERE kind = 'session.summarized'
    """,
    """
    CREATE TABLE turn (
        tenant_id text COLLATE "C" NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        turn_id text COLLATE "C" NOT NULL,
        seq bigint NOT NULL,
        position integer NOT NULL,
        message_id text NOT NULL,
        user_id text NOT NULL,
        status text NOT NULL,
        attempt integer NOT NULL,
        strikes integer NOT NULL,
        progressed boolean NOT NULL,
        cancel_reason text,
        cancel_by text,
        current_iteration bigint NOT NULL,
        total_iterations bigint NOT NULL,
        tokens_used bigint NOT NULL,
        total_tokens bigint NOT NULL,
        created_at_ms bigint NOT NULL,
        started_at_ms bigint,
        ended_at_ms bigint,
        error text,
        awaited text,
        input text NOT NULL,
        output text,
        PRIMARY KEY (tenant_id, session_id, turn_id)
    ) WITH (fillfactor = 80)
    """,
    "CREATE UNIQUE INDEX turn_position ON turn (tenant_id, session_id, position)",
    """
    CREATE INDEX turn_queued ON turn (tenant_id, session_id, position) WHERE status = 'queued'
    """,
    """
    CREATE TABLE idempotency (
        tenant_id text COLLATE "C" NOT NULL,
        scope text COLLATE "C" NOT NULL,
        user_id text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        request_hash text NOT NULL,
        session_id text COLLATE "C" NOT NULL,
        turn_id text,
        created boolean NOT NULL,
        at_ms bigint NOT NULL,
        PRIMARY KEY (tenant_id, scope, user_id, key)
    )
    """,
    """
    CREATE TABLE store (
        one integer PRIMARY KEY CHECK (one = 1),
        epoch bigint NOT NULL,
        secret bytea NOT NULL,
        written_at_ms bigint NOT NULL
    )
    """,
    """
    INSERT INTO store (one, epoch, secret, written_at_ms)
    SELECT 1, 0, sha256(string_agg(uuid_send(gen_random_uuid()), '')), 0 FROM generate_series(1, 4)
    """,
)


def upgrade() -> None:
    statements = {"sqlite": SQLITE, "postgresql": POSTGRES}[op.get_bind().dialect.name]
    for statement in statements:
        op.execute(statement)
