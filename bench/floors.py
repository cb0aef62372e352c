"""The least that a server can do: what Sessile is held against, served by the same uvicorn.

`json`: read a request, answer a small object. `commit`: also commit one row to SQLite before the
answer, with the settings that Sessile's store has. `events`: tell whoever has a stream open so many
bytes, encoded once.
"""

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import uvicorn

from sessile.adapters.sqlite.files import connect_writer

HEADERS = [(b"content-type", b"application/json")]


async def _read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


async def _send(send: Any, answer: Any) -> None:
    body = json.dumps(answer).encode()
    headers = [*HEADERS, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def json_app(scope: Any, receive: Any, send: Any) -> None:
    given = json.loads(await _read(receive))
    await _send(send, {"status": "completed", "length": len(given["input"]["text"])})


class CommitApp:
    """One connection, one commit a request."""

    def __init__(self, path: Path) -> None:
        self._connection: sqlite3.Connection = connect_writer(path, busy_seconds=10)
        self._connection.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        given = json.loads(await _read(receive))
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        row = run("INSERT INTO row (body) VALUES (?)", (given["input"]["text"],))
        run("COMMIT")
        await _send(send, {"status": "completed", "id": row.lastrowid})


class EventsApp:
    """GET is a stream; `POST /tell {bytes}` sends a frame of that size to all of them."""

    def __init__(self) -> None:
        self._open: set[asyncio.Queue[bytes]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] == "POST":
            given = json.loads(await _read(receive))
            frame = b"data: " + b"x" * (given["bytes"] - 8) + b"\n\n"
            for each in self._open:
                each.put_nowait(frame)
            await _send(send, {"told": len(self._open)})
            return
        frames: asyncio.Queue[bytes] = asyncio.Queue()
        frames.put_nowait(b"retry: 1000\n\n")
        self._open.add(frames)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_left(receive, frames))
            while frame := await frames.get():
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        self._open.discard(frames)


async def _left(receive: Any, frames: asyncio.Queue[bytes]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    frames.put_nowait(b"")


def main(kind: str, port: int, path: Path) -> None:
    app: Any = {"json": lambda: json_app, "events": EventsApp, "commit": lambda: CommitApp(path)}[
        kind
    ]()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        lifespan="off",
        access_log=False,
        log_level="warning",
        loop="uvloop",
        http="httptools",
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
