"""A session server as it must not be: it reads a session, waits for the model, and saves it."""

import asyncio
import itertools
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

Stored = dict[str, Any]


class Backend:
    """Just enough of `/v1` to be written to and read."""

    def __init__(self) -> None:
        self._messages: dict[str, list[Stored]] = {}
        self._numbers = itertools.count(1)

    async def open(self, _request: Request) -> JSONResponse:
        session_id = f"ses_{next(self._numbers)}"
        self._messages[session_id] = []
        return JSONResponse({"session_id": session_id}, status_code=201)

    async def submit(self, request: Request) -> JSONResponse:
        session_id = request.path_params["session_id"]
        text = (await request.json())["input"]["text"]
        turn_id = f"trn_{next(self._numbers)}"
        read = list(self._messages[session_id])
        replies = sum(each["role"] == "assistant" for each in read)
        reply = await asyncio.to_thread("Reply {}: you said {!r}.".format, replies + 1, text)
        read.append({"turn_id": turn_id, "role": "user", "text": text})
        read.append({"turn_id": turn_id, "role": "assistant", "text": reply})
        self._messages[session_id] = read  # the fault: whoever saved meanwhile is overwritten
        return JSONResponse({"turn_id": turn_id, "session_id": session_id, "position": 0})

    async def messages(self, request: Request) -> JSONResponse:
        items = self._messages[request.path_params["session_id"]]
        return JSONResponse({"items": items, "next": None})


def naive() -> Starlette:
    backend = Backend()
    return Starlette(
        routes=[
            Route("/v1/sessions", backend.open, methods=["POST"]),
            Route("/v1/sessions/{session_id}/turns", backend.submit, methods=["POST"]),
            Route("/v1/sessions/{session_id}/messages", backend.messages),
        ]
    )
