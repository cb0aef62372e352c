"""Where the tables are distributed by tenant, no transaction writes for two tenants."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from tests.contract.desk import ANN, Desk
from tests.contract.nodes import nodes
from tests.doubles import ManualClock
from tests.servers.databases import database

from sessile.adapters.postgres.callers import Caller, Queue
from sessile.adapters.postgres.lanes import Lane
from sessile.adapters.sql.jobs import Asked
from sessile.core.commands import CloseSession
from sessile.core.context import Principal
from sessile.core.ids import SessionId, SessionKey, TenantId, UserId
from sessile.settings import Settings
from sessile.wiring.stores import open_store

TENANTS = 6
CLOSE = CloseSession(principal=ANN)


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    async with database() as dsn:
        yield dsn


@pytest.mark.parametrize("sharded", [False, True])
async def test_only_where_it_is_sharded_is_each_batch_of_one_tenant(
    dsn: str, sharded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[set[str]] = []
    attempt = Lane._attempt

    async def watched(lane: Any, connection: Any, callers: Sequence[Caller], **how: Any) -> Any:
        batches.append({caller.job.key.tenant_id for caller in callers})
        return await attempt(lane, connection, callers, **how)

    monkeypatch.setattr(Lane, "_attempt", watched)
    async with nodes(dsn, 1, sharded=sharded) as (desk,):
        people = [
            Principal(tenant_id=TenantId(f"tenant_{n}"), user_id=UserId("ann"))
            for n in range(TENANTS)
        ]
        await asyncio.gather(*(works(desk, person) for person in people for _ in range(6)))

    assert {len(tenants) == 1 for tenants in batches} == ({True} if sharded else {True, False})


async def works(desk: Desk, person: Principal) -> None:
    """Turns of a session, and an exclusive one that others open too."""
    key = await desk.open(person)
    await desk.open(person, exclusive_key="one")
    for _ in range(3):
        submitted = await desk.submit(key, principal=person)
        assert submitted.turn is not None
        await desk.store.turns(key, limit=1)
        await desk.update(key, principal=person, title="t", retitle=True)


def caller(tenant: str, number: int) -> Any:
    key = SessionKey(TenantId(tenant), SessionId(f"ses_{number}"))
    future: Any = None
    return Caller(Asked.of(key, CLOSE), key, future, until=0)


def asked(*callers: Caller, by_tenant: bool) -> Queue:
    queue = Queue(by_tenant=by_tenant)
    for each in callers:
        queue.put(each)
    return queue


def test_a_batch_is_whoever_came_first_and_no_more_than_may_be() -> None:
    callers = [caller(tenant, number) for number, tenant in enumerate("abca")]
    queue = asked(*callers, by_tenant=False)

    assert list(queue) == callers
    assert [queue.batch(3), queue.batch(3)] == [callers[:3], callers[3:]]
    assert not queue


def test_tenants_take_turns_and_each_keeps_its_order() -> None:
    callers = [caller(tenant, number) for number, tenant in enumerate("aaaabbca")]
    queue = asked(*callers, by_tenant=True)
    batches = []

    while queue:
        batches.append([each.place for each in queue.batch(2)])

    told = [[(tenant, int(session.removeprefix("ses_"))) for tenant, session in b] for b in batches]
    assert told == [
        [("a", 0), ("a", 1)],
        [("b", 4), ("b", 5)],
        [("c", 6)],
        [("a", 2), ("a", 3)],
        [("a", 7)],
    ]


async def test_the_setting_reaches_the_store(dsn: str) -> None:
    settings = Settings(store_url=dsn, store_sharded=True)

    async with open_store(settings, ManualClock()) as store:
        assert store._sharded  # type: ignore[attr-defined]
