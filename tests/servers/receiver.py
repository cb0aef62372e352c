"""Somebody who takes webhooks: what came, and when something is wrong with them."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

PATIENCE_SECONDS = 20.0
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Came:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def entry(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.body)
        return told

    def signed_with(self, secret: str) -> bool:
        """As the Standard Webhooks libraries look at it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode()
        digest = hmac.new(key, content + self.body, hashlib.sha256).digest()
        return self.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@dataclass
class Receiver:
    port: int = 0
    came: list[Came] = field(default_factory=list)
    connections: int = 0
    answer: Answer | None = None
    """Instead of a reply with `status`."""
    status: int = 200
    headers: str = ""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=1"

    async def until(self, many: int) -> list[Came]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.came) < many:
                self._grown.clear()
                await self._grown.wait()
        return self.came

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._talk(reader, writer)
        except asyncio.CancelledError:
            pass  # at the end of the test; asyncio's streams would log it
        finally:
            self.tasks.discard(task)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *fields = head.decode().rstrip().split("\r\n")
                headers = {k.lower(): v for k, v in (each.split(": ", 1) for each in fields)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.came.append(Came(line.split(" ")[1], headers, body))
                self._grown.set()
                if self.answer is not None:
                    await self.answer(writer)
                    await writer.drain()
                    await reader.read()
                    return
                body = "\r\n" if self.status == 204 else "Content-Length: 2\r\n\r\n{}"
                writer.write(f"HTTP/1.1 {self.status} X\r\n{self.headers}{body}".encode())
                await writer.drain()


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        tasks = tuple(receiver.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
