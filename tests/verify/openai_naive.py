"""The naive backend behind OpenAI's Conversations and Responses. A conversation takes one response
at a time, and says so as OpenAI does: by a 400 with a code."""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.verify.naive import PEOPLE, Backend, Refused, Session, Turn

PAGE = 100
UNDER_WAY = {"queued": "queued", "running": "in_progress"}


class Locked(Exception):
    pass


class Conversations(Backend):
    async def create(self, request: Request) -> JSONResponse:
        session = self._opened(PEOPLE[request.headers["authorization"]])
        return JSONResponse({"id": session.id, "object": "conversation", "metadata": {}})

    async def items(self, request: Request) -> JSONResponse:
        session = self._found(request)
        kinds = {"user": "input_text", "assistant": "output_text"}
        data = [
            {
                "type": "message", "id": item["id"], "role": item["role"], "status": "completed",
                "content": [{"type": kinds[item["role"]], "text": item["text"]}],
            }
            for item in session.items
        ]  # fmt: skip
        page = data[: int(request.query_params["limit"])]
        return JSONResponse({"object": "list", "data": page, "has_more": len(page) < len(data)})

    async def respond(self, request: Request) -> JSONResponse:
        asked = await request.json()
        request.path_params["session"] = asked["conversation"]
        session = self._found(request)
        if any(turn.state in UNDER_WAY for turn in session.turns.values()):
            raise Locked
        turn = Turn(self._id("resp"), asked["input"])
        session.turns[turn.id] = turn
        self._spawn(session, turn)
        while turn.state in UNDER_WAY and not asked.get("background"):
            await session.grew.wait()
        return self._response(session, turn)

    async def response(self, request: Request) -> JSONResponse:
        return self._response(*self._of(request))

    async def cancel(self, request: Request) -> JSONResponse:
        session, turn = self._of(request)
        turn.cancelled = True
        return self._response(session, turn)

    def _of(self, request: Request) -> tuple[Session, Turn]:
        name = request.path_params["response"]
        for session in self._sessions.values():
            if name in session.turns:
                request.path_params["session"] = session.id
                return self._found(request), session.turns[name]
        raise Refused(404)

    def _response(self, session: Session, turn: Turn) -> JSONResponse:
        named = session.id if not self._now("session-substitution", every=9) else "conv-another"
        output: list[Any] = [
            {"type": "reasoning", "id": f"rs-{turn.id}", "summary": []},
            {
                "type": "message", "id": f"msg-{turn.id}", "role": "assistant",
                "content": [{"type": "output_text", "text": turn.reply, "annotations": []}],
            },
        ]  # fmt: skip
        return JSONResponse({
            "id": turn.id, "object": "response", "conversation": {"id": named},
            "status": UNDER_WAY.get(turn.state, turn.state), "output": output,
        })  # fmt: skip


def conversations(fault: str | None = None) -> Starlette:
    backend = Conversations(fault)

    async def refused(_: Request, error: Exception) -> JSONResponse:
        if isinstance(error, Locked):
            code, status = "conversation_locked", 400
        else:
            assert isinstance(error, Refused)
            code, status = "not_found", error.status
        return JSONResponse({"error": {"code": code, "message": "no"}}, status)

    return Starlette(
        routes=[
            Route("/v1/conversations", backend.create, methods=["POST"]),
            Route("/v1/conversations/{session}", backend.delete, methods=["DELETE"]),
            Route("/v1/conversations/{session}/items", backend.items),
            Route("/v1/responses", backend.respond, methods=["POST"]),
            Route("/v1/responses/{response}", backend.response),
            Route("/v1/responses/{response}/cancel", backend.cancel, methods=["POST"]),
        ],
        exception_handlers={Refused: refused, Locked: refused},
    )
