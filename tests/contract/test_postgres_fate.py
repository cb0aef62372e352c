"""A connection that is lost in a COMMIT: whether it came through or not, each command is applied
once, and who asked gets the answer that it came to."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from tests.contract.desk import ADMIN, Desk, once, runner
from tests.contract.nodes import proxied
from tests.doubles import CountingIds, ManualClock
from tests.servers.proxy import COMMIT, Proxy
from tests.servers.waits import waiting_for_locks

from sessile.adapters.memory import MemoryStore
from sessile.core.errors import SessionNotFound, StorageBusy, StorageFull
from sessile.ports.store import Committed

Act = Callable[[], Coroutine[Any, Any, Committed]]
MOMENTS = ("before", "after", "late", "late for the lane")


async def opened(desk: Desk) -> Act:
    return partial(desk.open_as, title="t", metadata={"k": 1})


async def opened_once(desk: Desk) -> Act:
    key = f"k{len(desk.opened)}"
    return partial(desk.open_as, once=once(key, "open"))


async def opened_with_a_turn(desk: Desk) -> Act:
    return partial(desk.open_as, first=desk.first())


async def opened_exclusively(desk: Desk) -> Act:
    return partial(desk.open_as, exclusive_key=f"k{len(desk.opened)}", first=desk.first())


async def opened_exclusively_where_one_is(desk: Desk) -> Act:
    place = f"k{len(desk.opened)}"
    await desk.open(exclusive_key=place)
    return partial(desk.open_as, exclusive_key=place, first=desk.first())


async def submitted(desk: Desk) -> Act:
    key = await desk.open()
    return partial(desk.submit, key)


async def submitted_once(desk: Desk) -> Act:
    key = await desk.open()
    return partial(desk.submit, key, once=once("k", key.session_id))


async def submitted_to_displace(desk: Desk) -> Act:
    key = await desk.open()
    await desk.run(key)
    await desk.submit(key, "waits")
    return partial(desk.submit, key, when_busy="interrupt")


async def submitted_to_steer(desk: Desk) -> Act:
    key = await desk.open()
    await desk.run(key)
    return partial(desk.submit, key, when_busy="steer")


async def edited(desk: Desk) -> Act:
    key = await desk.open()
    queued = await desk.submit(key, run=False)
    assert queued.turn is not None
    return partial(desk.edit, key, queued.turn.turn_id, "edited")


async def cancelled(desk: Desk) -> Act:
    key = await desk.open()
    queued = await desk.submit(key, run=False)
    assert queued.turn is not None
    return partial(desk.cancel, key, queued.turn.turn_id)


async def cancelled_while_running(desk: Desk) -> Act:
    key = await desk.open()
    return partial(desk.cancel, key, (await desk.run(key)).turn_id)


async def updated(desk: Desk) -> Act:
    key = await desk.open()
    return partial(desk.update, key, title="t", retitle=True, metadata={"k": 1})


async def closed(desk: Desk) -> Act:
    key = await desk.open(exclusive_key=f"k{len(desk.opened)}")
    await desk.run(key)
    await desk.submit(key, "waits")
    return partial(desk.close, key)


async def deleted(desk: Desk) -> Act:
    key = await desk.open()
    await desk.run(key)
    return partial(desk.delete, key)


async def granted(desk: Desk) -> Act:
    key = await desk.open()
    await desk.grant(key, "export", principal=ADMIN)
    return partial(desk.grant, key, "refund", principal=ADMIN)


async def answered(desk: Desk) -> Act:
    key = await desk.open()
    (call,) = await desk.awaits(await desk.run(key))
    return partial(desk.answer, key, call)


async def started(desk: Desk) -> Act:
    key = await desk.open()
    await desk.submit(key, run=False)
    return partial(desk.start, key)


async def awaited(desk: Desk) -> Act:
    key = await desk.open()
    asking = desk.asking(await desk.run(key), calls=2)
    return partial(desk.store.transact, key, asking)


async def released(desk: Desk) -> Act:
    key = await desk.open()
    return partial(desk.release, await desk.run(key))


async def finished(desk: Desk) -> Act:
    key = await desk.open()
    held = await desk.run(key)
    return partial(desk.finish, held, closing=[desk.reply(held, "r")])


async def finished_for_the_next(desk: Desk) -> Act:
    key = await desk.open()
    held = await desk.run(key)
    await desk.submit(key, "waits")
    return partial(desk.finish, held, closing=[desk.reply(held, "r")], successor=runner())


async def called_by_a_grant(desk: Desk) -> Act:
    key = await desk.open()
    await desk.grant(key, "export", principal=ADMIN)
    held = await desk.run(key)
    return partial(desk.store.append, held, 0, [desk.call(held, grant="export")])


ACTS: tuple[Callable[[Desk], Awaitable[Act]], ...] = (
    opened, opened_once, opened_with_a_turn, opened_exclusively, opened_exclusively_where_one_is,
    submitted, submitted_once, submitted_to_displace, submitted_to_steer, edited, cancelled,
    cancelled_while_running, updated, closed, deleted, granted, answered, started, awaited,
    released, finished, finished_for_the_next, called_by_a_grant,
)  # fmt: skip


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def reference(clock: ManualClock) -> Desk:
    return Desk(MemoryStore(clock=clock), clock, CountingIds())


async def strike(proxy: Proxy, own: Any, moment: str, pattern: bytes = COMMIT) -> None:
    """What happens to the connection; of a late commit, until the store waits for its locks."""
    proxy.strike(pattern, "late" if moment.startswith("late") else moment)  # type: ignore[arg-type]
    await proxy.struck()
    if moment.startswith("late"):
        aside = "sessile aside" if moment == "late for the lane" else ""
        await waiting_for_locks(own, name=aside)
        await proxy.deliver()


@pytest.mark.parametrize("made", ACTS, ids=lambda made: made.__name__)
async def test_a_command_whose_commit_nobody_saw_is_applied_once(
    made: Callable[[Desk], Awaitable[Act]], clock: ManualClock, reference: Desk
) -> None:
    async with proxied(clock) as (proxy, desk, own):
        for moment in MOMENTS:
            expected = await (await made(reference))()
            act = await made(desk)

            answer, _ = await asyncio.gather(act(), strike(proxy, own, moment))

            assert answer == expected, moment
            for key in desk.opened:
                assert await desk.everything(key) == await reference.everything(key), moment


async def mixed(desk: Desk) -> list[Coroutine[Any, Any, Committed]]:
    """What many callers ask for at once, of each session one thing or some."""
    return [(await made(desk))() for made in (*ACTS, updated, deleted, submitted) * 2]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_each_of_a_batch_of_many_callers_is_applied_once(
    moment: str, clock: ManualClock, reference: Desk
) -> None:
    async with proxied(clock) as (proxy, desk, own):
        expected = await asyncio.gather(*await mixed(reference))
        asked = await mixed(desk)

        *answers, _ = await asyncio.gather(*asked, strike(proxy, own, moment))

        assert answers == list(expected)
        for key in desk.opened:
            assert await desk.everything(key) == await reference.everything(key)


async def test_what_was_deleted_in_a_batch_does_not_hide_that_it_was_committed(
    clock: ManualClock, reference: Desk
) -> None:
    async def asked_of(desk: Desk) -> list[Any]:
        """First updates of sessions that are deleted then, in each lane, and then of others."""
        gone, kept = [[await desk.open() for _ in range(12)] for _ in range(2)]
        asked = [desk.update(key, title="t", retitle=True) for key in (*gone, *kept)]
        asked[12:12] = [desk.delete(key) for key in gone]
        return asked

    async def acts(asked: list[Any]) -> list[Any]:
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(each, Committed | SessionNotFound) for each in answers[:12])
        return answers[12:]

    async with proxied(clock) as (proxy, desk, own):
        expected = await acts(await asked_of(reference))
        asked = await asked_of(desk)

        answers, _ = await asyncio.gather(acts(asked), strike(proxy, own, "after"))

        assert answers == expected
        for key in desk.opened:
            assert await desk.everything(key) == await reference.everything(key)


@pytest.mark.parametrize("sessions", [1, 24])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_an_append_whose_answer_was_lost_is_in_the_log_once(
    moment: str, sessions: int, clock: ManualClock
) -> None:
    async with proxied(clock) as (proxy, desk, own):
        held = [await desk.run(await desk.open()) for _ in range(sessions)]
        await asyncio.gather(*(desk.append(each, 0, "first") for each in held))

        appended = asyncio.gather(*(desk.append(each, 1, "fatal", "words") for each in held))
        answers, _ = await asyncio.gather(appended, strike(proxy, own, moment, b"fatal"))

        assert {answer.lease.step for answer in answers} == {2}
        assert all(answer.repeated or len(answer.entries) == 2 for answer in answers)
        if moment == "after":
            assert any(answer.repeated for answer in answers)
        for each in held:
            kinds = await desk.kinds(each.key)
            assert kinds.count("message.delta") == 3
            assert (await desk.append(each, 2, "next")).entries[0].seq == len(kinds) + 1


async def test_a_fate_that_stays_unknown_is_told_as_such(clock: ManualClock) -> None:
    async with proxied(clock, busy_seconds=0.3) as (proxy, desk, _):
        key = await desk.open()

        async def lose() -> None:
            proxy.strike(COMMIT, "after")
            await proxy.struck()
            proxy.refuses = True
            proxy.cut()

        told, _ = await asyncio.gather(desk.submit(key), lose(), return_exceptions=True)

        assert isinstance(told, StorageBusy)
        assert "not known" in str(told)
        proxy.refuses = False
        assert len(await desk.log(key)) == 4
        assert told.code == "storage_busy"


@pytest.mark.parametrize(("what", "pattern"), [("append", b"words"), ("release", COMMIT)])
async def test_so_is_that_of_what_nobody_could_look_for(
    what: str, pattern: bytes, clock: ManualClock
) -> None:
    async with proxied(clock, busy_seconds=0.3) as (proxy, desk, _):
        held = await desk.run(await desk.open())
        asked = desk.append(held, 0, "words") if what == "append" else desk.release(held)

        async def lose() -> None:
            proxy.strike(pattern, "after")
            await proxy.struck()
            proxy.refuses = True
            proxy.cut()

        told, _ = await asyncio.gather(asked, lose(), return_exceptions=True)

        assert isinstance(told, StorageBusy)
        assert "not known" in str(told)
        assert told.__cause__ is not None
        proxy.refuses = False


async def test_nobody_is_told_that_nothing_was_stored_whose_append_was(
    clock: ManualClock,
) -> None:
    """In a batch of which the rest is decided in a transaction, where the database is lost."""
    async with proxied(clock, busy_seconds=0.3) as (proxy, desk, _):
        held = [await desk.run(await desk.open()) for _ in range(24)]
        await asyncio.gather(*(desk.append(each, 0, "once") for each in held))

        async def lose() -> None:
            proxy.strike(COMMIT, "before")
            await proxy.struck()
            proxy.refuses = True
            proxy.cut()

        first, again = held[::2], held[1::2]
        asked = [desk.append(each, 1, "new") for each in first]
        asked += [desk.append(each, 0, "once") for each in again]
        *told, _ = await asyncio.gather(*asked, lose(), return_exceptions=True)

        proxy.refuses = False
        stored = [(await desk.kinds(each.key)).count("message.delta") == 2 for each in first]
        assert any(stored)
        for answer, there in zip(told, stored, strict=False):
            assert not there or isinstance(answer, Committed) or "not known" in str(answer)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_so_is_each_where_the_commit_begins_the_next_transaction(
    moment: str, clock: ManualClock, reference: Desk
) -> None:
    async with proxied(clock) as (proxy, desk, own):
        store: Any = desk.store
        for lane in store._store._lanes._lanes:
            lane._batch_max = 1
        expected = await asyncio.gather(*await mixed(reference))
        asked = await mixed(desk)

        struck = strike(proxy, own, moment, b"COMMIT AND CHAIN")
        *answers, _ = await asyncio.gather(*asked, struck)

        assert answers == list(expected)
        for key in desk.opened:
            assert await desk.everything(key) == await reference.everything(key)


@pytest.mark.parametrize("what", ["append", "submit"])
async def test_what_was_never_asked_of_the_database_was_not_stored(
    what: str, clock: ManualClock
) -> None:
    async with proxied(clock, busy_seconds=0.3) as (proxy, desk, _):
        held = await desk.run(await desk.open())
        proxy.refuses = True
        store: Any = desk.store
        for lane in store._store._lanes._lanes:
            lane.hang_up()

        with pytest.raises(StorageBusy, match="nothing was stored"):
            await (desk.append(held, 0, "a") if what == "append" else desk.submit(held.key))

        proxy.refuses = False


async def test_what_was_looked_for_and_is_not_there_was_not_stored(clock: ManualClock) -> None:
    async with proxied(clock, busy_seconds=1) as (proxy, desk, own):
        key = await desk.open()
        await own.execute(FULL)
        try:
            answers = await asyncio.gather(
                desk.submit(key), strike(proxy, own, "before"), return_exceptions=True
            )
        finally:
            await own.execute("DROP FUNCTION planted CASCADE; DROP SEQUENCE planted")

        assert isinstance(answers[0], StorageFull)
        assert await desk.kinds(key) == ["session.opened"]


FULL = """
    CREATE SEQUENCE planted; GRANT USAGE ON SEQUENCE planted TO sessile_app;
    CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('planted') > 3 THEN RAISE EXCEPTION USING ERRCODE = '53100'; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER planted BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION planted()
"""
"""The disk has room for three entries more, which is what a submit writes that starts its turn."""
