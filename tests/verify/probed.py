"""The naive backend with a probe in it, gates and approvals, and the faults that only a probe
shows."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.verify import naive
from tests.verify.naive import NONCE, Backend, Session, Turn, Wire

COMMAND = re.compile("probe: ([a-z]+)")
GRANTS: Wire = {
    "give": "PUT /sessions/{session}/grant",
    "take": "DELETE /sessions/{session}/grant",
    "tools": "GET /sessions/{session}/tools",
    "names": "tools[*]",
}
APPROVALS: Wire = {
    "pending": "GET /sessions/{session}/calls",
    "calls": "calls[*]",
    "approve": "POST /sessions/{session}/calls/{call}",
}
MAPPING: Wire = {
    **deepcopy(naive.MAPPING), "probe": True, "grants": GRANTS, "approvals": APPROVALS,
}  # fmt: skip


@dataclass
class Known:
    """What the probe's backend knows of a session besides."""

    granted: bool = False
    failed: bool = False
    calls: dict[str, int] = field(default_factory=dict[str, int])
    waiting: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])


class Probed(Backend):
    def __init__(self, planted: str | None = None) -> None:
        super().__init__()
        self.planted = planted
        """What is wrong with it: one of test_probe's."""
        self._known: dict[str, Known] = {}
        self._first: Wire | None = None

    def _of(self, session: Session) -> Known:
        return self._known.setdefault(session.id, Known())

    async def _told(self, session: Session, source: Session, at: int) -> AsyncIterator[str]:
        """One that is told again stops at a turn that failed, where that is the fault."""
        again = at > 0 and self.planted == "unreplayable"
        async for told in super()._told(session, source, at):
            yield told
            if again and '"failed"' in told:
                await asyncio.Event().wait()

    # -- gates

    async def grant(self, request: Request) -> JSONResponse:
        known = self._of(self._found(request))
        known.granted = request.method == "PUT" or self.planted == "kept grant"
        return JSONResponse({})

    async def tools(self, request: Request) -> JSONResponse:
        self._found(request)
        hidden = {"probe_gated"} if self.planted == "hidden gate" else set[str]()
        return JSONResponse({"tools": sorted({"probe_look", "probe_gated"} - hidden)})

    async def calls(self, request: Request) -> JSONResponse:
        return JSONResponse({"calls": list(self._of(self._found(request)).waiting)})

    async def approve(self, request: Request) -> JSONResponse:
        waiting = self._of(self._found(request)).waiting.pop(request.path_params["call"], None)
        if waiting is None:
            return JSONResponse({}, 404)
        if self.planted != "consumed":
            waiting.set()
        return JSONResponse({})

    # -- the probe

    async def _answer(self, session: Session, turn: Turn) -> None:
        command = COMMAND.search(turn.text)
        if command is None:
            await super()._answer(session, turn)
            return
        turn.state = "running"
        self._says(session, turn, "user", turn.text)
        self._event(session, turn, "started")
        known = self._of(session)
        said = await self._probe(session, turn, command[1], known)
        known.failed = known.failed or said is None
        if said is None or (known.failed and self.planted == "bricked"):
            turn.state = "failed"
            self._event(session, turn, "failed")
            return
        turn.reply = said
        self._event(session, turn, "text", text=said)
        self._end(session, turn, lost=False)

    async def _probe(self, session: Session, turn: Turn, command: str, known: Known) -> str | None:
        """None where it fails."""
        tool, refused = None, None
        if command in ("fail", "break"):
            if command == "break":
                known.calls[self._id("call")] = 0 if self.planted == "orphan" else 1
            return None
        if command == "ask":
            call = self._id("call")
            known.waiting[call] = asyncio.Event()
            await known.waiting[call].wait()
        allowed = known.granted or self.planted == "no gate"
        if command in ("call", "ask") or (command == "gated" and allowed):
            tool = self._given(session, turn)
        elif command == "gated" and self.planted != "hidden gate":
            refused = "it was not granted"
        shown = [item["text"] for item in session.items]
        if self.planted == "context bleed":
            shown += [self._of_another(session)]
        return json.dumps({
            "probe": command, "nonce": NONCE.findall(turn.text)[0],
            "agent": {}, "tool": tool, "refused": refused, "offered": ["probe_look"],
            "nonces": list(dict.fromkeys(NONCE.findall(" ".join(shown)))), "calls": known.calls,
        })  # fmt: skip

    def _given(self, session: Session, turn: Turn) -> Wire:
        """What was right for the first call is kept, where that is the fault."""
        given = {"session": session.id, "turn": turn.id, "principal": session.owner}
        if self._first is None:
            self._first = dict(given)
        kind, _, what = (self.planted or "").partition(" ")
        if kind == "stale":
            # The second principal's first call is right: a connection that was new.
            seen = self._happened[session.owner]
            self._happened[session.owner] += 1
            given[what] = self._first[what] if seen else given[what]
        return given


def probed(planted: str | None = None) -> Starlette:
    backend = Probed(planted)
    at = "/sessions/{session}"
    gates = [
        Route(f"{at}/grant", backend.grant, methods=["PUT", "DELETE"]),
        Route(f"{at}/tools", backend.tools),
        Route(f"{at}/calls", backend.calls),
        Route(f"{at}/calls/{{call}}", backend.approve, methods=["POST"]),
    ]
    app = naive.app(backend)
    app.router.routes.extend(gates)
    return app


def mapping(**differs: Any) -> Wire:
    return {**deepcopy(MAPPING), **differs}
