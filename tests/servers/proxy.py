"""A TCP proxy that a test breaks on purpose: it cuts connections, loses replies, lets them stall,
and strikes at the bytes that a test names, a COMMIT among them."""

import asyncio
import random
import socket
import struct
from contextlib import suppress
from typing import Literal, Self

COMMIT = b"Q\0\0\0\x0bCOMMIT\0"
"""As the protocol has it: a simple query."""

CHUNK_BYTES = 65_536
RESET_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: what was not sent is dropped, and the other side is told by RST."""

Moment = Literal["before", "after", "late"]
"""`before`: the server never gets the bytes. `after`: it gets them, and its answer is lost. `late`:
the client is cut off, and the server gets the bytes when the proxy is told to `deliver` them."""


class Link:
    """One connection of a client through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.first = b""
        """What the client said to begin with; it has the application_name."""
        self.loses_reply = False
        self.gone = False

    def close(self) -> None:
        """When what was written has gone."""
        self.client.close()
        self.server.close()


class Proxy:
    """Stands before a server at a port of 127.0.0.1; listens at `port`. `cuts`: connections that it
    cut, one way or the other."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._links: dict[Link, None] = {}
        self._serving = set[asyncio.Task[None]]()
        self._open_up, self._open_down = asyncio.Event(), asyncio.Event()
        self._strike: tuple[bytes, Moment] | None = None
        self._skip = 0
        self._late: tuple[asyncio.StreamWriter, bytes] | None = None
        self._struck = asyncio.Event()
        self.refuses = False
        self.cuts = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self.pass_all()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.pass_all()
        self.cut()
        async with asyncio.timeout(5):
            await asyncio.gather(*self._serving)

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def strike(self, pattern: bytes, moment: Moment, *, skip: int = 0) -> None:
        """Once, at the next bytes of a client with the pattern in them, or after some of them."""
        self._struck.clear()
        self._strike, self._skip = (pattern, moment), skip

    async def struck(self) -> None:
        """Returns once it struck."""
        async with asyncio.timeout(20):
            await self._struck.wait()

    async def deliver(self) -> None:
        """The bytes that are late."""
        assert self._late is not None
        (writer, data), self._late = self._late, None
        writer.write(data)
        await writer.drain()

    def cut(self, name: str = "") -> int:
        """Reset the connections there are whose application_name has the name in it."""
        links = [link for link in self._links if name.encode() in link.first]
        for link in links:
            self._cut(link)
        return len(links)

    def cut_one(self, chance: random.Random) -> int:
        """One of them, if there is one; answers how many, as the others do."""
        links = list(self._links)
        if links:
            self._cut(chance.choice(links))
        return min(len(links), 1)

    def lose_replies(self) -> int:
        """The next reply on each connection is swallowed, and then it is cut: what was asked may
        have been done, a commit among it."""
        for link in self._links:
            link.loses_reply = True
        return len(self._links)

    def stall(self, *, up: bool = False, down: bool = False) -> None:
        """Let no byte through to the server, or from it: as where the network is lost. Nobody is
        told; what was sent meanwhile comes later."""
        if up:
            self._open_up.clear()
        if down:
            self._open_down.clear()

    def pass_all(self) -> None:
        """No more stall."""
        self._open_up.set()
        self._open_down.set()

    def heal(self) -> None:
        """Nor is any more reply lost."""
        self.pass_all()
        for link in self._links:
            link.loses_reply = False

    def _cut(self, link: Link) -> None:
        if not link.gone:
            link.gone = True
            self.cuts += 1
            reset(link.client)
            reset(link.server)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._connect(reader, client)
        finally:
            self._serving.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refuses:
            reset(client)
            return
        await self._open_up.wait()
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            reset(client)
            return
        link = Link(client, server)
        self._links[link] = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._up(link, reader))
                tasks.create_task(self._down(link, from_server))
        finally:
            del self._links[link]
            link.close()

    async def _up(self, link: Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if b"application_name" in data:
                    link.first = data
                await self._open_up.wait()
                if self._strike is not None and self._strike[0] in data and not self._skipped():
                    moment, self._strike = self._strike[1], None
                    if moment == "before":
                        self._cut(link)
                        self._struck.set()
                        return
                    if moment == "late":
                        self._late = (link.server, data)
                        reset(link.client)
                        self._struck.set()
                        return
                    link.loses_reply = True
                link.server.write(data)
                await link.server.drain()
            await self._open_up.wait()
        link.close()

    def _skipped(self) -> bool:
        self._skip -= 1
        return self._skip >= 0

    async def _down(self, link: Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._open_down.wait()
                if link.loses_reply:
                    self._cut(link)
                    self._struck.set()
                    return
                link.client.write(data)
                await link.client.drain()
            await self._open_down.wait()
        link.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other end is told at once, and what was on its way is lost."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
    writer.transport.abort()
