"""Whatever happens in whatever order, on two nodes at once: the log explains every row."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.contract.clocked import clocked
from tests.contract.desk import Desk
from tests.contract.nodes import behind_proxy
from tests.contract.test_folds import Walk, begin
from tests.doubles import CountingIds, ManualClock
from tests.servers.databases import database
from tests.servers.proxy import COMMIT, Moment


def beside(walk: Walk, desk: Desk, seed: int) -> Walk:
    """At another node, over the same sessions and with what each holds of them."""
    other = Walk(desk, seed)
    other.keys, other.held, desk.opened = walk.keys, walk.held, walk.desk.opened
    return other


@pytest.fixture(autouse=True)
def stored(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nobody is told that the database is busy: a walk takes that for a refusal like any other."""
    yield
    assert "nothing was stored" not in [each.message for each in caplog.get_records("call")]


@pytest.mark.parametrize("seed", range(6))
async def test_two_nodes_at_once_over_few_sessions(seed: int) -> None:
    clock, ids = ManualClock(), CountingIds()
    async with (
        database() as dsn,
        clocked(dsn, clock) as store,
        clocked(dsn, clock) as other_store,
    ):
        desk = Desk(store, clock, ids)
        walk = await begin(desk, seed)
        other = beside(walk, Desk(other_store, clock, ids), -seed - 1)

        for _ in range(10):
            await asyncio.gather(*(each.step() for _ in range(12) for each in (walk, other)))
            await desk.check_folds()


@pytest.mark.parametrize("seed", range(3))
async def test_two_nodes_whose_commits_are_lost_now_and_then(seed: int) -> None:
    clock, ids = ManualClock(), CountingIds()
    async with (
        database() as dsn,
        behind_proxy(dsn) as (proxy, by_proxy),
        clocked(by_proxy, clock, own_dsn=dsn) as store,
        clocked(by_proxy, clock, own_dsn=dsn) as other_store,
    ):
        desk = Desk(store, clock, ids)
        walk = await begin(desk, seed)
        other = beside(walk, Desk(other_store, clock, ids), -seed - 1)

        for _ in range(8):
            moment: Moment = walk.random.choice(("before", "after"))
            proxy.strike(COMMIT, moment, skip=walk.random.randrange(8))
            await asyncio.gather(*(each.step() for _ in range(12) for each in (walk, other)))
            await desk.check_folds()
