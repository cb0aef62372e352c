"""Accounts, keys and tokens in PostgreSQL."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sessile.adapters.postgres.pooled import pooled
from sessile.adapters.sql.credentials import SqlCredentials

CREDENTIALS_MAX = 2
"""Connections."""


@asynccontextmanager
async def open_credentials(
    dsn: str, *, lease_ms: int, busy_seconds: float
) -> AsyncGenerator[SqlCredentials, None]:
    """As `pooled`."""
    async with pooled(
        dsn,
        "sign-in",
        connections_max=CREDENTIALS_MAX,
        lease_ms=lease_ms,
        busy_seconds=busy_seconds,
    ) as connected:
        yield SqlCredentials(connected)
