"""Over real connections: what only a transport can show."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from tests.walk.listening import listening
from tests.walk.people import Walk, message, walking
from tests.walk.sse import Event, Parser

from sessile.core.ids import SessionId
from sessile.http import listener

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def get(walk: Walk, port: int, path: str, *more: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Authorization: Bearer {walk.token('alice')}",
        "Connection: close",
        *more,
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def alice(walk: Walk, port: int) -> httpx2.AsyncClient:
    headers = {"authorization": f"Bearer {walk.token('alice')}"}
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers)


class Chunks:
    """A chunked body, taken apart as its bytes come."""

    def __init__(self) -> None:
        self._rest = b""
        self._head = True
        self._left = 0
        self.status = 0

    def feed(self, data: bytes) -> bytes:
        self._rest += data
        if self._head:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return b""
            self.status = int(head.split(b" ", 2)[1])
            self._head, self._rest = False, rest
        body = b""
        while self._rest:
            if self._left == 0:
                size, end, rest = self._rest.removeprefix(b"\r\n").partition(b"\r\n")
                if not end:
                    break
                self._left, self._rest = int(size, 16), rest
            body += self._rest[: self._left]
            self._left, self._rest = (
                max(0, self._left - len(self._rest)),
                self._rest[self._left :],
            )
        return body


async def test_another_reader_of_event_streams_understands_ours(walk: Walk) -> None:
    session_id = await walk.opened()
    path = f"/v1/sessions/{session_id}/events"

    async with (
        listening(walk) as (_, port),
        alice(walk, port) as client,
        client.stream("GET", path, headers={"accept": "text/event-stream"}) as response,
    ):
        got = []
        async for event in httpx2.EventSource(response):
            got.append((event.event, event.id))
            if event.event == "session.opened":
                await client.post(f"/v1/sessions/{session_id}/turns", json=message("hi"))
            if event.event == "turn.completed":
                break

    log = await walk.log(session_id)
    assert [each for each in got if each[0] != "message"] == [
        (entry["kind"], str(entry["seq"])) for entry in log
    ]


async def test_connections_cut_at_random_bytes_miss_nothing(walk: Walk) -> None:
    chance = random.Random(11)
    session_id = await walk.opened()
    seen: list[Event] = []
    cursor = "0"
    for number in range(150):
        metadata = {"n": number, "text": "é😀\u2028" * 5}
        await walk.server.sessions.update(
            walk.principal("alice"), SessionId(session_id), metadata=metadata
        )
    await walk.alice.post(f"/v1/sessions/{session_id}/close")

    async with listening(walk) as (_, port):
        status = 0
        while status != 204:
            parser, chunks, left = Parser(), Chunks(), chance.randrange(1, 2_000)
            async with connected(port) as (reader, writer):
                path = f"/v1/sessions/{session_id}/events"
                writer.write(get(walk, port, path, f"Last-Event-ID: {cursor}"))
                while left > 0 and (data := await reader.read(min(left, 512))):
                    left -= len(data)
                    seen += parser.feed(chunks.feed(data))
            cursor, status = parser.last_event_id or cursor, chunks.status

    entries = [event.json() for event in seen if event.event != "end"]
    assert entries == await walk.log(session_id)


async def test_a_client_that_hangs_up_is_noticed_and_cancels_nothing(walk: Walk) -> None:
    session_id = await walk.opened()
    turns = f"/v1/sessions/{session_id}/turns"

    async with listening(walk) as (_, port), alice(walk, port) as client:
        turn = await client.post(turns, json=message("hold it"))
        async with connected(port) as (reader, writer):
            writer.write(get(walk, port, f"/v1/sessions/{session_id}/events"))
            await reader.readuntil(b"turn.started")
            assert walk.server.feed.readers == 1
        async with asyncio.timeout(5):
            while walk.server.feed.readers:
                await client.get("/healthz")
        walk.holds.go("it")
        ended = await client.get(f"{turns}/{turn.json()['turn_id']}?wait=30")

    assert ended.json()["status"] == "completed"


async def test_a_caller_that_hangs_up_while_it_waits_cancels_nothing(walk: Walk) -> None:
    session_id = await walk.opened()
    turns = f"/v1/sessions/{session_id}/turns"

    async with listening(walk) as (_, port), alice(walk, port) as client:
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(client.post(f"{turns}?wait=30", json=message("hold it")))
            await walk.holds.reached("it")
            asked.cancel()
        walk.holds.go("it")
        page = await client.get(turns)
        ended = await client.get(f"{turns}/{page.json()['items'][0]['turn_id']}?wait=30")

    assert ended.json()["status"] == "completed"


async def test_a_listener_that_stops_ends_its_streams_first(walk: Walk) -> None:
    session_id = await walk.opened()
    parsers = [Parser() for _ in range(5)]

    async def follow(port: int, parser: Parser, began: asyncio.Event) -> None:
        async with connected(port) as (reader, writer):
            writer.write(get(walk, port, f"/v1/sessions/{session_id}/events"))
            chunks = Chunks()
            while data := await reader.read(4096):
                if parser.feed(chunks.feed(data)):
                    began.set()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks, listening(walk) as (_, port):
        began = [asyncio.Event() for _ in parsers]
        for parser, event in zip(parsers, began, strict=True):
            tasks.create_task(follow(port, parser, event))
        for event in began:
            await event.wait()

    for parser in parsers:
        assert parser.comments == ["this node is stopping"]
        assert parser.retries_ms[0] == 1000
        assert 1000 <= parser.retries_ms[1] < 5000


async def test_a_reader_that_reads_nothing_is_dropped(tmp_path: Path) -> None:
    async with (
        walking(data_dir=tmp_path, slow_reader_seconds_max=0.05) as walk,
        listening(walk, buffer_bytes=8_192) as (stopped, port),
    ):
        session_id = await walk.opened()
        for number in range(200):
            metadata = {"text": f"{number:010}" * 1_000}
            await walk.server.sessions.update(
                walk.principal("alice"), SessionId(session_id), metadata=metadata
            )
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
            client.connect(("127.0.0.1", port))
            client.sendall(get(walk, port, f"/v1/sessions/{session_id}/events"))
            async with asyncio.timeout(10), alice(walk, port) as other:
                while not walk.server.feed.readers:
                    await other.get("/healthz")
                while walk.server.feed.readers or len(stopped.server_state.connections) > 1:
                    await other.get("/healthz")


async def test_a_request_that_does_not_come_is_not_waited_for(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS_MAX", 0.02)
    whole = get(walk, 1, "/v1/sessions")
    halves = [
        b"",
        whole[:30],
        whole[:-2],
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\na",
    ]

    async with listening(walk) as (_, port):
        for half in halves:
            async with connected(port) as (reader, writer), asyncio.timeout(5):
                writer.write(half)
                with suppress(ConnectionError):
                    while await reader.read(1024):
                        pass


async def test_a_stream_outlives_the_time_for_its_request(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS_MAX", 0.02)
    session_id = await walk.opened()

    async with listening(walk) as (_, port), connected(port) as (reader, writer):
        writer.write(get(walk, port, f"/v1/sessions/{session_id}/events"))
        await reader.readuntil(b"session.opened")
        for _ in range(10):
            async with connected(port) as (other, _unused):
                with suppress(ConnectionError):
                    assert await other.read(1) == b""
        await walk.said(session_id, "still there?")
        await reader.readuntil(b"turn.completed")


async def test_a_huge_body_is_refused_before_it_is_sent(walk: Walk) -> None:
    head = (
        "POST /v1/turns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {walk.token('alice')}\r\nContent-Length: {100 * 2**20}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )

    async with listening(walk) as (_, port), connected(port) as (reader, writer):
        writer.write(head.encode())
        reply = await reader.read(-1)

    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"body_too_large" in reply
    assert b"100 Continue" not in reply


async def test_requests_share_a_connection(walk: Walk) -> None:
    async with listening(walk) as (stopped, port), alice(walk, port) as client:
        for number in range(5):
            reply = await client.post("/v1/turns?wait=30", json=message(str(number)))
            assert reply.json()["output"] == f"you said: {number}"
        refused = await client.post("/v1/turns", content=b"{")
        assert refused.status_code == 415
        assert len(stopped.server_state.connections) == 1
