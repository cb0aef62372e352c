"""A TCP proxy that a test breaks on purpose: it cuts connections, lets them stall, and strikes at
the bytes that a test names, a COMMIT among them."""

import asyncio
import socket
import struct
from typing import Literal, Self

COMMIT = b"Q\0\0\0\x0bCOMMIT\0"
"""As the protocol has it: a simple query."""

Moment = Literal["before", "after", "late"]
"""`before`: the server never gets the bytes. `after`: it gets them, and its answer is lost. `late`:
the client is cut off, and the server gets the bytes when the proxy is told to `deliver` them."""


class Link:
    """One connection of a client through the proxy."""

    def __init__(
        self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, first: bytes
    ) -> None:
        self.client = client
        self.server = server
        self.first = first
        """What the client said to begin with; it has the application_name."""
        self.struck = False

    def cut(self, *writers: asyncio.StreamWriter) -> None:
        for writer in writers or (self.client, self.server):
            reset(writer)


class Proxy:
    """Stands before a server at a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._links = set[Link]()
        self._open_up, self._open_down = asyncio.Event(), asyncio.Event()
        self._strike: tuple[bytes, Moment] | None = None
        self._skip = 0
        self._late: tuple[asyncio.StreamWriter, bytes] | None = None
        self._struck, self._unused = asyncio.Event(), asyncio.Event()
        self.refuses = False
        self.port = 0

    async def __aenter__(self) -> Self:
        self.pass_all()
        self._unused.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        self.pass_all()
        self.cut()
        async with asyncio.timeout(5):
            await self._unused.wait()

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
            link.cut()
        return len(links)

    def stall(self, *, up: bool = False, down: bool = False) -> None:
        """Let no byte through to the server, or from it: as where the network is lost."""
        if up:
            self._open_up.clear()
        if down:
            self._open_down.clear()

    def pass_all(self) -> None:
        self._open_up.set()
        self._open_down.set()

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refuses:
            reset(client)
            return
        await self._open_up.wait()
        try:
            from_server, server = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            reset(client)
            return
        link = Link(client, server, b"")
        self._links.add(link)
        self._unused.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._up(link, reader))
                tasks.create_task(self._down(link, from_server))
        finally:
            self._links.discard(link)
            link.cut()
            if not self._links:
                self._unused.set()

    async def _up(self, link: Link, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(2**16):
                if b"application_name" in data:
                    link.first = data
                await self._open_up.wait()
                if self._strike is None or self._strike[0] not in data or self._skipped():
                    link.server.write(data)
                    await link.server.drain()
                    continue
                moment, self._strike = self._strike[1], None
                if moment == "before":
                    link.cut()
                elif moment == "after":
                    link.struck = True
                    link.server.write(data)
                    continue  # until the answer comes
                else:
                    self._late = (link.server, data)
                    link.cut(link.client)
                    self._struck.set()
                    return
                self._struck.set()
        except OSError:
            pass
        link.cut(link.server)

    def _skipped(self) -> bool:
        self._skip -= 1
        return self._skip >= 0

    async def _down(self, link: Link, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(2**16):
                await self._open_down.wait()
                if link.struck:
                    link.cut()
                    self._struck.set()
                    return
                link.client.write(data)
                await link.client.drain()
        except OSError:
            pass
        link.cut(link.client)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other end is told at once, and what was on its way is lost."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
