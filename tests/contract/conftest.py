"""Every store keeps the same promises: each test here runs once for every one of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from tests.contract.clocked import clocked
from tests.contract.desk import Desk
from tests.doubles import CountingIds, ManualClock
from tests.servers.databases import database

from sessile.adapters.memory import MemoryStore
from sessile.adapters.sqlite import SqliteStore
from sessile.ports.clock import Clock
from sessile.ports.store import Store

OpenStore = Callable[[Path, Clock], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def open_postgres(_: Path, clock: Clock) -> AsyncIterator[Store]:
    async with database() as dsn, clocked(dsn, clock) as store:
        yield store


STORES: dict[str, OpenStore] = {
    "memory": lambda _, clock: MemoryStore(clock=clock),
    "postgres": open_postgres,
    "sqlite": lambda path, clock: SqliteStore(path / "data" / "sessile.db", clock=clock),
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=STORES)
async def desk(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Desk]:
    """A store with someone who works at it. After each test the log must explain every row."""
    async with STORES[request.param](tmp_path, clock) as store:
        desk = Desk(store, clock, CountingIds())
        yield desk
        await desk.check_folds()
