"""The walk's server on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

from tests.walk.people import Walk

from sessile.http.listener import Listener


class QuietListener(Listener):
    """Leaves signals alone, and says when it listens."""

    listens: asyncio.Event

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@asynccontextmanager
async def listening(
    walk: Walk, *, buffer_bytes: int | None = None, **settings: Any
) -> AsyncIterator[tuple[QuietListener, int]]:
    """The listener, with settings of its own, and its port. On leaving it drains, and has to
    end."""
    with socket.create_server(("127.0.0.1", 0)) as open_socket:
        if buffer_bytes is not None:
            open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        port: int = open_socket.getsockname()[1]
        listener = QuietListener(walk.app, replace(walk.server.settings, **settings))
        listener.listens = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(listener.serve([open_socket]))
            await listener.listens.wait()
            try:
                yield listener, port
            finally:
                # Before the socket is closed, also where the test fails: the loop, which later
                # tests have too, would go on with a number that is another socket's by then.
                listener.should_exit = True
                await serving
