"""One request to the ASGI application without a transport: what is sent is seen as it is sent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.walk.sse import Event, Parser

App = Callable[..., Any]


SECONDS_MAX = 20


def in_time(app: App) -> App:
    """A reply that does not end fails its test, which would otherwise wait for it."""

    async def limited(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await app(scope, receive, send)

    return limited


class Wire:
    """A client that gets a reply piece by piece, and may leave at any byte of it."""

    def __init__(
        self, *, bytes_max: int | None = None, extensions: dict[str, Any] | None = None
    ) -> None:
        self.extensions = extensions or {}
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parser = Parser()
        self.events: list[Event] = []
        self.bodies: list[bytes] = []
        self.ended = False
        self._bytes_left = bytes_max
        self._left = asyncio.Event()
        self._came = asyncio.Condition()
        self._reads = asyncio.Event()
        self._reads.set()

    def leave(self) -> None:
        self._left.set()

    @property
    def left(self) -> bool:
        return self._left.is_set()

    def stall(self) -> None:
        """Take nothing more, and stay."""
        self._reads.clear()

    def go_on(self) -> None:
        self._reads.set()

    async def receive(self) -> dict[str, Any]:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            await self._reads.wait()
        if self._left.is_set():
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {n.decode(): v.decode() for n, v in message["headers"]}
        else:
            self._take(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        async with self._came:
            self._came.notify_all()

    def _take(self, body: bytes) -> None:
        if self._bytes_left is not None:
            body = body[: self._bytes_left]
            self._bytes_left -= len(body)
            if self._bytes_left == 0:
                self.leave()
        self.bodies.append(body)
        self.events.extend(self.parser.feed(body))

    async def until(self, holds: Callable[["Wire"], bool]) -> None:
        async with asyncio.timeout(SECONDS_MAX), self._came:
            await self._came.wait_for(lambda: holds(self))

    async def event(self, kind: str) -> Event:
        """The first of this kind, when it is here."""
        await self.until(lambda wire: any(event.event == kind for event in wire.events))
        return next(event for event in self.events if event.event == kind)


async def ask(
    app: App,
    path: str,
    *,
    token: str = "",
    headers: dict[str, str] | None = None,
    wire: Wire | None = None,
) -> Wire:
    """The whole reply to a GET."""
    wire = Wire() if wire is None else wire
    scope = {**_scope(path, token, headers), "extensions": wire.extensions}
    await in_time(app)(scope, wire.receive, wire.send)
    return wire


@asynccontextmanager
async def asking(
    app: App,
    path: str,
    *,
    token: str = "",
    headers: dict[str, str] | None = None,
    wire: Wire | None = None,
) -> AsyncIterator[Wire]:
    """A GET that is under way. On leaving, its client leaves, and the reply has to end."""
    wire = Wire() if wire is None else wire
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ask(app, path, token=token, headers=headers, wire=wire))
        try:
            yield wire
        finally:
            wire.leave()


def _scope(path: str, token: str, headers: dict[str, str] | None) -> dict[str, Any]:
    path, _, query = path.partition("?")
    given = {"host": "localhost:3006", **(headers or {})}
    if token:
        given["authorization"] = f"Bearer {token}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in given.items()],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 3006),
    }
