"""Nodes as processes of their own, each with proxies of its own, on one real PostgreSQL."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol, Self

import asyncpg
import httpx2
from tests.chaos.record import Recorder
from tests.cli.conftest import environment
from tests.servers.postgres import Postgres, free_port
from tests.servers.proxy import Proxy

from sessile.adapters.migrations import migrate_postgres

APP = Path(__file__).with_name("served.py")
TOKEN = "chaos-admin"
LEASE_SECONDS = 2.0
READY_SECONDS_MAX = 60.0
SETTINGS = {
    "SESSILE_DEV_TOKEN": TOKEN,
    "SESSILE_LEASE_TTL_SECONDS": str(LEASE_SECONDS),
    "SESSILE_APPROVAL_SECONDS_MAX": "8",
    "SESSILE_HEARTBEAT_SECONDS": "1",
    "SESSILE_LOG_FORMAT": "json",
}


class Restarted(Protocol):
    """A server that nodes share, as in `tests.servers`."""

    port: int

    def start(self) -> None: ...

    def stop(self, *, at_once: bool = False) -> None: ...


class Node:
    """One place for a node: its port stays, the processes there come and go."""

    def __init__(self, name: str, directory: Path, command: Sequence[str], **settings: str) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.node_id = ""
        """Of the process that serves there."""
        self.paused = False
        self._directory = directory
        self._command = tuple(command)
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0

    @property
    def takes_requests(self) -> bool:
        return self._command[0] == "serve"

    @property
    def alive(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        self._started += 1
        with self._log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "sessile", *self._command),
                    *(str(self._directory / "app.py"), "--port", str(self.port)),
                    *("--data-dir", str(self._directory / self.name)),
                ],
                cwd=self._directory,
                env=environment(**SETTINGS, **self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        """Raises AssertionError where it does not come to serve. A node that is killed meanwhile is
        as ready as it gets."""
        process = self._process
        end = time.monotonic() + READY_SECONDS_MAX
        while process is not None and process is self._process:
            if found := self._logged("serving"):
                self.node_id = found[0]["node"]
                return
            assert process.poll() is None, f"{self.name} ended: {self._log_file.read_text()}"
            assert time.monotonic() < end, f"{self.name}: {self._log_file.read_text()}"
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process, self.node_id, self.paused = None, "", False

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self.paused = False

    def ended_by_itself(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def complaints(self) -> list[dict[str, Any]]:
        """What it says of exceptions that it did not expect."""
        return [
            line
            for line in self._logged()
            if "exception" in line and line["logger"].startswith("sessile")
        ]

    def _logged(self, message: str | None = None) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = []
        for log in sorted(self._directory.glob(f"{self.name}-*.log")):
            if message is not None and log != self._log_file:
                continue
            for line in log.read_text(errors="replace").splitlines():
                if not line.startswith("{") or not line.endswith("}"):
                    continue
                told = json.loads(line)
                if message is None or told.get("message") == message:
                    lines.append(told)
        return lines

    @property
    def _log_file(self) -> Path:
        return self._directory / f"{self.name}-{self._started:02}.log"


ALIKE = (("serve",), ("serve",), ("serve",))
APART = (("serve", "--no-run"), ("serve",), ("work",))
"""Of two nodes each: those that take requests, and those that run turns."""


class Cluster:
    """Entered, all nodes serve. `commands`: one for each. `bus`: what wakes them, where it is not
    the database."""

    def __init__(
        self,
        directory: Path,
        recorder: Recorder,
        *,
        commands: Sequence[Sequence[str]] = ALIKE,
        bus: Restarted | None = None,
    ) -> None:
        self.directory = directory
        self.recorder = recorder
        self.bus = bus
        self.database = Postgres({"fsync": "off"})
        self.nodes: list[Node] = []
        self.proxies: dict[Node, Proxy] = {}
        """To the database."""
        self.bus_proxies: dict[Node, Proxy] = {}
        self._commands = commands
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        shutil.copy(APP, self.directory / "app.py")
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(self.database.__enter__)
            stack.push_async_callback(asyncio.to_thread, self.database.__exit__)
            await migrate_postgres(self.database.dsn)
            for number, command in enumerate(self._commands, start=1):
                proxy = await stack.enter_async_context(Proxy(self.database.port))
                more = {"SESSILE_STORE_URL": self.database.dsn_of("postgres", port=proxy.port)}
                bus_proxy = None
                if self.bus is not None:
                    bus_proxy = await stack.enter_async_context(Proxy(self.bus.port))
                    more["SESSILE_NOTIFIER_URL"] = f"nats://127.0.0.1:{bus_proxy.port}"
                node = Node(f"node{number}", self.directory, command, **more)
                self.nodes.append(node)
                self.proxies[node] = proxy
                if bus_proxy is not None:
                    self.bus_proxies[node] = bus_proxy
                stack.callback(_end, node)
                node.start()
            for node in self.nodes:
                await node.ready()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    @property
    def cuts(self) -> int:
        return sum(each.cuts for each in (*self.proxies.values(), *self.bus_proxies.values()))

    async def heal(self) -> None:
        """All that was done to the nodes is undone, and all of them serve."""
        for proxy in (*self.proxies.values(), *self.bus_proxies.values()):
            proxy.heal()
        for node in self.nodes:
            node.resume()
            if not node.alive:
                node.start()
        for node in self.nodes:
            await node.ready()

    async def connect(self) -> asyncpg.Connection:
        """Straight to the database."""
        return await asyncpg.connect(self.database.dsn)

    async def rest(self, *, seconds: float) -> str:
        """Wait until nothing runs or waits any more. Answers what still does."""
        end = time.monotonic() + seconds
        connection = await self.connect()
        try:
            while True:
                rows = await connection.fetch(
                    "SELECT session_id, running_turn_id, queued, lease_owner FROM session_head"
                    " WHERE running_turn_id IS NOT NULL OR queued > 0 OR due_at_ms IS NOT NULL"
                    " LIMIT 5"
                )
                if not rows:
                    return ""
                if time.monotonic() > end:
                    return "; ".join(str(dict(row)) for row in rows)
                await asyncio.sleep(0.1)
        finally:
            await connection.close()


def _end(node: Node) -> None:
    if node.alive:
        node.kill()


def http() -> httpx2.AsyncClient:
    """A client of all nodes."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
    return httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=httpx2.Timeout(6.0),
        limits=limits,
        trust_env=False,
        verify=False,
    )
