"""Webhooks of a tenant: what its admin asks of them."""

from collections.abc import Callable, Collection

from sessile.core import codec
from sessile.core.context import Principal
from sessile.core.errors import InvalidInput, LimitReached, RoleRequired, WebhookNotFound
from sessile.core.ids import Seq, SessionId, WebhookId
from sessile.ports.clock import Clock
from sessile.ports.webhooks import Sender, Webhook, Webhooks
from sessile.runtime.reads import Reads
from sessile.settings import Settings

KINDS = (
    "turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted", "approval.requested",
    "session.closed",
)  # fmt: skip
"""What is sent where nothing else is asked for."""
PAGE = 100
RETRY_SECONDS = 60


class WebhookDesk:
    """Raises RoleRequired for who is no admin, and WebhookNotFound. `told`: called when there is
    something new to deliver."""

    def __init__(
        self,
        webhooks: Webhooks,
        sender: Sender,
        *,
        reads: Reads,
        clock: Clock,
        settings: Settings,
        new_id: Callable[[], WebhookId],
        new_secret: Callable[[], str],
        told: Callable[[], None],
    ) -> None:
        self._webhooks = webhooks
        self._sender = sender
        self._reads = reads
        self._clock = clock
        self._settings = settings
        self._new_id = new_id
        self._new_secret = new_secret
        self._told = told

    async def add(self, who: Principal, url: str, kinds: Collection[str] | None) -> Webhook:
        """From now on: of the sessions that are there, what comes. Raises InvalidInput for an
        address that is never sent to and for kinds that there are not, and LimitReached."""
        _check(who)
        try:
            self._sender.check(url)
        except ValueError as refused:
            raise InvalidInput(f"url: {refused}", field="url") from None
        wanted = KINDS if kinds is None else tuple(dict.fromkeys(kinds))
        if unknown := sorted({*wanted} - codec.kinds()):
            raise InvalidInput(f"kinds: there is no {unknown[0]!r:.100}", field="kinds")
        webhook = Webhook(
            tenant_id=who.tenant_id,
            webhook_id=self._new_id(),
            url=url,
            kinds=wanted,
            secret=self._new_secret(),
            created_by=who.user_id,
            created_at_ms=self._clock.now_ms(),
        )
        heads = await self._heads(who)
        most = self._settings.webhooks_tenant_max
        if not await self._webhooks.add(webhook, heads, webhooks_max=most):
            raise LimitReached(limit="webhooks_tenant_max", seconds=RETRY_SECONDS)
        self._told()
        return webhook

    async def all(self, who: Principal) -> tuple[Webhook, ...]:
        _check(who)
        return await self._webhooks.of(who.tenant_id)

    async def one(self, who: Principal, webhook_id: WebhookId) -> Webhook:
        _check(who)
        webhook = await self._webhooks.find(who.tenant_id, webhook_id)
        if webhook is None:
            raise WebhookNotFound()
        return webhook

    async def enable(self, who: Principal, webhook_id: WebhookId) -> Webhook:
        """It goes on where it stopped."""
        _check(who)
        if not await self._webhooks.set_disabled(who.tenant_id, webhook_id, ""):
            raise WebhookNotFound()
        self._told()
        return await self.one(who, webhook_id)

    async def remove(self, who: Principal, webhook_id: WebhookId) -> None:
        _check(who)
        if not await self._webhooks.remove(who.tenant_id, webhook_id):
            raise WebhookNotFound()
        self._told()

    async def _heads(self, who: Principal) -> dict[SessionId, Seq]:
        heads: dict[SessionId, Seq] = {}
        before: SessionId | None = None
        while page := await self._reads.sessions(who, before=before, limit=PAGE):
            heads.update((found.head.key.session_id, found.head.head) for found in page)
            before = page[-1].head.key.session_id
        return heads


def _check(who: Principal) -> None:
    if "admin" not in who.roles:
        raise RoleRequired("only an admin of the tenant has to do with its webhooks", role="admin")
    who.check_scope("admin")
