"""Webhooks in memory: the reference that the others are held against."""

from collections.abc import Mapping
from dataclasses import replace

from sessile.core.ids import NodeId, Seq, SessionId, TenantId, WebhookId
from sessile.ports.clock import Clock
from sessile.ports.webhooks import Attempt, Webhook

Key = tuple[TenantId, WebhookId]


class MemoryWebhooks:
    """`ports.webhooks.Webhooks`, for one node."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._webhooks: dict[Key, Webhook] = {}
        self._cursors: dict[Key, dict[SessionId, Seq]] = {}
        self._leases: dict[TenantId, tuple[NodeId, int]] = {}

    async def add(
        self, webhook: Webhook, cursors: Mapping[SessionId, Seq], *, webhooks_max: int
    ) -> bool:
        if len(await self.of(webhook.tenant_id)) >= webhooks_max:
            return False
        key = webhook.tenant_id, webhook.webhook_id
        self._webhooks[key] = webhook
        self._cursors[key] = dict(cursors)
        return True

    async def find(self, tenant_id: TenantId, webhook_id: WebhookId) -> Webhook | None:
        return self._webhooks.get((tenant_id, webhook_id))

    async def of(self, tenant_id: TenantId) -> tuple[Webhook, ...]:
        own = [each for each in self._webhooks.values() if each.tenant_id == tenant_id]
        return tuple(sorted(own, key=lambda each: (each.created_at_ms, each.webhook_id)))

    async def remove(self, tenant_id: TenantId, webhook_id: WebhookId) -> bool:
        self._cursors.pop((tenant_id, webhook_id), None)
        return self._webhooks.pop((tenant_id, webhook_id), None) is not None

    async def set_disabled(self, tenant_id: TenantId, webhook_id: WebhookId, why: str) -> bool:
        webhook = self._webhooks.get((tenant_id, webhook_id))
        if webhook is None:
            return False
        if not why:
            webhook = replace(webhook, failing_since_ms=None, behind=0)
        self._webhooks[tenant_id, webhook_id] = replace(webhook, disabled=why)
        return True

    async def tried(self, tenant_id: TenantId, webhook_id: WebhookId, attempt: Attempt) -> None:
        webhook = self._webhooks.get((tenant_id, webhook_id))
        if webhook is None:
            return
        since = webhook.failing_since_ms
        self._webhooks[tenant_id, webhook_id] = replace(
            webhook,
            last_status=attempt.status,
            last_error=attempt.error,
            last_at_ms=attempt.at_ms,
            failing_since_ms=(attempt.at_ms if since is None else since) if attempt.error else None,
            behind=attempt.behind,
        )

    async def cursors(self, tenant_id: TenantId, webhook_id: WebhookId) -> dict[SessionId, Seq]:
        return dict(self._cursors.get((tenant_id, webhook_id), {}))

    async def cursor(
        self, tenant_id: TenantId, webhook_id: WebhookId, session_id: SessionId
    ) -> Seq:
        return self._cursors.get((tenant_id, webhook_id), {}).get(session_id, Seq(0))

    async def advance(
        self,
        tenant_id: TenantId,
        webhook_id: WebhookId,
        session_id: SessionId,
        seq: Seq,
        attempt: Attempt,
    ) -> None:
        if (cursors := self._cursors.get((tenant_id, webhook_id))) is not None:
            cursors[session_id] = max(seq, cursors.get(session_id, Seq(0)))
        await self.tried(tenant_id, webhook_id, attempt)

    async def forget(
        self, tenant_id: TenantId, webhook_id: WebhookId, session_id: SessionId
    ) -> None:
        self._cursors.get((tenant_id, webhook_id), {}).pop(session_id, None)

    async def claim(self, node: NodeId, *, lease_ms: int) -> frozenset[TenantId]:
        now_ms = self._clock.now_ms()
        for tenant_id, _ in self._webhooks:
            owner, until_ms = self._leases.get(tenant_id, (node, 0))
            if owner == node or until_ms <= now_ms:
                self._leases[tenant_id] = (node, now_ms + lease_ms)
        mine = {tenant for tenant, (owner, _) in self._leases.items() if owner == node}
        return frozenset(tenant_id for tenant_id, _ in self._webhooks if tenant_id in mine)

    async def release(self, node: NodeId) -> None:
        self._leases = {tenant: lease for tenant, lease in self._leases.items() if lease[0] != node}
