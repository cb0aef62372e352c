"""Event streams: the log from a cursor on, without a gap, whatever happens to the connection."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers import waits
from tests.walk.people import Walk, each_store, message, walking
from tests.walk.sse import Event
from tests.walk.test_http_refusals import problem
from tests.walk.test_http_sessions import shaped
from tests.walk.wire import Wire, ask, asking

from sessile.core.context import Principal
from sessile.core.errors import StorageBusy
from sessile.core.events import Entry
from sessile.core.ids import Seq, SessionId
from sessile.http import schemas, stream
from sessile.http.reply import ABORT
from sessile.http.stream import Frames


def events_of(session_id: str) -> str:
    return f"/v1/sessions/{session_id}/events"


@asynccontextmanager
async def reading(
    walk: Walk, session_id: str, query: str = "", *, wire: Wire | None = None, **headers: str
) -> AsyncIterator[Wire]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    path, token = events_of(session_id) + query, walk.token("alice")
    async with asking(walk.app, path, token=token, headers=named, wire=wire) as reader:
        yield reader


async def read(walk: Walk, session_id: str, query: str = "", **headers: str) -> Wire:
    """A stream that ends by itself."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    path = events_of(session_id) + query
    return await ask(walk.app, path, token=walk.token("alice"), headers=named)


def entries_of(events: list[Event]) -> list[Any]:
    """What the events carry, each checked against its own id and name."""
    entries = [event.json() for event in events if event.event not in ("end", "reset")]
    named = [(event.id, event.event) for event in events if event.event not in ("end", "reset")]
    assert named == [(str(entry["seq"]), entry["kind"]) for entry in entries]
    return entries


async def grown(walk: Walk, session_id: str, entries: int) -> None:
    """So many more entries in the log, cheaply."""
    for number in range(entries):
        metadata = {"n": number, "text": "é😀\n\r\u2028" * (number % 7)}
        await walk.server.sessions.update(
            walk.principal("alice"), SessionId(session_id), metadata=metadata
        )


@each_store
async def test_a_stream_is_the_log_from_its_first_entry_on(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.said(session_id, "before")

    async with reading(walk, session_id) as reader:
        await reader.event("turn.completed")
        await walk.said(session_id, "while")
        await reader.until(lambda wire: len(wire.events) == len(set(wire.events)) >= 11)

    assert reader.status == 200
    assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reader.headers["cache-control"] == "no-cache, no-transform"
    assert reader.headers["x-accel-buffering"] == "no"
    assert reader.headers["x-content-type-options"] == "nosniff"
    assert reader.bodies[0].startswith(b"retry: 1000\n\n")
    assert entries_of(reader.events) == await walk.log(session_id)


@each_store
async def test_a_stream_goes_on_behind_its_cursor(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.said(session_id, "hello")
    await walk.alice.post(f"/v1/sessions/{session_id}/close")
    log = await walk.log(session_id)

    by_header = await read(walk, session_id, last_event_id="3")
    by_query = await read(walk, session_id, "?after=3")
    by_both = await read(walk, session_id, "?after=1", last_event_id="3")
    by_an_empty_one = await read(walk, session_id, "?after=3", last_event_id="")

    for reader in (by_header, by_query, by_both, by_an_empty_one):
        assert entries_of(reader.events) == log[3:]


async def test_what_comes_together_is_sent_together(walk: Walk) -> None:
    session_id = await walk.opened()
    await grown(walk, session_id, 600)

    async with reading(walk, session_id) as reader:
        await reader.until(lambda wire: len(wire.events) == 601)

    size = sum(map(len, reader.bodies))
    assert size > 100_000
    assert len(reader.bodies) == size // stream.PIECE_BYTES + 1
    assert all(len(body) < stream.PIECE_BYTES + 1_000 for body in reader.bodies)


@each_store
async def test_a_reader_cut_a_thousand_times_misses_nothing(walk: Walk) -> None:
    """Each time at a random byte, and resumed with the last id, while the log grows."""
    chance = random.Random(7)
    session_id = await walk.opened()
    cuts = 1_000 if walk.server.settings.store_url == "memory" else 100
    seen: list[Event] = []
    cursor, head = "", 1
    for _ in range(cuts):
        if int(cursor or 0) + 20 > head:
            await grown(walk, session_id, 50)
            await walk.said(session_id, "and on")
            head = (await walk.alice.get(f"/v1/sessions/{session_id}")).json()["head"]
        wire = Wire(bytes_max=chance.randrange(1, 1_500))
        async with reading(walk, session_id, wire=wire, last_event_id=cursor) as reader:
            await reader.until(lambda wire: wire.left)
        seen += reader.events
        cursor = reader.parser.last_event_id or cursor
    await walk.alice.post(f"/v1/sessions/{session_id}/close")

    last = await read(walk, session_id, last_event_id=cursor)

    assert [event.event for event in last.events[-1:]] == ["end"]
    log = [entry async for entry in _exported(walk, session_id)]
    assert entries_of([*seen, *last.events]) == log


async def _exported(walk: Walk, session_id: str) -> AsyncIterator[Any]:
    import json

    reply = await walk.alice.get(f"/v1/sessions/{session_id}/export")
    for line in reply.text.removesuffix("\n").split("\n"):
        yield json.loads(line)


@pytest.mark.parametrize("store_url", ["memory", "sqlite"])
async def test_a_reader_of_a_growing_log_misses_nothing(tmp_path: Path, store_url: str) -> None:
    """It reads from what is kept in memory, and where it is behind that, from the log."""
    chance = random.Random(3)
    limits: dict[str, Any] = {"tail_entries_max": 8, "page_entries_max": 5}
    async with walking(data_dir=tmp_path, store_url=store_url, **limits) as walk:
        session_id = await walk.opened()

        async with reading(walk, session_id) as reader:
            for _ in range(40):
                await grown(walk, session_id, chance.randrange(1, 20))
                head = (await walk.alice.get(f"/v1/sessions/{session_id}")).json()["head"]
                if chance.random() < 0.5:
                    await reader.until(lambda wire, head=head: len(wire.events) >= head)
            await walk.alice.post(f"/v1/sessions/{session_id}/close")
            await reader.until(lambda wire: wire.ended)

        log = [entry async for entry in _exported(walk, session_id)]
        assert entries_of(reader.events) == log
        assert len(log) > 200


@each_store
async def test_a_closed_sessions_stream_ends_and_the_next_is_told_to_stop(walk: Walk) -> None:
    session_id = await walk.opened()

    async with reading(walk, session_id) as reader:
        await reader.event("session.opened")
        await walk.alice.post(f"/v1/sessions/{session_id}/close")
        await reader.until(lambda wire: wire.ended)
    next_one = await read(walk, session_id, last_event_id=reader.parser.last_event_id)
    late = await read(walk, session_id)

    assert [event.event for event in reader.events][-2:] == ["session.closed", "end"]
    assert reader.events[-1].json() == {"reason": "closed"}
    assert (next_one.status, next_one.bodies, next_one.ended) == (204, [b""], True)
    assert [event.event for event in late.events] == ["session.opened", "session.closed", "end"]


@pytest.mark.timeout(10)
async def test_a_stream_of_a_closing_session_ends_with_its_last_turn(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path) as walk:
        session_id = await walk.opened()
        await walk.queued(session_id, "hold it")
        await walk.holds.reached("it")

        async with reading(walk, session_id) as reader:
            await reader.event("session.opened")
            await walk.alice.post(f"/v1/sessions/{session_id}/close")
            await reader.until(lambda wire: wire.ended)

        names = [event.event for event in reader.events]
        assert names.index("session.closed") < names.index("turn.cancelled") < names.index("end")


@each_store
async def test_a_deleted_sessions_stream_ends_and_the_next_is_refused(walk: Walk) -> None:
    session_id = await walk.opened()

    async with reading(walk, session_id) as reader:
        await reader.event("session.opened")
        await walk.alice.delete(f"/v1/sessions/{session_id}")
        await reader.until(lambda wire: wire.ended)

    assert reader.events[-1].json() == {"reason": "gone"}
    assert (await read(walk, session_id, last_event_id="1")).status == 404


@pytest.mark.parametrize(
    "cursor", ["99", "x", "-1", "1.5", "9" * 30, "\u0661".encode().decode("latin-1")]
)
async def test_a_cursor_that_is_none_of_ours_gets_a_reset(walk: Walk, cursor: str) -> None:
    session_id = await walk.opened()
    await walk.said(session_id, "hello")
    running = await walk.queued(session_id, "hold it")
    queued = await walk.queued(session_id, "later")
    await walk.holds.reached("it")

    async with reading(walk, session_id, last_event_id=cursor) as reader:
        await reader.event("reset")
        walk.holds.go("it")
        await walk.alice.get(f"/v1/sessions/{session_id}/turns/{queued['turn_id']}?wait=30")
        await walk.alice.post(f"/v1/sessions/{session_id}/close")
        await reader.until(lambda wire: wire.ended)

    reset, *rest = reader.events
    log = await walk.log(session_id)
    snapshot = reset.json()
    schemas.Snapshot.model_validate(snapshot)
    head = snapshot["session"]["head"]
    assert int(reset.id) == head
    assert [each["text"] for each in snapshot["messages"]] == [
        "hello",
        "you said: hello",
        "hold it",
    ]
    assert snapshot["running_turn"]["turn_id"] == running["turn_id"]
    assert [each["turn_id"] for each in snapshot["queued_turns"]] == [queued["turn_id"]]
    assert entries_of(rest) == log[head:]


async def test_a_silent_stream_shows_that_it_lives(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, heartbeat_seconds=0.005) as walk:
        session_id = await walk.opened()

        async with reading(walk, session_id) as reader:
            await reader.until(lambda wire: len(wire.parser.comments) >= 5)
            await walk.said(session_id, "hello")
            await reader.event("turn.completed")

        assert entries_of(reader.events) == await walk.log(session_id)


async def test_one_stream_too_many_is_sent_away_for_a_while(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, streams_max=1) as walk:
        session_id = await walk.opened()

        async with reading(walk, session_id) as reader:
            await reader.event("session.opened")
            refused = await read(walk, session_id)
        async with reading(walk, session_id) as served:
            await served.event("session.opened")

        assert (refused.status, refused.events, refused.ended) == (200, [], True)
        assert refused.headers["content-type"].startswith("text/event-stream")
        assert 1000 <= refused.parser.retries_ms[-1] < 5000


@pytest.mark.parametrize("limit", ["streams_user_max", "streams_tenant_max"])
async def test_who_has_as_many_streams_as_may_be_is_sent_away_with_the_reason(
    tmp_path: Path, limit: str
) -> None:
    async with walking(data_dir=tmp_path, **{limit: 1}) as walk:
        session_id = await walk.opened()

        async with reading(walk, session_id) as reader:
            await reader.event("session.opened")
            refused = await read(walk, session_id)
            path, token = events_of(session_id), walk.token("admin")
            async with asking(walk.app, path, token=token) as other:
                if limit == "streams_user_max":
                    await other.event("session.opened")
                else:
                    await other.until(lambda wire: wire.ended)
        async with reading(walk, session_id) as served:
            await served.event("session.opened")

        assert (refused.status, refused.events, refused.ended) == (200, [], True)
        assert refused.parser.comments == [f"limit_reached {limit}"]
        assert refused.parser.retries_ms


async def test_a_burst_of_streams_gets_no_more_than_there_may_be(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, store_url="sqlite", streams_max=3) as walk:
        session_id = await walk.opened()
        wires = [Wire() for _ in range(20)]
        path, token = events_of(session_id), walk.token("alice")

        async with asyncio.TaskGroup() as tasks:
            for wire in wires:
                tasks.create_task(ask(walk.app, path, token=token, wire=wire))
            for wire in wires:
                await wire.until(lambda wire: bool(wire.events or wire.ended))
            served = [wire for wire in wires if wire.events]
            walk.app.drain()

        assert len(served) == 3


async def test_a_stream_that_begins_while_the_node_drains_ends_at_once(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, store_url="sqlite") as walk:
        session_id = await walk.opened()
        path, token, wire = events_of(session_id), walk.token("alice"), Wire()
        asked = asyncio.Event()

        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(ask(walk.app, path, token=token, wire=wire))
            # It comes as far as its first question to the database.
            asyncio.get_running_loop().call_soon(asked.set)
            await asked.wait()
            assert walk.server.feed.readers == 1
            walk.app.drain()

        assert wire.parser.comments == ["this node is stopping"]


async def test_a_draining_node_sends_its_readers_away_and_ends_no_turn(walk: Walk) -> None:
    session_id = await walk.opened()
    turn = await walk.queued(session_id, "hold it")
    await walk.holds.reached("it")
    readers: list[Wire] = [Wire() for _ in range(20)]

    async with asyncio.TaskGroup() as tasks:
        for wire in readers:
            path, token = events_of(session_id), walk.token("alice")
            tasks.create_task(ask(walk.app, path, token=token, wire=wire))
        for wire in readers:
            await wire.event("turn.started")
        walk.app.drain()
    late = await read(walk, session_id)

    retries = [wire.parser.retries_ms[-1] for wire in (*readers, late)]
    assert all(wire.ended and wire.parser.comments for wire in (*readers, late))
    assert all(1000 <= retry < 5000 for retry in retries)
    assert len(set(retries)) > 10
    assert late.events == []
    walk.holds.go("it")
    url = f"/v1/sessions/{session_id}/turns/{turn['turn_id']}"
    await ask(walk.app, f"{events_of(session_id)}?after=0", token=walk.token("alice"))
    assert (await walk.alice.get(url)).json()["status"] in ("running", "completed")


@each_store
async def test_a_cut_connection_cancels_no_turn(walk: Walk) -> None:
    session_id = await walk.opened()
    turn = await walk.queued(session_id, "hold it")
    await walk.holds.reached("it")

    async with reading(walk, session_id) as reader:
        await reader.event("turn.started")
    assert walk.server.feed.readers == 0
    walk.holds.go("it")

    url = f"/v1/sessions/{session_id}/turns/{turn['turn_id']}?wait=30"
    assert (await walk.alice.get(url)).json()["status"] == "completed"


async def test_a_reader_that_reads_nothing_is_cut_and_comes_back(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, slow_reader_seconds_max=0.02) as walk:
        session_id = await walk.opened()
        aborted = asyncio.Event()
        wire = Wire(extensions={ABORT: aborted.set})

        async with asyncio.TaskGroup() as tasks:
            path, token = events_of(session_id), walk.token("alice")
            asked = tasks.create_task(ask(walk.app, path, token=token, wire=wire))
            await wire.event("session.opened")
            wire.stall()
            await walk.said(session_id, "unread")
            await aborted.wait()
        assert asked.done()
        assert walk.server.feed.readers == 0
        await walk.alice.post(f"/v1/sessions/{session_id}/close")
        again = await read(walk, session_id, last_event_id=wire.parser.last_event_id)

        assert entries_of([*wire.events, *again.events]) == await walk.log(session_id)


async def test_an_export_that_nobody_takes_is_cut(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, slow_reader_seconds_max=0.02) as walk:
        session_id = await walk.opened()
        await grown(walk, session_id, 600)
        aborted = asyncio.Event()
        wire = Wire(extensions={ABORT: aborted.set})
        wire.stall()

        path, token = f"/v1/sessions/{session_id}/export", walk.token("alice")
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            tasks.create_task(ask(walk.app, path, token=token, wire=wire))
            await aborted.wait()

    assert not wire.ended


class Lines(Wire):
    """What comes is no stream of events."""

    def _take(self, body: bytes) -> None:
        self.bodies.append(body)


async def test_an_export_ends_when_its_token_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with walking(data_dir=tmp_path, access_check_seconds=1e-9) as walk:
        session_id = await walk.opened()
        await grown(walk, session_id, 600)
        answers = iter([walk.principal("alice"), None])

        async def principal(_token: str) -> Principal | None:
            return next(answers)

        monkeypatch.setattr(walk.tokens, "principal", principal)
        aborted = asyncio.Event()
        path, token = f"/v1/sessions/{session_id}/export", walk.token("alice")
        cut = await ask(walk.app, path, token=token, wire=Lines(extensions={ABORT: aborted.set}))

    assert aborted.is_set()
    assert not cut.ended
    assert cut.bodies == []


async def test_an_export_ends_with_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with walking(data_dir=tmp_path, store_url="sqlite", page_entries_max=20) as walk:
        session_id = await walk.opened()
        await grown(walk, session_id, 600)
        store, pages = walk.server.reads._store, 0
        read_page = store.read

        async def counted(*given: Any, **how: Any) -> Any:
            nonlocal pages
            pages += 1
            return await read_page(*given, **how)

        monkeypatch.setattr(store, "read", counted)
        path, token = f"/v1/sessions/{session_id}/export", walk.token("alice")
        left = await ask(walk.app, path, token=token, wire=Wire(bytes_max=1))

    assert not left.ended
    assert pages < 600 // 20


async def test_half_an_export_is_not_ended_as_if_it_were_whole(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await walk.opened()
    path, token = f"/v1/sessions/{session_id}/export", walk.token("alice")
    monkeypatch.setattr(walk.server.reads._store, "read", _nothing)

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await ask(walk.app, path, token=token, wire=(deleted := Wire()))

    assert not deleted.ended


async def _nothing(*_: Any, **__: Any) -> tuple[()]:
    return ()


async def test_a_token_that_is_no_more_ends_its_streams(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, access_check_seconds=0.005) as walk:
        session_id = await walk.opened()

        async with reading(walk, session_id) as reader:
            await reader.event("session.opened")
            walk.tokens._principals.clear()
            await reader.until(lambda wire: wire.ended)

        assert [event.event for event in reader.events] == ["session.opened"]


async def test_a_token_that_is_no_more_ends_the_stream_of_who_takes_little_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PIECE_BYTES", 1)
    async with walking(data_dir=tmp_path, access_check_seconds=1e-6) as walk:

        async def followed() -> bool:
            return walk.server.feed.readers > 0

        session_id = await walk.opened()
        await grown(walk, session_id, 100)
        wire = Wire()
        wire.stall()

        async with reading(walk, session_id, wire=wire) as reader:
            await waits.until(followed)
            walk.tokens._principals.clear()
            wire.go_on()
            await reader.until(lambda wire: wire.ended)

        assert [event.event for event in reader.events] == ["session.opened"]


async def test_a_busy_database_sends_readers_away_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: Any, **__: Any) -> Any:
        raise StorageBusy()

    async with walking(data_dir=tmp_path) as walk:
        session_id = await walk.opened()

        async with reading(walk, session_id) as reader:
            await reader.event("session.opened")
            monkeypatch.setattr(walk.server.feed._store, "find", busy)
            walk.server.feed.swept(walk.server.feed.following, {})  # and it asks whether it is gone
            await reader.until(lambda wire: wire.ended)
        refused = await read(walk, session_id)

    for wire in (reader, refused):
        assert (wire.status, wire.ended) == (200, True)
        assert wire.parser.comments == ["this node's database does not answer"]
        assert 1000 <= wire.parser.retries_ms[-1] < 5000
    assert refused.events == []


async def test_pages_of_json_are_asked_for_by_name(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.said(session_id, "hello")
    log = await walk.log(session_id)
    headers = {"accept": "application/json"}

    async def page(query: str) -> Any:
        reply = await walk.alice.get(f"{events_of(session_id)}?{query}", headers=headers)
        return shaped(reply, schemas.EntryPage)

    first, second, end = await page("limit=4"), await page("after=4&limit=4"), await page("after=6")

    assert first == {"items": log[:4], "next": "4"}
    assert second == {"items": log[4:], "next": None}
    assert end == {"items": [], "next": None}
    ahead = await walk.alice.get(f"{events_of(session_id)}?after=7", headers=headers)
    problem(ahead, 400, "cursor_ahead")


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("", True),
        ("*/*", True),
        ("text/event-stream", True),
        ("text/event-stream, application/json", True),
        ("application/json", False),
        ("application/json, text/plain, */*", False),
    ],
)
async def test_a_stream_is_what_is_not_asked_for_as_json(
    walk: Walk, accept: str, streams: bool
) -> None:
    session_id = await walk.opened()
    await walk.alice.post(f"/v1/sessions/{session_id}/close")

    reader = await read(walk, session_id, accept=accept)

    assert reader.headers["content-type"].startswith("text/event-stream") is streams


async def test_an_entry_is_encoded_once_for_all_its_readers(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await walk.opened()
    encoded: list[int] = []
    entry_json = stream.entry_json

    def counted(entry: Entry) -> str:
        encoded.append(entry.seq)
        return entry_json(entry)

    monkeypatch.setattr(stream, "entry_json", counted)
    readers = [Wire() for _ in range(50)]

    async with asyncio.TaskGroup() as tasks:
        for wire in readers:
            path, token = f"{events_of(session_id)}?after=1", walk.token("alice")
            tasks.create_task(ask(walk.app, path, token=token, wire=wire))
        for wire in readers:
            await wire.until(lambda wire: bool(wire.bodies))
        await grown(walk, session_id, 3)
        await walk.alice.post(f"/v1/sessions/{session_id}/close")

    assert encoded == [2, 3, 4, 5]
    log = await walk.log(session_id)
    assert all(entries_of(wire.events) == log[1:] for wire in readers)


def test_a_kept_frame_is_never_another_entrys() -> None:
    """Ids of objects are used again; what is kept is held fast, and compared."""
    frames = Frames(epoch=0)

    for number in range(1, 5_000):
        entry = Entry(Seq(number), "turn.progress", None, 0, f'{{"n":{number}}}')
        for _ in range(2):
            assert f'"n":{number}}}'.encode() in frames.of(entry)
    assert len(frames._known) <= stream.FRAMES_MAX


async def test_two_readers_of_two_sessions_get_each_their_own(walk: Walk) -> None:
    one, other = await walk.opened(), await walk.opened()

    async with reading(walk, one) as first, reading(walk, other) as second:
        await asyncio.gather(*(walk.said(one, f"one {n}") for n in range(10)))
        await asyncio.gather(*(walk.said(other, f"other {n}") for n in range(10)))
        for session_id in (one, other):
            await walk.alice.post(f"/v1/sessions/{session_id}/close")
        await first.until(lambda wire: wire.ended)
        await second.until(lambda wire: wire.ended)

    assert entries_of(first.events) == await walk.log(one)
    assert entries_of(second.events) == await walk.log(other)
    assert b"other" not in b"".join(first.bodies)


async def test_posting_needs_no_reader_and_a_late_one_sees_it_all(walk: Walk) -> None:
    reply = await walk.alice.post("/v1/turns?wait=30", json=message("hello"))
    session_id = reply.json()["session_id"]

    async with reading(walk, session_id, f"?after={reply.json()['seq']}") as reader:
        ended = await reader.event("turn.completed")

    assert ended.json()["turn_id"] == reply.json()["turn_id"]


async def test_what_is_kept_of_a_followed_session_is_bounded_in_bytes(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, tail_bytes_max=20_000) as walk:
        session_id = await walk.opened()

        async with reading(walk, session_id) as reader:
            await reader.event("session.opened")
            (tail,) = walk.server.feed._tails.values()
            for size in (9_000, 30_000, 10, 9_000):
                await walk.said(session_id, "a" * size)
                kept = [len(entry.body) for entry in tail._entries]
                assert sum(kept) == tail._bytes <= 20_000
            assert kept
            head = (await walk.log(session_id))[-1]["seq"]
            await reader.until(lambda wire: entries_of(wire.events)[-1]["seq"] == head)

        assert entries_of(reader.events) == await walk.log(session_id)
