"""Waits for what a server says of itself: its clock is not a test's to advance."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

SECONDS_MAX = 20.0


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """What it answers, once that is true."""
    async with asyncio.timeout(SECONDS_MAX):
        while not (answer := await holds()):  # noqa: ASYNC110  a server rings no bell
            await asyncio.sleep(0.005)
        return answer


async def waiting_for_locks(connection: Any, count: int = 1, *, name: str = "") -> None:
    """Returns once as many connections to the database wait for somebody's lock; of those that
    are named so."""
    sql = """
        SELECT count(*) >= $1 FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND starts_with(application_name, $2)
    """
    await until(lambda: connection.fetchval(sql, count, name))
