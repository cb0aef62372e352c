"""Servers to ask: in this process over a real socket, or one of their own that can be killed."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from tests.guarantees.callers import LOGINS, PATIENCE_SECONDS, Caller

from sessile import Assistant, Server, Settings
from sessile.http.listener import Listener

HERE = Path(__file__).parent


class World:
    """A server and its users."""

    def __init__(self, url: str, http: httpx2.AsyncClient) -> None:
        self.url = url
        self.http = http
        # Two of one tenant and its admin, and of another; there is an ana in each.
        self.root, self.ana, self.ben, self.boss, self.cleo, self.namesake = (
            Caller(http, login) for login in LOGINS
        )


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[World]:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx2.AsyncClient(
        base_url=url, timeout=2 * PATIENCE_SECONDS, limits=limits, trust_env=False, verify=False
    ) as http:
        yield World(url, http)


def write_logins(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "dev-tokens"
    file.touch(mode=0o600)
    file.write_text("".join(f"{each.token} {' '.join(each)}\n" for each in LOGINS))


@asynccontextmanager
async def serving(
    directory: Path, *assistants: Assistant, given: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[World]:
    """A server of these assistants on SQLite, in this process, on a port of its own."""
    write_logins(directory)
    settings.setdefault("drain_seconds_max", 2.0)  # where a test fails, a turn may still run
    server = Server(*assistants, settings=Settings(data_dir=directory, **settings), **(given or {}))
    listening = socket.create_server(("127.0.0.1", 0))
    # Only of a socket that says its protocol does asyncio know that small replies go at once.
    listening = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listening.detach()
    )
    async with server:
        listener = Listener(server.app(), server.settings)
        task = asyncio.get_running_loop().create_task(listener.serve([listening]))
        try:
            async with asking(f"http://127.0.0.1:{listening.getsockname()[1]}") as world:
                yield world
        finally:
            listener.should_exit = True
            await task


class Process:
    """`sessile serve` of the probe, as a process that may be lost at any time."""

    KILL = signal.SIGKILL

    def __init__(self, directory: Path, *, probe: str = "probe.py", **settings: Any) -> None:
        self.directory = directory
        self._probe = HERE / probe
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._drained: asyncio.Task[bytes] | None = None
        self.url = ""

    async def start(self) -> None:
        write_logins(self.directory)
        process = await self._spawned()
        assert process.stdout is not None
        said = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (match := re.search(rb"Sessile \S+ on (http://\S+)", said)) is None:
                line = await process.stdout.readline()
                assert line, f"it does not start: {said.decode()}"
                said += line
        self.url = match[1].decode()
        self._process = process
        self._drained = asyncio.get_running_loop().create_task(process.stdout.read())

    async def refused(self) -> str:
        """What a start says that ends by itself, with a failure."""
        process = await self._spawned()
        async with asyncio.timeout(PATIENCE_SECONDS):
            said, _ = await process.communicate()
        assert process.returncode not in (0, None)
        return said.decode()

    async def _spawned(self) -> asyncio.subprocess.Process:
        flags = {"port": 0, "data_dir": self.directory, "log_level": "warning", **self._settings}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sessile", "serve", str(self._probe)),
            *(f"--{name.replace('_', '-')}={value}" for name, value in flags.items()),
            env={**os.environ, "PROBE_DIR": str(self.directory)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def gone(self) -> str:
        """Wait until it has ended. Answers what it has said since it serves."""
        assert self._process is not None
        assert self._drained is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._process.wait()
            said = await self._drained
        self._process = None
        return said.decode()

    async def kill(self) -> str:
        """As if the machine had lost its power, except that its disk is another process's too."""
        self.send(signal.SIGKILL)
        return await self.gone()

    async def end(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
            await self.gone()

    # -- what the probe does and leaves

    def let_go(self) -> None:
        """What holds in the probe goes on, from the next start on."""
        (self.directory / "go").touch()

    def noted(self, name: str) -> list[str]:
        file = self.directory / name
        return file.read_text().splitlines() if file.exists() else []
