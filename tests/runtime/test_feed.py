"""Readers: each gets the log from its cursor on, without a gap and without a repeat."""

import asyncio

import pytest
from tests.runtime.agents import echo, waits
from tests.runtime.rig import ACME, ANN, BOB, House, virtual

from sessile.core.context import Principal, TurnContext
from sessile.core.errors import SessionNotFound, StorageBusy
from sessile.core.ids import Seq, SessionId, SessionKey, TenantId, UserId
from sessile.kit.assistant import Assistant
from sessile.ports.agent import TextDelta
from sessile.ports.notifier import Hint
from sessile.runtime.feed import Ended, Grown, Reader, Reset

ADMIN = Principal(tenant_id=ANN.tenant_id, user_id=UserId("root"), roles=frozenset({"admin"}))
STRANGER = Principal(tenant_id=TenantId("other"), user_id=ANN.user_id)


@virtual
async def test_an_entry_that_is_appended_while_a_reader_begins_is_not_missed(
    house: House,
) -> None:
    """Listening begins before the first read, whatever the store's answer leaves out."""
    node = await house.node(echo())
    session = await house.open(node)
    for method in ("find", "read"):
        answer = house.gate.hold(method, where="after")
        async with house.reader(node, session) as reader:
            await answer.reached()
            turn = (await house.submit(node, session)).turn
            await house.ended(session, turn.turn_id)
            answer.go()

            seqs = [entry.seq for entry in house.log(session)]
            await house.until(lambda seqs=seqs: reader.seqs == seqs, within=0.1)


@pytest.mark.parametrize("lost", ["lost", "bare", "neither"])
@virtual
async def test_readers_of_other_nodes_get_every_entry_once_and_in_order(
    house: House, lost: str
) -> None:
    """A hint that is lost costs the sweep's beat, one without entries costs a read."""
    node, other = await house.node(talks(house)), await house.node(talks(house))
    session = await house.open(node)
    house.wire.lost, house.wire.bare = lost == "lost", lost == "bare"

    async with house.reader(node, session) as here, house.reader(other, session) as there:
        turn = (await house.submit(node, session)).turn
        await house.ended(session, turn.turn_id)
        seqs = [entry.seq for entry in house.log(session)]

        await house.until(lambda: here.seqs == seqs, within=0.1)
        await house.until(lambda: there.seqs == seqs, within=1.1 if lost == "lost" else 0.1)


@virtual
async def test_a_hole_that_a_lost_hint_left_is_filled_from_the_log(house: House) -> None:
    node, other = await house.node(talks(house)), await house.node(talks(house))
    session = await house.open(node)

    async with house.reader(other, session) as there:
        await house.submit(node, session)
        await house.until(lambda: len(house.log(session)) > 6)
        house.wire.lost = True
        hole = len(house.log(session))
        await house.until(lambda: len(house.log(session)) > hole + 2)
        house.wire.lost = False
        await house.until(lambda: len(there.seqs) > hole + 2, within=0.2)

        assert there.seqs == list(range(1, len(there.seqs) + 1))


@virtual
async def test_a_cursor_gets_exactly_what_was_missed_from_any_node(house: House) -> None:
    nodes = [await house.node(echo()), await house.node(echo())]
    session = await house.open(nodes[0])
    for text in ("a", "b"):
        turn = (await house.submit(nodes[0], session, text)).turn
        await house.ended(session, turn.turn_id)
    log = house.log(session)

    for cursor in range(len(log) + 1):
        async with house.reader(nodes[cursor % 2], session, after=cursor) as reader:
            await house.until(lambda r=reader, c=cursor: r.entries == list(log[c:]), within=0.1)


@virtual
async def test_pages_bound_what_a_reader_is_given_at_once(house: House) -> None:
    node = await house.node(echo(), page_entries_max=3, tail_entries_max=4)
    session = await house.open(node)

    async with house.reader(node, session) as reader:
        for text in "abcd":
            turn = (await house.submit(node, session, text)).turn
            await house.ended(session, turn.turn_id)
        await house.until(lambda: reader.entries == list(house.log(session)))

        assert max(len(item.entries) for item in reader.items) <= 3


@virtual
async def test_a_cursor_ahead_of_the_log_gets_a_reset_with_the_state_to_start_from(
    house: House,
) -> None:
    node = await house.node(echo())
    session = await house.open(node)

    async with house.reader(node, session, after=99) as reader:
        await house.until(lambda: reader.items)
        turn = (await house.submit(node, session)).turn
        await house.ended(session, turn.turn_id)
        await house.until(lambda: reader.seqs and reader.seqs[-1] == house.head(session).head)

    reset = reader.items[0]
    assert isinstance(reset, Reset)
    assert reset.found.head.head == 1
    assert reader.seqs[0] == 2


@virtual
async def test_a_reader_of_a_closed_session_gets_the_fenced_end_and_then_the_end(
    house: House,
) -> None:
    node = await house.node(waits())
    session = await house.open(node)
    await house.submit(node, session)

    async with house.reader(node, session) as reader:
        await house.close(node, session)
        await house.until(lambda: reader.end, within=0.2)

    assert reader.end == "closed"
    assert reader.entries == list(house.log(session))
    assert reader.entries[-1].kind == "turn.cancelled"
    async with house.reader(node, session, after=len(house.log(session))) as late:
        await house.until(lambda: late.end == "closed", within=0.1)


@virtual
async def test_a_close_of_which_no_hint_comes_ends_the_reader_soon(house: House) -> None:
    node, other = await house.node(echo()), await house.node(echo())
    session = await house.open(node)

    async with house.reader(other, session) as reader:
        await house.until(lambda: reader.items)
        house.wire.lost = True
        await house.close(node, session)
        await house.until(lambda: reader.end == "closed", within=1.2)


@pytest.mark.parametrize("lost", [False, True])
@virtual
async def test_a_reader_of_a_session_that_is_deleted_ends(house: House, lost: bool) -> None:
    node, other = await house.node(echo()), await house.node(echo())
    session = await house.open(node)

    async with house.reader(other, session) as reader:
        await house.until(lambda: reader.items)
        house.wire.lost = lost
        await node.do(node.keeping.delete(ANN, session))
        await house.until(lambda: reader.end == "gone", within=1.1 if lost else 0.1)


@virtual
async def test_who_may_not_read_a_session_is_told_that_it_does_not_exist(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)

    for principal, session_id in (
        (BOB, session),
        (STRANGER, session),
        (ANN, SessionId("ses_none")),
    ):
        with pytest.raises(SessionNotFound):
            async with node.feed.subscribe(principal, session_id, after=0):
                raise AssertionError
    async with house.reader(node, session, principal=ADMIN) as reader:
        await house.until(lambda: reader.seqs == [1])
    assert not node.feed.following


@virtual
async def test_a_reader_may_ask_again_after_the_store_was_busy(house: House) -> None:
    node, other = await house.node(echo()), await house.node(echo())
    session = await house.open(node)
    async with other.feed.subscribe(ANN, session, after=0) as reader:
        house.gate.hold("read").fail(StorageBusy())
        with pytest.raises(StorageBusy):
            await reader.read(timeout_seconds=1)

        item = await reader.read(timeout_seconds=1)

        assert isinstance(item, Grown)
        assert [entry.seq for entry in item.entries] == [1]


@virtual
async def test_a_read_that_is_given_up_loses_nothing(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    got: list[int] = []
    async with node.feed.subscribe(ANN, session, after=0) as reader:
        for text in "abc":
            held = house.gate.hold("read", where="after", matches=lambda _, how: "after" in how)
            reading = node.do(reader.read())
            await house.submit(node, session, text)
            await house.later(0.1)
            if not reading.done():
                await held.reached()
                reading.cancel()
                await asyncio.wait({reading})
            else:
                item = await reading
                assert isinstance(item, Grown)
                got += [entry.seq for entry in item.entries]
            house.gate.open_all()
            while (item := await reader.read(timeout_seconds=0.2)) is not None:
                assert isinstance(item, Grown)
                got += [entry.seq for entry in item.entries]

    assert got == [entry.seq for entry in house.log(session)]


@virtual
async def test_a_read_answers_none_where_nothing_came_in_time(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    async with node.feed.subscribe(ANN, session, after=1) as reader:
        began = house.now

        assert await reader.read(timeout_seconds=15) is None
        assert 15 <= house.now - began < 15.1


@virtual
async def test_a_session_that_nobody_reads_any_more_is_not_followed(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    async with house.reader(node, session) as one, house.reader(node, session):
        await house.until(lambda: one.items)
        assert (node.feed.readers, len(node.feed.following)) == (2, 1)
        assert house.wire.followed == [(node.process, SessionKey(ACME, session))]

    assert (node.feed.readers, len(node.feed.following)) == (0, 0)
    assert house.wire.followed == []


@virtual
async def test_after_the_end_nothing_more_is_read(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    await house.close(node, session)
    async with node.feed.subscribe(ANN, session, after=2) as reader:
        assert isinstance(await reader.read(), Ended)
        assert isinstance(await reader.read(), Ended)


def talks(house: House) -> Assistant:
    assistant = Assistant("talks")

    @assistant.agent
    async def answer(turn: TurnContext):  # type: ignore[no-untyped-def]
        for number in range(20):
            yield TextDelta(f"{number} ")
            await house.later(0.06)

    return assistant


@virtual
async def test_a_reader_that_waits_does_not_spin_at_whatever_instant_it_began(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A span added to an instant is rounded, and may end just before what it was to reach."""
    node = await house.node(echo())
    session = await house.open(node)
    waits_for, waits = Reader._wait, 0

    async def counted(reader: Reader, until: float | None) -> None:
        nonlocal waits
        waits += 1
        await waits_for(reader, until)

    monkeypatch.setattr(Reader, "_wait", counted)
    finds = house.gate.count("find")

    for _ in range(30):
        await house.later(house.sim.random.random() * 10)
        async with node.feed.subscribe(ANN, session, after=1) as reader:
            assert await reader.read(timeout_seconds=12.5) is None

    assert waits == 30
    assert house.gate.count("find") - finds == 30, "a reader that waits asks the store for nothing"


@pytest.mark.parametrize("head", [1, 10**30])
@virtual
async def test_a_hint_that_is_not_true_costs_a_reader_a_read(house: House, head: int) -> None:
    """Of a head that is not there, and of a session that is not deleted."""
    node, other = await house.node(echo()), await house.node(echo())
    session = await house.open(node)
    key = SessionKey(ACME, session)

    async with house.reader(other, session) as one, house.reader(other, session) as two:
        await house.until(lambda: one.items and two.items)
        house.wire.at(node.process).publish(Hint(key=key, head=Seq(head), deleted=head == 1))
        await house.later(0.1)
        turn = (await house.submit(node, session)).turn
        await house.ended(session, turn.turn_id)

        seqs = [entry.seq for entry in house.log(session)]
        await house.until(lambda: one.seqs == two.seqs == seqs, within=0.1)
        assert (one.end, two.end) == (None, None)
