"""Row locks: taken in one order, seen behind, waited for not long, and passed by where others can
go on."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.contract.desk import ADMIN, LEASE_MS, NODE, Desk
from tests.contract.nodes import connected, crowd, holding_heads, nodes
from tests.servers.databases import database
from tests.servers.waits import until, waiting_for_locks

from sessile.core.errors import StorageBusy
from sessile.core.ids import SessionKey

SOON_SECONDS = 1.5
"""A lane waits for a quarter of a second, and would for each of many one after another."""


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    async with database() as dsn:
        yield dsn


SETTINGS = (
    "lock_timeout",
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "tcp_user_timeout",
)


async def test_every_connection_waits_less_than_half_of_a_lease(dsn: str) -> None:
    def told(name: str) -> str:
        return f"(SELECT setting::int FROM pg_settings WHERE name = '{name}')"

    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        await desk.run(await desk.open())
        store: Any = desk.store
        lanes = [*store._lanes._lanes, store._lanes._aside]
        connections = [lane._connection for lane in lanes] + [store._renewing]
        async with store._readers.acquire() as reader:
            found = {
                await each.fetchval("SHOW application_name"): await each.fetchrow(
                    f"SELECT {', '.join(map(told, SETTINGS))}"
                )
                for each in (*connections, reader)
            }
        names = await own.fetch(
            "SELECT application_name AS name FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name <> ''"
        )

    lanes = [f"sessile lane {number}" for number in range(4)]
    assert sorted(found) == ["sessile aside", *lanes, "sessile reads", "sessile renewals"]
    assert {row["name"] for row in names} == set(found), "there are no others"
    for row in found.values():
        assert all(0 < milliseconds < LEASE_MS / 2 for milliseconds in row)


@pytest.fixture
async def no_deadlock(dsn: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """The server looks for one earlier than lanes give up waiting."""
    caplog.set_level("INFO", "sessile")
    async with connected(dsn) as own:
        name = await own.fetchval("SELECT current_database()")
        await own.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '5ms'")
        await crowd(own, 5000)  # else the heads are scanned in the order in which they lie
        yield
        await own.execute(f"ALTER DATABASE {name} RESET deadlock_timeout")
    errors = [getattr(record, "error", "") for record in caplog.get_records("call")]
    assert "DeadlockDetectedError" not in errors


@pytest.mark.usefixtures("no_deadlock")
async def test_batches_of_two_nodes_over_the_same_sessions_never_deadlock(dsn: str) -> None:
    async with nodes(dsn) as both, connected(dsn) as own:
        keys = [await both[0].open() for _ in range(48)]

        async with holding_heads(dsn, keys[24]):  # there they meet
            orders = (keys, keys[::-1])
            asked = [desk.update(key) for desk, it in zip(both, orders, strict=True) for key in it]
            updates = asyncio.gather(*asked)
            await waiting_for_locks(own, 2)
        await updates


@pytest.mark.usefixtures("no_deadlock")
async def test_appends_and_updates_of_two_nodes_never_deadlock(dsn: str) -> None:
    async with nodes(dsn) as (one, two), connected(dsn) as own:
        held = [await one.run(await one.open()) for _ in range(48)]

        async with holding_heads(dsn, held[24].key):
            appends = asyncio.gather(*(one.append(each, 0, "a") for each in held[::-1]))
            updates = asyncio.gather(*(two.update(each.key) for each in held))
            await waiting_for_locks(own, 2)
        await asyncio.gather(appends, updates)


async def test_a_call_waits_for_a_revoke_that_is_on_its_way_and_is_then_refused(
    dsn: str,
) -> None:
    async with nodes(dsn) as (one, two), connected(dsn) as own:
        key = await one.open()
        await one.grant(key, "export", principal=ADMIN)
        held = await one.run(key)
        # Nodes commit on their own: the revoke is stopped behind its statements by a trigger that
        # waits for a lock of the test's.
        await own.execute(
            """
            CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER stop AFTER UPDATE ON session DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION stop();
            SELECT pg_advisory_lock(7)
            """
        )
        try:
            revoked = asyncio.gather(two.grant(key, principal=ADMIN))
            await waiting_for_locks(own)
            called = asyncio.gather(one.store.append(held, 0, [one.call(held, grant="export")]))
            await waiting_for_locks(own, 2)
            assert not called.done()
            await own.execute("SELECT pg_advisory_unlock(7)")
            await revoked
            (answer,) = await called
        finally:
            await own.execute("DROP FUNCTION stop CASCADE")

        assert [entry.kind for entry in answer.entries] == ["tool.refused"]


async def test_who_holds_one_head_does_not_hold_up_the_others_of_its_lane(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sessile")
    loop = asyncio.get_running_loop()
    async with nodes(dsn, 1) as (desk,):
        keys = [await desk.open() for _ in range(24)]

        async with holding_heads(dsn, keys[0]):
            began = loop.time()
            stuck = asyncio.gather(*(desk.submit(keys[0], run=False) for _ in range(20)))
            await asyncio.gather(*(desk.submit(key) for key in keys[1:]))
            took = loop.time() - began
            told = len(caplog.records)
            more = asyncio.gather(desk.submit(keys[0], run=False))
            await asyncio.gather(*(desk.submit(key) for key in keys[1:]))
            assert len(caplog.records) == told, "its lane waits for it no more"
            assert not stuck.done()
        await stuck
        await more

        assert took < SOON_SECONDS


async def test_who_holds_many_heads_does_not_hold_up_the_others_of_their_lanes(dsn: str) -> None:
    loop = asyncio.get_running_loop()
    async with nodes(dsn, 1) as (desk,):
        keys = [await desk.open() for _ in range(96)]
        held = [await desk.run(key) for key in keys]

        async with holding_heads(dsn, *keys[:48]):
            began = loop.time()
            stuck = asyncio.gather(*(desk.append(each, 0, "a") for each in held[:48]))
            await asyncio.gather(*(desk.append(each, 0, "a") for each in held[48:]))
            took = loop.time() - began
            assert not stuck.done()
        await stuck

        assert took < SOON_SECONDS


async def test_opens_of_a_key_whose_session_is_held_do_not_hold_up_the_lane(dsn: str) -> None:
    loop = asyncio.get_running_loop()
    async with nodes(dsn, 1) as (desk,):
        key = await desk.open(exclusive_key="k")
        others = [await desk.open() for _ in range(24)]

        async with holding_heads(dsn, key):
            began = loop.time()
            stuck = asyncio.gather(*(desk.open(exclusive_key="k") for _ in range(20)))
            await asyncio.gather(*(desk.submit(each) for each in others))
            took = loop.time() - began
            assert not stuck.done()

        assert set(await stuck)
        assert {each.session_id for each in desk.opened if each not in others} == {key.session_id}
        assert took < SOON_SECONDS


async def test_a_lane_remembers_no_session_for_which_nobody_waits(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,):
        store: Any = desk.store
        aside = store._lanes._aside
        first, second = await desk.open(), await desk.open()

        async with holding_heads(dsn, second):
            async with holding_heads(dsn, first):
                one = asyncio.gather(desk.submit(first, run=False))
                await until(lambda: waits_in(aside, first))
                two = asyncio.gather(desk.submit(second, run=False))
                await until(lambda: waits_in(aside, second))
            await one
            assert set(aside._waiting_of) == {second}
        await two


async def waits_in(lane: Any, key: SessionKey) -> bool:
    return bool(lane.serves(key))


async def test_under_load_a_commit_begins_the_next_transaction(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,):
        said: list[str] = []
        lanes = await each_job_in_a_batch_of_its_own(desk)
        for lane in lanes:
            lane._connection.add_query_logger(lambda told: said.append(told.query))
        key = await desk.open()
        said.clear()

        await asyncio.gather(*(desk.submit(key, run=False) for _ in range(5)))
        await until(lambda: all_rest(lanes))

        spoken = [sql for sql in said if sql in ("BEGIN", "COMMIT", "COMMIT AND CHAIN", "ROLLBACK")]
        assert spoken == ["BEGIN", *["COMMIT AND CHAIN"] * 4, "COMMIT"]


async def test_a_transaction_that_was_begun_for_nobody_is_ended(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        lanes = await each_job_in_a_batch_of_its_own(desk)
        held, *others = [await desk.open() for _ in range(24)]
        aside = lanes[0]._aside

        async with holding_heads(dsn, held):
            first = asyncio.gather(desk.submit(held, run=False))
            await until(lambda: waits_in(aside, held))
            before = asyncio.gather(*(desk.submit(each, run=False) for each in others))
            last = asyncio.gather(desk.submit(held, run=False))
            await before
            await until(lambda: all_rest(lanes))
            # Between two tries for the session that is held, the one who tries is idle, too; what
            # was begun for nobody would be until its connection is closed for it.
            none_idle = """
                SELECT count(*) = 0 FROM pg_stat_activity
                WHERE application_name LIKE 'sessile lane %' AND state LIKE 'idle in%'
            """
            connections = [lane._connection for lane in lanes]
            await until(lambda: own.fetchval(none_idle))
            assert [lane._connection for lane in lanes] == connections
            assert not any(each.is_closed() for each in connections if each is not None)
        await first
        await last


async def each_job_in_a_batch_of_its_own(desk: Desk) -> list[Any]:
    store: Any = desk.store
    for lane in store._lanes._lanes:
        lane._batch_max = 1
    return list(store._lanes._lanes)


async def all_rest(lanes: list[Any]) -> bool:
    return not any(lane._begun or lane._waiting or lane._waiting_of for lane in lanes)


async def test_who_waits_for_a_session_that_stays_held_is_told_so(dsn: str) -> None:
    loop = asyncio.get_running_loop()
    async with nodes(dsn, 1, lease_ms=2000, busy_seconds=0.6) as (desk,):
        key, other = await desk.open(), await desk.open()
        before = await desk.everything(key)

        async with holding_heads(dsn, key):
            began = loop.time()
            with pytest.raises(StorageBusy):
                await desk.submit(key)
            took = loop.time() - began
            await desk.submit(other)

        assert took < 3
        assert await desk.everything(key) == before
        assert (await desk.submit(key)).entries


async def test_many_who_wait_for_a_session_that_stays_held_do_not_wait_for_each_other(
    dsn: str,
) -> None:
    loop = asyncio.get_running_loop()
    async with nodes(dsn, 1, lease_ms=4000, busy_seconds=1) as (desk,):
        key = await desk.open()

        async with holding_heads(dsn, key):
            began = loop.time()
            asked = (desk.submit(key, run=False) for _ in range(8))
            told = await asyncio.gather(*asked, return_exceptions=True)
            took = loop.time() - began

        assert {type(each) for each in told} == {StorageBusy}
        assert took < 4, "each would wait a second for the lock"
        assert (await desk.submit(key)).entries


async def test_a_node_that_is_paused_in_a_transaction_is_thrown_out_of_it(dsn: str) -> None:
    async with nodes(dsn, lease_ms=2000) as (paused, other), connected(dsn) as own:
        key = await paused.open()
        store: Any = paused.store
        lane = store._lanes._lanes[0]._connection
        await lane.execute("BEGIN")
        await lane.execute("SELECT 1 FROM session_head FOR UPDATE")

        await other.submit(key)

        async def gone() -> bool:
            return bool(lane.is_closed())

        await until(gone)
        keys = [await paused.open() for _ in range(24)]
        await asyncio.gather(*(paused.submit(each, "by a new connection") for each in keys))
        assert await own.fetchval("SELECT count(*) FROM turn") == 25


async def test_a_time_is_of_after_the_wait_for_the_lock(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        keys = sorted([await desk.open() for _ in range(16)])

        async with holding_heads(dsn, keys[-1]):
            asked = asyncio.gather(*(desk.submit(key) for key in keys))
            await waiting_for_locks(own)
            let_go_ms = await own.fetchval("SELECT sessile_now_ms()")
        answers = await asked

        assert answers[-1].entries[0].at_ms >= let_go_ms


async def test_a_renewal_passes_a_locked_row_by_and_comes_back_for_it(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        held = [await desk.run(await desk.open()) for _ in range(50)]
        await own.execute("UPDATE session_head SET lease_until_ms = 0, due_at_ms = 0")
        due = "SELECT count(*) FROM session_head WHERE due_at_ms = 0 AND lease_until_ms = 0"

        async def one_is_left() -> bool:
            return await own.fetchval(due) == 1

        async with holding_heads(dsn, held[7].key):
            renewed = asyncio.gather(desk.store.renew(NODE, held, lease_ms=LEASE_MS))
            await until(one_is_left)
            assert not renewed.done()
        (lost,) = await renewed

        assert lost == frozenset()
        assert await own.fetchval(due) == 0


async def test_a_row_that_stays_locked_is_told_as_not_renewed(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,):
        held = [await desk.run(await desk.open()) for _ in range(3)]

        async with holding_heads(dsn, held[1].key):
            lost = await desk.store.renew(NODE, held, lease_ms=400)

        assert lost == {held[1].key}


async def test_renewals_wait_for_no_lane_and_no_reader(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        held = await desk.run(await desk.open())
        store: Any = desk.store
        stuck = [await desk.open() for _ in range(24)]
        async with holding_heads(dsn, *stuck), connected(dsn) as other:
            submits = asyncio.gather(*(desk.submit(key) for key in stuck))
            await waiting_for_locks(own, 4, name="sessile lane")
            await other.execute("BEGIN; LOCK TABLE entry")
            reads = asyncio.gather(*(desk.log(key) for key in stuck))
            await waiting_for_locks(own, 4, name="sessile reads")

            assert await store.renew(NODE, [held], lease_ms=LEASE_MS) == frozenset()

            assert not submits.done()
            assert not reads.done()
            await other.execute("ROLLBACK")
            await reads
        await submits
