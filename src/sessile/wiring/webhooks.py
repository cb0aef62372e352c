"""Webhooks, put together: where they are kept, by whom they are sent."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from sessile.adapters.memory_webhooks import MemoryWebhooks
from sessile.adapters.system import new_webhook_id, new_webhook_secret
from sessile.core.ids import NodeId
from sessile.ports.clock import Clock
from sessile.ports.notifier import Notifier
from sessile.ports.webhooks import Webhooks
from sessile.runtime.deliveries import Deliveries
from sessile.runtime.reads import Reads
from sessile.runtime.webhooks import WebhookDesk
from sessile.settings import Settings, WrongSetting

PORT_MAX = 65_535


@asynccontextmanager
async def open_webhooks(settings: Settings, clock: Clock) -> AsyncGenerator[Webhooks, None]:
    """In the database of the settings, which a server has opened."""
    busy_seconds = settings.store_busy_seconds_max
    if settings.store_url == "memory":
        yield MemoryWebhooks(clock)
    elif settings.shared:
        from sessile.adapters.postgres import webhooks as postgres  # noqa: PLC0415

        lease_ms = int(settings.lease_ttl_seconds * 1000)
        async with postgres.open_webhooks(
            settings.store_url, lease_ms=lease_ms, busy_seconds=busy_seconds
        ) as pooled:
            yield pooled
    else:
        from sessile.adapters.sqlite import webhooks as sqlite  # noqa: PLC0415

        path = settings.data_dir / "sessile.db"
        async with sqlite.open_webhooks(path, clock, busy_seconds=busy_seconds) as file:
            yield file


@asynccontextmanager
async def open_desk(
    settings: Settings,
    *,
    kept: bool,
    node: NodeId,
    epoch: int,
    reads: Reads,
    notifier: Notifier,
    clock: Clock,
) -> AsyncGenerator[WebhookDesk, None]:
    """What admins ask for, while it is delivered. `kept`: in the database of the settings; else in
    memory, where somebody brings a store of their own. Raises WrongSetting."""
    from sessile.adapters.webhooks import Addresses, WebhookSender  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        webhooks: Webhooks = MemoryWebhooks(clock)
        if kept:
            webhooks = await stack.enter_async_context(open_webhooks(settings, clock))
        addresses = Addresses(
            ports=_ports(settings.webhook_ports),
            plain=settings.webhook_http,
            private=settings.webhook_private,
        )
        sender = await stack.enter_async_context(
            WebhookSender(addresses, seconds_max=settings.webhook_seconds_max)
        )
        deliveries = await stack.enter_async_context(
            Deliveries(
                webhooks,
                sender,
                node=node,
                epoch=epoch,
                reads=reads,
                notifier=notifier,
                clock=clock,
                settings=settings,
            )
        )
        yield WebhookDesk(
            webhooks,
            sender,
            reads=reads,
            clock=clock,
            settings=settings,
            new_id=new_webhook_id,
            new_secret=new_webhook_secret,
            told=deliveries.wake,
        )


def _ports(text: str) -> list[int]:
    ports = [each.strip() for each in text.split(",") if each.strip()]
    if not all(each.isascii() and each.isdigit() and 0 < int(each) <= PORT_MAX for each in ports):
        raise WrongSetting(f"webhook_ports: {text!r} are not ports, with commas between")
    return [int(each) for each in ports]
