"""Webhooks: the same on every store, and no tenant's are another's."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract.desk import ACME, NODE, NODE_2, OTHER
from tests.doubles import ManualClock
from tests.servers.databases import database

from sessile.adapters.memory_webhooks import MemoryWebhooks
from sessile.adapters.migrations import migrate
from sessile.adapters.postgres.webhooks import open_webhooks as open_pooled
from sessile.adapters.sqlite.webhooks import open_webhooks as open_file
from sessile.core.ids import Seq, SessionId, UserId, WebhookId
from sessile.ports.webhooks import Attempt, Webhook, Webhooks

ONE, TWO = WebhookId("whk_1"), WebhookId("whk_2")
S1, S2 = SessionId("ses_1"), SessionId("ses_2")


@asynccontextmanager
async def memory(_: Path) -> AsyncIterator[Webhooks]:
    yield MemoryWebhooks(ManualClock())


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncIterator[Webhooks]:
    migrate(directory / "sessile.db")
    async with open_file(directory / "sessile.db", ManualClock(), busy_seconds=5) as webhooks:
        yield webhooks


@asynccontextmanager
async def postgres(_: Path) -> AsyncIterator[Webhooks]:
    async with database() as dsn, open_pooled(dsn, lease_ms=12_000, busy_seconds=5) as webhooks:
        yield webhooks


KINDS: dict[str, Callable[[Path], AbstractAsyncContextManager[Webhooks]]] = {
    "memory": memory,
    "postgres": postgres,
    "sqlite": sqlite,
}


@pytest.fixture(params=KINDS)
async def webhooks(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Webhooks]:
    async with KINDS[request.param](tmp_path) as webhooks:
        yield webhooks


def webhook(webhook_id: WebhookId = ONE, **more: Any) -> Webhook:
    given: dict[str, Any] = {
        "tenant_id": ACME, "webhook_id": webhook_id, "url": "https://a.example/ünï",
        "kinds": ("turn.completed", "session.closed"), "secret": "whsec_x",
        "created_by": UserId("ann"), "created_at_ms": 1_000, **more,
    }  # fmt: skip
    return Webhook(**given)


async def add(webhooks: Webhooks, each: Webhook, *, most: int = 9, **cursors: int) -> bool:
    begin = {SessionId(name): Seq(seq) for name, seq in cursors.items()}
    return await webhooks.add(each, begin, webhooks_max=most)


async def test_what_is_put_in_comes_out(webhooks: Webhooks) -> None:
    assert await add(webhooks, webhook(created_at_ms=2**45))
    assert await add(webhooks, webhook(TWO))

    assert await webhooks.find(ACME, ONE) == webhook(created_at_ms=2**45)
    assert await webhooks.of(ACME) == (webhook(TWO), webhook(created_at_ms=2**45))
    assert "whsec_x" not in repr(await webhooks.find(ACME, ONE))


async def test_another_tenant_s_are_not_there(webhooks: Webhooks) -> None:
    await add(webhooks, webhook(), ses_1=3)

    assert await webhooks.of(OTHER) == ()
    assert await webhooks.find(OTHER, ONE) is None
    assert not await webhooks.remove(OTHER, ONE)
    assert not await webhooks.set_disabled(OTHER, ONE, "why")
    await webhooks.tried(OTHER, ONE, Attempt(at_ms=5, status=500, error="500"))
    await webhooks.advance(OTHER, ONE, S1, Seq(9), Attempt(at_ms=5, status=200))
    await webhooks.forget(OTHER, ONE, S1)
    assert await webhooks.cursors(OTHER, ONE) == {}
    assert await webhooks.find(ACME, ONE) == webhook()
    assert await webhooks.cursors(ACME, ONE) == {S1: 3}


async def test_a_tenant_has_so_many_at_most(webhooks: Webhooks) -> None:
    assert await add(webhooks, webhook(), most=1)

    assert not await add(webhooks, webhook(TWO), most=1, ses_1=4)
    assert await add(webhooks, webhook(TWO, tenant_id=OTHER), most=1)
    assert await webhooks.cursors(ACME, TWO) == {}
    assert await webhooks.remove(ACME, ONE)
    assert await add(webhooks, webhook(TWO), most=1)


async def test_a_cursor_goes_on_and_never_back(webhooks: Webhooks) -> None:
    taken = Attempt(at_ms=5, status=204)
    await add(webhooks, webhook(), ses_1=3)

    await webhooks.advance(ACME, ONE, S1, Seq(5), taken)
    await webhooks.advance(ACME, ONE, S1, Seq(4), taken)
    await webhooks.advance(ACME, ONE, S2, Seq(2**40), taken)

    assert await webhooks.cursors(ACME, ONE) == {S1: 5, S2: 2**40}
    assert await webhooks.cursor(ACME, ONE, S1) == 5
    await webhooks.forget(ACME, ONE, S1)
    assert await webhooks.cursor(ACME, ONE, S1) == 0


async def test_very_many_sessions_may_be_there_already(webhooks: Webhooks) -> None:
    begin = {SessionId(f"ses_{n}"): Seq(n) for n in range(1, 1_203)}

    assert await webhooks.add(webhook(), begin, webhooks_max=1)

    assert await webhooks.cursors(ACME, ONE) == begin


async def test_nothing_is_left_of_one_that_was_removed(webhooks: Webhooks) -> None:
    await add(webhooks, webhook(), ses_1=3)

    assert await webhooks.remove(ACME, ONE)
    await webhooks.advance(ACME, ONE, S1, Seq(9), Attempt(at_ms=5, status=200))
    await webhooks.tried(ACME, ONE, Attempt(at_ms=5, status=200))

    assert await webhooks.find(ACME, ONE) is None
    assert await webhooks.cursors(ACME, ONE) == {}
    assert not await webhooks.remove(ACME, ONE)
    assert await webhooks.claim(NODE, lease_ms=1_000) == frozenset()


async def test_what_became_of_it_is_kept_since_the_first_failure(webhooks: Webhooks) -> None:
    await add(webhooks, webhook())

    await webhooks.tried(ACME, ONE, Attempt(at_ms=5, status=500, error="status 500", behind=1))
    await webhooks.tried(ACME, ONE, Attempt(at_ms=7, status=None, error="no reply", behind=2))
    failing = webhook(last_error="no reply", last_at_ms=7, failing_since_ms=5, behind=2)
    assert await webhooks.find(ACME, ONE) == failing

    assert await webhooks.set_disabled(ACME, ONE, "given up")
    assert await webhooks.find(ACME, ONE) == replace(failing, disabled="given up")
    assert await webhooks.set_disabled(ACME, ONE, "")
    again = replace(failing, failing_since_ms=None, behind=0)
    assert await webhooks.find(ACME, ONE) == again

    await webhooks.advance(ACME, ONE, S1, Seq(1), Attempt(at_ms=9, status=200))
    assert await webhooks.find(ACME, ONE) == webhook(last_status=200, last_at_ms=9)


async def test_one_node_delivers_a_tenant_s_for_as_long_as_it_says(webhooks: Webhooks) -> None:
    await add(webhooks, webhook())
    assert await webhooks.claim(NODE, lease_ms=60_000) == {ACME}

    assert await webhooks.claim(NODE_2, lease_ms=60_000) == frozenset()
    await add(webhooks, webhook(tenant_id=OTHER))
    assert await webhooks.claim(NODE_2, lease_ms=60_000) == {OTHER}
    assert await webhooks.claim(NODE, lease_ms=60_000) == {ACME}
    await add(webhooks, webhook(TWO))
    assert await webhooks.claim(NODE_2, lease_ms=60_000) == {OTHER}, "still the first one's"

    await webhooks.release(NODE)
    assert await webhooks.claim(NODE_2, lease_ms=60_000) == {ACME, OTHER}


async def test_a_lease_that_ended_is_another_s(webhooks: Webhooks) -> None:
    await add(webhooks, webhook())

    assert await webhooks.claim(NODE, lease_ms=0) == {ACME}

    assert await webhooks.claim(NODE_2, lease_ms=60_000) == {ACME}
    assert await webhooks.claim(NODE, lease_ms=60_000) == frozenset()
