"""An agent server's task API in its own wire format: background tasks, and their progress as it
happens.

A task is a turn of a session that exists before it. Its presets say which assistant does it and
with which tools; its id names both session and turn, so that nothing has to remember where it is.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, StringConstraints

from sessile import (
    AgentFailed,
    Assistant,
    Ended,
    History,
    IdempotencyKey,
    Principal,
    Reset,
    Server,
    SessionId,
    TenantId,
    Tools,
    Turn,
    TurnContext,
    TurnId,
    UserId,
)

CALLER = Principal(tenant_id=TenantId("demo"), user_id=UserId("tasks"))
"""On whose behalf all tasks run: their wire format has no token."""
STEP_SECONDS = 0.2
PAGE_TASKS = 200

AgentPreset = Literal["researcher", "writer"]
ToolPreset = Literal["full", "read_only"]
STEPS: Mapping[AgentPreset, int] = {"researcher": 5, "writer": 3}
TOOLS: Mapping[ToolPreset, tuple[str, ...]] = {"full": ("notes.*",), "read_only": ("notes.read",)}
STATUSES = {
    "queued": "pending",
    "running": "running",
    "awaiting": "running",
    "completed": "completed",
    "failed": "failed",
    "interrupted": "failed",
    "cancelled": "cancelled",
}
FIGURES = ("current_iteration", "total_iterations", "tokens_used", "total_tokens")
TOLD = {
    "turn.queued": "pending",
    "turn.started": "running",
    "turn.progress": "running",
    "turn.completed": "completed",
    "turn.failed": "failed",
    "turn.interrupted": "failed",
    "turn.cancelled": "cancelled",
}
"""The entries that are told as progress. Each has all four figures, or is of a time when they are
0; a later attempt's start, which has none, is not told."""


# -- the assistants


def assistant_name(agent: AgentPreset, tools: ToolPreset) -> str:
    return f"tasks.{agent}.{tools}"


ASSISTANTS = [assistant_name(agent, tools) for agent in STEPS for tools in TOOLS]


def assistants(*, step_seconds: float = STEP_SECONDS) -> tuple[Assistant, ...]:
    """One for each agent preset with each tool preset. `step_seconds`: how long reading takes."""
    return tuple(_assistant(agent, tools, step_seconds) for agent in STEPS for tools in TOOLS)


def _assistant(agent: AgentPreset, tools: ToolPreset, step_seconds: float) -> Assistant:
    assistant = Assistant(assistant_name(agent, tools), tools_allowed=TOOLS[tools])

    @assistant.tool("notes.read", idempotent=True)
    async def read(_turn: TurnContext, subject: str, page: int) -> str:
        """Read a page of what is known of a subject."""
        await asyncio.sleep(step_seconds)
        return f"Page {page} tells of {subject}."

    @assistant.tool("notes.write", idempotent=True)
    async def write(_turn: TurnContext, text: str) -> int:
        """Keep a note."""
        return len(text)

    @assistant.agent
    async def work(turn: TurnContext, _history: History, tools: Tools) -> AsyncIterator[str]:
        presets: Mapping[str, Any] = turn.input.get("metadata") or {}
        wanted = presets.get("assistant", turn.assistant)
        if wanted not in ASSISTANTS:
            raise AgentFailed("unknown_preset", f"There is no assistant {wanted!r} for tasks.")
        if wanted != turn.assistant:
            await turn.hand_off(wanted, reason="The task's presets name it.")
            return
        async for text in _worked(turn, tools, pages=STEPS[agent]):
            yield text

    return assistant


async def _worked(turn: TurnContext, tools: Tools, *, pages: int) -> AsyncIterator[str]:
    """A run that lost its server is repeated from the top: pages that were read are answered from
    the log."""
    subject, words = turn.input["text"], 0
    for page in range(1, pages + 1):
        result = await tools.call("notes.read", {"subject": subject, "page": page})
        words += len(str(result.value or result.reason).split())
        await turn.progress(current_iteration=page, tokens_used=words, note=f"Page {page}")
    kept = await tools.call("notes.write", {"text": f"{subject}: {words} words"})
    yield f"I read {pages} pages of {words} words about {subject}."
    yield " I kept a note." if kept.status == "completed" else f" I kept no note: {kept.reason}"


# -- the wire format


class NewTask(BaseModel):
    """What is to be done. Where presets are not given, a session that exists keeps its own."""

    model_config = ConfigDict(extra="forbid")  # a session that is misspelt is not replaced either

    task: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    session_id: str | None = None
    agent_preset: AgentPreset | None = None
    tool_preset: ToolPreset | None = None

    @property
    def assistant(self) -> str | None:
        if self.session_id is not None and self.agent_preset is None and self.tool_preset is None:
            return None
        return assistant_name(self.agent_preset or "researcher", self.tool_preset or "full")


@dataclass(frozen=True, slots=True)
class Cursor:
    """From where on a session is followed: behind the entry `after`."""

    session_id: SessionId
    after: int


def router(server: Server) -> APIRouter:
    """The routes, for `server.mount` of a server that this machine alone can reach: whoever
    reaches them may use them."""
    routes = APIRouter(prefix="/api", tags=["tasks"])

    @routes.post("/tasks", status_code=202)
    async def start_task(body: NewTask, idempotency_key: IdempotencyKey = None) -> dict[str, Any]:
        return await _started(server, body, idempotency_key)

    @routes.get("/tasks")
    async def list_tasks(
        session_id: str, after: Annotated[int, Query(ge=0, le=2**31)] = 0
    ) -> dict[str, Any]:
        page = await server.reads.turns(
            CALLER, SessionId(session_id), after=after, limit=PAGE_TASKS
        )
        behind = page.items[-1].position if page.more else None
        return {"tasks": [task_record(turn) for turn in page.items], "next": behind}

    @routes.get("/tasks/{task_id}")
    async def get_task(task_id: str) -> dict[str, Any]:
        return task_record(await server.reads.turn(CALLER, *_named(task_id)))

    @routes.post("/tasks/{task_id}/cancel")
    async def cancel_task(task_id: str, response: Response) -> dict[str, Any]:
        turn = await server.cancel(CALLER, *_named(task_id))
        response.status_code = 200 if turn.ended else 202
        return task_record(turn)

    async def cursor(
        session_id: str, last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = ""
    ) -> Cursor:
        """Raises SessionNotFound before the stream begins. What is no cursor is the beginning:
        nothing is left out."""
        await server.reads.found(CALLER, SessionId(session_id))
        known = last_event_id.isascii() and last_event_id.isdigit()
        return Cursor(SessionId(session_id), int(last_event_id[:15]) if known else 0)

    @routes.get("/sse", response_class=EventSourceResponse)
    async def follow_tasks(
        at: Annotated[Cursor, Depends(cursor)],
    ) -> AsyncIterator[ServerSentEvent]:
        async for event in _events(server, at):
            yield event

    return routes


async def _started(server: Server, body: NewTask, idempotency_key: str | None) -> dict[str, Any]:
    """The session is there before the task is; one that was given is never replaced."""
    assistant = body.assistant
    metadata = {} if assistant is None else {"assistant": assistant}
    given = {"type": "task", "text": body.task, "metadata": metadata}
    if body.session_id is None:
        submitted = await server.sessions.open_with(
            CALLER, given, assistant=assistant, idempotency_key=idempotency_key
        )
    else:
        submitted = await server.submit(
            CALLER, SessionId(body.session_id), given, idempotency_key=idempotency_key
        )
    record = task_record(submitted.turn)
    # It may have begun already, which is told as progress: what is told here is that it is
    # accepted.
    return record if submitted.repeated else {**record, "status": "pending"}


async def _events(server: Server, at: Cursor) -> AsyncIterator[ServerSentEvent]:
    """Progress as it is in the log, and then as it comes; the id of each is its entry's place."""
    async for item in server.follow(CALLER, at.session_id, after=at.after):
        if isinstance(item, Ended):
            yield ServerSentEvent(event="end", data={"reason": item.reason})
        elif isinstance(item, Reset):
            head = item.found.head.head
            yield ServerSentEvent(event="reset", id=str(head), data={"session_id": at.session_id})
        else:
            for entry in item.entries:
                body = json.loads(entry.body)
                if entry.kind in TOLD and body.get("attempt", 1) == 1:
                    event = {
                        **_named_as(at.session_id, entry.turn_id),
                        **_state(TOLD[entry.kind], body.get("output"), body),
                        "note": body.get("note", ""),
                        "at": _timestamp(entry.at_ms),
                    }
                    yield ServerSentEvent(id=str(entry.seq), data=event)


def _named(task_id: str) -> tuple[SessionId, TurnId]:
    session_id, _, turn_id = task_id.partition(".")
    return SessionId(session_id), TurnId(turn_id)


def _named_as(session_id: str, turn_id: str | None) -> dict[str, Any]:
    return {"task_id": f"{session_id}.{turn_id}", "session_id": session_id}


def _state(status: str, output: str | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """What replies and events say alike."""
    figures = {name: known.get(name, 0) for name in FIGURES}
    result = None
    if status == "completed":
        iterations, tokens = figures["current_iteration"], figures["tokens_used"]
        result = {"answer": output, "iterations": iterations, "tokens_used": tokens}
    return {"status": status, **figures, "result": result}


def task_record(turn: Turn) -> dict[str, Any]:
    """A task as every reply has it: each field always there."""
    figures = {name: getattr(turn.progress, name) for name in FIGURES}
    return {
        **_named_as(turn.session_id, turn.turn_id),
        "task": turn.input["text"],
        **_state(STATUSES[turn.status], turn.output, figures),
        "error": (turn.error or {}).get("message"),
        "created_at": _timestamp(turn.created_at_ms),
        "ended_at": None if turn.ended_at_ms is None else _timestamp(turn.ended_at_ms),
    }


def _timestamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
