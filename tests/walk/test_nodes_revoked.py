"""Of nodes that share a database: what is taken back at one ends what is open at the others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.servers.databases import database
from tests.walk.people import Walk, walking
from tests.walk.pusher import Channels, channels
from tests.walk.test_http_identity import bearer, new_key, ticket
from tests.walk.test_http_refusals import problem
from tests.walk.wire import asking

APP = {"pusher_key": "key", "pusher_secret": "secret"}


@asynccontextmanager
async def two_nodes(data_dir: Path) -> AsyncIterator[tuple[Channels, Walk]]:
    settings = {**APP, "access_check_seconds": 0.1}
    async with (
        database() as dsn,
        channels(data_dir, store_url=dsn, **settings) as served,
        walking(data_dir=data_dir, store_url=dsn, **settings) as other,
    ):
        yield served, other


@pytest.mark.parametrize("by", ["token", "ticket"])
async def test_a_stream_ends_by_whatever_it_was_opened(tmp_path: Path, by: str) -> None:
    async with two_nodes(tmp_path) as (served, other):
        key = await new_key(other, user="alice")
        session_id = await served.walk.opened()
        path, token = f"/v1/sessions/{session_id}/events", key["key"]
        if by == "ticket":
            async with bearer(other, token) as client:
                path, token = f"{path}?ticket={await ticket(other, session_id, client)}", ""

        async with asking(served.walk.app, path, token=token) as stream:
            await stream.event("session.opened")
            await other.admin.delete(f"/v1/keys/{key['key_id']}")
            await stream.until(lambda wire: wire.ended)

        problem(await served.walk.nobody.get(path), 401, "unauthenticated")


@pytest.mark.parametrize("by", ["token", "ticket"])
async def test_a_socket_ends_at_a_node_that_has_never_seen_its_token(
    tmp_path: Path, by: str
) -> None:
    async with two_nodes(tmp_path) as (served, other), served.plain() as socket:
        key = await new_key(other, user="alice")
        session_id = await served.walk.opened()
        channel = f"private-sb-{session_id}"
        form = {"socket_id": socket.socket_id, "channel_name": channel}
        async with bearer(other, key["key"]) as client:
            given = await client.post("/pusher/auth", data=form)
            if by == "ticket":
                text = await ticket(other, session_id, client)
                given = await other.nobody.post(f"/pusher/auth?ticket={text}", data=form)
        await socket.subscribe(channel, **given.json())
        await socket.hear("sessile.position")

        await other.admin.delete(f"/v1/keys/{key['key_id']}")

        assert await socket.closed() == 4009


async def test_a_ticket_signs_for_its_session_alone(tmp_path: Path) -> None:
    async with channels(tmp_path) as served:
        own, other = await served.walk.opened(), await served.walk.opened()
        text = await ticket(served.walk, own)

        for session_id, status in ((own, 200), (other, 404)):
            form = {"socket_id": "1.1", "channel_name": f"private-sb-{session_id}"}
            reply = await served.walk.nobody.post(f"/pusher/auth?ticket={text}", data=form)
            assert reply.status_code == status


async def test_a_service_signs_for_a_user(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, served.plain() as socket:
        walk = served.walk
        key = await new_key(walk, roles=["service"])
        channel = f"private-sb-{await walk.opened()}"
        form = {"socket_id": socket.socket_id, "channel_name": channel}

        async with bearer(walk, key["key"], **{"sessile-user": "bob"}) as client:
            assert (await client.post("/pusher/auth", data=form)).status_code == 404
        async with bearer(walk, key["key"], **{"sessile-user": "alice"}) as client:
            given = await client.post("/pusher/auth", data=form)
        await socket.subscribe(channel, **given.json())

        await socket.hear("sessile.position")
