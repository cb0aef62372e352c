"""What no pusher-js would send: each a documented refusal, and the others undisturbed."""

import asyncio
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.guarantees.servers import Process
from tests.walk.pusher import PATIENCE_SECONDS, Channels, Plain, channels, signed
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sessile import Principal, Settings
from sessile.core.errors import StorageBusy
from sessile.http import websocket
from sessile.http.listener import MESSAGE_BYTES_MAX
from sessile.http.websocket import FRAGMENTS_MAX
from sessile.pusher import frames
from sessile.wiring import pusher_keys


@asynccontextmanager
async def undisturbed(served: Channels) -> AsyncIterator[str]:
    """While this goes on, another client is told all of its session, whose id this is."""
    session_id = await served.walk.opened()
    async with served.plain() as witness:
        await enter(served, witness, session_id)
        yield session_id
        await served.walk.said(session_id, "still here")
        assert (await witness.hear("turn.completed"))["seq"] == 6


async def enter(served: Channels, plain: Plain, session_id: str, *, user: str = "alice") -> str:
    channel = f"private-sb-{session_id}"
    reply = await signed(served.walk, plain.socket_id, channel, user=user)
    assert reply.status_code == 200, reply.text
    await plain.subscribe(channel, **reply.json())
    await plain.hear("sessile.position")
    return channel


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"key": "no-such-app"}, 4001),
        ({"query": ""}, 4008),
        ({"query": "?protocol=8"}, 4007),
        ({"origin": "https://evil.example"}, 4009),
        ({"origin": "null"}, 4009),
        ({"origin": "http://["}, 4009),
        ({"origin": "http://[x]:1"}, 4009),
        ({"origin": "://"}, 4009),
    ],
)
async def test_a_connection_that_may_not_begin_is_told_why(
    tmp_path: Path, given: dict[str, Any], code: int
) -> None:
    async with channels(tmp_path) as served, served.dialled(**given) as plain:
        assert (await Plain(plain).hear("pusher:error"))["code"] == code
        assert await Plain(plain).closed() == code
        assert not served.walk.server.hub.switchboard.socket_count()


async def test_pages_of_this_host_and_of_those_named_may_connect(tmp_path: Path) -> None:
    named = "https://shop.example, https://two.example"
    async with channels(tmp_path, api_origins=named) as served:
        for origin in (f"http://127.0.0.1:{served.port}", "https://two.example"):
            async with served.plain(origin=origin) as plain:
                await plain.alive()


async def test_a_name_that_was_pointed_at_this_machine_opens_nothing(tmp_path: Path) -> None:
    async with channels(tmp_path) as served:
        with pytest.raises(InvalidStatus, match="403"):
            async with served.dialled(additional_headers={"Host": "evil.example"}):
                pass


async def test_other_paths_and_methods_are_no_sockets(tmp_path: Path) -> None:
    async with channels(tmp_path) as served:
        for path in ("/v1/sessions", "/app/", f"/app/{served.keys.key}/x"):
            reply = await asyncio.to_thread(_upgrade, served.port, "GET", path)
            assert reply.startswith((b"HTTP/1.1 401", b"HTTP/1.1 403", b"HTTP/1.1 404")), path
        reply = await asyncio.to_thread(_upgrade, served.port, "POST", f"/app/{served.keys.key}")
        assert reply.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("Content-Length: 5\r\n", 400),
        ("Transfer-Encoding: chunked\r\n", 400),
        (f"Cookie: {'a' * 9_000}\r\n", 431),
        ("".join(f"X-{number}: y\r\n" for number in range(200)), 431),
    ],
    ids=["length", "chunked", "long", "many"],
)
async def test_an_upgrade_that_is_none_is_answered_and_ended(
    tmp_path: Path, more: str, status: int
) -> None:
    async with channels(tmp_path) as served:
        path = f"/app/{served.keys.key}?protocol=7"

        reply = await asyncio.to_thread(_upgrade, served.port, "GET", path, more)

        assert reply.startswith(b"HTTP/1.1 %d" % status)
        assert b"onnection: close" in reply


def _upgrade(port: int, method: str, path: str, more: str = "") -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n".encode()
        )
        return connection.recv(4096)


SAID: list[tuple[Any, int]] = [
    (b"\x00\x01", 4300),
    ("", 4300),
    ("no JSON", 4300),
    ("[" * 100_000, 4300),
    ('{"event":' * 9_000, 4300),
    ('{"event":"pusher:subscribe","data":{"channel":7}}', 4300),
    ('{"event":"pusher:signin","data":{}}', 4300),
    ('{"event":"pusher_internal:member_added","channel":"c","data":{}}', 4301),
    ('{"event":"turn.completed","channel":"c","data":{}}', 4301),
    ('{"event":"client-x","channel":"c","data":1e999}', 4300),
]


@pytest.mark.parametrize(("said", "code"), SAID, ids=lambda value: str(value)[:40])
async def test_a_frame_that_says_nothing_is_answered_and_the_connection_stays(
    tmp_path: Path, said: Any, code: int
) -> None:
    async with channels(tmp_path) as served, undisturbed(served), served.plain() as plain:
        await plain.socket.send(said)

        assert (await plain.hear("pusher:error"))["code"] == code
        await plain.alive()


async def test_a_frame_of_a_mebibyte_ends_its_connection_alone(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, undisturbed(served):
        for frame in ("a" * 1_048_576, b"a" * 1_048_576, "a" * (MESSAGE_BYTES_MAX + 1)):
            async with served.plain() as plain:
                await plain.socket.send(frame)
                assert await plain.closed() == 1009


async def test_a_text_that_is_none_ends_its_connection_and_alarms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with channels(tmp_path) as served, undisturbed(served), served.plain() as plain:
        await plain.socket.send([b"\xe2\x82", b"\xff"], text=True)

        assert await plain.closed() == 1007
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


async def test_a_message_in_very_many_pieces_ends_its_connection_alone(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, undisturbed(served), served.plain() as plain:

        async def pieces() -> AsyncIterator[str]:
            for _ in range(FRAGMENTS_MAX + 10):
                yield ""

        with suppress(ConnectionClosed):
            await plain.socket.send(pieces())
        assert await plain.closed() == 1009


async def test_ten_thousand_subscriptions_are_refused_and_then_ended(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, undisturbed(served), served.plain() as plain:
        with suppress(ConnectionClosed):
            for number in range(10_000):
                await plain.subscribe(f"channel-{number}")

        assert await plain.closed() == 4100
        registry = served.walk.server.hub.switchboard.registry
        assert len(registry.occupied("channel-")) == 0


async def test_a_socket_has_so_many_channels(tmp_path: Path) -> None:
    async with channels(tmp_path, pusher_channels_max=3) as served, served.plain() as plain:
        for number in range(4):
            await plain.subscribe(f"channel-{number}")

        assert (await plain.hear("pusher:subscription_error"))["type"] == "LimitReached"


async def test_there_are_so_many_sockets_on_a_node(tmp_path: Path) -> None:
    async with (
        channels(tmp_path, pusher_sockets_max=1) as served,
        served.plain() as first,
        served.dialled() as second,
    ):
        assert await Plain(second).closed() == 4100
        await first.alive()


FORGED: list[tuple[str, Callable[[dict[str, str]], dict[str, str]], int]] = [
    ("no signature", lambda signed: {}, 401),
    ("no identity", lambda signed: {"auth": signed["auth"]}, 401),
    ("another's", lambda signed: signed | {"channel_data": other_user(signed)}, 401),
    ("cut", lambda signed: signed | {"auth": signed["auth"][:-1]}, 401),
    ("no key", lambda signed: signed | {"auth": signed["auth"].partition(":")[2]}, 401),
    ("surrogates", lambda signed: signed | {"auth": "é" * 64}, 401),
]


def other_user(given: dict[str, str]) -> str:
    return given["channel_data"].replace("alice", "admin")


@pytest.mark.parametrize(("forge", "status"), [each[1:] for each in FORGED])
async def test_a_signature_is_good_for_what_was_signed_alone(
    tmp_path: Path, forge: Callable[[dict[str, str]], dict[str, str]], status: int
) -> None:
    async with channels(tmp_path) as served, undisturbed(served), served.plain() as plain:
        channel = f"private-sb-{await served.walk.opened()}"
        given = (await signed(served.walk, plain.socket_id, channel)).json()

        await plain.subscribe(channel, **forge(given))

        assert (await plain.hear("pusher:subscription_error"))["status"] == status


async def test_a_signature_of_one_socket_or_channel_is_none_of_another(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, served.plain() as one, served.plain() as two:
        first, second = [f"private-sb-{await served.walk.opened()}" for _ in range(2)]
        given = (await signed(served.walk, one.socket_id, first)).json()

        for plain, channel in ((two, first), (one, second)):
            await plain.subscribe(channel, **given)
            assert (await plain.hear("pusher:subscription_error"))["status"] == 401


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({}, 400, "pusher_not_signable"),
        ({"socket_id": "1.1"}, 400, "pusher_not_signable"),
        ({"socket_id": "1.1:x", "channel_name": "private-a"}, 400, "pusher_not_signable"),
        ({"socket_id": "1.1", "channel_name": "private-a:b"}, 400, "pusher_not_signable"),
        ({"socket_id": "1.1", "channel_name": "private-a"}, 403, "pusher_channel_refused"),
        ({"socket_id": "1.1", "channel_name": "sb-ses_1"}, 403, "pusher_channel_refused"),
        ({"socket_id": "1.1", "channel_name": "private-sb-ses_1"}, 404, "session_not_found"),
        ({"socket_id": ["1.1", "2.2"], "channel_name": "a"}, 400, "pusher_request_invalid"),
        ({f"f{n}": "x" for n in range(30)}, 400, "pusher_request_invalid"),
    ],
)
async def test_the_auth_endpoint_signs_for_the_caller_s_sessions_alone(
    tmp_path: Path, form: Any, status: int, code: str
) -> None:
    async with channels(tmp_path) as served:
        walk = served.walk

        reply = await walk.alice.post("/pusher/auth", data=form)

        assert (reply.status_code, reply.json()["code"]) == (status, code)
        for client in (walk.nobody,):
            assert (await client.post("/pusher/auth", data=form)).status_code == 401
        assert (await walk.alice.get("/pusher/auth")).status_code == 405


async def test_nobody_reaches_another_tenant_s_session(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, undisturbed(served) as session_id:
        for channel in (f"private-sb-{session_id}", f"presence-sb-{session_id}"):
            reply = await signed(served.walk, "1.1", channel, user="bob")
            assert reply.json()["code"] == "session_not_found"


@pytest.mark.parametrize("times", [1, 2])
async def test_a_token_that_is_revoked_ends_its_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Also of a client that has come in by the same signature once more."""
    async with channels(tmp_path, access_check_seconds=0.05) as served:
        tokens, revoked = served.walk.tokens, set[str]()
        ask = tokens.principal

        async def principal(token: str) -> Principal | None:
            return None if token in revoked else await ask(token)

        monkeypatch.setattr(tokens, "principal", principal)
        async with undisturbed(served) as session_id, served.plain() as admin:
            channel = f"private-sb-{session_id}"
            given = (await signed(served.walk, admin.socket_id, channel, user="admin")).json()
            for _ in range(times):
                await admin.say("pusher:unsubscribe", data={"channel": channel})
                await admin.subscribe(channel, **given)
                await admin.hear("sessile.position")

            revoked.add(served.walk.token("admin"))

            assert await admin.closed() == 4009


@pytest.mark.parametrize("trouble", [StorageBusy(), LookupError("the user's authenticator"), None])
async def test_who_cannot_be_asked_about_now_is_told_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception | None
) -> None:
    """A refusal would be for good: pusher-js does not subscribe again after one."""

    served_soon = channels(tmp_path, access_check_seconds=1.0)
    async with served_soon as served, undisturbed(served) as session_id, served.plain() as admin:
        walk, channel = served.walk, f"private-sb-{session_id}"
        ask = walk.tokens.principal

        async def principal(token: str) -> Principal | None:
            if token != walk.token("admin"):
                return await ask(token)
            if trouble is not None:
                raise trouble
            await asyncio.Event().wait()
            return None

        given = (await signed(walk, admin.socket_id, channel, user="admin")).json()
        monkeypatch.setattr(walk.tokens, "principal", principal)

        await admin.subscribe(channel, **given)

        assert await admin.closed() == 4100


@pytest.mark.parametrize(
    "settings", [{"pusher_buffer_chars_max": 20_000}, {"slow_reader_seconds_max": 0.1}]
)
async def test_a_client_that_takes_nothing_is_let_go_and_the_others_are_told(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    async with channels(tmp_path, buffer_bytes=4_096, **settings) as served:
        hub = served.walk.server.hub
        async with served.plain() as witness, served.plain(close_timeout=0.1) as slow:
            for plain in (witness, slow):
                await plain.subscribe("news")
                await plain.hear("pusher_internal:subscription_succeeded")
            slow.socket.transport.pause_reading()  # type: ignore[attr-defined]

            said = frames.channel_event("news", "n", json.dumps("a" * 9_000))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while hub.switchboard.socket_count() > 1:
                    hub.perform(hub.switchboard.publish(said))
                    await witness.hear("n")

            await witness.alive()
            assert hub.switchboard.registry.sockets_of("news") == (witness.socket_id,)


async def test_what_a_closed_connection_does_not_take_does_not_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "FAREWELL_SECONDS_MAX", 0.1)
    async with channels(tmp_path, buffer_bytes=4_096) as served:
        hub, open_here = served.walk.server.hub, served.listener.server_state.connections
        async with served.plain() as witness, served.plain(close_timeout=0.1) as slow:
            for plain in (witness, slow):
                await plain.subscribe("news")
                await plain.hear("pusher_internal:subscription_succeeded")
            slow.socket.transport.pause_reading()  # type: ignore[attr-defined]
            said = frames.channel_event("news", "n", json.dumps("a" * 9_000))
            # Less than what makes the writer wait: then all the rest was written, and closed.
            while not any(each.transport.get_write_buffer_size() for each in open_here):
                hub.perform(hub.switchboard.publish(said))
                await witness.hear("n")

            hub.close(slow.socket_id, frames.DRAINING)

            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(open_here) > 1:
                    await (await witness.socket.ping())


async def test_a_server_that_is_stopped_sends_its_clients_elsewhere(tmp_path: Path) -> None:
    process = Process(tmp_path)
    await process.start()
    try:
        port = int(process.url.rpartition(":")[2])
        keys = pusher_keys(Settings(data_dir=tmp_path))
        async with connect(
            f"ws://127.0.0.1:{port}/app/{keys.key}?protocol=7", proxy=None
        ) as stopped:
            plain = Plain(stopped)
            await plain.hear("pusher:connection_established")

            process.send(signal.SIGTERM)

            assert await plain.closed() == 4200
        assert keys.secret not in await process.gone()
    finally:
        await process.end()
