"""A tenant's webhooks over HTTP."""

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path
from pydantic import Field

from sessile.core.codec import timestamp
from sessile.core.context import Principal
from sessile.core.ids import WebhookId
from sessile.http.exchange import Caller, Exchange, Here
from sessile.http.reply import Reply, json_reply
from sessile.http.schemas import At, Input, Nothing, Output
from sessile.http.served import BODY_PROBLEMS, Served, declare
from sessile.http.wire import page_wire
from sessile.ports.webhooks import Webhook as Kept

WebhookPath = Annotated[WebhookId, Path(description="The webhook's id.")]
WebhookIdText = Annotated[str, Field(examples=["whk_5f2b8c0d9e1a4f73a6b5c4d3e2f10987"])]


class WebhookRequest(Input):
    """`kinds`: of the entries that are sent; those by which a turn ends, an approval is asked for
    or a session is closed, where none are given."""

    url: Annotated[str, Field(max_length=2_048)]
    kinds: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None


class Webhook(Output):
    """`disabled_reason` says why nothing is sent any more, and is null while it is. `last_status`:
    of the last reply; `last_error`: what was wrong with it, or why there was none; null where it
    was taken. `behind`: the sessions whose next entry was sent and not taken."""

    webhook_id: WebhookIdText
    url: str
    kinds: list[str]
    status: Literal["active", "disabled"]
    disabled_reason: str | None
    created_by: str
    created_at: At
    last_status: int | None
    last_error: str | None
    last_at: At | None
    failing_since: At | None
    behind: int


class NewWebhook(Webhook):
    """`secret` is shown this once: what is sent is signed with it."""

    secret: str


class WebhookPage(Output):
    """All of them: `next` is null."""

    items: list[Webhook]
    next: None


class WebhookRoutes:
    def __init__(self, served: Served) -> None:
        self._served = served

    def declare(self, app: FastAPI) -> None:
        seen = (401, 403, 422, 503)

        def add(
            method: str, path: str, endpoint: Any, status: int, model: Any, problems: Any
        ) -> None:
            declare(
                app, method, path, endpoint, tag="webhooks", status=status, model=model,
                problems=problems,
            )  # fmt: skip

        at = "/v1/webhooks/{webhook_id}"
        given = (*seen, *BODY_PROBLEMS)
        add("POST", "/v1/webhooks", self.create_webhook, 201, NewWebhook, (*given, 429))
        add("GET", "/v1/webhooks", self.list_webhooks, 200, WebhookPage, seen)
        add("GET", at, self.get_webhook, 200, Webhook, (*seen, 404))
        add("DELETE", at, self.delete_webhook, 204, None, (*seen, 404))
        add("POST", f"{at}/enable", self.enable_webhook, 200, Webhook, (*given, 404))

    async def create_webhook(self, caller: Caller, body: WebhookRequest, asked: Here) -> Reply:
        """Have what happens in your tenant's sessions sent somewhere, as its admin."""
        webhook = await self._served.webhooks.add(caller, body.url, body.kinds)
        await self._note(caller, "webhook.created", webhook.webhook_id, asked)
        location = f"/v1/webhooks/{webhook.webhook_id}".encode()
        wire = {**_wire(webhook), "secret": webhook.secret}
        return json_reply(201, wire, [(b"location", location)])

    async def list_webhooks(self, caller: Caller) -> Reply:
        """The webhooks of your tenant, as its admin; the oldest first."""
        webhooks = await self._served.webhooks.all(caller)
        return json_reply(200, page_wire(map(_wire, webhooks), after=None))

    async def get_webhook(self, caller: Caller, webhook_id: WebhookPath) -> Reply:
        """One of them, and how it is."""
        return json_reply(200, _wire(await self._served.webhooks.one(caller, webhook_id)))

    async def delete_webhook(self, caller: Caller, webhook_id: WebhookPath, asked: Here) -> Reply:
        """Have nothing sent there any more."""
        await self._served.webhooks.remove(caller, webhook_id)
        await self._note(caller, "webhook.removed", webhook_id, asked)
        return Reply(204)

    async def enable_webhook(
        self, caller: Caller, webhook_id: WebhookPath, body: Nothing | None = None
    ) -> Reply:
        """Have one that was disabled sent to again, from where it stopped."""
        return json_reply(200, _wire(await self._served.webhooks.enable(caller, webhook_id)))

    async def _note(
        self, caller: Principal, action: str, webhook_id: WebhookId, asked: Exchange
    ) -> None:
        await self._served.keeping.note(caller, action, webhook_id, request_id=asked.request_id)


def _wire(webhook: Kept) -> dict[str, Any]:
    return {
        "webhook_id": webhook.webhook_id,
        "url": webhook.url,
        "kinds": webhook.kinds,
        "status": "disabled" if webhook.disabled else "active",
        "disabled_reason": webhook.disabled or None,
        "created_by": webhook.created_by,
        "created_at": timestamp(webhook.created_at_ms),
        "last_status": webhook.last_status,
        "last_error": webhook.last_error or None,
        "last_at": _timestamp(webhook.last_at_ms),
        "failing_since": _timestamp(webhook.failing_since_ms),
        "behind": webhook.behind,
    }


def _timestamp(at_ms: int | None) -> str | None:
    return None if at_ms is None else timestamp(at_ms)
