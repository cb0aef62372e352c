"""Over real connections: what only a transport can show."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from tests.walk.listening import QuietListener, listening
from tests.walk.people import Walk, message, walking
from tests.walk.sse import Event, Parser

from sessile.core.ids import SessionId
from sessile.http import listener, stream
from sessile.wiring import pusher_keys

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


async def test_a_head_that_does_not_come_is_not_waited_for(walk: Walk) -> None:
    whole = get(walk, 1, "/v1/sessions")
    halves = [b"", whole[:30], whole[:-2]]

    async with listening(walk, head_seconds_max=0.02, body_seconds_max=60) as (_, port):
        for half in halves:
            async with connected(port) as (reader, writer), asyncio.timeout(5):
                writer.write(half)
                with suppress(ConnectionError):
                    while await reader.read(1024):
                        pass


async def test_a_head_that_comes_byte_by_byte_is_cut(walk: Walk) -> None:
    """A byte now and then keeps no connection open."""
    async with (
        listening(walk, head_seconds_max=0.1) as (_, port),
        connected(port) as (reader, writer),
        asyncio.timeout(10),
    ):
        writer.write(b"GET /healthz HTTP/1.1\r\nX: ")
        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"a")
                await writer.drain()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await reader.read(1)


async def test_a_body_that_does_not_come_is_not_waited_for(walk: Walk) -> None:
    post = (
        "POST /v1/turns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {walk.token('alice')}\r\n"
    ).encode()
    halves = [
        post + b"Content-Length: 5\r\n\r\n",
        post + b"Content-Length: 5\r\n\r\na",
        post + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ]

    async with listening(walk, head_seconds_max=60, body_seconds_max=0.02) as (_, port):
        for half in halves:
            async with connected(port) as (reader, writer), asyncio.timeout(5):
                writer.write(half)
                with suppress(ConnectionError):
                    while await reader.read(1024):
                        pass


async def test_a_connection_that_asks_for_nothing_more_is_closed(walk: Walk) -> None:
    whole = get(walk, 1, "/healthz").replace(b"Connection: close\r\n", b"")

    async with (
        listening(walk, keep_alive_seconds=0.02) as (_, port),
        connected(port) as (reader, writer),
        asyncio.timeout(5),
    ):
        writer.write(whole.replace(b"127.0.0.1:1", b"localhost"))
        assert b"200 OK" in await reader.readuntil(b"}")
        assert await reader.read(1) == b""


@pytest.mark.parametrize(
    "limits", [{"connections_max": 2}, {"connections_max": 9, "connections_address_max": 2}]
)
async def test_there_are_no_more_connections_than_there_may_be(
    walk: Walk, limits: dict[str, int]
) -> None:
    session_id = await walk.opened()

    async with listening(walk, **limits) as (stopped, port), connected(port) as (reader, writer):
        writer.write(get(walk, port, f"/v1/sessions/{session_id}/events"))
        await reader.readuntil(b"session.opened")
        async with connected(port) as (socket_reader, socket_writer):
            # A WebSocket is one too, for as long as it is open.
            app = pusher_keys(walk.server.settings).key
            socket_writer.write(upgrade(port, f"/app/{app}?protocol=7"))
            await socket_reader.readuntil(b"connection_established")
            for _ in range(3):
                assert told(await answered(port)) == (503, "not_ready")
        async with asyncio.timeout(10):
            while not (await answered(port, get(walk, port, "/healthz"))).startswith(
                b"HTTP/1.1 200"
            ):
                pass
        assert len(stopped.server_state.connections) <= 2


def upgrade(port: int, path: str) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


async def test_a_request_has_so_many_headers_at_most(walk: Walk) -> None:
    async with listening(walk, headers_max=10) as (_, port):
        few = get(walk, port, "/healthz", *["X-A: b"] * 7)
        many = get(walk, port, "/healthz", *["X-A: b"] * 8)

        assert (await answered(port, few)).startswith(b"HTTP/1.1 200 ")
        assert told(await answered(port, many)) == (431, "head_too_large")


async def test_fifty_readers_that_read_nothing_hold_little(tmp_path: Path) -> None:
    """Of what is written for each, one piece is kept, whatever its session's log has."""
    readers_max, piece_bytes_max = 50, 2 * stream.PIECE_BYTES
    async with (
        walking(data_dir=tmp_path, slow_reader_seconds_max=60) as walk,
        listening(walk, buffer_bytes=8_192) as (stopped, port),
    ):
        session_id = await walk.opened()
        for number in range(100):
            await walk.server.sessions.update(
                walk.principal("alice"),
                SessionId(session_id),
                metadata={"text": f"{number:010}" * 1_000},
            )
        with ExitStack() as stack:
            for _ in range(readers_max):
                client = stack.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
                client.connect(("127.0.0.1", port))
                client.sendall(get(walk, port, f"/v1/sessions/{session_id}/events"))
            async with asyncio.timeout(20), alice(walk, port) as other:
                held: list[int] = []
                while len(held) < readers_max:
                    await other.get("/healthz")
                    sizes = [
                        each.transport.get_write_buffer_size() for each in connections(stopped)
                    ]
                    held = [size for size in sizes if size > 0]

            assert max(held) <= piece_bytes_max
            assert sum(held) <= readers_max * piece_bytes_max


def connections(stopped: QuietListener) -> list[listener.Connection]:
    return [
        each for each in stopped.server_state.connections if isinstance(each, listener.Connection)
    ]


async def test_a_stream_outlives_the_time_for_its_request(walk: Walk) -> None:
    session_id = await walk.opened()
    times = {"head_seconds_max": 0.02, "body_seconds_max": 0.02}

    async with listening(walk, **times) as (_, port), connected(port) as (reader, writer):
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


async def answered(port: int, *pieces: bytes) -> bytes:
    """What a server says to these bytes until it hangs up."""
    reply = b""
    async with asyncio.timeout(10), connected(port) as (reader, writer):
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                reply += data
    return reply


def told(reply: bytes) -> tuple[int, str]:
    """Status and code of a problem that is a whole reply."""
    head, _, body = reply.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert b"content-length: %d\r\n" % len(body) in head
    problem = json.loads(body)
    status = int(head.split(b" ", 2)[1])
    assert problem["status"] == status
    return status, problem["code"]


async def test_what_is_no_http_is_told_as_a_problem(walk: Walk) -> None:
    post = b"POST /v1/turns HTTP/1.1\r\nHost: localhost\r\n"
    wrong = [
        b"\0" * 100 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"FOO / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT shop.example:443 HTTP/1.1\r\nHost: shop.example:443\r\n\r\n",
        b"GET http://localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post + b"A b: c\r\n\r\n",
        post + b"Content-Length: -1\r\n\r\n",
        post + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]

    async with listening(walk) as (_, port):
        for each in wrong:
            assert told(await answered(port, each)) == (400, "malformed_request"), each


async def test_junk_behind_a_request_does_not_get_into_its_reply(walk: Walk) -> None:
    session_id = await walk.opened()

    async with listening(walk) as (_, port), connected(port) as (reader, writer):
        whole = get(walk, port, f"/v1/sessions/{session_id}/events")
        writer.write(whole.replace(b"Connection: close\r\n", b""))
        got = await reader.readuntil(b"session.opened")
        writer.write(b"\0\0\0\r\n\r\n")
        async with asyncio.timeout(10):
            got += await reader.read(-1)

    assert b"malformed_request" not in got


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 1_000 + b"\r\n", b"a" * 1_000, b"\r\n" * 500])
async def test_a_head_that_does_not_end_is_refused_and_not_kept(walk: Walk, line: bytes) -> None:
    begin = b"" if line.startswith(b"\r") else b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    begin += b"X-B: " if line.startswith(b"a") else b""
    sent = 0

    async with listening(walk) as (_, port), connected(port) as (reader, writer):
        writer.write(begin)
        with suppress(ConnectionError):
            async with asyncio.timeout(10):
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(line)
                    await writer.drain()
                    sent += len(line)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0):
                            await reader.read(65_536)

    assert sent < 100 * walk.server.settings.head_bytes_max


async def test_a_head_and_its_trailers_have_a_size(walk: Walk) -> None:
    many = b"X-A: b\r\n" * (walk.server.settings.head_bytes_max // 4)
    head = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    chunked = b"POST /v1/turns HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

    async with listening(walk) as (_, port):
        assert told(await answered(port, head + many + b"\r\n")) == (431, "head_too_large")
        # Refused as nobody's, or for its size: it depends on which is found first.
        reply = await answered(port, chunked + b"1\r\n{\r\n0\r\n" + many + b"\r\n")
        assert reply.count(b"HTTP/1.1 ") <= 1
        fits = get(walk, port, "/healthz", "X-A: " + "a" * 60_000)
        assert (await answered(port, fits)).startswith(b"HTTP/1.1 200 ")


async def test_large_bodies_one_after_another_are_no_large_head(walk: Walk) -> None:
    text = "a" * 200_000

    async with listening(walk) as (_, port), alice(walk, port) as client:
        for _ in range(3):
            reply = await client.post("/v1/turns?wait=30", json=message(text))
            assert reply.status_code == 200


async def test_empty_lines_do_not_hold_a_connection(walk: Walk) -> None:
    whole = get(walk, 1, "/healthz").replace(b"Connection: close\r\n", b"")

    async with (
        listening(walk, head_seconds_max=0.05) as (_, port),
        connected(port) as (reader, writer),
    ):
        writer.write(whole.replace(b"127.0.0.1:1", b"localhost"))
        assert b"200 OK" in await reader.readuntil(b"}")
        writer.write(b"\r\n")
        async with asyncio.timeout(5):
            with suppress(ConnectionError):
                assert await reader.read(1) == b""


@pytest.mark.parametrize("more", [(), ("Connection: close",)])
async def test_a_caller_that_does_not_read_its_reply_is_dropped(
    walk: Walk, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.setattr(listener, "REPLY_SECONDS_MAX", 0.05)

    async with listening(walk, buffer_bytes=8_192) as (stopped, port):
        session_id = await walk.opened()
        for number in range(100):
            metadata = {"text": f"{number:010}" * 1_000}
            await walk.server.sessions.update(
                walk.principal("alice"), SessionId(session_id), metadata=metadata
            )
        path = f"/v1/sessions/{session_id}/events?limit=100"
        asked = get(walk, port, path, "Accept: application/json")
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
            client.connect(("127.0.0.1", port))
            client.sendall(asked if more else asked.replace(b"Connection: close\r\n", b""))
            async with asyncio.timeout(10), alice(walk, port) as other:
                while stopped.server_state.total_requests < 3:
                    await other.get("/healthz")
                while len(stopped.server_state.connections) > 1:
                    await other.get("/healthz")
                await other.get("/healthz")


async def test_an_upgrade_is_passed_over_or_refused_with_its_reason(walk: Walk) -> None:
    upgrade = ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    body = json.dumps(message("hi")).encode()

    async with listening(walk) as (_, port):
        read = get(walk, port, "/v1/sessions", *upgrade).replace(b"close", b"Upgrade, close", 1)
        assert (await answered(port, read)).startswith(b"HTTP/1.1 200 ")
        length, kind = f"Content-Length: {len(body)}", "Content-Type: application/json"
        write = get(walk, port, "/v1/turns", *upgrade, length, kind).replace(b"GET", b"POST", 1)
        write = write.replace(b"close", b"Upgrade", 1) + body
        assert told(await answered(port, write)) == (400, "invalid_header")

    assert (await walk.alice.get("/v1/sessions")).json()["items"] == []


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Type: text/plain", "Content-Type: application/json"),
        ("Content-Encoding: gzip", "Content-Encoding: identity", "Content-Type: application/json"),
        ("Transfer-Encoding: gzip, chunked", "Content-Type: application/json"),
    ],
)
async def test_headers_that_contradict_each_other_are_refused(
    walk: Walk, lines: tuple[str, ...]
) -> None:
    body = json.dumps(message("hi")).encode()
    coded = any("chunked" in line for line in lines)
    length = () if coded else (f"Content-Length: {len(body)}",)

    async with listening(walk) as (_, port):
        head = get(walk, port, "/v1/turns", *lines, *length).replace(b"GET", b"POST", 1)
        sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if coded else body
        assert told(await answered(port, head + sent)) == (400, "invalid_header")

    assert (await walk.alice.get("/v1/sessions")).json()["items"] == []
