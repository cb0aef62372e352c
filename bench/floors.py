"""The least that a server can do: what Sessile is held against, served by the same uvicorn.

`json`: read a request, answer a small object. `commit`: also commit one row to SQLite before the
answer, with the settings that Sessile's store has.
"""

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


def main(kind: str, port: int, path: Path) -> None:
    app = json_app if kind == "json" else CommitApp(path)
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
