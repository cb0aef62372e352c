"""The task API as it was: a task starts before its session exists, so that its progress has no
session to go to. Without its fault it is as good as a backend in memory can be."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, Literal

from fastapi import FastAPI
from starlette.responses import StreamingResponse

Fault = Literal["no session", "lost progress", "falling"]
PAGES = 3
PAGE_SECONDS = 0.2
LOOK_SECONDS = 0.02


def backend(fault: Fault | None) -> FastAPI:
    app = FastAPI()
    numbers = count(1)
    tasks: dict[str, dict[str, Any]] = {}
    events: dict[str | None, list[dict[str, Any]]] = defaultdict(list)
    running: set[asyncio.Task[None]] = set()

    async def work(record: dict[str, Any], session_id: str | None) -> None:
        """`session_id`: as it was known when the task was started."""
        for page in range(1, PAGES + 1):
            await asyncio.sleep(PAGE_SECONDS)
            told = dict(record) if fault == "lost progress" else record
            told["status"] = "running"
            told["current_iteration"] = page if fault != "falling" else PAGES - page
            told["tokens_used"] = 10 * page
            events[session_id].append(dict(told))
        record.update(
            status="completed",
            current_iteration=PAGES,
            total_iterations=PAGES,
            tokens_used=10 * PAGES,
            total_tokens=10 * PAGES,
            result={"answer": "done", "iterations": PAGES, "tokens_used": 10 * PAGES},
        )
        events[session_id].append(dict(record))
        if fault == "no session":
            record["session_id"] = f"session-{next(numbers)}"

    @app.post("/api/tasks", status_code=202)
    async def start(body: dict[str, Any]) -> dict[str, Any]:
        session_id = body.get("session_id")
        record = {
            "task_id": f"task-{next(numbers)}",
            "session_id": session_id,
            "status": "pending",
            "current_iteration": 0,
            "tokens_used": 0,
            "total_iterations": 0,
            "total_tokens": 0,
            "result": None,
        }
        tasks[record["task_id"]] = record
        if fault is None or fault == "falling":
            record["session_id"] = session_id = session_id or f"session-{next(numbers)}"
        events[session_id].append(dict(record))
        task = asyncio.get_running_loop().create_task(work(record, session_id))
        running.add(task)
        task.add_done_callback(running.discard)
        if fault == "lost progress":
            # Too late: what the task tells goes to the session that it was started with.
            record["session_id"] = session_id or f"session-{next(numbers)}"
        return dict(record)

    @app.get("/api/tasks/{task_id}")
    async def look(task_id: str) -> dict[str, Any]:
        return tasks[task_id]

    @app.get("/api/sse")
    async def follow(session_id: str) -> StreamingResponse:
        async def frames() -> AsyncIterator[str]:
            at = 0
            while True:
                for record in events[session_id][at:]:
                    at += 1
                    yield f"id: {at}\ndata: {json.dumps(record)}\n\n"
                await asyncio.sleep(LOOK_SECONDS)

        return StreamingResponse(frames(), media_type="text/event-stream")

    return app
