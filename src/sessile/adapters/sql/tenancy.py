"""Row-level security on PostgreSQL: whose rows a connection sees, and the role that sees no more.

What is here may be run again and again: each time it is put on what has come since.
"""

APP_ROLE = "sessile_app"
"""Owns nothing, and has no right but to the rows of the tenants that were told."""
TENANTS = "sessile.tenants"
"""The setting that tells the tenants, as an array's text; no row where it is not set."""
SWEEP = "sessile.sweep"
"""`on`: the narrow rows of all tenants may be read, by which what is due is found."""
AUDIT = "sessile.audit"
"""`on`: the owner of the tables may read all rows: `sessile doctor` and `sessile log` do."""

# The sub-select is run once a statement, however many rows are looked at. It stands in a coalesce
# so that no index is searched by it: a statement that names its rows by their keys is to find them
# by these, and not to walk through all that the tenant has.
OF_TENANTS = f"""
    coalesce(
        tenant_id = ANY ((SELECT nullif(current_setting('{TENANTS}', true), '')::text[])::text[]),
        false
    )
"""

SECURE = f"""
DO $secure$
DECLARE
    place text := current_schema();
    each record;
BEGIN
    BEGIN
        IF to_regrole('{APP_ROLE}') IS NULL THEN
            CREATE ROLE {APP_ROLE} NOLOGIN;
        END IF;
    EXCEPTION
        WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
    END;
    BEGIN
        IF to_regrole('{APP_ROLE}') IS NOT NULL
            AND NOT pg_has_role(current_user, '{APP_ROLE}', 'MEMBER')
        THEN
            EXECUTE format('GRANT {APP_ROLE} TO %I', current_user);
        END IF;
        IF to_regrole('{APP_ROLE}') IS NOT NULL
            AND current_setting('server_version_num')::int >= 160000
        THEN
            IF NOT pg_has_role(current_user, '{APP_ROLE}', 'SET') THEN
                EXECUTE format('GRANT {APP_ROLE} TO %I WITH SET TRUE', current_user);
            END IF;
        END IF;
    EXCEPTION
        WHEN insufficient_privilege THEN NULL;
    END;
    FOR each IN
        SELECT c.relname AS name, c.oid AS id
        FROM pg_class AS c
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
        WHERE c.relkind IN ('r', 'p') AND c.relnamespace = place::regnamespace
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', each.name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', each.name);
        IF NOT EXISTS (
            SELECT FROM pg_policy WHERE polrelid = each.id AND polname = 'tenants'
        ) THEN
            EXECUTE format(
                $policy$
                CREATE POLICY tenants ON %I
                USING ({OF_TENANTS})
                WITH CHECK ({OF_TENANTS})
                $policy$,
                each.name
            );
            EXECUTE format(
                $policy$
                CREATE POLICY audit ON %I FOR SELECT TO %I
                USING ((SELECT current_setting('{AUDIT}', true) = 'on'))
                $policy$,
                each.name, current_user
            );
        END IF;
        EXECUTE format('ALTER POLICY audit ON %I TO %I', each.name, current_user);
        IF to_regrole('{APP_ROLE}') IS NOT NULL THEN
            EXECUTE format(
                'GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO {APP_ROLE}', each.name
            );
        END IF;
    END LOOP;
    IF NOT EXISTS (
        SELECT FROM pg_policy
        WHERE polrelid = 'session_head'::regclass AND polname = 'sweep'
    ) THEN
        CREATE POLICY sweep ON session_head FOR SELECT
        USING ((SELECT current_setting('{SWEEP}', true) = 'on'));
    END IF;
    IF to_regclass('erasure') IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_policy
        WHERE polrelid = to_regclass('erasure') AND polname = 'sweep'
    ) THEN
        CREATE POLICY sweep ON erasure FOR SELECT
        USING ((SELECT current_setting('{SWEEP}', true) = 'on'));
    END IF;
    IF to_regrole('{APP_ROLE}') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO {APP_ROLE}', place);
        GRANT SELECT, UPDATE (written_at_ms, sign_in) ON store TO {APP_ROLE};
        GRANT SELECT ON alembic_version TO {APP_ROLE};
        IF to_regclass('chore') IS NOT NULL THEN
            GRANT SELECT, INSERT, UPDATE ON chore TO {APP_ROLE};
            REVOKE UPDATE, DELETE ON audit FROM {APP_ROLE};
        END IF;
        IF to_regclass('webhook_work') IS NOT NULL THEN
            GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_work TO {APP_ROLE};
        END IF;
    END IF;
END
$secure$
"""  # no value is in it  # noqa: S608  # nosec B608
