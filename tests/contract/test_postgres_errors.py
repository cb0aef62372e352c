"""What PostgreSQL refuses, and when it is not there: callers wait and are answered, or are told in
time what it is; nothing is lost, nothing is done twice, and no one fails for another's fault."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from tests.contract.buses import Passage
from tests.contract.desk import ANN, LEASE_MS, NODE, Desk, holding, once
from tests.contract.nodes import behind_proxy, connected, holding_heads, nodes
from tests.servers.databases import database
from tests.servers.postgres import Postgres
from tests.servers.waits import until, waiting_for_locks

from sessile.adapters.migrations import migrate_postgres
from sessile.adapters.postgres import PostgresStore, failures
from sessile.adapters.postgres.connections import StorageUnreachable
from sessile.adapters.postgres.lanes import LANES
from sessile.core.commands import UpdateSession
from sessile.core.context import Holding
from sessile.core.errors import StorageBusy, StorageDamaged, StorageFull, StorageGone
from sessile.ports.store import Committed
from sessile.runtime.journal import patiently
from sessile.runtime.outages import WatchedStore
from sessile.runtime.renewals import LATE_AT_SHARE_OF_TTL, RENEWALS_PER_TTL


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that may be stopped, and takes few connections."""
    settings = {"max_connections": "24", "superuser_reserved_connections": "0", "fsync": "off"}
    with Postgres(settings) as server:
        yield server


@pytest.fixture
async def fresh(server: Postgres) -> str:
    """The address of a new database on it."""
    async with connected(server.dsn) as own:
        await own.execute("DROP DATABASE IF EXISTS mine WITH (FORCE)")
        await own.execute("CREATE DATABASE mine")
    await migrate_postgres(server.dsn_of("mine"))
    return server.dsn_of("mine")


@pytest.fixture
async def dsn() -> AsyncIterator[str]:
    async with database() as dsn:
        yield dsn


class Load:
    """Users who write turn after turn, each in a session of their own and one in all."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.ended = 0
        self.stopped = False

    async def run(self) -> None:
        shared = await self.desk.open()
        counts = await asyncio.gather(*(self.user(shared) for _ in range(12)))
        self.submitted = sum(counts)
        queued = await self.desk.store.turns(shared, limit=10_000)
        assert len(queued) == self.submitted

    async def user(self, shared: Any) -> int:
        desk, count = self.desk, 0
        key = await desk.open()
        while not self.stopped:
            held = await desk.run(key)
            await desk.append(held, 0, "a", "b")
            await desk.append(held, 1, "c")
            await desk.submit(shared, run=False, queue_max=10_000)
            await desk.finish(held, step=2, closing=[desk.reply(held, "abc")])
            count += 1
            self.ended += 1
        log = await desk.log(key)
        assert len(log) == 1 + 8 * count
        return count

    async def more(self) -> None:
        """Returns when some turns more have ended."""
        before = self.ended

        async def some_more() -> bool:
            return self.ended >= before + 12

        await until(some_more)


@pytest.mark.parametrize("at_once", [False, True], ids=["fast stop", "kill -9"])
async def test_a_server_that_is_restarted_under_load_loses_and_doubles_nothing(
    server: Postgres, fresh: str, at_once: bool
) -> None:
    async with nodes(fresh, 1, busy_seconds=30) as (desk,):
        load = Load(desk)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(load.run())
            for _ in range(2):
                await load.more()
                await asyncio.to_thread(server.stop, at_once=at_once)
                await asyncio.to_thread(server.start)
            await load.more()
            load.stopped = True
            await running


async def test_connections_that_are_cut_under_load_lose_and_double_nothing(dsn: str) -> None:
    async with behind_proxy(dsn) as (proxy, by_proxy), nodes(by_proxy, 1) as (desk,):
        load = Load(desk)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(load.run())
            for _ in range(10):
                await load.more()
                assert proxy.cut() >= 4
            await load.more()
            load.stopped = True
            await running


async def test_a_server_that_stays_away_is_told_in_time(
    server: Postgres, fresh: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    async with nodes(fresh, 1, busy_seconds=0.5) as (desk,):
        key = await desk.open()
        held = await desk.run(key)
        await asyncio.to_thread(server.stop)
        try:
            began = loop.time()
            asked = [desk.submit(key), desk.append(held, 0, "a"), desk.look(key), desk.due()]
            asked += [desk.store.renew(NODE, [held], lease_ms=LEASE_MS)]
            told = await asyncio.gather(*asked, return_exceptions=True)
            took = loop.time() - began
        finally:
            await asyncio.to_thread(server.start)

        assert {type(each) for each in told} == {StorageBusy}
        assert all(isinstance(each, StorageBusy) and each.__cause__ for each in told)
        assert {str(each) for each in told[2:4]} == {"The database did not answer in time."}
        assert not [it for it in caplog.records if it.exc_info], "no traceback is logged"
        assert took < 4
        assert len(await desk.log(key)) == 4
        assert await desk.store.renew(NODE, [held], lease_ms=LEASE_MS) == frozenset()


async def test_a_server_that_stays_away_is_told_to_the_operator_now_and_then(
    server: Postgres, fresh: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> int:
        return [each.message for each in caplog.records].count("nothing was stored")

    async with nodes(fresh, 1, busy_seconds=0.1) as (desk,):
        keys = [await desk.open() for _ in range(12)]
        await asyncio.to_thread(server.stop)
        try:
            for _ in range(3):
                await asyncio.gather(*map(desk.submit, keys), return_exceptions=True)
            assert told() == 1

            monkeypatch.setattr(failures, "TELL_AGAIN_SECONDS", 0)
            await asyncio.gather(*map(desk.submit, keys), return_exceptions=True)
            assert told() > 1
        finally:
            await asyncio.to_thread(server.start)


async def full_of(dsn: str) -> list[Any]:
    """Connections of others, as many as there may be."""
    others = []
    while True:
        try:
            others.append(await asyncpg.connect(dsn))
        except asyncpg.TooManyConnectionsError:
            return others


async def test_a_start_where_there_is_no_room_leaves_nothing_behind(fresh: str) -> None:
    others = await full_of(fresh)
    for other in (others.pop() for _ in range(4)):
        await other.close()

    with pytest.raises(StorageUnreachable, match=r"too many clients.*; raise max_connections"):
        await PostgresStore(fresh, lease_ms=LEASE_MS, busy_seconds=0.2).__aenter__()

    mine = """
        SELECT count(*) = 0 FROM pg_stat_activity WHERE starts_with(application_name, 'sessile')
    """
    await until(lambda: others[0].fetchval(mine))
    for other in others:
        await other.close()
    async with nodes(fresh, 1) as (desk,):
        await desk.open()


async def test_a_start_tries_again_where_a_connection_goes_silent(dsn: str) -> None:
    """And not only once what it may take has gone by."""
    url = make_url(dsn)
    assert url.port is not None
    async with Passage(url.port) as passage:
        by_passage = url.set(port=passage.port).render_as_string(hide_password=False)
        passage.silence_next()
        async with nodes(by_passage, 1, lease_ms=2000, busy_seconds=8) as (desk,):
            assert await desk.open()


async def test_what_to_do_where_there_is_no_room_is_told_to_the_operator_alone(
    fresh: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(fresh, 1, busy_seconds=0.1) as (desk,):
        key = await desk.open()
        others = await full_of(fresh)
        store: Any = desk.store
        for lane in store._lanes._lanes:
            lane.hang_up()
        gone = """
            SELECT count(*) = 0 FROM pg_stat_activity
            WHERE starts_with(application_name, 'sessile lane')
        """
        await until(lambda: others[0].fetchval(gone))
        others += await full_of(fresh)
        watched = WatchedStore(desk.store)

        with pytest.raises(StorageBusy) as refused:
            await watched.transact(key, UpdateSession(principal=ANN, title="t", retitle=True))

        for other in others:
            await other.close()
    said = [vars(each).get("said") or vars(each).get("cause") for each in caplog.records]
    assert len(said) == 2, "what the store says, and who watches it"
    assert all("max_connections" in each and "docs/many-nodes.md" in each for each in said)
    assert str(refused.value) == str(StorageBusy())


async def test_no_room_for_a_connection_is_waited_for(fresh: str) -> None:
    async with nodes(fresh, 1) as (desk,):
        keys = [await desk.open() for _ in range(12)]
        others = await full_of(fresh)
        sql = """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE starts_with(application_name, 'sessile')
        """
        await others[0].execute(sql)
        others += await full_of(fresh)

        submitted = asyncio.gather(*(desk.submit(key) for key in keys))
        looked = asyncio.gather(desk.look(keys[0]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(submitted), 0.2)
        for other in others:
            await other.close()

        assert all(answer.entries for answer in await submitted)
        await looked


async def test_a_database_that_takes_no_writes_for_a_while_is_waited_for(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        name = await own.fetchval("SELECT current_database()")
        keys = [await desk.open() for _ in range(12)]
        held = await desk.run(await desk.open())
        store: Any = desk.store
        await own.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        for lane in store._lanes._lanes:  # as on a server that others were let go on with
            await lane._connection.execute("SET default_transaction_read_only = on")
        try:
            submitted = asyncio.gather(
                *(desk.submit(key) for key in keys), desk.append(held, 0, "a")
            )
            assert len(await desk.log(keys[0])) == 1, "it is read all the same"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(submitted), 0.1)
        finally:
            await own.execute("SET default_transaction_read_only = off")
            await own.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")

        assert all(answer.entries for answer in await submitted)


FAULTS: dict[str, tuple[str, type[Exception]]] = {
    "disk full": ("53100", StorageFull),
    "out of memory": ("53200", StorageBusy),
    "too many connections": ("53300", StorageBusy),
    "data corrupted": ("XX001", StorageDamaged),
    "index corrupted": ("XX002", StorageDamaged),
    "serialization failure": ("40001", StorageBusy),
    "deadlock": ("40P01", StorageBusy),
    "lock not available": ("55P03", StorageBusy),
    "query cancelled": ("57014", StorageBusy),
    "read only": ("25006", StorageBusy),
    "a crash": ("57P02", StorageBusy),
    "a table that is gone": ("42P01", StorageGone),
    "a right that is gone": ("42501", StorageGone),
    "a bug of the server": ("XX000", asyncpg.InternalServerError),
    "a constraint": ("23514", asyncpg.CheckViolationError),
}


async def plant(own: Any, what: str) -> None:
    """What happens to entries with the word "planted" in them."""
    await own.execute(
        f"""
        CREATE SEQUENCE planted; GRANT USAGE ON SEQUENCE planted TO sessile_app;
        CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF strpos(NEW.body, 'planted') > 0 THEN {what}; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER planted BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION planted()
        """
    )


async def uproot(own: Any) -> None:
    await own.execute("DROP FUNCTION planted CASCADE; DROP SEQUENCE planted")


@pytest.mark.parametrize("name", FAULTS)
async def test_what_happens_to_one_job_is_told_as_the_port_says_it_and_to_its_caller_alone(
    dsn: str, name: str
) -> None:
    code, error = FAULTS[name]
    # Who is late is not tried where there is no connection: these faults cost it.
    busy_seconds = 2.0 if code in ("57P02", "25006", "53300") else 1.0
    async with nodes(dsn, 1, busy_seconds=busy_seconds) as (desk,), connected(dsn) as own:
        keys = [await desk.open() for _ in range(24)]
        held = [await desk.run(await desk.open()) for _ in range(24)]
        before = await desk.everything(keys[7])
        await plant(own, f"RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'")
        try:
            answers = await asyncio.gather(
                *(desk.submit(key, "planted" if key is keys[7] else "hello") for key in keys),
                return_exceptions=True,
            )
            appended = await asyncio.gather(
                *(desk.append(it, 0, "planted" if it is held[7] else "hello") for it in held),
                return_exceptions=True,
            )
        finally:
            await uproot(own)

        for each in (answers, appended):
            assert type(each.pop(7)) is error
            assert all(isinstance(it, Committed) for it in each)
        assert await desk.everything(keys[7]) == before
        assert (await desk.submit(keys[7])).entries
        assert (await desk.append(held[7], 0, "hello")).entries


async def test_nobody_waits_behind_a_job_that_costs_a_connection_each_time(dsn: str) -> None:
    async with nodes(dsn, 1, busy_seconds=60) as (desk,), connected(dsn) as own:
        keys = [await desk.open() for _ in range(24)]
        await plant(own, "RAISE EXCEPTION 'planted' USING ERRCODE = '57P02'")
        try:
            poison = asyncio.gather(desk.submit(keys[0], "planted"))
            others = asyncio.gather(*(desk.submit(key, "hello") for key in keys[1:]))
            await asyncio.wait_for(others, 20)
            assert not poison.done()
        finally:
            await uproot(own)

        assert (await poison)[0].entries


@pytest.mark.parametrize("name", FAULTS)
async def test_a_probe_fails_as_a_write_would_and_is_durable_where_it_does_not(
    dsn: str, name: str
) -> None:
    code, error = FAULTS[name]
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        await own.execute("UPDATE store SET written_at_ms = 0")
        await own.execute(
            f"""
            CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'; END $$;
            CREATE CONSTRAINT TRIGGER planted AFTER UPDATE ON store
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION planted()
            """
        )  # in the commit
        try:
            with pytest.raises(error) as told:
                await desk.store.probe()
        finally:
            await own.execute("DROP FUNCTION planted CASCADE")
        assert type(told.value) is error
        assert await own.fetchval("SELECT written_at_ms FROM store") == 0

        await desk.store.probe()

        assert await own.fetchval("SELECT written_at_ms FROM store") > 0


async def test_a_probe_of_a_database_that_takes_no_writes_or_lost_its_row(fresh: str) -> None:
    async with nodes(fresh, 1) as (desk,), connected(fresh) as own:
        await own.execute("ALTER DATABASE mine SET default_transaction_read_only = on")
        with pytest.raises(StorageBusy):
            await desk.store.probe()
        await own.execute("ALTER DATABASE mine RESET default_transaction_read_only")
        await desk.store.probe()

        await own.execute("DELETE FROM store")
        for asked in (desk.store.probe, desk.store.identity):
            with pytest.raises(StorageGone):
                await asked()


@pytest.mark.parametrize("code", ["40001", "40P01", "57014", "25006", "55P03", "57P01"])
async def test_what_passes_is_asked_again(dsn: str, code: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        keys = [await desk.open() for _ in range(12)]
        held = await desk.run(await desk.open())
        fault = f"RAISE EXCEPTION 'planted' USING ERRCODE = '{code}'"
        await plant(own, f"IF nextval('planted') < 5 THEN {fault}; END IF")
        try:
            asked = [desk.submit(key, "planted") for key in keys]
            answers = await asyncio.gather(*asked, desk.append(held, 0, "planted"))
        finally:
            await uproot(own)

        assert all(answer.entries for answer in answers)


async def test_a_statement_that_takes_too_long_is_given_up_alone(dsn: str) -> None:
    async with nodes(dsn, 1, lease_ms=1000, busy_seconds=2) as (desk,), connected(dsn) as own:
        keys = [await desk.open() for _ in range(24)]
        await plant(own, "PERFORM pg_sleep(60)")
        try:
            answers = await asyncio.gather(
                *(desk.submit(key, "planted" if key is keys[7] else "hello") for key in keys),
                return_exceptions=True,
            )
        finally:
            await uproot(own)

        assert isinstance(answers.pop(7), StorageBusy)
        assert all(isinstance(it, Committed) for it in answers)


async def test_a_caller_that_goes_away_leaves_its_job_whole(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,), connected(dsn) as own:
        key = await desk.open()
        async with holding_heads(dsn, key):
            submitted = asyncio.gather(desk.submit(key, "a"))
            await waiting_for_locks(own)
            submitted.cancel()
            with pytest.raises(asyncio.CancelledError):
                await submitted
        await desk.submit(key, "b")

        assert [turn.input["text"] for turn in await desk.store.turns(key, limit=9)] == ["a", "b"]


async def test_jobs_that_were_asked_for_before_the_end_are_done(dsn: str) -> None:
    async with nodes(dsn, 1) as (desk,):
        key = await desk.open()
        store = await PostgresStore(dsn, lease_ms=LEASE_MS).__aenter__()
        ending = Desk(store, desk.clock, desk.ids)
        submits = (ending.submit(key, run=False, queue_max=600) for _ in range(600))

        await asyncio.gather(*submits, store.__aexit__(None, None, None))

        assert len(await desk.store.turns(key, limit=1000)) == 600
        with pytest.raises(AssertionError, match="closed"):
            await ending.submit(key)


async def test_a_network_that_is_silent_is_given_up_in_time(dsn: str) -> None:
    loop = asyncio.get_running_loop()
    settings = {"lease_ms": 2000, "busy_seconds": 0.5}
    async with behind_proxy(dsn) as (proxy, by_proxy), nodes(by_proxy, 1, **settings) as (desk,):
        keys = [await desk.open() for _ in range(24)]
        held = await desk.run(await desk.open())
        proxy.stall(down=True)

        began = loop.time()
        told = await asyncio.gather(
            *(desk.look(key) for key in keys * 3),
            *(desk.submit(key) for key in keys),
            desk.store.renew(NODE, [held], lease_ms=2000),
            return_exceptions=True,
        )
        took = loop.time() - began

        assert {type(each) for each in told} == {StorageBusy}
        assert took < 6
        store: Any = desk.store
        assert store._renewing.is_closed(), "the next one does not wait for it"
        proxy.pass_all()
        for key in keys:
            assert (await desk.submit(key)).entries
        lost = await desk.store.renew(NODE, [held], lease_ms=2000)
        assert lost == frozenset()


async def test_who_waited_too_long_behind_others_is_answered_without_a_try(dsn: str) -> None:
    """A database that does not answer is not waited for by each caller in turn."""
    async with nodes(dsn, 1) as (desk,):
        key = await desk.open()
        store: Any = desk.store
        store._lanes._busy_seconds = -1.0
        for lane in store._lanes._lanes:
            lane.hang_up()

        with pytest.raises(StorageBusy):
            await desk.submit(key)

        assert await desk.kinds(key) == ["session.opened"]


async def test_one_key_at_two_nodes_at_once_takes_no_batch_apart(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes(dsn, 2) as (here, there):
        keys = [await here.open() for _ in range(40)]
        with caplog.at_level("INFO", logger="sessile.adapters.postgres.lanes"):
            for number in range(5):
                await asyncio.gather(
                    *(
                        desk.open_as(once=once(f"k{number}", "open"), first=desk.first("a"))
                        for desk in (here, there)
                    ),
                    *(desk.submit(key) for key in keys for desk in (here, there)),
                )

        assert "a batch is taken apart" not in caplog.text


async def test_a_network_that_is_silent_for_a_while_loses_and_doubles_nothing(dsn: str) -> None:
    settings = {"lease_ms": 2000, "busy_seconds": 20}
    async with behind_proxy(dsn) as (proxy, by_proxy), nodes(by_proxy, 1, **settings) as (desk,):
        keys = [await desk.open() for _ in range(24)]
        proxy.stall(up=True)
        submitted = asyncio.gather(*(desk.submit(key) for key in keys))
        looked = asyncio.gather(*(desk.look(key) for key in keys))
        await until(lambda: lanes_hung_up(desk))
        proxy.pass_all()

        assert all(answer.entries for answer in await submitted)
        await looked


async def lanes_hung_up(desk: Desk) -> bool:
    store: Any = desk.store
    return all(lane._connection is None for lane in store._lanes._lanes)


async def test_renewals_go_on_by_a_new_connection(dsn: str) -> None:
    async with behind_proxy(dsn) as (proxy, by_proxy), nodes(by_proxy, 1) as (desk,):
        held = holding(await desk.submit(await desk.open()))
        assert proxy.cut("sessile renewals") == 1

        with pytest.raises(StorageBusy):
            await desk.store.renew(NODE, [held], lease_ms=LEASE_MS)

        assert await desk.store.renew(NODE, [held], lease_ms=LEASE_MS) == frozenset()


@asynccontextmanager
async def gone_silent(dsn: str) -> AsyncIterator[tuple[Desk, Holding]]:
    """A node that runs a turn, all of whose connections have gone silent; new ones do not."""
    url = make_url(dsn)
    assert url.port is not None
    async with Passage(url.port) as passage:
        by_passage = url.set(port=passage.port).render_as_string(hide_password=False)
        async with nodes(by_passage, 1, lease_ms=4000) as (desk,):
            held = await desk.run(await desk.open())
            passage.go_silent()
            yield desk, held


async def test_renewals_that_are_given_up_leave_a_silent_connection_behind(dsn: str) -> None:
    async with gone_silent(dsn) as (desk, held):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await desk.store.renew(NODE, [held], lease_ms=4000)

        async with asyncio.timeout(5):
            assert await desk.store.renew(NODE, [held], lease_ms=4000) == frozenset()


async def test_a_silent_connection_is_replaced_before_its_leases_are_in_danger(dsn: str) -> None:
    async with gone_silent(dsn) as (desk, held):
        async with asyncio.timeout(4 * (LATE_AT_SHARE_OF_TTL - 1 / RENEWALS_PER_TTL)):
            lost = await patiently(lambda: desk.store.renew(NODE, [held], lease_ms=4000))

        assert lost == frozenset()


async def test_nothing_is_remembered_over_a_new_connection(dsn: str) -> None:
    """By it, another server may answer, to which the last moments of the first were lost."""
    async with (
        behind_proxy(dsn) as (proxy, by_proxy),
        nodes(by_proxy, 1) as (desk,),
        connected(dsn) as own,
    ):
        key = await desk.open()
        await desk.update(key, title="of the first", retitle=True)
        assert proxy.cut("sessile lane") == LANES
        await until(lambda: lanes_closed(desk))
        for what in ("session SET title", "entry SET body"):
            column = what.rpartition(" ")[2]
            await own.execute(f"UPDATE {what} = replace({column}, 'first', 'second')")

        updated = await desk.update(key, metadata={"a": 1})

        assert updated.session is not None
        assert updated.session.title == "of the second"


async def lanes_closed(desk: Desk) -> bool:
    store: Any = desk.store
    return all(lane._connection.is_closed() for lane in store._lanes._lanes)
