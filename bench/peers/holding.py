"""Streams that are opened and then only held."""

import selectors
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

ANSWER_SECONDS_MAX = 20.0
HELD_SECONDS = 3.0


@contextmanager
def held(port: int, requests: Sequence[bytes]) -> Iterator[Callable[[], int]]:
    """A connection for each request, once it has been answered by 200. What is given waits a
    while, and says how many the server has not closed."""
    with ExitStack() as stack:
        connections: list[socket.socket] = []
        for request in requests:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(request)
            connections.append(connection)
        for connection in connections:
            connection.settimeout(ANSWER_SECONDS_MAX)
            seen = b""
            while b"\r\n\r\n" not in seen:
                seen += (got := connection.recv(4_096))
                if not got:
                    break
            if seen[9:12] != b"200":
                raise RuntimeError(f"a stream was refused: {seen[:200]!r}")

        def still() -> int:
            closed = 0
            with selectors.DefaultSelector() as selector:
                for connection in connections:
                    selector.register(connection, selectors.EVENT_READ)
                deadline = time.monotonic() + HELD_SECONDS
                while (left := deadline - time.monotonic()) > 0:
                    for key, _ in selector.select(left):
                        if not connections[connections.index(key.fileobj)].recv(65_536):
                            selector.unregister(key.fileobj)
                            closed += 1
            return len(connections) - closed

        yield still
