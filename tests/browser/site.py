"""The server under test: `sessile serve` of app.py as a process of its own, and its logins."""

import asyncio
import json
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
from tests.browser.hostile import USER
from tests.cli.conftest import Serve, empty_database

APP = Path(__file__).with_name("app.py")
ROOT = APP.parents[2]
LOGINS_MAX = 400
PATIENCE_SECONDS = 30.0
Record = dict[str, Any]


class Login:
    """A user of the API: what the tests do and ask besides what they see."""

    def __init__(self, http: httpx2.AsyncClient, token: str) -> None:
        self._http = http
        self.token = token

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of the answer. Raises AssertionError for a refusal."""
        reply = await self._http.request(
            method,
            path,
            content=None if body is None else json.dumps(body),
            headers={
                "Authorization": f"Bearer {self.token}",
                "Accept": "application/json",
                "Content-Type": "application/json",
                **headers,
            },
        )
        assert reply.is_success, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    async def opened(self, assistant: str = "player", **body: Any) -> str:
        session_id: str = (
            await self.ask("POST", "/v1/sessions", {"assistant": assistant, **body})
        )["session_id"]
        return session_id

    async def said(
        self, session_id: str, text: str, *, wait: bool = True, kind: str = "message"
    ) -> Record:
        """The turn: when it has ended or awaits, unless it is not waited for."""
        path = f"/v1/sessions/{session_id}/turns{'?wait=30' if wait else ''}"
        turn: Record = await self.ask("POST", path, {"input": {"type": kind, "text": text}})
        return turn

    async def log(self, session_id: str) -> list[Record]:
        entries: list[Record] = []
        cursor: int | None = 0
        while cursor is not None:
            page = await self.ask("GET", f"/v1/sessions/{session_id}/events?after={cursor}")
            entries += page["items"]
            cursor = page["next"]
        return entries

    async def replies(self, session_id: str) -> list[str]:
        """The text of each message of the assistant, as the API tells it."""
        page = await self.ask("GET", f"/v1/sessions/{session_id}/messages?limit=200")
        return [each["text"] for each in page["items"] if each["role"] == "assistant"]

    async def go(self, session_id: str) -> None:
        """What `player` holds in this session goes on."""
        await self.ask("POST", f"/test/go/{session_id}")


class Site:
    """A server that may be lost, and comes back at the same address."""

    def __init__(self, directory: Path, *, app: str | None = str(APP), logins: str = "") -> None:
        self.directory = directory
        self._arguments = () if app is None else (app,)
        self._numbers = count(1)
        data = directory / "sessile-data"
        data.mkdir(mode=0o700)
        (data / "sessile.db").write_bytes(empty_database())
        (data / "dev-tokens").touch(mode=0o600)
        (data / "dev-tokens").write_text(logins or _logins())
        self._served: Serve | None = None
        self.url = ""

    async def start(self) -> None:
        port = self.url.rpartition(":")[2] or "0"
        flags = ("--log-level", "warning", "--drain-seconds-max", "1")
        self._served = Serve(
            self.directory, *self._arguments, *flags, port=port, PYTHONPATH=str(ROOT)
        )
        await asyncio.to_thread(self._served.ready)
        self.url = self._served.url

    async def kill(self) -> None:
        """As if its machine had lost its power."""
        assert self._served is not None
        self._served.send(signal.SIGKILL)
        await self.stop()

    async def stop(self) -> None:
        if self._served is not None:
            served, self._served = self._served, None
            await asyncio.to_thread(served.__exit__)

    def back_up(self, to: Path) -> None:
        with closing(sqlite3.connect(self._database)) as live, closing(sqlite3.connect(to)) as kept:
            live.backup(kept)

    def restore(self, kept: Path) -> None:
        """Of a server that is not there: what was appended since is lost."""
        for file in self._database.parent.glob("sessile.db*"):
            file.unlink()
        self._database.write_bytes(kept.read_bytes())

    @property
    def _database(self) -> Path:
        return self.directory / "sessile-data" / "sessile.db"

    def token(self, role: str = "user") -> str:
        """Of a user whom no other test has."""
        return f"{role}-{next(self._numbers)}"


def _logins() -> str:
    people = [
        f"{role}-{number} demo {role}-{number} {role}\n"
        for role in ("user", "operator", "admin")
        for number in range(1, LOGINS_MAX)
    ]
    others = f"hostile demo {USER} user\nana demo ana operator\n"
    return "".join(people) + others


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=url, timeout=2 * PATIENCE_SECONDS, trust_env=False
    ) as http:
        yield http
