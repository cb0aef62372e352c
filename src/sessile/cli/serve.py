"""`sessile serve`: what to serve is read, the port taken, and then it runs until it is stopped."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from uvicorn.loops.auto import auto_loop_factory

from sessile.cli.failure import CommandFailed
from sessile.cli.flags import changed, read_settings
from sessile.cli.load import load, load_demo
from sessile.cli.logs import configure
from sessile.cli.serving import Serving, leave
from sessile.settings import Settings
from sessile.wiring import Server

LISTEN_BACKLOG = 2048
PORT_MAX = 65_535


def serve(target: str | None, given: Mapping[str, Any]) -> None:
    """Until it is told to stop. Raises CommandFailed where it cannot begin."""
    settings = read_settings(os.environ, given)
    configure(level=settings.log_level, form=settings.log_format)
    if settings.role != "all" and not settings.shared:
        raise CommandFailed(
            f"--role {settings.role} is for nodes that share a database; name it by"
            " --store-url postgresql://USER@HOST/DATABASE"
        )
    server = _server(target, settings, given)
    with (
        _listening(server.settings.host, server.settings.port) as listening,
        asyncio.Runner(loop_factory=auto_loop_factory()) as runner,
    ):
        runner.run(Serving(server, listening).run())
        if server.workers.outlived:
            leave()  # an agent that does not let itself be cancelled would be waited for
    _leave()


def work(target: str | None, given: Mapping[str, Any]) -> None:
    """The same, of turns alone. Its port is a free one where none is given."""
    if "port" not in changed(os.environ, given):
        given = {**given, "port": "0"}
    serve(target, {**given, "role": "turns"})


def _server(target: str | None, settings: Settings, given: Mapping[str, Any]) -> Server:
    if target is None:
        return load_demo(settings)
    server = load(target, settings)
    # A server that the file made has its own settings; flags and variables win over them.
    names = changed(os.environ, given)
    server.settings = replace(server.settings, **{name: getattr(settings, name) for name in names})
    return server


def _listening(host: str, port: int) -> socket.socket:
    if port > PORT_MAX:
        raise CommandFailed(f"--port: {port} is no port; the last one is {PORT_MAX}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise CommandFailed(f"--host: there is no such address as {host} here") from error
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # At once: until it listens, another process may bind the same port.
        listening.listen(LISTEN_BACKLOG)
    except OSError as error:
        listening.close()
        todo = "stop what uses the port, or give another by --port (0 takes a free one)"
        if error.errno == errno.EADDRNOTAVAIL:
            todo = "give an address of this machine by --host"
        if error.errno in (errno.EACCES, errno.EPERM):
            todo = "give a port above 1023 by --port"
        raise CommandFailed(f"cannot listen on {host}:{port}: {error.strerror}; {todo}") from error
    return listening


def _leave() -> None:
    """A blocking tool whose turn was handed back may hold its thread for ever, and Python would
    wait for it. All else is closed."""
    if any(thread is not threading.main_thread() for thread in threading.enumerate()):
        leave()
