"""What the acceptance tests of the origin systems share: servers on real ports, a client, curl.

A server runs in this process (`serve`), or as `sessile serve` of a file in one of its own that can
be killed (`tests.cli.conftest.Serve`). A naive backend, with the fault that a system began with, is
any ASGI application (`listening`).
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from tests.cli.conftest import Serve as Process

from sessile import Assistant, Server, Settings
from sessile.http.listener import Listener
from sessile.wiring import dev_tokens

PATIENCE_SECONDS = 30.0
"""What should happen at once has this long, on a machine that does much else besides."""
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Site:
    """A server that is reached at `url`. `admin`: a development token of the demo tenant's admin,
    who may look into each of its sessions; a naive backend has none."""

    url: str
    http: httpx2.AsyncClient
    admin: str = ""

    async def entries(self, session_id: str) -> list[dict[str, Any]]:
        """The whole log of a session, as its tenant's admin is told it."""
        reply = await self.http.get(
            f"/v1/sessions/{session_id}/export", headers={"Authorization": f"Bearer {self.admin}"}
        )
        assert reply.status_code == 200, reply.text
        return [json.loads(line) for line in reply.text.splitlines()]

    async def metrics(self) -> dict[str, float]:
        """Each figure without labels."""
        told = (await self.http.get("/metrics")).text.splitlines()
        pairs = [line.split() for line in told if line and line[0] != "#" and "{" not in line]
        return {name: float(value) for name, value, *_ in pairs}

    async def curl(self, command: str, **environment: str) -> tuple[int, Any]:
        """A curl command as a person types it, with this server in place of localhost:3006: the
        status and the JSON."""
        there = command.replace("localhost:3006", self.url.removeprefix("http://"))
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", there + r" -w '\n%{http_code}'"),
            env={**os.environ, **environment, "no_proxy": "*"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        body, _, status = out.decode().rpartition("\n")
        return int(status), json.loads(body)


Serve = Callable[..., AbstractAsyncContextManager[Site]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """`async with serve(assistants, router, …, **settings) as site`: in this process. Again, it
    is the same database."""
    return partial(serving, tmp_path / "data")


@pytest.fixture
async def plain(tmp_path: Path) -> AsyncIterator[Site]:
    """`sessile serve` without anything to serve, which serves all the systems."""
    with Process(tmp_path) as process:
        await asyncio.to_thread(process.ready)
        async with reaching(process.url, process.token) as site:
            yield site


@asynccontextmanager
async def serving(
    directory: Path,
    assistants: Iterable[Assistant],
    *routers: Callable[[Server], Any],
    **settings: Any,
) -> AsyncIterator[Site]:
    settings.setdefault("drain_seconds_max", 2.0)  # where a test fails, a turn may still run
    server = Server(*assistants, settings=Settings(data_dir=directory, **settings))
    for router in routers:
        server.mount(router(server))
    tokens = dev_tokens(server.settings)
    admin = next(login.token for login in tokens.logins if login.role == "admin")
    with port() as listening:
        async with (
            server,
            served(Listener(server.app(tokens), server.settings), listening),
            reaching(url_of(listening), admin) as site,
        ):
            yield site


@asynccontextmanager
async def naive(app: Any) -> AsyncIterator[Site]:
    """Any ASGI application, on a port of its own."""
    with port() as listening:
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
        config.timeout_graceful_shutdown = 1
        async with served(uvicorn.Server(config), listening), reaching(url_of(listening)) as site:
            yield site


@asynccontextmanager
async def reaching(url: str, admin: str = "") -> AsyncIterator[Site]:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(
        base_url=url, timeout=2 * PATIENCE_SECONDS, limits=limits, trust_env=False, verify=False
    ) as http:
        yield Site(url, http, admin)


@asynccontextmanager
async def served(listener: uvicorn.Server, listening: socket.socket) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.serve([listening]))
        try:
            yield
        finally:
            listener.should_exit = True


@contextmanager
def port() -> Iterator[socket.socket]:
    """A free port of this machine, which is listened on at once."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    # Only of a socket that says its protocol does asyncio know that small replies go at once.
    with socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listening.detach()
    ) as known:
        yield known


def url_of(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


async def polled(
    look: Callable[[], Awaitable[Any]], holds: Callable[[Any], object], why: str
) -> list[Any]:
    """All that was seen until it held. An AssertionError says `why` where it does not in time."""
    seen: list[Any] = []
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_SECONDS
    while not seen or not holds(seen[-1]):
        assert loop.time() < end, f"{why}: {seen[-1]}"
        if seen:
            await asyncio.sleep(POLL_SECONDS)
        seen.append(await look())
    return seen
