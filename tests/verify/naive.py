"""A chat backend in memory with each fault to be switched on; without one, as good as so small a
one can be. A fault is named as the check that finds it."""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Wire = dict[str, Any]
STEP_SECONDS = 0.002
KEPT_EVENTS = 100
"""Where no more are kept."""
SLOW_STEPS, SLOW_STEP_SECONDS = 40, 0.025
NONCE = re.compile("vq[0-9a-f]{32}")
PEOPLE = {"Bearer p": "p", "Bearer q": "q"}

MAPPING: Wire = {
    "name": "naive",
    "principals": {"p": {"Authorization": "Bearer p"}, "q": {"Authorization": "Bearer q"}},
    "open": {"request": "POST /sessions", "session": ["id"]},
    "send": {
        "request": {
            "call": "POST /sessions/{session}/turns",
            "headers": {"Idempotency-Key": "{key}"},
            "json": {"text": "{text}"},
        },
        "session": ["session"],
        "turn": "turn",
        "keyed": True,
    },
    "reads": {
        name: {
            "request": f"GET /sessions/{{session}}/{name}",
            "items": "items[*]",
            "id": "id",
            "role": "role",
            "text": "text",
            "turn": "turn",
        }
        for name in ("messages", "export")
    },
    "turn": {
        "request": "GET /sessions/{session}/turns/{turn}",
        "state": "state",
        "reply": "reply",
        "session": "session",
        "states": {
            each: each for each in ("queued", "running", "completed", "failed", "cancelled")
        },
        "progress": {"current_iteration": "done", "total_iterations": "all"},
    },
    "stream": {
        "request": "GET /sessions/{session}/events",
        "resume_header": "Last-Event-ID",
        "events": {
            "name": "kind",
            "seq": "seq",
            "session": "session",
            "turn": "turn",
            "texts": ["text"],
            "text": "text",
            "started": ["started"],
            "ended": {each: each for each in ("completed", "failed", "cancelled")},
            "call": "call",
            "call_started": ["call"],
            "call_ended": ["outcome"],
            "progress_in": ["progress"],
            "progress": {"current_iteration": "done", "total_iterations": "all"},
        },
    },
    "cancel": "POST /sessions/{session}/turns/{turn}/cancel",
    "delete": "DELETE /sessions/{session}",
    "list": {"request": "GET /sessions", "sessions": "ids[*]"},
    "slow_text": "slowly",
    "tool_text": "with a tool",
}
BOT: Wire = {
    "name": "naive bot",
    "send": {
        "request": {"call": "POST /bot", "json": {"from": "{user}", "text": "{text}"}},
        "session": ["id"],
        "reply": "text",
        "opens": True,
        "exclusive": True,
    },
}


@dataclass
class Turn:
    id: str
    text: str
    state: str = "queued"
    reply: str = ""
    done: int = 0
    asked_after: int = 0
    cancelled: bool = False
    silent: bool = False


@dataclass
class Session:
    id: str
    owner: str
    items: list[Wire] = field(default_factory=list[Wire])
    events: list[Wire] = field(default_factory=list[Wire])
    seq: int = 0
    turns: dict[str, Turn] = field(default_factory=dict[str, Turn])
    keys: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    grew: asyncio.Event = field(default_factory=asyncio.Event)
    readers: int = 0
    posted: float = float("-inf")
    busy: int = 0
    gone: bool = False


class Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class Backend:
    def __init__(self, fault: str | None = None) -> None:
        self.fault = fault
        self._numbers = count(1)
        self._sessions: dict[str, Session] = {}
        self._bots: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._happened: dict[str, int] = defaultdict(int)

    def _now(self, fault: str, *, every: int = 1) -> bool:
        """Whether this fault is on, and due: each so-manieth time that it could strike."""
        if self.fault != fault:
            return False
        self._happened[fault] += 1
        return self._happened[fault] % every == 0

    def _id(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers):08d}"

    # -- who may

    def _found(self, request: Request, fault: str = "") -> Session:
        who = PEOPLE.get(request.headers.get("authorization", ""))
        session = self._sessions.get(request.path_params["session"])
        if session is None or session.gone:
            raise Refused(404)
        if session.owner != who and not self._now(fault):
            raise Refused(403 if self.fault == "existence-oracle" else 404)
        return session

    # -- routes

    async def open(self, request: Request) -> JSONResponse:
        session = self._opened(PEOPLE[request.headers["authorization"]])
        told: str | None = session.id
        if self._now("null-session-id", every=3):
            told = None
        if self._now("unusable-session-id", every=4):
            del self._sessions[session.id]
        return JSONResponse({"id": told}, 201)

    def _opened(self, owner: str) -> Session:
        session = Session(self._id("session"), owner)
        self._sessions[session.id] = session
        return session

    async def list(self, request: Request) -> JSONResponse:
        who = PEOPLE[request.headers["authorization"]]
        mine = [s.id for s in self._sessions.values() if s.owner == who and not s.gone]
        return JSONResponse({"ids": mine})

    async def post(self, request: Request) -> JSONResponse:
        session = self._found(request, "cross-tenant-write")
        text = (await request.json())["text"]
        key = request.headers["idempotency-key"]
        if key in session.keys:
            turn_id, before = session.keys[key]
            if before != text:
                raise Refused(422)
            if self._now("key-taken-again"):
                turn_id = self._alias(session, turn_id)
            if self._now("duplicate-turn"):
                self._says(session, session.turns[turn_id], "user", text)
            return JSONResponse({"session": session.id, "turn": turn_id}, 202)
        running = [turn for turn in session.turns.values() if turn.state == "running"]
        if running and self._now("undeclared-busy-policy", every=2):
            raise Refused(409)
        if session.busy:
            raise Refused(409)
        turn = Turn(self._id("turn"), text)
        session.turns[turn.id] = turn
        session.keys[key] = (turn.id, text)
        self._spawn(session, turn)
        if self.fault == "linear-history-cost":
            await asyncio.sleep((len(session.items) / 100) ** 2 * 0.3)
        now = asyncio.get_running_loop().time()
        others = (other for other in self._sessions.values() if other is not session)
        session.posted = now
        if self.fault == "cross-session-contention" and any(
            now - other.posted < 0.6 for other in others
        ):
            await asyncio.sleep(0.4)
        told = session.id
        if self._now("session-substitution", every=9):
            told = next(iter(self._sessions))
        return JSONResponse({"session": told, "turn": turn.id}, 202)

    def _alias(self, session: Session, turn_id: str) -> str:
        other = self._id("turn")
        session.turns[other] = session.turns[turn_id]
        return other

    async def turn(self, request: Request) -> JSONResponse:
        session = self._found(request)
        turn = session.turns.get(request.path_params["turn"])
        if turn is None:
            raise Refused(404)
        done = turn.done
        if turn.state == "running" and self._now("phantom-progress", every=2):
            done = 0 if done else 1
        told = {"session": session.id, "state": turn.state, "reply": turn.reply}
        return JSONResponse({**told, "done": done, "all": 2})

    async def messages(self, request: Request) -> JSONResponse:
        session = self._found(request, "cross-tenant-read")
        items = list(session.items)
        if any(turn.state == "running" for turn in session.turns.values()) and len(items) > 3:
            if self._now("non-monotonic-read", every=2):
                items = items[:1]
        return JSONResponse({"items": items})

    async def export(self, request: Request) -> JSONResponse:
        session = self._found(request, "cross-tenant-read")
        items = [
            item
            for item in session.items
            if self.fault != "divergent-history"
            or item["role"] == "user"
            or int(item["id"][-1]) % 2
        ]
        return JSONResponse({"items": items})

    async def cancel(self, request: Request) -> JSONResponse:
        session = self._found(request)
        turn = session.turns.get(request.path_params["turn"])
        if turn is None:
            raise Refused(404)
        turn.cancelled = self.fault != "unstoppable-turn"
        return JSONResponse({})

    async def delete(self, request: Request) -> Response:
        session = self._found(request)
        session.gone = self.fault != "session-resurrection"
        session.grew.set()
        return Response(status_code=204)

    async def events(self, request: Request) -> StreamingResponse:
        session = self._found(request)
        cursor = request.headers.get("last-event-id")
        at = 0 if self.fault != "late-subscriber-miss" else len(session.events)
        source = session
        if cursor is not None:
            place = cursor.rpartition(".")
            if self.fault == "cross-session-replay":
                source = self._sessions[place[0]]
            ids = [event["id"] for event in source.events]
            at = ids.index(cursor) + 1 if cursor in ids else 0
            if self._now("replay-gap", every=2) and at < len(ids) - 1:
                at += 1
            if self._now("replay-duplicate", every=2):
                at = max(0, at - 1)
            if self.fault == "silent-gap":
                at = max(at, len(ids) - KEPT_EVENTS)
        return StreamingResponse(self._told(session, source, at), media_type="text/event-stream")

    async def _told(self, session: Session, source: Session, at: int) -> AsyncIterator[str]:
        session.readers += 1
        first = session.readers == 1
        yield ":\n\n"
        try:
            while not session.gone:
                grew = source.grew
                while at < len(source.events):
                    event = dict(source.events[at])
                    at += 1
                    if event["kind"] == "note" and not first and self.fault == "fan-out-miss":
                        continue
                    if not first and self.fault == "sequence-reuse" and event["kind"] == "text":
                        event["text"] = "another"
                    name = event.pop("id")
                    said = f"id: {name}\n" if self.fault != "non-resumable-stream" else ""
                    yield f"{said}data: {json.dumps(event)}\n\n"
                await grew.wait()
        finally:
            session.readers -= 1
            if self.fault == "disconnect-cancels-turn" and not session.readers:
                for turn in session.turns.values():
                    turn.cancelled = True

    async def bot(self, request: Request) -> JSONResponse:
        given = await request.json()
        user = given["from"]
        known = self._bots.get(user)
        alone = known is not None and not self._happened[user]
        self._happened[user] += 1
        if self.fault == "duplicate-active-session":
            await asyncio.sleep(0.02)  # looks, and opens where it found none
        elif known is None:
            known = self._bots[user] = self._opened("bot").id
        await asyncio.sleep(0.02)
        self._happened[user] -= 1
        if known is None or (alone and self._now("fallback-session", every=3)):
            known = self._bots[user] = self._opened("bot").id
        return JSONResponse({"id": known, "text": "Hello"})

    # -- a turn

    def _spawn(self, session: Session, turn: Turn) -> None:
        task = asyncio.get_running_loop().create_task(self._run(session, turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, session: Session, turn: Turn) -> None:
        if self.fault == "overlapping-turns":
            await self._answer(session, turn)
            return
        async with session.lock:
            await self._answer(session, turn)

    async def _answer(self, session: Session, turn: Turn) -> None:
        turn.state = "running"
        turn.silent = self._now("unannounced-turn", every=5)
        lost = self._now("lost-message", every=5)
        if not lost:
            self._says(session, turn, "user", turn.text)
        self._event(session, turn, "started")
        if self._now("split-session", every=6):
            mine = [s for s in self._sessions.values() if s.owner == session.owner]
            for other in (each for each in mine if len(each.items) == 2 and each is not session):
                self._says(other, turn, "user", turn.text)
        if self._now("stuck-run", every=12):
            return
        if "slowly" in turn.text:
            await self._slowly(session, turn)
        if "tool" in turn.text:
            call = self._id("call")
            self._event(session, turn, "call", call=call)
            if not self._now("orphan-tool-call", every=3):
                self._event(session, turn, "outcome", call=call)
        for step in (1, 2):
            if turn.cancelled:
                break
            await asyncio.sleep(STEP_SECONDS)
            turn.done = step
            self._event(session, turn, "progress", done=step, all=2)
        if not turn.cancelled:
            said = f"You said {len(turn.text.split())} words."
            turn.reply += said
            self._event(session, turn, "text", text=said)
            if self._now("context-bleed", every=4):
                turn.reply += self._of_another(session)
        self._event(session, turn, "note", text="a note")
        if self._now("misrouted-event", every=4):
            self._misroute(session, turn)
        self._end(session, turn, lost=lost)

    def _end(self, session: Session, turn: Turn, *, lost: bool) -> None:
        kept = turn.reply
        if turn.cancelled:
            if self.fault == "ghost-turn":
                kept += " And more that nobody was told."
            elif self.fault == "lost-partial":
                kept = turn.reply = ""
        if kept and not lost:
            self._says(session, turn, "assistant", kept)
        state = "cancelled" if turn.cancelled else "completed"
        turn.state = state
        if not self._now("missing-terminal", every=5):
            self._event(session, turn, state)
        if self._now("double-terminal", every=5):
            self._event(session, turn, "failed")
        if self.fault == "reordered-turns" and len(session.items) % 4 == 0:
            items = session.items
            items[-4:] = items[-2:] + items[-4:-2]
        if self.fault == "premature-busy":
            session.busy += 1
            asyncio.get_running_loop().call_later(0.1, self._free, session)

    @staticmethod
    def _free(session: Session) -> None:
        session.busy -= 1

    async def _slowly(self, session: Session, turn: Turn) -> None:
        for step in range(SLOW_STEPS):
            if turn.cancelled:
                return
            if self.fault == "silent-stream":
                await asyncio.sleep(0.8)
                return
            await asyncio.sleep(SLOW_STEP_SECONDS)
            turn.reply += f"word {step} "
            self._event(session, turn, "text", text=f"word {step} ")

    def _of_another(self, session: Session) -> str:
        said = " ".join(
            item["text"] for other in self._sessions.values()
            if other is not session and other.owner == session.owner for item in other.items
        )  # fmt: skip
        found = NONCE.findall(said)
        return f" Before, you said {found[0]}." if found else ""

    def _misroute(self, session: Session, turn: Turn) -> None:
        for other in self._sessions.values():
            if other is not session and other.owner == session.owner and other.readers:
                self._event(other, turn, "note", text="for another")

    def _says(self, session: Session, turn: Turn, role: str, text: str) -> None:
        item = {"id": self._id("message"), "role": role, "text": text, "turn": turn.id}
        session.items.append(item)

    def _event(self, session: Session, turn: Turn, kind: str, **more: Any) -> None:
        if turn.silent:
            return
        session.seq += 2 if self._now("sequence-gap", every=9) else 1
        named = session.id if not self._now("unborn-session-event", every=9) else None
        event = {"id": f"{session.id}.{session.seq}", "seq": session.seq, "kind": kind}
        session.events.append({**event, "session": named, "turn": turn.id, **more})
        session.grew.set()
        session.grew = asyncio.Event()


def naive(fault: str | None = None) -> Starlette:
    return app(Backend(fault))


def app(backend: Backend) -> Starlette:
    at = "/sessions/{session}"

    async def refused(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Refused)
        return JSONResponse({"error": "no"}, error.status)

    return Starlette(
        routes=[
            Route("/sessions", backend.open, methods=["POST"]),
            Route("/sessions", backend.list),
            Route(at, backend.delete, methods=["DELETE"]),
            Route(f"{at}/turns", backend.post, methods=["POST"]),
            Route(f"{at}/turns/{{turn}}", backend.turn),
            Route(f"{at}/turns/{{turn}}/cancel", backend.cancel, methods=["POST"]),
            Route(f"{at}/messages", backend.messages),
            Route(f"{at}/export", backend.export),
            Route(f"{at}/events", backend.events),
            Route("/bot", backend.bot, methods=["POST"]),
        ],
        exception_handlers={Refused: refused},
    )
