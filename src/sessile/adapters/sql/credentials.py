"""Accounts, keys and tokens as rows: the statements that two databases share."""

from collections.abc import Collection
from itertools import groupby

from sessile.adapters.sql.connected import Connected, Statement
from sessile.adapters.sql.rows import Row, text_or_none
from sessile.core.ids import TenantId, UserId
from sessile.ports.credentials import Account, Credential, Kind, Used

EXPIRED_MS = 86_400_000
"""So long after its end a token is removed, when its user signs in the next time."""


class SqlCredentials:
    """`ports.credentials.Credentials` on a database."""

    def __init__(self, connected: Connected) -> None:
        self._connected = connected

    async def find(self, tenant_id: TenantId, credential_id: str) -> Credential | None:
        sql = """
            SELECT credential_id, kind, secret_hash, user_id, roles, scopes, name, created_by,
                created_at_ms, expires_at_ms, used_at_ms
            FROM credential WHERE tenant_id = $1 AND credential_id = $2
        """
        rows = await self._connected.read(tenant_id, sql, tenant_id, credential_id)
        return _credential(tenant_id, rows[0]) if rows else None

    async def add(self, credential: Credential, *, password_hash: str | None = None) -> bool:
        each = credential
        values = [
            each.tenant_id, each.credential_id, each.kind, each.secret_hash, each.user_id,
            _packed(each.roles), None if each.scopes is None else _packed(each.scopes),
            text_or_none(each.name), each.created_by, each.created_at_ms, each.expires_at_ms,
        ]  # fmt: skip
        if password_hash is None:
            sql = """
                INSERT INTO credential (tenant_id, credential_id, kind, secret_hash, user_id, roles,
                    scopes, name, created_by, created_at_ms, expires_at_ms)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING 1
            """
            *_, added = await self._connected.run(each.tenant_id, [_signed_up(), (sql, values)])
            return bool(added)
        # Whoever changes the password, or takes away what there is of the user, waits for this, or
        # this for them.
        lock = """
            UPDATE account SET created_at_ms = created_at_ms
            WHERE tenant_id = $1 AND user_id = $2 AND password_hash = $3
        """
        swept = """
            DELETE FROM credential
            WHERE tenant_id = $1 AND user_id = $2 AND kind = 'token' AND expires_at_ms < $3
        """
        sql = """
            INSERT INTO credential (tenant_id, credential_id, kind, secret_hash, user_id, roles,
                scopes, name, created_by, created_at_ms, expires_at_ms)
            SELECT a.tenant_id, $2, $3, $4, a.user_id, $6, $7, $8, $9, CAST($10 AS bigint),
                CAST($11 AS bigint)
            FROM account AS a
            WHERE a.tenant_id = $1 AND a.user_id = $5 AND a.password_hash = $12
            RETURNING 1
        """
        *_, added = await self._connected.run(
            each.tenant_id,
            [
                (lock, (each.tenant_id, each.user_id, password_hash)),
                (swept, (each.tenant_id, each.user_id, each.created_at_ms - EXPIRED_MS)),
                (sql, (*values, password_hash)),
            ],
        )
        return bool(added)

    async def keys(
        self, tenant_id: TenantId, *, after: str = "", limit: int
    ) -> tuple[Credential, ...]:
        sql = """
            SELECT credential_id, kind, secret_hash, user_id, roles, scopes, name, created_by,
                created_at_ms, expires_at_ms, used_at_ms
            FROM credential WHERE tenant_id = $1 AND credential_id > $2 AND kind = 'key'
            ORDER BY credential_id LIMIT $3
        """
        rows = await self._connected.read(tenant_id, sql, tenant_id, after, limit)
        return tuple(_credential(tenant_id, row) for row in rows)

    async def remove(self, tenant_id: TenantId, credential_id: str, kind: Kind) -> bool:
        sql = """
            DELETE FROM credential WHERE tenant_id = $1 AND credential_id = $2 AND kind = $3
            RETURNING 1
        """
        (removed,) = await self._connected.run(tenant_id, [(sql, (tenant_id, credential_id, kind))])
        return bool(removed)

    async def used(self, marks: Collection[Used]) -> None:
        sql = """
            UPDATE credential SET used_at_ms = $3 WHERE tenant_id = $1 AND credential_id = $2
                AND (used_at_ms IS NULL OR used_at_ms < $3)
        """
        # In their order: who locks in another waits for who waits for it.
        for tenant_id, own in groupby(sorted(marks), lambda mark: mark.tenant_id):
            await self._connected.run(tenant_id, [(sql, tuple(mark)) for mark in own])

    async def account(self, tenant_id: TenantId, user_id: UserId) -> Account | None:
        sql = """
            SELECT user_id, roles, password_hash, created_at_ms
            FROM account WHERE tenant_id = $1 AND user_id = $2
        """
        rows = await self._connected.read(tenant_id, sql, tenant_id, user_id)
        return _account(tenant_id, rows[0]) if rows else None

    async def accounts(
        self, tenant_id: TenantId, *, after: str = "", limit: int
    ) -> tuple[Account, ...]:
        sql = """
            SELECT user_id, roles, password_hash, created_at_ms
            FROM account WHERE tenant_id = $1 AND user_id > $2 ORDER BY user_id LIMIT $3
        """
        rows = await self._connected.read(tenant_id, sql, tenant_id, after, limit)
        return tuple(_account(tenant_id, row) for row in rows)

    async def add_account(self, account: Account) -> bool:
        sql = """
            INSERT INTO account (tenant_id, user_id, roles, password_hash, created_at_ms)
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING 1
        """
        values = (
            account.tenant_id, account.user_id, _packed(account.roles), account.password_hash,
            account.created_at_ms,
        )  # fmt: skip
        *_, added = await self._connected.run(account.tenant_id, [_signed_up(), (sql, values)])
        return bool(added)

    async def set_password(
        self, tenant_id: TenantId, user_id: UserId, new: str, *, old: str | None = None
    ) -> bool:
        who = (tenant_id, user_id)
        if old is not None:
            sql = """
                UPDATE account SET password_hash = $3
                WHERE tenant_id = $1 AND user_id = $2 AND password_hash = $4 RETURNING 1
            """
            (changed,) = await self._connected.run(tenant_id, [(sql, (*who, new, old))])
            return bool(changed)
        sql = """
            UPDATE account SET password_hash = $3 WHERE tenant_id = $1 AND user_id = $2 RETURNING 1
        """
        out = "DELETE FROM credential WHERE tenant_id = $1 AND user_id = $2 AND kind = 'token'"
        changed, _ = await self._connected.run(tenant_id, [(sql, (*who, new)), (out, who)])
        return bool(changed)

    async def remove_account(self, tenant_id: TenantId, user_id: UserId) -> bool:
        who = (tenant_id, user_id)
        sql = "DELETE FROM account WHERE tenant_id = $1 AND user_id = $2 RETURNING 1"
        given = "DELETE FROM credential WHERE tenant_id = $1 AND user_id = $2"
        removed, _ = await self._connected.run(tenant_id, [(sql, who), (given, who)])
        return bool(removed)

    async def revoke(self, tenant_id: TenantId, user_id: UserId, *, at_ms: int) -> None:
        who = (tenant_id, user_id)
        lock = """
            UPDATE account SET created_at_ms = created_at_ms WHERE tenant_id = $1 AND user_id = $2
        """
        given = "DELETE FROM credential WHERE tenant_id = $1 AND user_id = $2"
        sql = """
            INSERT INTO revocation (tenant_id, user_id, at_ms) VALUES ($1, $2, $3)
            ON CONFLICT (tenant_id, user_id) DO UPDATE SET at_ms = excluded.at_ms
            WHERE revocation.at_ms < excluded.at_ms
        """
        await self._connected.run(tenant_id, [(lock, who), (given, who), (sql, (*who, at_ms))])

    async def revoked_ms(self, tenant_id: TenantId, user_id: UserId) -> int:
        sql = "SELECT at_ms FROM revocation WHERE tenant_id = $1 AND user_id = $2"
        rows = await self._connected.read(tenant_id, sql, tenant_id, user_id)
        return int(rows[0][0]) if rows else 0

    async def any(self) -> bool:
        rows = await self._connected.read(None, "SELECT sign_in FROM store")
        return any(row[0] for row in rows)


def _signed_up() -> Statement:
    return "UPDATE store SET sign_in = 1 WHERE sign_in = 0", ()


def _packed(words: frozenset[str]) -> str:
    return " ".join(sorted(words))


def _credential(tenant_id: TenantId, row: Row) -> Credential:
    return Credential(
        tenant_id=tenant_id,
        credential_id=row[0],
        kind=row[1],
        secret_hash=row[2],
        user_id=row[3],
        roles=frozenset(row[4].split()),
        scopes=None if row[5] is None else frozenset(row[5].split()),
        name=row[6],
        created_by=row[7],
        created_at_ms=row[8],
        expires_at_ms=row[9],
        used_at_ms=row[10],
    )


def _account(tenant_id: TenantId, row: Row) -> Account:
    return Account(
        tenant_id=tenant_id,
        user_id=row[0],
        roles=frozenset(row[1].split()),
        password_hash=row[2],
        created_at_ms=row[3],
    )
