"""Accounts, keys and tokens in the file. Programs beside the server use the same."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sessile.adapters.sql.credentials import SqlCredentials
from sessile.adapters.sqlite.threaded import threaded


@asynccontextmanager
async def open_credentials(
    path: Path, *, busy_seconds: float
) -> AsyncGenerator[SqlCredentials, None]:
    """As `threaded`."""
    async with threaded(path, "credentials", busy_seconds=busy_seconds) as connected:
        yield SqlCredentials(connected)
