"""Two nodes on one database: the database alone says who holds what."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.contract.desk import (
    ACME,
    ADMIN,
    ANN,
    LEASE_MS,
    NODE,
    NODE_2,
    Desk,
    holding,
    once,
    runner,
)
from tests.contract.nodes import connected, holding_heads, nodes
from tests.servers.databases import database
from tests.servers.waits import waiting_for_locks

from sessile.core.commands import OpenSession
from sessile.core.errors import IdempotencyConflict, LeaseLost
from sessile.core.ids import NodeId, SessionKey

BOTH = (NODE, NODE_2)


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    async with database() as dsn:
        yield dsn


@pytest.fixture
async def desks(dsn: str) -> AsyncIterator[list[Desk]]:
    async with nodes(dsn) as desks:
        yield desks


@pytest.fixture
async def own(dsn: str) -> AsyncIterator[Any]:
    async with connected(dsn) as own:
        yield own


async def lapse(own: Any) -> None:
    """All leases are over."""
    await own.execute(
        "UPDATE session_head SET lease_until_ms = 0, due_at_ms = 0 WHERE lease_owner IS NOT NULL"
    )


async def test_every_start_raises_the_fence_whoever_makes_it(desks: list[Desk], own: Any) -> None:
    one, two = desks
    key = await one.open()
    held = await one.run(key)
    fences = [held.fence]
    await two.submit(key, run=False)

    chained = holding(await one.finish(held, successor=runner()))
    fences.append(chained.fence)
    await lapse(own)
    claimed = holding(await two.start(key, node=NODE_2))
    fences.append(claimed.fence)
    await two.release(claimed)
    again = holding(await one.start(key))
    fences.append(again.fence)
    await one.finish(again)
    fences.append(holding(await two.submit(key, on=runner(NODE_2))).fence)

    assert fences == [1, 2, 3, 4, 5]


async def test_of_two_that_claim_a_session_one_has_it(
    desks: list[Desk], own: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sessile")
    keys = [await desks[0].open() for _ in range(60)]
    await asyncio.gather(*(desks[0].submit(key, run=False) for key in keys))
    for round_number in range(1, 4):
        claims = await asyncio.gather(
            *(
                desk.start(key, node=node)
                for key in keys
                for desk, node in zip(desks, BOTH, strict=True)
            )
        )

        for key, pair in zip(keys, zip(claims[::2], claims[1::2], strict=True), strict=True):
            assert [len(each.turns) for each in pair] in ([0, 1], [1, 0])
            assert (await desks[0].look(key)).head.fence == round_number
        await lapse(own)
    errors = {getattr(record, "error", "") for record in caplog.records}
    assert "UniqueViolationError" not in errors, "the lock of the head tells them apart"


async def test_of_two_that_sweep_and_submit_one_starts_the_turn(desks: list[Desk]) -> None:
    one, two = desks
    keys = [await one.open() for _ in range(40)]
    submits = [one.submit(key) for key in keys]
    claims = [two.start(key, node=NODE_2) for key in keys]

    await asyncio.gather(*submits, *claims)

    assert {(await one.look(key)).head.fence for key in keys} == {1}


async def test_who_lost_a_session_writes_nothing_more(desks: list[Desk], own: Any) -> None:
    one, two = desks
    held = [await one.run(await one.open()) for _ in range(8)]
    await asyncio.gather(*(one.append(each, 0, "a") for each in held))
    await lapse(own)
    taken = await asyncio.gather(*(two.start(each.key, node=NODE_2) for each in held))

    late = [one.append(each, 1, "b") for each in held]
    late += [one.finish(each, step=1) for each in held]
    late += [one.release(each) for each in held]
    refused = await asyncio.gather(*late, return_exceptions=True)

    assert {type(each) for each in refused} == {LeaseLost}
    lost = await one.store.renew(NODE, held, lease_ms=LEASE_MS)
    assert lost == {each.key for each in held}
    mine = [holding(each) for each in taken]
    assert await two.store.renew(NODE_2, mine, lease_ms=LEASE_MS) == frozenset()
    assert await two.store.renew(NodeId("node-3"), mine, lease_ms=LEASE_MS) == lost


async def test_what_the_other_node_did_is_seen_though_much_is_remembered(
    desks: list[Desk],
) -> None:
    one, two = desks
    key = await one.open()
    held = await one.run(key)
    waits = await one.submit(key, "waits")
    assert waits.turn is not None

    await two.edit(key, waits.turn.turn_id, "edited")
    await two.cancel(key, held.turn_id)
    await two.update(key, metadata={"k": 1})
    await one.update(key, metadata={"l": 2})
    ended = await one.finish(held, successor=runner())

    assert ended.turns[held.turn_id].status == "cancelled"
    assert ended.turns[waits.turn.turn_id].input["text"] == "edited"
    assert (await one.look(key)).session.metadata == {"k": 1, "l": 2}


@pytest.mark.parametrize("first", [False, True])
async def test_many_opens_of_a_key_on_two_nodes_make_one_session(
    desks: list[Desk], first: bool
) -> None:
    for number in range(3):
        answers = await asyncio.gather(
            *(
                desk.open_as(exclusive_key=f"k{number}", first=desk.first() if first else None)
                for desk in desks * 10
            )
        )

        assert len({answer.session_id for answer in answers}) == 1
        assert sum(answer.created for answer in answers) == 1
        (key,) = {answer.head.key for answer in answers if answer.head is not None}
        assert len(await desks[0].store.turns(key, limit=100)) == 20 * first


async def test_a_key_that_is_freed_while_it_is_opened_is_held_by_one(desks: list[Desk]) -> None:
    one, two = desks
    for _ in range(10):
        key = await one.open(exclusive_key="k")

        opens = (desk.open_as(exclusive_key="k") for desk in desks * 4)
        _, *answers = await asyncio.gather(two.close(key), *opens)

        later = {answer.session_id for answer in answers} - {key.session_id}
        assert len(later) <= 1
        active = await one.open(exclusive_key="k")
        assert {active.session_id} >= later
        await one.close(active)


async def test_an_open_that_waited_for_the_close_of_the_session_makes_another(
    desks: list[Desk], dsn: str, own: Any
) -> None:
    one, two = desks
    key = await one.open(exclusive_key="k")

    async with holding_heads(dsn, key):
        closed = asyncio.gather(two.close(key))
        await waiting_for_locks(own)
        opened = asyncio.gather(one.open_as(exclusive_key="k", first=one.first()))
        await waiting_for_locks(own, 2)
    await closed
    (answer,) = await opened

    assert answer.created
    assert answer.session_id != key.session_id


async def test_one_idempotency_key_on_two_nodes_at_once_is_one_turn(desks: list[Desk]) -> None:
    key = await desks[0].open()
    for number in range(5):
        asked = once(f"k{number}", key.session_id)
        answers = await asyncio.gather(*(desk.submit(key, once=asked) for desk in desks * 5))

        assert len({answer.turn.turn_id for answer in answers if answer.turn is not None}) == 1
        assert [answer.repeated for answer in answers].count(False) == 1


async def test_one_idempotency_key_with_two_bodies_on_two_nodes_is_one_turn(
    desks: list[Desk],
) -> None:
    key = await desks[0].open()
    for number in range(5):
        answers = await asyncio.gather(
            *(
                desk.submit(key, once=once(f"k{number}", key.session_id, body))
                for desk, body in zip(desks, "ab", strict=True)
            ),
            return_exceptions=True,
        )

        assert sum(isinstance(answer, IdempotencyConflict) for answer in answers) == 1
        assert len(await desks[0].store.turns(key, limit=100)) == number + 1


async def test_one_idempotency_key_of_opens_on_two_nodes_is_one_session(
    desks: list[Desk],
) -> None:
    for number in range(5):
        asked = once(f"k{number}", "open")
        answers = await asyncio.gather(
            *(desk.open_as(once=asked, first=desk.first()) for desk in desks * 5)
        )

        assert len({answer.session_id for answer in answers}) == 1
        assert all(answer.created for answer in answers)


async def test_what_is_asked_again_of_another_node_is_done_once(desks: list[Desk]) -> None:
    one, two = desks
    key = SessionKey(ACME, one.ids.session_id())
    opening = OpenSession(principal=ANN, assistant="support", first=one.first())
    submitting = one.first("again")

    answers = [await desk.store.transact(key, opening) for desk in desks]
    answers += [await desk.store.transact(key, submitting) for desk in (*desks, *desks)]

    one.opened.append(key)
    assert [answer.repeated for answer in answers] == [False, True, False, True, True, True]
    assert len(await two.store.turns(key, limit=10)) == 2


async def test_a_newer_schema_that_only_adds_is_no_fault_of_an_older_node(
    desks: list[Desk], own: Any
) -> None:
    one, _ = desks
    tables = ("session_head", "session", "entry", "turn", "idempotency")

    async def work() -> None:
        key = await one.open(exclusive_key="k", once=once("k", "open"))
        held = await one.run(key)
        await one.submit(key, "waits", once=once("k", key.session_id))
        await one.append(held, 0, "a")
        await one.finish(held, step=1, successor=runner())
        await one.grant(key, "export", principal=ADMIN)
        await one.everything(key)
        await one.store.sessions(key.tenant_id, limit=10)
        await one.delete(key)

    for _ in range(6):  # until the driver has prepared its statements, and the server its plans
        await work()
    try:
        for table in tables:
            await own.execute(f"ALTER TABLE {table} ADD COLUMN newer int")
        await work()
    finally:
        for table in tables:
            await own.execute(f"ALTER TABLE {table} DROP COLUMN IF EXISTS newer")
    await work()


async def test_nodes_that_start_at_once_make_one_schema(dsn: str, own: Any) -> None:
    await own.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    async def start(_: int) -> None:
        async with nodes(dsn, 1) as (desk,):
            await desk.open()

    await asyncio.gather(*map(start, range(3)))

    assert await own.fetchval("SELECT count(*) FROM alembic_version") == 1
