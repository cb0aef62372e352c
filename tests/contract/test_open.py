"""Sessions are born once, found by those who may, paged, renamed, closed and deleted."""

import asyncio

import pytest
from tests.contract.desk import (
    ACME,
    ADMIN,
    ANN,
    BOB,
    KNOWN,
    OTHER,
    STRANGER,
    Desk,
    holding,
    once,
)

from sessile.core.codec import decode
from sessile.core.commands import OpenSession
from sessile.core.errors import IdempotencyConflict, SessionBusy, SessionClosed, SessionNotFound
from sessile.core.events import SessionForked, SessionOpened
from sessile.core.ids import Seq, SessionId, SessionKey, TurnId, UserId


async def test_an_opened_session_is_as_it_was_asked_for(desk: Desk) -> None:
    committed = await desk.open_as(title="Orders", metadata={"shop": 7}, exclusive_key="ann@s")

    found = await desk.look(SessionKey(ACME, committed.session_id))

    assert (found.head, found.session) == (committed.head, committed.session)
    assert (found.head.status, found.head.exclusive_key) == ("active", "ann@s")
    assert (found.session.title, found.session.metadata) == ("Orders", {"shop": 7})
    assert (found.session.user_id, found.session.assistant) == ("ann", "support")
    assert found.session.grants == ()


async def test_a_session_that_is_not_there_is_not_found(desk: Desk) -> None:
    nowhere = SessionKey(ACME, SessionId("ses_none"))

    assert await desk.store.find(nowhere) is None
    assert await desk.store.turns(nowhere, limit=10) == ()
    with pytest.raises(SessionNotFound):
        await desk.submit(nowhere)
    assert (await desk.start(nowhere)).head is None


async def test_a_session_of_another_tenant_or_user_is_not_found(desk: Desk) -> None:
    key = await desk.open(ANN)
    before = await desk.everything(key)

    for principal in (BOB, STRANGER):
        for command in (desk.update, desk.close, desk.delete):
            with pytest.raises(SessionNotFound):
                await command(key, principal)
        with pytest.raises(SessionNotFound):
            await desk.submit(key, principal=principal)
    assert await desk.store.find(SessionKey(OTHER, key.session_id)) is None
    assert await desk.store.read(SessionKey(OTHER, key.session_id), limit=10) == ()
    assert await desk.everything(key) == before
    assert (await desk.submit(key, principal=ADMIN)).turn is not None


async def test_twenty_exclusive_opens_at_once_are_one_session(desk: Desk) -> None:
    opened = await asyncio.gather(*(desk.open_as(exclusive_key="ann@s") for _ in range(20)))

    assert len({committed.session_id for committed in opened}) == 1
    assert sum(bool(committed.entries) for committed in opened) == 1
    for committed in opened:
        assert committed.head is not None
        assert committed.session is not None
        assert committed.head.key.session_id == committed.session_id
    assert len(await desk.store.sessions(ACME, limit=100)) == 1


async def test_an_exclusive_key_is_one_tenant_s(desk: Desk) -> None:
    ours = await desk.open(ANN, exclusive_key="k")

    theirs = await desk.open(STRANGER, exclusive_key="k")

    assert ours.session_id != theirs.session_id


async def test_the_next_open_after_a_close_makes_a_new_session(desk: Desk) -> None:
    first = await desk.open(exclusive_key="k")
    await desk.close(first)

    second = await desk.open(exclusive_key="k")

    assert second != first
    assert await desk.open(exclusive_key="k") == second
    assert (await desk.look(first)).head.status == "closed"


async def test_close_open_close_open_at_once_leave_one_active(desk: Desk) -> None:
    first = await desk.open(exclusive_key="k")

    await asyncio.gather(
        desk.close(first),
        desk.open(exclusive_key="k"),
        *(desk.open(exclusive_key="k") for _ in range(5)),
    )
    await desk.open(exclusive_key="k")

    found = await desk.store.sessions(ACME, limit=100)
    assert sum(each.head.status == "active" for each in found) == 1


async def test_a_deleted_session_gives_up_its_exclusive_key(desk: Desk) -> None:
    first = await desk.open(exclusive_key="k")
    await desk.delete(first)

    assert await desk.open(exclusive_key="k") != first


async def test_an_open_with_the_same_key_answers_with_the_same_session(desk: Desk) -> None:
    asked = once("k1", "open")

    first = await desk.open_as(once=asked)
    again = await desk.open_as(once=asked)

    assert again.session_id == first.session_id
    assert again.repeated
    assert again.entries == ()
    assert (again.head, again.session) == (first.head, first.session)
    assert len(await desk.store.sessions(ACME, limit=100)) == 1


async def test_an_open_with_the_same_key_and_another_body_is_refused(desk: Desk) -> None:
    await desk.open_as(once=once("k1", "open"))

    with pytest.raises(IdempotencyConflict):
        await desk.open_as(once=once("k1", "open", body="other"))

    assert len(await desk.store.sessions(ACME, limit=100)) == 1


async def test_one_key_at_once_opens_one_session(desk: Desk) -> None:
    opened = await asyncio.gather(*(desk.open_as(once=once("k1", "open")) for _ in range(20)))

    assert len({committed.session_id for committed in opened}) == 1
    assert sum(committed.repeated for committed in opened) == 19


async def test_a_key_is_its_user_s_and_its_tenant_s(desk: Desk) -> None:
    opened = [
        await desk.open_as(who, once=once("k1", "open", user=who)) for who in (ANN, BOB, STRANGER)
    ]

    assert len({committed.session_id for committed in opened}) == 3


async def test_an_open_that_found_an_exclusive_session_is_remembered(desk: Desk) -> None:
    first = await desk.open(exclusive_key="k")
    found = await desk.open_as(exclusive_key="k", once=once("k1", "open"))
    await desk.close(first)

    again = await desk.open_as(exclusive_key="k", once=once("k1", "open"))

    assert found.session_id == again.session_id == first.session_id
    assert again.repeated


async def test_what_made_a_session_and_what_found_it_is_said_again_by_a_repeat(desk: Desk) -> None:
    made = [await desk.open_as(exclusive_key="k", once=once("k1", "open")) for _ in range(2)]
    found = [await desk.open_as(exclusive_key="k", once=once("k2", "open")) for _ in range(2)]

    assert [it.created for it in (*made, *found)] == [True, True, False, False]
    assert [it.repeated for it in (*made, *found)] == [False, True, False, True]


async def test_a_session_is_opened_with_a_turn_in_one_transaction(desk: Desk) -> None:
    opened = await desk.open_as(first=desk.first("hi"), title="T")

    assert opened.created
    assert opened.turn is not None
    assert opened.turn.status == "running"
    assert opened.session is not None
    assert opened.session.title == "T"
    key = SessionKey(ACME, opened.session_id)
    assert await desk.kinds(key) == [
        "session.opened",
        "turn.queued",
        "turn.started",
        "message.added",
    ]
    assert await desk.turn(key, opened.turn.turn_id) == opened.turn
    await desk.finish(holding(opened))


async def test_twenty_opens_with_a_turn_are_one_session_with_twenty_turns(desk: Desk) -> None:
    opened = await asyncio.gather(
        *(desk.open_as(exclusive_key="k", first=desk.first(str(n))) for n in range(20))
    )

    assert len({it.session_id for it in opened}) == 1
    assert sum(it.created for it in opened) == 1
    turns = await desk.store.turns(SessionKey(ACME, opened[0].session_id), limit=100)
    assert [turn.input["text"] for turn in turns] == [str(n) for n in range(20)]
    assert [turn.status for turn in turns] == ["running"] + ["queued"] * 19


async def test_an_open_with_a_turn_is_repeated_whole(desk: Desk) -> None:
    keys = {"exclusive_key": "k", "once": once("k1", "open")}
    first = await desk.open_as(first=desk.first(), **keys)

    again = await desk.open_as(first=desk.first(), **keys)

    assert (again.repeated, again.created) == (True, True)
    assert again.turn == first.turn
    assert len(await desk.store.turns(SessionKey(ACME, first.session_id), limit=100)) == 1


async def test_a_first_turn_that_is_refused_leaves_no_trace(desk: Desk) -> None:
    key = await desk.open(exclusive_key="k", first=desk.first())
    before = await desk.everything(key)
    rejected = desk.first(when_busy="reject")

    for _ in range(2):
        with pytest.raises(SessionBusy):
            await desk.open_as(exclusive_key="k", first=rejected, once=once("k1", "open"))
    assert await desk.everything(key) == before
    accepted = await desk.open_as(exclusive_key="k", once=once("k1", "open", body="other"))

    assert not accepted.repeated


async def test_a_fork_begins_with_what_it_inherits(desk: Desk) -> None:
    source = await desk.open()
    held = await desk.run(source)
    said = desk.reply(held, "hello")
    forked = SessionForked(
        from_session_id=source.session_id, from_turn_id=held.turn_id, from_seq=Seq(5)
    )
    await desk.finish(held, closing=[said])

    copy = await desk.open(forked=forked, inherited=(said,))

    assert [decode(entry) for entry in await desk.log(copy)] == [
        SessionOpened(user_id=UserId("ann"), assistant="support"),
        forked,
        said,
    ]


async def test_sessions_are_paged_youngest_first(desk: Desk) -> None:
    opened = []
    for n in range(7):
        opened.append(await desk.open(ANN if n % 2 else BOB))
    await desk.open(STRANGER)

    async def page(**more: object) -> list[str]:
        found = await desk.store.sessions(ACME, **{"limit": 100, **more})  # type: ignore[arg-type]
        return [each.head.key.session_id for each in found]

    ids = [key.session_id for key in opened]
    assert await page() == ids[::-1]
    assert await page(limit=2) == [ids[6], ids[5]]
    assert await page(limit=2, before=ids[5]) == [ids[4], ids[3]]
    assert await page(user_id=UserId("ann")) == [ids[5], ids[3], ids[1]]
    assert await page(user_id=UserId("ann"), before=ids[5], limit=1) == [ids[3]]
    assert await page(user_id=UserId("nobody")) == []
    assert await page(before=ids[0]) == []


async def test_a_page_of_sessions_is_what_each_would_be_found_as(desk: Desk) -> None:
    keys = [await desk.open(title=f"{n}", metadata={"n": n}) for n in range(3)]
    await desk.submit(keys[1])
    await desk.close(keys[2])

    page = await desk.store.sessions(ACME, limit=10)

    assert list(page) == [await desk.store.find(key) for key in reversed(keys)]


async def test_an_update_merges_metadata_and_keeps_the_rest(desk: Desk) -> None:
    key = await desk.open(title="old", metadata={"a": 1, "b": 2})
    desk.clock.advance(milliseconds=1)

    await desk.update(key, metadata={"b": None, "c": 3})
    await desk.update(key, title="new", retitle=True)

    session = (await desk.look(key)).session
    assert (session.title, session.metadata) == ("new", {"a": 1, "c": 3})
    assert session.updated_at_ms == session.created_at_ms + 1


async def test_updates_at_once_lose_nothing(desk: Desk) -> None:
    key = await desk.open()

    await asyncio.gather(*(desk.update(key, metadata={f"k{n}": n}) for n in range(20)))

    assert (await desk.look(key)).session.metadata == {f"k{n}": n for n in range(20)}


async def test_a_closed_session_takes_nothing_more(desk: Desk) -> None:
    key = await desk.open()
    await desk.close(key)
    before = await desk.everything(key)

    with pytest.raises(SessionClosed):
        await desk.submit(key)
    with pytest.raises(SessionClosed):
        await desk.update(key, title="x", retitle=True)
    assert (await desk.close(key)).repeated
    assert await desk.everything(key) == before


async def test_a_delete_leaves_no_row(desk: Desk) -> None:
    key, other = await desk.open(once=once("k0", "open")), await desk.open()
    held = await desk.run(key)
    await desk.append(held, 0, "a")
    await desk.submit(key, once=once("k1", key.session_id))
    await desk.submit(other, run=False, once=once("k1", other.session_id))
    kept = await desk.everything(other)

    gone = await desk.delete(key)

    assert gone.deleted
    assert gone.head is None
    assert await desk.store.find(key, held.turn_id) is None
    assert await desk.log(key) == ()
    assert await desk.store.turns(key, limit=10) == ()
    assert (await desk.store.sweep(due_max=10, assistants=KNOWN, following=[key])).heads == {}
    assert key not in await desk.due()
    assert await desk.everything(other) == kept
    assert (await desk.submit(other, once=once("k1", other.session_id))).repeated
    with pytest.raises(SessionNotFound):
        await desk.delete(key)


async def test_the_keys_of_a_deleted_session_are_forgotten(desk: Desk) -> None:
    key = await desk.open(once=once("k0", "open"))
    await desk.submit(key, once=once("k1", key.session_id))
    await desk.delete(key)

    again = await desk.open_as(once=once("k0", "open"))

    assert again.session_id != key.session_id
    assert not again.repeated


async def test_submit_and_delete_at_once_leave_all_or_nothing(desk: Desk) -> None:
    key = await desk.open()

    await asyncio.gather(
        *(desk.submit(key, run=False) for _ in range(5)),
        desk.delete(key),
        *(desk.submit(key, run=False) for _ in range(5)),
        return_exceptions=True,
    )

    assert await desk.store.find(key) is None
    assert await desk.log(key) == ()
    assert await desk.store.turns(key, limit=100) == ()


async def test_two_tenants_may_have_a_session_of_one_id(desk: Desk) -> None:
    ours, theirs = SessionKey(ACME, SessionId("ses_x")), SessionKey(OTHER, SessionId("ses_x"))
    for key, who in ((ours, ANN), (theirs, STRANGER)):
        await desk.store.transact(key, OpenSession(principal=who, assistant="support"))
        await desk.submit(key, principal=who, turn_id=TurnId("trn_x"), text=who.tenant_id)
    held = holding(await desk.submit(await desk.open()))

    await desk.delete(ours)

    assert await desk.store.find(ours) is None
    assert (await desk.turn(theirs, TurnId("trn_x"))).input["text"] == "other"
    assert held.key in [found.head.key for found in await desk.store.sessions(ACME, limit=9)]
