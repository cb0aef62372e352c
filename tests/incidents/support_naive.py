"""A support backend as it must not be: its actions are made at the first request, and keep that
request's session. Without the fault it is as good as a backend in memory can be."""

import asyncio
import itertools
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

Fault = Literal["kept session", "second card"]
Wire = dict[str, Any]


class Action:
    """`debug.getSessionInfo`, for one session."""

    def __init__(self, backend: "Backend", session_id: str) -> None:
        self._backend = backend
        self._session_id = session_id

    async def run(self) -> Wire:
        message_id = self._backend.new_id("msg")
        self._show(message_id, "started", None)
        result = await asyncio.to_thread(self._looked_up)
        if self._backend.fault == "second card":
            message_id = self._backend.new_id("msg")
        self._show(message_id, "completed", result)
        return result

    def _looked_up(self) -> Wire:
        company = self._backend.companies[self._session_id]
        return {"session_id": self._session_id, "company": company}

    def _show(self, message_id: str, status: str, result: Wire | None) -> None:
        event = {
            "sessionId": self._session_id,
            "messageId": message_id,
            "action": "debug.getSessionInfo",
            "status": status,
            "result": result,
        }
        self._backend.publish(self._session_id, event)


class Backend:
    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault
        self.companies: dict[str, str] = {}
        self._channels: dict[str, list[Any]] = defaultdict(list)
        self._grew = asyncio.Condition()
        self._numbers = itertools.count(1)
        self._kept: Action | None = None

    def new_id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers)}"

    def publish(self, session_id: str, event: Any) -> None:
        self._channels[session_id].append(event)

    def _action(self, session_id: str) -> Action:
        if self.fault != "kept session":
            return Action(self, session_id)
        if self._kept is None:
            self._kept = Action(self, session_id)  # the fault
        return self._kept

    async def open(self, request: Request) -> JSONResponse:
        session_id = self.new_id("ses")
        self.companies[session_id] = (await request.json())["companyId"]
        return JSONResponse({"sessionId": session_id})

    async def message(self, request: Request) -> JSONResponse:
        session_id = request.path_params["session_id"]
        result = await self._action(session_id).run()
        self.publish(session_id, "replied")
        async with self._grew:
            self._grew.notify_all()
        return JSONResponse({"reply": json.dumps(result)})

    async def channel(self, request: Request) -> StreamingResponse:
        events = self._events(self._channels[request.path_params["session_id"]])
        return StreamingResponse(events, media_type="text/event-stream")

    async def _events(self, channel: list[Any]) -> AsyncIterator[str]:
        for place in itertools.count():
            async with self._grew:
                await self._grew.wait_for(_longer(channel, place))
            yield f"data: {json.dumps(channel[place])}\n\n"


def _longer(channel: list[Any], place: int) -> Callable[[], bool]:
    return lambda: len(channel) > place


def backend(fault: Fault | None) -> Starlette:
    kept = Backend(fault)
    return Starlette(
        routes=[
            Route("/sessions", kept.open, methods=["POST"]),
            Route("/sessions/{session_id}/messages", kept.message, methods=["POST"]),
            Route("/channels/{session_id}", kept.channel),
        ]
    )
