"""Webhooks delivered from the log: by one node for each tenant, at least once, each session's in
order, signed as Standard Webhooks has it."""

import asyncio
import base64
import hashlib
import hmac
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Self

from sessile.core.codec import entry_json, timestamp, to_json
from sessile.core.errors import SessileError
from sessile.core.events import Entry
from sessile.core.ids import NodeId, Seq, SessionId, SessionKey, TenantId, WebhookId
from sessile.ports.clock import Clock
from sessile.ports.notifier import Notifier
from sessile.ports.webhooks import Attempt, NotSent, Sender, Webhook, Webhooks
from sessile.runtime.reads import Reads
from sessile.runtime.trail import NotTaken, Trail
from sessile.settings import Settings

logger = logging.getLogger(__name__)

CLAIM_SECONDS = 5.0
"""How often it is looked whose webhooks this node delivers, and which there are."""
LEASE_SECONDS = 60.0
SESSIONS_AT_ONCE = 4
"""Of one webhook."""
TENANT_AT_ONCE = 8
"""Requests: receivers that answer slowly hold up their own tenant, and leave the others their
connections."""
RETRY_SECONDS = 5.0
GONE = 410
Key = tuple[TenantId, WebhookId]


class Deliveries:
    """`async with Deliveries(…)`: claims, and delivers what is claimed."""

    def __init__(
        self,
        webhooks: Webhooks,
        sender: Sender,
        *,
        node: NodeId,
        epoch: int,
        reads: Reads,
        notifier: Notifier,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._webhooks = webhooks
        self._sender = sender
        self._node = node
        self._epoch = epoch
        self._reads = reads
        self._notifier = notifier
        self._clock = clock
        self._settings = settings
        self._until = 0.0
        self._bell = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._places: dict[TenantId, asyncio.Semaphore] = {}

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._loop = self._tasks.create_task(self._claim_for_ever(), name="webhooks")
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in (self._loop, *self._running.values()):
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        with suppress(SessileError):  # then another node waits until the lease ends
            await self._webhooks.release(self._node)

    def wake(self) -> None:
        """There are others than before."""
        self._bell.set()

    async def _claim_for_ever(self) -> None:
        while True:
            self._bell.clear()
            try:
                await self._claim()
            except SessileError:
                pass  # the database does not answer now; it is asked again
            except Exception:
                logger.exception("could not look for webhooks")
            try:
                async with asyncio.timeout(CLAIM_SECONDS):
                    await self._bell.wait()
            except TimeoutError:
                pass

    async def _claim(self) -> None:
        until = asyncio.get_running_loop().time() + LEASE_SECONDS
        tenants = await self._webhooks.claim(self._node, lease_ms=int(LEASE_SECONDS * 1000))
        self._until = until
        wanted: dict[Key, Webhook] = {}
        for tenant_id in tenants:
            for webhook in await self._webhooks.of(tenant_id):
                if not webhook.disabled:
                    wanted[tenant_id, webhook.webhook_id] = webhook
        for key, task in tuple(self._running.items()):
            if key not in wanted or task.done():
                task.cancel()
                del self._running[key]
        for tenant_id in tenants - self._places.keys():
            self._places[tenant_id] = asyncio.Semaphore(TENANT_AT_ONCE)
        for tenant_id in self._places.keys() - tenants:
            del self._places[tenant_id]
        for key in wanted.keys() - self._running.keys():
            task = self._tasks.create_task(self._deliver(wanted[key]), name=f"webhook {key[1]}")
            self._running[key] = task

    async def _deliver(self, webhook: Webhook) -> None:
        """Until it is cancelled, or the webhook disabled; when it fails it is begun again."""
        delivery = _Delivery(
            webhook,
            self._webhooks,
            self._sender,
            epoch=self._epoch,
            clock=self._clock,
            settings=self._settings,
            place=self._places[webhook.tenant_id],
            may_send=self._may_send,
        )
        trail = Trail(
            pass_on=delivery.pass_on,
            tenants=[webhook.tenant_id],
            cursors=delivery,
            epoch=self._epoch,
            reads=self._reads,
            notifier=self._notifier,
            reader="webhook",
            at_once=SESSIONS_AT_ONCE,
            retry_seconds=RETRY_SECONDS,
            retry_seconds_max=self._settings.webhook_wait_seconds_max,
        )
        try:
            async with trail:
                await delivery.over.wait()
        except SessileError:
            pass
        except Exception:
            logger.exception("a webhook failed", extra={"webhook_id": webhook.webhook_id})

    def _may_send(self) -> bool:
        """Whether a request that begins now ends while no other node may send it."""
        now = asyncio.get_running_loop().time()
        return now + self._settings.webhook_seconds_max < self._until


class _Delivery:
    """One webhook: what its trail passes on, and the trail's cursors."""

    def __init__(
        self,
        webhook: Webhook,
        webhooks: Webhooks,
        sender: Sender,
        *,
        epoch: int,
        clock: Clock,
        settings: Settings,
        place: asyncio.Semaphore,
        may_send: Callable[[], bool],
    ) -> None:
        self._webhook = webhook
        self._key = (webhook.tenant_id, webhook.webhook_id)
        self._webhooks = webhooks
        self._sender = sender
        self._epoch = epoch
        self._clock = clock
        self._settings = settings
        self._place = place
        self._may_send = may_send
        self._failed: dict[SessionKey, int] = {}
        """Attempts at the next entry of a session."""
        self._taken: dict[SessionKey, Attempt] = {}
        self._last: Attempt | None = None
        self.over = asyncio.Event()
        """It was disabled."""

    async def pass_on(self, key: SessionKey, _assistant: str, entry: Entry) -> bool:
        if entry.kind not in self._webhook.kinds:
            return False
        async with self._place:
            if self.over.is_set() or not self._may_send():
                raise NotTaken("this node does not deliver it now")
            attempt = await self._try(key, entry)
        if not attempt.error:
            self._taken[key] = attempt
            return True
        await self._webhooks.tried(*self._key, attempt)
        why = ""
        if attempt.status == GONE:
            why = "it replied 410: it is gone"
        elif self._failed[key] >= self._settings.webhook_attempts_max:
            why = f"one entry was not taken in {self._failed[key]} attempts: {attempt.error}"
        if why:
            await self._webhooks.set_disabled(*self._key, why)
            self.over.set()
            about = {"tenant_id": self._key[0], "webhook_id": self._key[1]}
            logger.warning("a webhook was disabled", extra=about)
        raise NotTaken(attempt.error)

    async def _try(self, key: SessionKey, entry: Entry) -> Attempt:
        status: int | None = None
        error = ""
        body = payload(key, entry, bytes_max=self._settings.webhook_bytes_max)
        message_id = f"{key.session_id}.{self._epoch}.{entry.seq}"
        seconds = self._clock.now_ms() // 1000
        headers = signed(self._webhook.secret, message_id, seconds, body)
        try:
            status = await self._sender.post(self._webhook.url, headers, body)
            if not 200 <= status < 300:
                error = f"status {status}"
        except NotSent as not_sent:
            error = str(not_sent)
        if error:
            self._failed[key] = self._failed.get(key, 0) + 1
        else:
            self._failed.pop(key, None)
        self._last = Attempt(
            at_ms=self._clock.now_ms(), status=status, error=error, behind=len(self._failed)
        )
        return self._last

    # -- how far it was told

    async def begun(self, tenant_id: TenantId) -> int:
        """When it was registered; and its cursors are restored together with the log."""
        return self._epoch

    async def begin(
        self, tenant_id: TenantId, cursors: dict[SessionId, Seq], *, epoch: int
    ) -> None:
        raise AssertionError("it was begun")

    async def cursors(self, tenant_id: TenantId) -> dict[SessionId, Seq]:
        return await self._webhooks.cursors(*self._key)

    async def cursor(self, key: SessionKey) -> Seq:
        return await self._webhooks.cursor(*self._key, key.session_id)

    async def advance(self, key: SessionKey, seq: Seq) -> None:
        await self._webhooks.advance(*self._key, key.session_id, seq, self._taken.pop(key))

    async def forget(self, key: SessionKey) -> None:
        await self._webhooks.forget(*self._key, key.session_id)
        if self._failed.pop(key, None) and self._last is not None:
            await self._webhooks.tried(*self._key, replace(self._last, behind=len(self._failed)))


def payload(key: SessionKey, entry: Entry, *, bytes_max: int) -> bytes:
    """The entry as in `GET …/events`, and whose it is; one that is too large without its body,
    which the receiver reads over HTTP."""
    whose = to_json({"tenant_id": key.tenant_id, "session_id": key.session_id})[:-1]
    body = f"{whose},{entry_json(entry)[1:]}".encode()
    if len(body) <= bytes_max:
        return body
    told = {
        "seq": entry.seq,
        "kind": entry.kind,
        "turn_id": entry.turn_id,
        "at": timestamp(entry.at_ms),
        "body": None,
    }
    return f"{whose},{to_json(told)[1:]}".encode()


def signed(
    secret: str, message_id: str, seconds: int, body: bytes
) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a request, https://www.standardwebhooks.com."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b"%s.%d.%s" % (message_id.encode(), seconds, body)
    signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256))
    return (
        (b"content-type", b"application/json"),
        (b"user-agent", b"sessile"),
        (b"webhook-id", message_id.encode()),
        (b"webhook-timestamp", str(seconds).encode()),
        (b"webhook-signature", b"v1," + signature),
    )
