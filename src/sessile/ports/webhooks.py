"""Webhooks: who wants to be told what, how far each was told, and how it is sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sessile.core.ids import NodeId, Seq, SessionId, TenantId, UserId, WebhookId


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """`kinds`: of the entries that are sent. `disabled`: why nothing is sent any more; empty while
    it is. `last_status`: of the last reply, None where there was none; `last_error`: what was wrong
    with it, in words. `failing_since_ms`: of the first attempt since the last that was taken.
    `behind`: the sessions whose next entry was sent and not taken."""

    tenant_id: TenantId
    webhook_id: WebhookId
    url: str
    kinds: tuple[str, ...]
    secret: str = field(repr=False)
    created_by: UserId
    created_at_ms: int
    disabled: str = ""
    last_status: int | None = None
    last_error: str = ""
    last_at_ms: int | None = None
    failing_since_ms: int | None = None
    behind: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of a request. It was taken where `error` is empty. `behind`: as a Webhook's."""

    at_ms: int
    status: int | None
    error: str = ""
    behind: int = 0


class Webhooks(Protocol):
    """Each method is durable on return, and raises what `ports.store.Store` raises."""

    async def add(
        self, webhook: Webhook, cursors: Mapping[SessionId, Seq], *, webhooks_max: int
    ) -> bool:
        """With where the sessions that are there now begin; all others begin at their first entry.
        Answers False, and adds nothing, where the tenant has as many as it may have."""
        ...

    async def find(self, tenant_id: TenantId, webhook_id: WebhookId) -> Webhook | None: ...

    async def of(self, tenant_id: TenantId) -> tuple[Webhook, ...]:
        """Those of the tenant, the oldest first."""
        ...

    async def remove(self, tenant_id: TenantId, webhook_id: WebhookId) -> bool:
        """With its cursors. Answers whether there was one."""
        ...

    async def set_disabled(self, tenant_id: TenantId, webhook_id: WebhookId, why: str) -> bool:
        """Empty: it is sent again, from where it stopped. Answers whether there is one."""
        ...

    async def tried(self, tenant_id: TenantId, webhook_id: WebhookId, attempt: Attempt) -> None:
        """Keep it as the last. Of a webhook that is gone, nothing."""
        ...

    async def cursors(self, tenant_id: TenantId, webhook_id: WebhookId) -> dict[SessionId, Seq]: ...

    async def cursor(
        self, tenant_id: TenantId, webhook_id: WebhookId, session_id: SessionId
    ) -> Seq:
        """The last entry that was taken, or was there before; 0 for none."""
        ...

    async def advance(
        self,
        tenant_id: TenantId,
        webhook_id: WebhookId,
        session_id: SessionId,
        seq: Seq,
        attempt: Attempt,
    ) -> None:
        """It was taken; a cursor never goes back. Of a webhook that is gone, nothing."""
        ...

    async def forget(
        self, tenant_id: TenantId, webhook_id: WebhookId, session_id: SessionId
    ) -> None:
        """The session is no more."""
        ...

    async def claim(self, node: NodeId, *, lease_ms: int) -> frozenset[TenantId]:
        """The tenants with webhooks that no other node delivers now, which this one then does for
        so long; by the store's own clock."""
        ...

    async def release(self, node: NodeId) -> None:
        """It delivers nothing any more."""
        ...


class NotSent(Exception):
    """No reply came, or none may be asked for. The text says why, and may be shown to the owner."""


class AddressRefused(NotSent):
    """The name leads to where this server does not send."""


class Sender(Protocol):
    def check(self, url: str) -> None:
        """Raises ValueError, with the reason, for one that would never be sent to."""
        ...

    async def post(self, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> int:
        """The reply's status. Raises NotSent. Redirects are not followed."""
        ...
