"""Logs on a hosted service: each entry at least once, in order, in its own session's channel."""

import asyncio
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pusher
import pytest
from tests.walk.hosted import Hosted, hosted
from tests.walk.people import Walk, walking

from sessile import Assistant, Server
from sessile.pusher import relay
from sessile.runtime import trail

PATIENCE_SECONDS = 20.0


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    monkeypatch.setattr(relay, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(relay, "RETRY_SECONDS_MAX", 0.05)
    with hosted() as service:
        yield service


def relayed(service: Hosted, *tenants: str) -> Callable[[Server], None]:
    client = pusher.Pusher(
        app_id="1", key="k", secret="s", ssl=False, host="127.0.0.1", port=service.port
    )
    return lambda server: server.relay(client, tenants=tenants or ("demo",))


def channel_of(session_id: str) -> str:
    return f"private-sb-{session_id}"


async def until(service: Hosted, wanted: Callable[[], bool]) -> None:
    loop, grown = asyncio.get_running_loop(), asyncio.Event()
    service.told = lambda: loop.call_soon_threadsafe(grown.set)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            grown.clear()
            if wanted():
                return
            await grown.wait()


@contextmanager
def belled() -> Iterator[asyncio.Event]:
    """Set as soon as the relay logs something."""
    rung = asyncio.Event()

    class Bell(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            rung.set()

    bell, logger = Bell(), logging.getLogger(trail.__name__)
    logger.addHandler(bell)
    try:
        yield rung
    finally:
        logger.removeHandler(bell)


async def published(service: Hosted, walk: Walk, session_id: str, begin: int = 0) -> None:
    """All of the log behind `begin` is there, in order; some of it may be there twice."""
    log = (await walk.log(session_id))[begin:]
    channel = channel_of(session_id)
    await until(service, lambda: bool(service.of(channel)) and service.of(channel)[-1] == log[-1])
    seqs = [each["seq"] for each in service.of(channel)]
    first_times = [
        each for n, each in enumerate(service.of(channel)) if each["seq"] not in seqs[:n]
    ]
    assert first_times == log


async def test_every_entry_is_published_in_its_session_s_channel(
    tmp_path: Path, service: Hosted
) -> None:
    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        sessions = [await walk.opened() for _ in range(5)]

        await asyncio.gather(*(walk.said(each, f"to {each}") for each in sessions))

        for session_id in sessions:
            await published(service, walk, session_id)
            for other in sessions:
                if other != session_id:
                    assert session_id not in json.dumps(service.of(channel_of(other)))
        events = {each["name"] for each in service.took}
        assert {"turn.queued", "message.added", "turn.completed"} <= events


async def test_what_fails_is_tried_again_and_holds_back_its_own_session_alone(
    tmp_path: Path, service: Hosted
) -> None:
    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        bad, good = await walk.opened(), await walk.opened()
        service.refuses = [channel_of(bad)]

        await walk.said(bad, "hello")
        await walk.said(good, "hello")
        await published(service, walk, good)
        await until(service, lambda: service.refused > 4)
        assert {each["seq"] for each in service.of(channel_of(bad))} <= {1, 2}
        service.refuses = []

        await published(service, walk, bad)


async def test_what_grows_while_it_is_tried_again_is_published_too(
    tmp_path: Path, service: Hosted
) -> None:
    loop, asked, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold() -> None:
        loop.call_soon_threadsafe(asked.set)
        go.wait(PATIENCE_SECONDS)

    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        session_id = await walk.opened()
        service.refuses = [channel_of(session_id)]
        await walk.said(session_id, "one")
        await until(service, lambda: service.refused > 2)
        service.refuses = []
        service.told = hold
        await asked.wait()

        # What is to be published was read by now, and this was not there.
        await walk.said(session_id, "two")
        service.told = lambda: None
        go.set()

        await published(service, walk, session_id)


async def test_a_service_that_does_not_answer_takes_no_threads_but_its_own(
    tmp_path: Path, service: Hosted
) -> None:
    loop, asked, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold() -> None:
        loop.call_soon_threadsafe(asked.set)
        go.wait(PATIENCE_SECONDS)

    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        loop.set_default_executor(ThreadPoolExecutor(1))
        service.told = hold
        await walk.opened()
        await asked.wait()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS / 4):
                await asyncio.to_thread(int)
        finally:
            service.told = lambda: None
            go.set()


async def test_what_is_logged_of_a_failure_has_no_signature(
    tmp_path: Path, service: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    service.port = 9
    with belled() as logged:
        async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
            await walk.opened()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await logged.wait()

    formatter = logging.Formatter()
    told = "".join(formatter.format(each) + repr(each.__dict__) for each in caplog.records)
    assert "ConnectionError" in told
    assert "auth_signature" not in told


async def test_a_file_of_cursors_that_breaks_stops_the_relay_alone(
    tmp_path: Path, service: Hosted
) -> None:
    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        session_id, other = await walk.opened(), await walk.opened()
        await published(service, walk, other)
        await published(service, walk, session_id)
        with closing(sqlite3.connect(tmp_path / "pusher-relay.db")) as file, belled() as logged:
            file.execute("ALTER TABLE cursor RENAME TO gone")
            await walk.alice.delete(f"/v1/sessions/{session_id}")
            await walk.said(other, "hello")
            await logged.wait()
            file.execute("ALTER TABLE gone RENAME TO cursor")

        await published(service, walk, other)


async def test_a_file_of_cursors_that_is_none_is_named(tmp_path: Path, service: Hosted) -> None:
    (tmp_path / "pusher-relay.db").write_bytes(b"no database at all" * 1_000)

    with pytest.raises(ValueError, match=r"pusher-relay\.db: file is not a database"):
        async with walking(data_dir=tmp_path, mount=relayed(service)):
            pass


def test_a_tenant_is_relayed_once() -> None:
    server = Server(Assistant("a"))
    server.relay(object(), tenants=["acme", "demo"])

    with pytest.raises(ValueError, match="demo"):
        server.relay(object(), tenants=["other", "demo"])


async def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path, service: Hosted) -> None:
    mount = relayed(service)
    async with walking(data_dir=tmp_path, store_url="sqlite") as walk:
        before = await walk.opened()
        await walk.said(before, "nobody relayed this")
        head = len(await walk.log(before))
    async with walking(data_dir=tmp_path, store_url="sqlite", mount=mount) as walk:
        session_id = await walk.opened()
        await walk.said(session_id, "one")
        await published(service, walk, session_id)
        service.refuses = [channel_of(session_id)]
        await walk.said(session_id, "two")
        await walk.said(before, "and now")
        await published(service, walk, before, head)
    service.refuses = []

    async with walking(data_dir=tmp_path, store_url="sqlite", mount=mount) as walk:
        await published(service, walk, session_id)
        await published(service, walk, before, head)
        taken = len(service.took)

    async with walking(data_dir=tmp_path, store_url="sqlite", mount=mount):
        assert len(service.took) == taken


async def test_what_was_deleted_while_it_was_away_is_forgotten(
    tmp_path: Path, service: Hosted
) -> None:
    def kept() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "pusher-relay.db")) as file:
            return [row[0] for row in file.execute("SELECT session_id FROM cursor")]

    async with walking(data_dir=tmp_path, store_url="sqlite", mount=relayed(service)) as walk:
        stays, goes = await walk.opened(), await walk.opened()
        for session_id in (stays, goes):
            await walk.said(session_id, "hello")
            await published(service, walk, session_id)
    assert set(kept()) == {stays, goes}
    async with walking(data_dir=tmp_path, store_url="sqlite") as walk:
        await walk.alice.delete(f"/v1/sessions/{goes}")

    async with walking(data_dir=tmp_path, store_url="sqlite", mount=relayed(service)) as walk:
        await walk.said(stays, "hello")
        await published(service, walk, stays)

    assert kept() == [stays]


async def test_a_relay_makes_the_directory_that_it_keeps_its_place_in(
    tmp_path: Path, service: Hosted
) -> None:
    async with walking(data_dir=tmp_path / "new", mount=relayed(service)) as walk:
        await published(service, walk, await walk.opened())


async def test_another_tenant_s_sessions_are_not_relayed(tmp_path: Path, service: Hosted) -> None:
    async with walking(data_dir=tmp_path, mount=relayed(service, "other")) as walk:
        mine = await walk.opened()
        theirs = (await walk.bob.post("/v1/sessions", json={})).json()["session_id"]
        await walk.said(mine, "hello")
        await walk.bob.post(
            f"/v1/sessions/{theirs}/turns",
            json={"input": {"type": "message", "text": "hello"}},
            params={"wait": 30},
        )

        await until(service, lambda: len(service.of(channel_of(theirs))) == 6)

        assert service.of(channel_of(mine)) == []


async def test_an_entry_that_is_too_large_is_told_without_its_body(
    tmp_path: Path, service: Hosted
) -> None:
    def cards(session_id: str, entry: Any) -> Any:
        if entry["kind"] == "turn.completed":
            yield "card", {"sessionId": session_id, "text": "a" * 10_240}
            yield "card", {"sessionId": session_id}

    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        walk.server.project(cards)
        session_id = await walk.opened()
        await walk.said(session_id, "a" * 11_000)

        channel = channel_of(session_id)
        await until(service, lambda: [each["name"] for each in service.took][-1:] == ["card"])

        told = service.of(channel)
        assert [each["seq"] for each in told] == [1, 2, 3, 4, 5, 6, 6]
        assert [each["body"] is None for each in told[:-1]] == [False, True, False] + [True] * 3
        assert told[-1] == {"sessionId": session_id, "seq": 6}


async def test_a_session_that_was_deleted_is_forgotten(tmp_path: Path, service: Hosted) -> None:
    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        session_id, other = await walk.opened(), await walk.opened()
        await published(service, walk, session_id)
        await walk.alice.delete(f"/v1/sessions/{session_id}")

        await walk.said(other, "hello")

        await published(service, walk, other)
        assert len(service.of(channel_of(session_id))) == 1
