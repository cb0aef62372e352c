"""A TCP proxy that does harm: cuts connections, loses replies, and is silent for a while."""

import asyncio
import random
import socket
import struct
from contextlib import suppress
from typing import Self

CHUNK_BYTES = 65_536
RESET_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: what was not sent is dropped, and the other side is told by RST."""


class Proxy:
    """Between one node and one server on this machine. `port` is where it listens."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._pipes: dict[Pipe, None] = {}
        self._serving = set[asyncio.Task[None]]()
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self._flows.set()
        for pipe in tuple(self._pipes):
            pipe.cut()
        await asyncio.gather(*self._serving)

    @property
    def open(self) -> int:
        return len(self._pipes)

    def cut_one(self, chance: random.Random) -> int:
        """Answers how many were cut, as the others do."""
        pipes = list(self._pipes)
        return self._cut([chance.choice(pipes)] if pipes else [])

    def cut_all(self) -> int:
        return self._cut(list(self._pipes))

    def lose_replies(self) -> int:
        """The next reply on each connection is swallowed, and then it is cut: what was asked may
        have been done, a commit among it."""
        for pipe in self._pipes:
            pipe.loses_reply = True
        return len(self._pipes)

    async def stall(self, seconds: float) -> None:
        """Nothing passes either way, and nobody is told; what was sent meanwhile comes later."""
        self._flows.clear()
        await asyncio.sleep(seconds)
        self._flows.set()

    def heal(self) -> None:
        self._flows.set()
        for pipe in self._pipes:
            pipe.loses_reply = False

    def _cut(self, pipes: list["Pipe"]) -> int:
        for pipe in pipes:
            pipe.cut()
        return len(pipes)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._connect(reader, writer)
        finally:
            self._serving.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _reset(writer)
            return
        pipe = Pipe(self, writer, far_writer)
        self._pipes[pipe] = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(pipe, reader, far_writer, replies=False))
                tasks.create_task(self._copy(pipe, far_reader, writer, replies=True))
        finally:
            del self._pipes[pipe]
            pipe.close()

    async def _copy(
        self,
        pipe: "Pipe",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        replies: bool,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                if replies and pipe.loses_reply:
                    pipe.cut()
                    return
                writer.write(data)
                await writer.drain()
            await self._flows.wait()
        pipe.close()


class Pipe:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._ends = (near, far)
        self._cut = False
        self.loses_reply = False

    def cut(self) -> None:
        if not self._cut:
            self._cut = True
            self._proxy.cuts += 1
            for end in self._ends:
                _reset(end)

    def close(self) -> None:
        for end in self._ends:
            end.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    known: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        known.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
    writer.transport.abort()
