"""What goes on in the background, and what nodes remember of what was voided."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.doubles import ManualClock

from sessile import Assistant, Grown, History, Principal, Server, Settings, TurnContext
from sessile.adapters.memory import MemoryStore
from sessile.core.errors import OriginMoved
from sessile.core.events import Entry
from sessile.core.ids import SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.notes import Note
from sessile.core.redaction import RedactMessage
from sessile.runtime.house import DAY_MS, LEASE_MS, NAME

CANARY = "canary-77"
ACME, BETA = TenantId("acme"), TenantId("beta")
ANN = Principal(tenant_id=ACME, user_id=UserId("ann"))
ROOT = Principal(tenant_id=ACME, user_id=UserId("root"), roles=frozenset({"admin"}))
BEN = Principal(tenant_id=BETA, user_id=UserId("ben"))


class World:
    """A store in memory, and servers over it that do not hear of each other."""

    def __init__(self, stack: AsyncExitStack, data_dir: Path) -> None:
        self.clock = ManualClock(now_ms=1_000 * DAY_MS)
        self.store = MemoryStore(clock=self.clock)
        self.heard: list[str] = []
        self.hold = asyncio.Event()
        self.began = asyncio.Event()
        self._stack = stack
        self._data_dir = data_dir

    async def server(self, **settings: Any) -> Server:
        assistant = Assistant("support")

        @assistant.agent
        async def answer(turn: TurnContext, history: History) -> str:
            self.heard.append(" / ".join(message.text for message in history.messages))
            if turn.input["text"] == "hold":
                self.began.set()
                await self.hold.wait()
            return "well"

        given = Settings(
            data_dir=self._data_dir, housekeeping_seconds=10_000, sweep_seconds=0.05, **settings
        )
        brought = lambda *_: nullcontext(self.store)  # noqa: E731
        server = Server(assistant, settings=given, clock=self.clock, store=brought)  # type: ignore[arg-type]
        return await self._stack.enter_async_context(server)

    async def said(
        self, server: Server, text: str, principal: Principal = ANN
    ) -> tuple[SessionId, TurnId]:
        opened = await server.open(principal)
        session_id = opened.found.head.key.session_id
        submitted = await server.submit(principal, session_id, text, wait_seconds=20)
        return session_id, submitted.turn.turn_id


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack, tmp_path)


async def there(server: Server, principal: Principal) -> set[SessionId]:
    found = await server.reads.sessions(principal, limit=100)
    return {each.head.key.session_id for each in found}


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    async with asyncio.timeout(20):
        yield


async def test_a_session_that_is_too_old_for_its_tenant_is_deleted(world: World) -> None:
    server = await world.server(retention_days=30, retention_tenants="beta=0")
    old, _ = await world.said(server, "old")
    theirs, _ = await world.said(server, "old", BEN)
    used, _ = await world.said(server, "old")
    world.clock.advance(milliseconds=20 * DAY_MS)
    await server.submit(ANN, used, "again", wait_seconds=20)
    fresh, _ = await world.said(server, "new")
    world.clock.advance(milliseconds=11 * DAY_MS)

    assert await server.house.run()

    assert await there(server, ANN) == {used, fresh}
    assert await there(server, BEN) == {theirs}
    (record,) = await server.keeping.audit(ROOT, limit=10)
    assert (record.actor, record.action, record.subject) == ("retention", "session.expired", old)


async def test_nothing_is_too_old_unless_it_is_said(world: World) -> None:
    server = await world.server()
    kept, _ = await world.said(server, "old")
    before = [each async for each in await server.reads.export(ANN, kept)]
    world.clock.advance(milliseconds=10_000 * DAY_MS)

    await server.house.run()

    assert [each async for each in await server.reads.export(ANN, kept)] == before


async def test_very_many_sessions_are_looked_at_part_by_part(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessile.runtime.house.BATCH", 2)
    monkeypatch.setattr("sessile.runtime.house.BATCHES_MAX", 1)
    server = await world.server(retention_days=1)
    for _ in range(5):
        await world.said(server, "old")
    world.clock.advance(milliseconds=2 * DAY_MS)

    left = []
    for _ in range(3):
        await server.house.run()
        left.append(len(await there(server, ANN)))

    assert left == [3, 1, 0]


async def test_old_deltas_are_folded_and_a_reader_is_told_of_the_hole(world: World) -> None:
    server = await world.server(deltas_retention_days=7)
    session_id, _ = await world.said(server, "hello")
    held = [each async for each in await server.reads.export(ANN, session_id)]
    world.clock.advance(milliseconds=8 * DAY_MS)

    await server.house.run()

    after = [each async for each in await server.reads.export(ANN, session_id)]
    assert [it.kind for it in after].count("message.delta") <= 1
    assert after[-1] == held[-1]


async def test_one_node_at_a_time_does_it(world: World) -> None:
    one, other = await world.server(retention_days=1), await world.server(retention_days=1)
    await world.said(one, "old")
    world.clock.advance(milliseconds=2 * DAY_MS)
    records = world.store.records
    assert await records.take_chore("housekeeping", one.node_id, lease_ms=1_000) is not None

    assert not await other.house.run()
    assert await there(one, ANN)
    world.clock.advance(milliseconds=1_001)
    assert await other.house.run()

    assert not await there(one, ANN)


async def test_an_erasure_that_a_crash_cut_off_is_finished_by_another_node(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessile.runtime.house.BATCH", 2)
    one, other = await world.server(), await world.server()
    for _ in range(5):
        await world.said(one, CANARY)
    records, erased = world.store.records, world.store.records.erased
    parts, died = list[int](), asyncio.Event()

    async def dies(*given: Any, **named: Any) -> None:
        parts.append(named["sessions"])
        await erased(*given, **named)
        if len(parts) == 2:
            died.set()
            raise RuntimeError("the node is gone")

    monkeypatch.setattr(records, "erased", dies)
    note = await one.keeping.erase_user(ANN, ANN.user_id)
    async with in_time():
        await died.wait()
    assert len(await there(one, ANN)) == 1
    assert (await one.keeping.erasure(ROOT, ANN.user_id)).done_at_ms is None

    assert await other.house.run()

    assert not await there(one, ANN)
    done = await one.keeping.erasure(ROOT, note.user_id)
    assert (done.sessions, done.done_at_ms) == (5, world.clock.now_ms())


async def test_a_node_that_was_away_leaves_an_erasure_to_who_took_it_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessile.runtime.house.BATCH", 2)
    one, other = await world.server(), await world.server()
    for _ in range(5):
        await world.said(one, CANARY)
    records, erased = world.store.records, world.store.records.erased
    taken = asyncio.Event()

    async def away(*given: Any, **named: Any) -> None:
        await erased(*given, **named)
        if not taken.is_set():
            world.clock.advance(milliseconds=LEASE_MS + 1)
            assert await records.take_chore(NAME, other.node_id, lease_ms=LEASE_MS) is not None
            taken.set()

    monkeypatch.setattr(records, "erased", away)
    monkeypatch.setattr(one.keeping, "_erase", lambda: None)  # it is run here, and not beside
    await one.keeping.erase_user(ANN, ANN.user_id)

    assert not await one.house.run()

    assert taken.is_set()
    assert len(await there(one, ANN)) == 3
    assert (await one.keeping.erasure(ROOT, ANN.user_id)).done_at_ms is None
    assert await other.house.run()
    assert (await one.keeping.erasure(ROOT, ANN.user_id)).sessions == 5


async def test_a_turn_that_runs_when_its_user_is_erased_is_stopped_and_writes_nothing(
    world: World,
) -> None:
    server = await world.server()
    session_id, _ = await world.said(server, "hello")
    await server.submit(ANN, session_id, "hold")
    await world.began.wait()

    await server.keeping.erase_user(ROOT, ANN.user_id)
    assert await server.house.run()
    await server.workers.drain()

    assert (await server.keeping.erasure(ROOT, ANN.user_id)).done_at_ms is not None
    assert not await there(server, ANN)


# -- what nodes remember


async def first_message(world: World, session_id: SessionId, principal: Principal = ANN) -> Any:
    found = await world.store.turns(SessionKey(principal.tenant_id, session_id), limit=1)
    return found[0].message_id


async def redacted_elsewhere(world: World, session_id: SessionId) -> None:
    """By a node whose hint is lost."""
    command = RedactMessage(
        principal=ANN,
        message_id=await first_message(world, session_id),
        note=Note(audit_id="aud_1"),  # type: ignore[arg-type]
    )
    await world.store.records.redact(SessionKey(ANN.tenant_id, session_id), command)


async def test_a_late_reader_is_not_told_what_a_node_still_has_in_memory(world: World) -> None:
    server = await world.server()
    opened = await server.open(ANN)
    session_id = opened.found.head.key.session_id
    async with server.feed.subscribe(ANN, session_id, after=0) as first:
        await server.submit(ANN, session_id, CANARY, wait_seconds=20)
        heard = await read_all(first.read)
        assert CANARY in str(heard)

        await redacted_elsewhere(world, session_id)

        async with server.feed.subscribe(ANN, session_id, after=1) as late:
            heard_late = await read_all(late.read)
        told = await read_all(first.read)
    assert CANARY not in str(heard_late)
    assert [entry.kind for entry in told] == ["session.redacted"]


async def read_all(read: Callable[..., Awaitable[Any]]) -> list[Entry]:
    heard: list[Entry] = []
    while isinstance(item := await read(timeout_seconds=0.2), Grown):
        heard += item.entries
    return heard


async def test_what_a_fork_s_next_turn_reads_is_not_what_its_last_one_read(world: World) -> None:
    server = await world.server()
    session_id, turn_id = await world.said(server, CANARY)
    fork = await server.sessions.fork(ANN, session_id, turn_id)
    fork_id = fork.found.head.key.session_id
    held = await server.submit(ANN, fork_id, "hold")
    await world.began.wait()
    following = await server.submit(ANN, fork_id, "next")
    assert CANARY in world.heard[-1]

    await server.keeping.redact(ANN, session_id, await first_message(world, session_id))

    ended = await server.sessions.wait(ANN, fork_id, held.turn.turn_id, seconds=20)
    assert (ended.status, ended.error) == (
        "cancelled",
        {"code": "cancelled", "message": "redacted", "retry": False},
    )
    await server.sessions.wait(ANN, fork_id, following.turn.turn_id, seconds=20)
    assert "next" in world.heard[-1]
    assert CANARY not in world.heard[-1]


async def test_a_fork_that_is_read_while_its_origin_goes_on_is_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await world.server()
    session_id, turn_id = await world.said(server, "hello")
    transact, grown = world.store.transact, 0

    async def grows(key: Any, command: Any) -> Any:
        nonlocal grown
        if getattr(command, "origin_seen", None) is not None and grown < 3:
            grown += 1
            await server.sessions.update(ANN, session_id, title=f"{grown}", retitle=True)
        return await transact(key, command)

    monkeypatch.setattr(world.store, "transact", grows)

    fork = await server.sessions.fork(ANN, session_id, turn_id)

    assert grown == 3
    assert fork.created


async def test_a_fork_that_was_read_before_a_redaction_is_not_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await world.server()
    session_id, turn_id = await world.said(server, CANARY)
    transact = world.store.transact

    async def redacts(key: Any, command: Any) -> Any:
        if getattr(command, "origin_seen", None) is not None:
            await redacted_elsewhere(world, session_id)
        return await transact(key, command)

    monkeypatch.setattr(world.store, "transact", redacts)

    with pytest.raises(OriginMoved):
        await server.sessions.fork(ANN, session_id, turn_id)

    assert await there(server, replace(ANN)) == {session_id}


async def test_one_redaction_at_a_time_holds_the_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who redacts a long log again and again takes turns with those who write."""
    server = await world.server()
    session_ids = [(await world.said(server, CANARY))[0] for _ in range(3)]
    messages = [(it, await first_message(world, it)) for it in session_ids]
    redact, asked = world.store.records.redact, list[SessionKey]()

    async def held(key: SessionKey, command: Any) -> Any:
        asked.append(key)
        await world.hold.wait()
        return await redact(key, command)

    async def let_go() -> None:
        assert len(asked) == 1
        world.hold.set()

    monkeypatch.setattr(world.store.records, "redact", held)
    async with asyncio.TaskGroup() as tasks:
        for session_id, message_id in messages:
            tasks.create_task(server.keeping.redact(ANN, session_id, message_id))
        tasks.create_task(let_go())

    assert len(asked) == 3
