"""Pusher Channels of the walk's server: real clients, and plain WebSockets for what those would
never send."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pusher
from tests.pusher.browser import Browser, Client, browsing
from tests.walk.listening import QuietListener, listening
from tests.walk.people import Walk, walking
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sessile.pusher.signing import AppKeys
from sessile.wiring import pusher_keys

PATIENCE_SECONDS = 20.0


@dataclass
class Channels:
    walk: Walk
    listener: QuietListener
    port: int
    keys: AppKeys

    def backend(self, **given: Any) -> Any:
        """The library that a user's server program publishes with."""
        chosen = {"app_id": "1", "key": self.keys.key, "secret": self.keys.secret, **given}
        return pusher.Pusher(ssl=False, host="127.0.0.1", port=self.port, **chosen)

    async def joined(self, browser: Browser, name: str, *, user: str = "alice") -> Client:
        """A real client, connected."""
        client = browser.client(name)
        client.do("connect", key=self.keys.key, port=self.port, token=self.walk.token(user))
        await client.state("connected")
        return client

    @asynccontextmanager
    async def plain(self, **given: Any) -> AsyncIterator["Plain"]:
        """A WebSocket that has been greeted."""
        async with self.dialled(**given) as socket:
            plain = Plain(socket)
            greeting = await plain.hear("pusher:connection_established")
            plain.socket_id = greeting["socket_id"]
            yield plain

    @asynccontextmanager
    async def dialled(
        self, *, key: str | None = None, query: str = "?protocol=7", **given: Any
    ) -> AsyncIterator[ClientConnection]:
        path = f"/app/{self.keys.key if key is None else key}{query}"
        async with connect(
            f"ws://127.0.0.1:{self.port}{path}",
            **{"proxy": None, "compression": None, "max_size": None, **given},
        ) as socket:
            yield socket


class Plain:
    """A client that keeps to no rule but those of WebSockets."""

    socket_id: str

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def say(self, event: str, **frame: Any) -> None:
        await self.socket.send(json.dumps({"event": event, **frame}))

    async def frame(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            heard: dict[str, Any] = json.loads(await self.socket.recv())
        return heard

    async def hear(self, event: str) -> Any:
        """The data of the next event of this name; what comes before is passed over."""
        while True:
            heard = await self.frame()
            if heard["event"] == event:
                data = heard.get("data")
                return json.loads(data) if isinstance(data, str) else data

    async def alive(self) -> None:
        """It is still answered."""
        await self.say("pusher:ping", data={})
        await self.hear("pusher:pong")

    async def subscribe(self, channel: str, **data: Any) -> None:
        await self.say("pusher:subscribe", data={"channel": channel, **data})

    async def closed(self) -> int:
        """The code that the server closes with; frames before it are passed over."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
            await self.socket.wait_closed()
        assert self.socket.close_code is not None
        return self.socket.close_code


async def signed(walk: Walk, socket_id: str, channel: str, *, user: str = "alice") -> Any:
    """The reply of the auth endpoint, asked as pusher-js asks."""
    client = getattr(walk, user)
    form = {"socket_id": socket_id, "channel_name": channel}
    return await client.post("/pusher/auth", data=form)


@asynccontextmanager
async def channels(
    data_dir: Path, *, buffer_bytes: int | None = None, **settings: Any
) -> AsyncIterator[Channels]:
    async with AsyncExitStack() as stack:
        walk = await stack.enter_async_context(walking(data_dir=data_dir, **settings))
        listener, port = await stack.enter_async_context(listening(walk, buffer_bytes=buffer_bytes))
        yield Channels(walk, listener, port, pusher_keys(walk.server.settings))


@asynccontextmanager
async def with_browser(data_dir: Path, **settings: Any) -> AsyncIterator[tuple[Channels, Browser]]:
    async with channels(data_dir, **settings) as served, browsing() as browser:
        yield served, browser
