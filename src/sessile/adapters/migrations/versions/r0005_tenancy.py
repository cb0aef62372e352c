"""What is due is found tenant by tenant; what limits count has indexes; and PostgreSQL shows each
connection the rows of the tenants that it was told, and no others."""

from alembic import op

from sessile.adapters.sql.tenancy import SECURE

revision = "0005"
down_revision = "0002"

# The assistant stands in the narrow row too, so that who sweeps need not see the wide one.
BOTH = (
    "ALTER TABLE session_head ADD COLUMN assistant TEXT NOT NULL DEFAULT ''",
    """
    UPDATE session_head SET assistant = (
        SELECT s.assistant FROM session AS s
        WHERE s.tenant_id = session_head.tenant_id AND s.session_id = session_head.session_id
    )
    """,
    "DROP INDEX session_head_due",
    """
    CREATE INDEX session_head_due ON session_head (tenant_id, due_at_ms, session_id)
    WHERE due_at_ms IS NOT NULL
    """,
    """
    CREATE INDEX session_head_active ON session_head (tenant_id, user_id)
    WHERE status = 'active'
    """,
    "CREATE INDEX turn_waiting ON turn (tenant_id, user_id) WHERE status = 'queued'",
    # The condition keeps it from statements that name turns by their keys: planned while the table
    # is small, they would walk through all that the tenant has.
    "CREATE INDEX turn_day ON turn (tenant_id, created_at_ms) WHERE created_at_ms > 0",
)


def upgrade() -> None:
    for statement in BOTH:
        op.execute(statement)
    if op.get_bind().dialect.name == "postgresql":
        op.get_bind().exec_driver_sql(SECURE)
