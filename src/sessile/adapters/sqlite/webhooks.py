"""Webhooks in the file."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sessile.adapters.sql.webhooks import SqlWebhooks
from sessile.adapters.sqlite.threaded import threaded
from sessile.ports.clock import Clock


@asynccontextmanager
async def open_webhooks(
    path: Path, clock: Clock, *, busy_seconds: float
) -> AsyncGenerator[SqlWebhooks, None]:
    """As `threaded`."""
    async with threaded(
        path, "webhooks", busy_seconds=busy_seconds, now_ms=clock.now_ms
    ) as connected:
        yield SqlWebhooks(connected)
