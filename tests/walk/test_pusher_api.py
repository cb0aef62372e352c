"""The signed HTTP API, called by the library that server programs call it with."""

import asyncio
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from pusher.errors import PusherBadAuth, PusherBadRequest, PusherBadStatus, PusherForbidden
from tests.walk.pusher import channels

from sessile.adapters.system import SystemClock


def query(keys: Any, method: str, path: str, body: bytes, **changed: str) -> dict[str, str]:
    """A signed query, made by hand, for what the library would not sign."""
    given = {
        "auth_key": keys.key,
        "auth_timestamp": str(SystemClock().now_ms() // 1000),
        "auth_version": "1.0",
        "body_md5": hashlib.md5(body).hexdigest(),
        **changed,
    }
    text = "&".join(f"{name}={value}" for name, value in sorted(given.items()))
    said = f"{method}\n{path}\n{text}".encode()
    return given | {"auth_signature": hmac.new(keys.secret.encode(), said, "sha256").hexdigest()}


async def test_a_backend_s_events_reach_who_is_in_the_channel(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, served.plain() as one, served.plain() as two:
        backend = served.backend()
        for plain in (one, two):
            await plain.subscribe("orders")
            await plain.hear("pusher_internal:subscription_succeeded")

        await asyncio.to_thread(backend.trigger, "orders", "paid", {"n": 1})
        await asyncio.to_thread(backend.trigger, ["orders", "x"], "paid", {"n": 2}, one.socket_id)
        batch = [{"channel": "orders", "name": "sent", "data": {"n": n}} for n in (3, 4)]
        await asyncio.to_thread(backend.trigger_batch, batch)

        assert [(await one.hear("paid"))["n"]] == [1]
        assert [(await two.hear("paid"))["n"] for _ in range(2)] == [1, 2]
        for plain in (one, two):
            assert [(await plain.hear("sent"))["n"] for _ in range(2)] == [3, 4]


async def test_a_backend_signs_for_its_own_channels(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, served.plain() as one:
        backend = served.backend()
        room = backend.authenticate("presence-room", one.socket_id, {"user_id": "u1"})

        await one.subscribe("presence-room", **room)
        told = await one.hear("pusher_internal:subscription_succeeded")
        info = await asyncio.to_thread(
            backend.channels_info, "presence-", ["user_count", "subscription_count"]
        )
        about = await asyncio.to_thread(backend.channel_info, "presence-room", ["user_count"])
        users = await asyncio.to_thread(backend.users_info, "presence-room")

        assert told["presence"]["ids"] == ["u1"]
        assert info == {"channels": {"presence-room": {"user_count": 1, "subscription_count": 1}}}
        assert about == {"occupied": True, "user_count": 1}
        assert users == {"users": [{"id": "u1"}]}


async def test_a_backend_may_sign_for_a_session_when_it_names_the_user(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, served.plain() as one:
        channel = f"private-sb-{await served.walk.opened()}"
        backend = served.backend()
        until = 10_000_000_000
        alice = {"tenant_id": "demo", "user_id": "alice", "roles": [], "until": until}

        for named, status in (
            (None, 401),
            ({**alice, "until": 1}, 401),
            ({**alice, "until": "x"}, 401),
            ({**alice, "tenant_id": "other"}, 404),
            ({**alice, "user_id": "bob"}, 404),
        ):
            auth = backend.authenticate(channel, one.socket_id, named)
            await one.subscribe(channel, **auth)
            assert (await one.hear("pusher:subscription_error"))["status"] == status
        await one.subscribe(channel, **backend.authenticate(channel, one.socket_id, alice))

        assert await one.hear("pusher_internal:subscription_succeeded") == {}


@pytest.mark.parametrize("prefix", ["private-sb-", "presence-sb-", "sb-"])
async def test_nothing_is_published_beside_a_session_s_log(tmp_path: Path, prefix: str) -> None:
    async with channels(tmp_path) as served:
        backend = served.backend()
        channel = f"{prefix}{await served.walk.opened()}"

        for publish in (
            lambda: backend.trigger(["orders", channel], "turn.completed", {"forged": True}),
            lambda: backend.trigger_batch([{"channel": channel, "name": "x", "data": "y"}]),
        ):
            with pytest.raises(PusherForbidden, match="pusher_session_channel"):
                await asyncio.to_thread(publish)


async def test_who_does_not_have_the_secret_publishes_nothing(tmp_path: Path) -> None:
    async with channels(tmp_path) as served:
        for given, error, code in (
            ({"secret": "wrong"}, PusherBadAuth, "pusher_signature_invalid"),
            ({"key": "wrong"}, PusherBadAuth, "pusher_key_unknown"),
            ({"app_id": "2"}, PusherBadStatus, "not_found"),
        ):
            backend = served.backend(**given)
            with pytest.raises(error, match=code):
                await asyncio.to_thread(backend.trigger, "orders", "paid", {})


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"auth_timestamp": "1000000000"}, 401, "pusher_timestamp_stale"),
        ({"auth_timestamp": "soon"}, 400, "pusher_timestamp_invalid"),
        ({"auth_version": "2.0"}, 400, "pusher_auth_version_unknown"),
        ({"body_md5": "0" * 32}, 401, "pusher_body_altered"),
    ],
)
async def test_a_request_that_is_not_as_it_was_signed_is_refused(
    tmp_path: Path, changed: dict[str, str], status: int, code: str
) -> None:
    async with channels(tmp_path) as served:
        path, body = "/apps/1/events", b'{"name":"paid","channel":"orders","data":"{}"}'
        params = query(served.keys, "POST", path, body, **changed)

        reply = await served.walk.nobody.post(path, params=params, content=body)

        assert (reply.status_code, reply.json()["code"]) == (status, code)
        assert (await served.walk.nobody.post(path, content=body)).status_code == 400


LARGE = {"name": "paid", "channel": "orders", "data": "a" * 10_241}
INVALID: list[Any] = [
    [],
    {},
    {"name": "paid", "data": "x"},
    {"name": "paid", "data": {}, "channel": "orders"},
    {"name": 1, "data": "x", "channel": "orders"},
    {"name": "client-paid", "data": "x", "channel": "orders"},
    {"name": "pusher:paid", "data": "x", "channel": "orders"},
    {"name": "", "data": "x", "channel": "orders"},
    {"name": "paid", "data": "x", "channel": "no channel"},
    {"name": "paid", "data": "x", "channels": []},
    {"name": "paid", "data": "x", "channels": ["orders"] * 101},
    {"name": "paid", "data": "x", "channels": "orders"},
    {"name": "paid", "data": "x", "channel": "orders", "socket_id": "1"},
    {"name": "paid", "data": "x", "channel": "orders", "info": "secrets"},
]


@pytest.mark.parametrize("value", [LARGE, *INVALID], ids=lambda value: json.dumps(value)[:60])
async def test_what_is_no_event_is_refused(tmp_path: Path, value: Any) -> None:
    async with channels(tmp_path) as served:
        path, body = "/apps/1/events", json.dumps(value).encode()

        reply = await served.walk.nobody.post(
            path, params=query(served.keys, "POST", path, body), content=body
        )

        assert reply.status_code == (413 if value is LARGE else 400)
        assert reply.json()["code"].startswith("pusher_")


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b'{"batch":1}', b'{"batch":[1]}'])
async def test_what_is_no_batch_is_refused(tmp_path: Path, body: bytes) -> None:
    async with channels(tmp_path) as served:
        path = "/apps/1/batch_events"

        reply = await served.walk.nobody.post(
            path, params=query(served.keys, "POST", path, body), content=body
        )

        assert (reply.status_code, reply.json()["code"]) == (400, "pusher_request_invalid")


async def test_a_batch_is_told_whole_or_not_at_all(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, served.plain() as one:
        await one.subscribe("orders")
        await one.hear("pusher_internal:subscription_succeeded")
        good = {"name": "first", "channel": "orders", "data": "{}"}
        path = "/apps/1/batch_events"
        for batch in ([good, {**good, "name": "client-x"}], [good] * 11):
            body = json.dumps({"batch": batch}).encode()
            params = query(served.keys, "POST", path, body)
            reply = await served.walk.nobody.post(path, params=params, content=body)
            assert reply.status_code == 400

        await asyncio.to_thread(served.backend().trigger, "orders", "last", {})

        assert (await one.frame())["event"] == "last"


async def test_reads_are_signed_and_ask_for_what_there_is(tmp_path: Path) -> None:
    async with channels(tmp_path) as served:
        backend = served.backend()

        assert await asyncio.to_thread(backend.channels_info) == {"channels": {}}
        assert await asyncio.to_thread(backend.channel_info, "orders", ["subscription_count"]) == {
            "occupied": False,
            "subscription_count": 0,
        }
        for ask in (
            lambda: backend.channels_info(None, ["user_count"]),
            lambda: backend.channel_info("orders", ["secrets"]),
            lambda: backend.users_info("orders"),
            lambda: backend.channel_info("o" * 165),
            lambda: backend.channel_info("private-encrypted-orders"),
        ):
            with pytest.raises(PusherBadRequest, match="pusher_request_invalid"):
                await asyncio.to_thread(ask)
        for path in (
            "/apps/1/channels",
            "/apps/1/channels/orders",
            "/apps/1/channels/orders/users",
        ):
            assert (await served.walk.nobody.get(path)).status_code == 400


async def test_the_key_and_secret_are_kept_and_no_one_else_may_read_them(tmp_path: Path) -> None:
    async with channels(tmp_path, store_url="sqlite") as first:
        kept = first.keys
        file = tmp_path / "pusher-app"
        assert file.stat().st_mode & 0o777 == 0o600
        assert kept.secret in file.read_text()
        assert kept.secret not in repr(kept)
        file.chmod(0o644)

    async with channels(tmp_path, store_url="sqlite", pusher_key="given") as second:
        assert second.keys.secret == kept.secret
        assert second.keys.key == "given"
        assert file.stat().st_mode & 0o777 == 0o600
    async with channels(tmp_path / "other", pusher_key="k", pusher_secret="s"):
        assert not (tmp_path / "other" / "pusher-app").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"pusher_app_id": "one"},
        {"pusher_key": "a:b"},
        {"pusher_secret": "a b"},
        {"pusher_client_events": "none"},
    ],
)
async def test_a_server_with_no_app_does_not_begin(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="pusher_"):
        async with channels(tmp_path, **settings):
            pass


async def test_a_file_that_is_no_app_is_told(tmp_path: Path) -> None:
    (tmp_path / "pusher-app").write_text("# nothing\n")

    with pytest.raises(ValueError, match="a key and a secret"):
        async with channels(tmp_path):
            pass
