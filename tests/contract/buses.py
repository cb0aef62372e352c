"""Nodes in one process that tell each other hints over a real server, and who listens there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol, Self

import asyncpg
import nats
from tests.servers.nats import Nats
from tests.servers.postgres import Postgres

from sessile.adapters.local_notifier import LocalNotifier
from sessile.adapters.nats import NatsNotifier
from sessile.adapters.postgres import PostgresNotifier
from sessile.core.ids import NodeId
from sessile.ports.notifier import Hint, Notifier

PATIENCE_SECONDS = 20.0
KEY = b"of this database"
AGAIN_SECONDS = 0.05
"""How soon what may be lost is said again."""


class Heard:
    """What was heard, and a bell that rings at it."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self._bell = asyncio.Event()

    def hear(self, what: Any) -> None:
        self.all.append(what)
        self._bell.set()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                self._bell.clear()
                await self._bell.wait()

    async def something(self, within: float) -> bool:
        """Whether anything more was heard in this time."""
        self._bell.clear()
        try:
            async with asyncio.timeout(within):
                await self._bell.wait()
        except TimeoutError:
            return False
        return True


class Ear(Heard):
    """A listener on a node."""

    all: list[Hint]

    def __init__(self, notifier: Notifier) -> None:
        super().__init__()
        self.stop = notifier.listen(self.hear)


class Wire(Heard):
    """What goes over the server, seen from outside; and a way to say anything there."""

    def __init__(self, send: Callable[[bytes], Any]) -> None:
        super().__init__()
        self.send = send


class Passage:
    """A way to a server, which can go silent without an end for all that use it now."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._silent = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._passing: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._passing)

    def go_silent(self) -> None:
        self._silent.set()
        self._silent = asyncio.Event()

    def silence_next(self) -> None:
        """The connection that comes next."""
        self._silent.set()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing = asyncio.current_task()
        assert passing is not None
        self._passing.append(passing)
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += (writer, back)
        silent = self._silent
        if silent.is_set():
            self._silent = asyncio.Event()

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while some := await source.read(65_536):
                    if not silent.is_set():
                        sink.write(some)
            if not silent.is_set():
                sink.close()

        await asyncio.gather(pump(reader, back), pump(there, writer))


@asynccontextmanager
async def refusing(port: int) -> AsyncIterator[Heard]:
    """Hears of each connection to this port, and ends it."""
    heard = Heard()

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.hear(writer)
        writer.transport.abort()

    server = await asyncio.start_server(refuse, "127.0.0.1", port)
    try:
        yield heard
    finally:
        server.close()


class Bus(Protocol):
    """What connects the nodes. `payload_bytes_max`: of one notification."""

    payload_bytes_max: int
    port: int

    def node(self, name: str, port: int | None = None) -> AbstractAsyncContextManager[Notifier]: ...

    def wire(self) -> AbstractAsyncContextManager[Wire]: ...

    def start(self) -> None: ...

    def stop(self, *, at_once: bool = False) -> None: ...


class LocalBus:
    """One process, whatever the nodes are called."""

    def __init__(self) -> None:
        self._notifier = LocalNotifier()

    @asynccontextmanager
    async def node(self, name: str) -> AsyncIterator[Notifier]:
        yield self._notifier


class PostgresBus:
    payload_bytes_max = 7999

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.port, self.start, self.stop = server.port, server.start, server.stop

    def node(self, name: str, port: int | None = None) -> AbstractAsyncContextManager[Notifier]:
        dsn = self._server.dsn_of("postgres", port=port)
        return PostgresNotifier(
            dsn, NodeId(name), lease_ms=4_000, key=KEY, count_foreign=lambda: None
        )

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        connection = await asyncpg.connect(self._server.dsn)

        async def send(payload: bytes) -> None:
            text = payload.decode(errors="replace")
            await connection.execute("SELECT pg_notify('sessile_hints', $1)", text)

        wire = Wire(send)
        await connection.add_listener("sessile_hints", lambda *said: wire.hear(said[3]))
        try:
            yield wire
        finally:
            await connection.close()


def over_nats(name: str, *servers: str, key: bytes = KEY) -> NatsNotifier:
    return NatsNotifier(list(servers), NodeId(name), key=key, count_foreign=lambda: None)


class NatsBus:
    payload_bytes_max = 65_536

    def __init__(self, server: Nats) -> None:
        self._server = server
        self.port, self.start, self.stop = server.port, server.start, server.stop

    def node(self, name: str, port: int | None = None) -> AbstractAsyncContextManager[Notifier]:
        return over_nats(name, f"nats://127.0.0.1:{port or self.port}")

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Wire]:
        client = await nats.connect(self._server.url)

        async def send(payload: bytes) -> None:
            await client.publish("sessile.all", payload)
            await client.flush()

        wire = Wire(send)

        async def hear(message: Any) -> None:
            wire.hear(message.data.decode("latin-1"))

        await client.subscribe("sessile.log.>", cb=hear)
        await client.flush()
        try:
            yield wire
        finally:
            await client.close()
