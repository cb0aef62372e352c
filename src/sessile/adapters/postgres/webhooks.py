"""Webhooks in PostgreSQL."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sessile.adapters.postgres.pooled import pooled
from sessile.adapters.sql.webhooks import SqlWebhooks

WEBHOOKS_MAX = 2
"""Connections."""


@asynccontextmanager
async def open_webhooks(
    dsn: str, *, lease_ms: int, busy_seconds: float
) -> AsyncGenerator[SqlWebhooks, None]:
    """As `pooled`."""
    async with pooled(
        dsn, "webhooks", connections_max=WEBHOOKS_MAX, lease_ms=lease_ms, busy_seconds=busy_seconds
    ) as connected:
        yield SqlWebhooks(connected)
