"""A server that is asked nonsense, one request after another, by plain functions."""

import asyncio
import gc
import os
import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from time import thread_time
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, Verbosity, settings
from tests.walk.people import Walk, walking

TIMES = int(os.environ.get("FUZZ", "1"))
"""How many times as many inputs as CI has: `make fuzz`."""
CPU_SECONDS_MAX = 2.0
"""Of one request. It is the time that this thread was computing: another program on the machine
adds nothing to it. Requests take a thousandth of it."""
SECONDS_MAX = 30.0
"""Until a reply counts as hanging."""
NODES_OWN = frozenset({"chore", "store"})
"""Tables that a node writes by itself: who does the chores, and whether the disk takes anything."""
OBJECTS_PER_REQUEST = 0.5
"""How many objects a request may leave behind, before it is a leak."""

Headers = list[tuple[bytes, bytes]]


class Request(NamedTuple):
    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


class Answer(NamedTuple):
    status: int
    body: bytes


def many(examples: int) -> Callable[[Any], Any]:
    """So many inputs in CI: other ones at each run, which are shown when they fail."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        database=None,
        print_blob=True,
        verbosity=Verbosity.quiet,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


class Target:
    """`refused`: the last requests that were. Turns are accepted and never run, so that nothing
    but a request writes."""

    def __init__(self, runner: asyncio.Runner, walk: Walk, data_dir: Path) -> None:
        self.run: Callable[[Coroutine[Any, Any, Any]], Any] = runner.run
        self.walk = walk
        self.sent = 0
        self.refused: deque[Request] = deque(maxlen=1_000)
        self.statuses: dict[int, int] = {}
        (self._file,) = data_dir.rglob("sessile.db")
        self._database = sqlite3.connect(self._file)
        self.rows = self.content()

    def close(self) -> None:
        self._database.close()

    def _written(self) -> int:
        """Another number after each commit of anybody, the node's own chores too."""
        version: int = self._database.execute("PRAGMA data_version").fetchone()[0]
        return version

    def content(self) -> bytes:
        """A hash of every row of every table but those of NODES_OWN."""
        found = blake2b()
        tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        for (name,) in self._database.execute(tables).fetchall():
            if name not in NODES_OWN:
                rows = self._database.execute(f"SELECT * FROM {name}").fetchall()
                found.update("".join(sorted(map(repr, rows))).encode())
        return found.digest()

    def opened(self) -> str:
        """A session of Alice's, which no request is blamed for."""
        session_id: str = self.run(self.walk.opened())
        self.rows = self.content()
        return session_id

    def ask(self, request: Request, *, busy: bool = False) -> Answer:
        """Fails where a reply is none that is documented, comes too late, or was refused and yet
        wrote. `busy`: whether 503 is."""
        before, began = self._written(), thread_time()
        answer: Answer = self.run(self._answer(request))
        seconds = thread_time() - began
        self.sent += 1
        if answer.status >= 400:
            self.refused.append(request)
        self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
        assert 200 <= answer.status < 500 or (busy and answer.status == 503), (request, answer)
        assert seconds < CPU_SECONDS_MAX, (seconds, request)
        if self._written() != before:
            rows, self.rows = self.rows, self.content()
            assert answer.status < 400 or self.rows == rows, (request, answer)
        return answer

    async def _answer(self, request: Request) -> Answer:
        status, parts, asked = 0, list[bytes](), False
        begun = asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:  # and gone once its reply begins, so that streams end
                await begun.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                begun.set()
            else:
                parts.append(message.get("body", b""))

        async with asyncio.timeout(SECONDS_MAX):
            await self.walk.app(self._scope(request), receive, send)
        return Answer(status, b"".join(parts))

    def _scope(self, request: Request) -> dict[str, Any]:
        headers = [(name.lower(), value) for name, value in request.headers]
        known = {name for name, _ in headers}
        token = self.walk.token("alice").encode()
        given = {b"host": b"localhost:3006", b"authorization": b"Bearer " + token}
        if request.body:
            given |= {b"content-type": b"application/json"}
        headers += [(name, value) for name, value in given.items() if name not in known]
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1", "method": request.method, "scheme": "http",
            "path": request.path, "raw_path": request.path.encode(errors="surrogatepass"),
            "query_string": request.query, "root_path": "", "headers": headers,
            "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 3006),
        }  # fmt: skip

    def check_no_growth(self) -> None:
        """What was refused is asked again, twice: the second time leaves nothing more behind. It
        is objects that are counted, not bytes that the system lends."""
        again = tuple(self.refused)
        counts: list[int] = []
        for _ in range(2):
            for request in again:
                self.run(self._answer(request))
            gc.collect()
            counts.append(len(gc.get_objects()))
        assert counts[1] - counts[0] < max(200, OBJECTS_PER_REQUEST * len(again)), counts


@contextmanager
def target(data_dir: Path) -> Iterator[Target]:
    with asyncio.Runner() as runner:
        walking_there = walking(
            data_dir=data_dir,
            store_url="sqlite",
            role="surfaces",
            requests_minute_user_max=0,
            requests_minute_tenant_max=0,
            wait_seconds_max=0.05,
        )
        walk = runner.run(walking_there.__aenter__())
        try:
            with closing(Target(runner, walk, data_dir)) as made:
                yield made
        finally:
            runner.run(walking_there.__aexit__(None, None, None))
