"""Webhooks as rows: the statements that two databases share."""

import json
from collections.abc import Mapping
from itertools import chain

from sessile.adapters.sql.connected import Connected, Statement
from sessile.adapters.sql.rows import Row
from sessile.core.ids import NodeId, Seq, SessionId, TenantId, WebhookId
from sessile.ports.webhooks import Attempt, Webhook

CURSORS_AT_ONCE = 500
"""In one statement: each takes two of its values."""


class SqlWebhooks:
    """`ports.webhooks.Webhooks` on a database, which has a function `sessile_now_ms()`."""

    def __init__(self, connected: Connected) -> None:
        self._connected = connected

    async def add(
        self, webhook: Webhook, cursors: Mapping[SessionId, Seq], *, webhooks_max: int
    ) -> bool:
        # Whoever adds another of this tenant waits for this row.
        work = """
            INSERT INTO webhook_work (tenant, lease_owner, lease_until_ms) VALUES ($1, NULL, 0)
            ON CONFLICT (tenant) DO UPDATE SET lease_until_ms = webhook_work.lease_until_ms
        """
        sql = """
            INSERT INTO webhook (tenant_id, webhook_id, url, kinds, secret, created_by,
                created_at_ms, disabled, last_error, behind)
            SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT),
                CAST($5 AS TEXT), CAST($6 AS TEXT), CAST($7 AS BIGINT), '', '', 0
            WHERE (SELECT count(*) FROM webhook WHERE tenant_id = $1) < CAST($8 AS BIGINT)
            RETURNING 1
        """
        tenant_id = webhook.tenant_id
        values = (
            tenant_id, webhook.webhook_id, webhook.url, json.dumps(webhook.kinds), webhook.secret,
            webhook.created_by, webhook.created_at_ms, webhooks_max,
        )  # fmt: skip
        statements: list[Statement] = [(work, (tenant_id,)), (sql, values)]
        items = list(cursors.items())
        for at in range(0, len(items), CURSORS_AT_ONCE):
            some = items[at : at + CURSORS_AT_ONCE]
            places = ", ".join(f"(${2 * n + 3}, ${2 * n + 4})" for n in range(len(some)))
            # Of a webhook that was not added, none.
            begin = f"""
                WITH begin (session_id, seq) AS (VALUES {places})
                INSERT INTO webhook_cursor (tenant_id, webhook_id, session_id, seq)
                SELECT w.tenant_id, w.webhook_id, b.session_id, CAST(b.seq AS BIGINT)
                FROM webhook AS w CROSS JOIN begin AS b
                WHERE w.tenant_id = $1 AND w.webhook_id = $2
            """  # no value is in it  # noqa: S608  # nosec B608
            flat = chain.from_iterable((session_id, str(seq)) for session_id, seq in some)
            statements.append((begin, (tenant_id, webhook.webhook_id, *flat)))
        _, added, *_ = await self._connected.run(tenant_id, statements)
        return bool(added)

    async def find(self, tenant_id: TenantId, webhook_id: WebhookId) -> Webhook | None:
        sql = """
            SELECT webhook_id, url, kinds, secret, created_by, created_at_ms, disabled, last_status,
                last_error, last_at_ms, failing_since_ms, behind
            FROM webhook WHERE tenant_id = $1 AND webhook_id = $2
        """
        rows = await self._connected.read(tenant_id, sql, tenant_id, webhook_id)
        return _webhook(tenant_id, rows[0]) if rows else None

    async def of(self, tenant_id: TenantId) -> tuple[Webhook, ...]:
        sql = """
            SELECT webhook_id, url, kinds, secret, created_by, created_at_ms, disabled, last_status,
                last_error, last_at_ms, failing_since_ms, behind
            FROM webhook WHERE tenant_id = $1 ORDER BY created_at_ms, webhook_id
        """
        rows = await self._connected.read(tenant_id, sql, tenant_id)
        return tuple(_webhook(tenant_id, row) for row in rows)

    async def remove(self, tenant_id: TenantId, webhook_id: WebhookId) -> bool:
        key = (tenant_id, webhook_id)
        sql = "DELETE FROM webhook WHERE tenant_id = $1 AND webhook_id = $2 RETURNING 1"
        cursors = "DELETE FROM webhook_cursor WHERE tenant_id = $1 AND webhook_id = $2"
        work = """
            DELETE FROM webhook_work
            WHERE tenant = $1 AND NOT EXISTS (SELECT 1 FROM webhook WHERE tenant_id = $1)
        """
        removed, *_ = await self._connected.run(
            tenant_id, [(sql, key), (cursors, key), (work, (tenant_id,))]
        )
        return bool(removed)

    async def set_disabled(self, tenant_id: TenantId, webhook_id: WebhookId, why: str) -> bool:
        sql = """
            UPDATE webhook SET disabled = $3 WHERE tenant_id = $1 AND webhook_id = $2 RETURNING 1
        """
        statements: list[Statement] = [(sql, (tenant_id, webhook_id, why))]
        if not why:
            anew = """
                UPDATE webhook SET failing_since_ms = NULL, behind = 0
                WHERE tenant_id = $1 AND webhook_id = $2
            """
            statements.append((anew, (tenant_id, webhook_id)))
        changed, *_ = await self._connected.run(tenant_id, statements)
        return bool(changed)

    async def tried(self, tenant_id: TenantId, webhook_id: WebhookId, attempt: Attempt) -> None:
        await self._connected.run(tenant_id, [_tried(tenant_id, webhook_id, attempt)])

    async def cursors(self, tenant_id: TenantId, webhook_id: WebhookId) -> dict[SessionId, Seq]:
        sql = """
            SELECT session_id, seq FROM webhook_cursor WHERE tenant_id = $1 AND webhook_id = $2
        """
        rows = await self._connected.read(tenant_id, sql, tenant_id, webhook_id)
        return {row[0]: row[1] for row in rows}

    async def cursor(
        self, tenant_id: TenantId, webhook_id: WebhookId, session_id: SessionId
    ) -> Seq:
        sql = """
            SELECT seq FROM webhook_cursor
            WHERE tenant_id = $1 AND webhook_id = $2 AND session_id = $3
        """
        rows = await self._connected.read(tenant_id, sql, tenant_id, webhook_id, session_id)
        return Seq(rows[0][0] if rows else 0)

    async def advance(
        self,
        tenant_id: TenantId,
        webhook_id: WebhookId,
        session_id: SessionId,
        seq: Seq,
        attempt: Attempt,
    ) -> None:
        sql = """
            INSERT INTO webhook_cursor (tenant_id, webhook_id, session_id, seq)
            SELECT w.tenant_id, w.webhook_id, CAST($3 AS TEXT), CAST($4 AS BIGINT)
            FROM webhook AS w WHERE w.tenant_id = $1 AND w.webhook_id = $2
            ON CONFLICT (tenant_id, webhook_id, session_id) DO UPDATE SET seq = excluded.seq
            WHERE webhook_cursor.seq < excluded.seq
        """
        await self._connected.run(
            tenant_id,
            [
                _tried(tenant_id, webhook_id, attempt),
                (sql, (tenant_id, webhook_id, session_id, seq)),
            ],
        )

    async def forget(
        self, tenant_id: TenantId, webhook_id: WebhookId, session_id: SessionId
    ) -> None:
        sql = """
            DELETE FROM webhook_cursor
            WHERE tenant_id = $1 AND webhook_id = $2 AND session_id = $3
        """
        await self._connected.run(tenant_id, [(sql, (tenant_id, webhook_id, session_id))])

    async def claim(self, node: NodeId, *, lease_ms: int) -> frozenset[TenantId]:
        # Most nodes find nothing here to claim, and then write nothing.
        ask = """
            SELECT 1 FROM webhook_work
            WHERE lease_owner = $1 OR lease_until_ms <= sessile_now_ms() LIMIT 1
        """
        if not await self._connected.read(None, ask, node):
            return frozenset()
        sql = """
            UPDATE webhook_work SET lease_owner = $1,
                lease_until_ms = sessile_now_ms() + CAST($2 AS BIGINT)
            WHERE lease_owner = $1 OR lease_until_ms <= sessile_now_ms()
            RETURNING tenant
        """
        (rows,) = await self._connected.run(None, [(sql, (node, lease_ms))])
        return frozenset(row[0] for row in rows)

    async def release(self, node: NodeId) -> None:
        sql = (
            "UPDATE webhook_work SET lease_owner = NULL, lease_until_ms = 0 WHERE lease_owner = $1"
        )
        await self._connected.run(None, [(sql, (node,))])


def _tried(tenant_id: TenantId, webhook_id: WebhookId, attempt: Attempt) -> Statement:
    sql = """
        UPDATE webhook SET last_status = $3, last_error = $4, last_at_ms = $5, behind = $6,
            failing_since_ms = CASE
                WHEN CAST($7 AS BIGINT) IS NULL THEN NULL ELSE coalesce(failing_since_ms, $7)
            END
        WHERE tenant_id = $1 AND webhook_id = $2
    """
    since_ms = attempt.at_ms if attempt.error else None
    return sql, (
        tenant_id, webhook_id, attempt.status, attempt.error, attempt.at_ms, attempt.behind,
        since_ms,
    )  # fmt: skip


def _webhook(tenant_id: TenantId, row: Row) -> Webhook:
    return Webhook(
        tenant_id=tenant_id,
        webhook_id=row[0],
        url=row[1],
        kinds=tuple(json.loads(row[2])),
        secret=row[3],
        created_by=row[4],
        created_at_ms=row[5],
        disabled=row[6],
        last_status=row[7],
        last_error=row[8],
        last_at_ms=row[9],
        failing_since_ms=row[10],
        behind=row[11],
    )
