"""Whose rows a connection is shown: told to it ahead of a statement, where it does not know yet."""

from collections.abc import Collection
from typing import Any

import asyncpg

from sessile.adapters.postgres.columns import keys
from sessile.adapters.sql.tenancy import APP_ROLE, SWEEP, TENANTS
from sessile.core.ids import TenantId


class TenantConnection(asyncpg.Connection):
    """It knows what it was told last, so that a server of one tenant tells it once."""

    told: frozenset[TenantId] | None = frozenset()
    """None where that is not known."""
    kept: frozenset[TenantId] | None = frozenset()
    """As it was told before the transaction, whose rollback takes back what it was told in it."""
    sweeps = False
    """It was told that the narrow rows of all tenants are to be seen."""

    def telling(self, tenants: Collection[TenantId] | None) -> str:
        """What is to be sent ahead of a statement on rows of these tenants, and of no others.
        None: on the narrow rows of all."""
        wanted = frozenset(filter(_is_text, tenants or ()))
        sql = ""
        if self.told != wanted:
            literal = keys(sorted(wanted)).replace("'", "''")
            sql = f"SET {TENANTS} = '{literal}';"
        if self.sweeps != (tenants is None) or self.told is None:
            self.sweeps = tenants is None
            sql += f"SET {SWEEP} = '{'on' if self.sweeps else ''}';"
        self.told = wanted
        return sql

    async def tell(self, tenants: Collection[TenantId] | None) -> None:
        """Outside a transaction."""
        if sql := self.telling(tenants):
            try:
                await self.execute(sql)
            except BaseException:
                self.told = None
                raise
            finally:
                self.kept = self.told


def _is_text(name: str) -> bool:
    """Else no row can have it, and no statement either, least of all this one."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:
        return False


async def app_role(connection: Any) -> str:
    """The role that the connection's user may take, and that sees no more than it is told; empty
    where there is none."""
    sql = """
        SELECT CASE
            WHEN current_setting('server_version_num')::int >= 160000
            THEN pg_has_role(current_user, r.oid, 'SET')
            ELSE pg_has_role(current_user, r.oid, 'MEMBER')
        END AND has_table_privilege(r.oid, to_regclass('session_head'), 'UPDATE')
        FROM pg_roles AS r WHERE r.rolname = $1
    """
    return APP_ROLE if await connection.fetchval(sql, APP_ROLE) else ""
