"""A chat backend that keeps its word, and does all else in another way than ours: as much as one of
so few lines can of what is found in others."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Wire = dict[str, Any]
BEHIND_SECONDS = 0.15
"""So old is what is read."""
PIECE_SECONDS = 0.02
LIMITED_EVERY = 13
PEOPLE = {"Bearer the-first-one": "p", "Bearer the-second-one": "q"}

MAPPING: Wire = {
    "name": "a stranger",
    "principals": {
        "p": {"Authorization": "Bearer the-first-one"},
        "q": {"Authorization": "Bearer the-second-one"},
    },
    "open": {"request": "POST /chats", "session": ["chat.id"]},
    "send": {
        "request": {"call": "POST /chats/{session}/say", "json": {"text": "{text}"}},
        "session": ["chat"],
        "turn": "run",
    },
    "reads": {
        name: {
            "request": f"GET /chats/{{session}}/{name}",
            "items": "[*]",
            "id": "id",
            "role": "by",
            "roles": {"human": "user", "bot": "assistant"},
            "text": "text",
            "turn": "run",
        }
        for name in ("said", "transcript")
    },
    "turn": {
        "request": "GET /chats/{session}/runs/{turn}",
        "state": "is",
        "session": "chat",
        "reply": "text",
        "states": {"running": "on", "completed": "done", "cancelled": "stopped"},
    },
    "stream": {
        "request": "GET /chats/{session}/live",
        "resume_query": "since",
        "events": {
            "name": "what",
            "session": "chat",
            "turn": "run",
            "started": ["begin"],
            "ended": {"done": "completed", "stopped": "cancelled"},
            "texts": ["piece"],
            "text": "text",
        },
    },
    "cancel": "POST /chats/{session}/runs/{turn}/stop",
    "delete": "DELETE /chats/{session}",
    "list": {"request": "GET /chats", "sessions": "[*].id"},
    "slow_text": "slowly",
    "settle_seconds": 1.0,
}


@dataclass
class Run:
    id: int
    state: str = "on"
    text: str = ""
    stop: bool = False


@dataclass
class Chat:
    id: int
    owner: str
    items: list[tuple[float, Wire]] = field(default_factory=list[tuple[float, Wire]])
    """With when each came to be."""
    events: list[Wire] = field(default_factory=list[Wire])
    runs: dict[int, Run] = field(default_factory=dict[int, Run])
    grew: asyncio.Event = field(default_factory=asyncio.Event)


class Backend:
    def __init__(self, seed: int) -> None:
        self._chance = Random(seed)
        self._numbers = count(1)
        self._asked = count(1)
        self._chats: dict[int, Chat] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def who(self, request: Request) -> str | None:
        """A cookie counts for more than a token."""
        return request.cookies.get("who") or PEOPLE.get(request.headers.get("authorization", ""))

    def limited(self) -> bool:
        return next(self._asked) % LIMITED_EVERY == 0

    def _mine(self, request: Request) -> Chat | None:
        chat = self._chats.get(int(request.path_params["chat"]))
        return chat if chat is not None and chat.owner == self.who(request) else None

    async def open(self, request: Request) -> Response:
        chat = Chat(max(self._chats, default=0) + 1, self.who(request) or "")
        self._chats[chat.id] = chat
        return JSONResponse({"chat": {"id": chat.id}})

    async def list(self, request: Request) -> Response:
        who = self.who(request)
        return JSONResponse([{"id": chat.id} for chat in self._chats.values() if chat.owner == who])

    async def say(self, request: Request) -> Response:
        chat = self._mine(request)
        if chat is None:
            return not_there()
        if len(chat.runs) > 1 and self.limited():
            return later()
        if any(run.state == "on" for run in chat.runs.values()):
            return JSONResponse({"code": "busy"}, 409)
        text = (await request.json())["text"]
        run = Run(next(self._numbers))
        chat.runs[run.id] = run
        self._says(chat, "human", text, None)
        task = asyncio.get_running_loop().create_task(self._answer(chat, run, text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse({"chat": chat.id, "run": run.id}, 202)

    async def _answer(self, chat: Chat, run: Run, text: str) -> None:
        self._tells(chat, run, "begin")
        for number in range(40 if "slowly" in text else self._chance.randrange(2, 6)):
            await asyncio.sleep(PIECE_SECONDS)
            if run.stop:
                break
            run.text += f" word {number}\n"
            self._tells(chat, run, "piece", text=f" word {number}\n")
        run.state = "stopped" if run.stop else "done"
        self._says(chat, "bot", run.text.strip() + (" [stopped]" if run.stop else ""), run.id)
        self._tells(chat, run, run.state)
        self._tells(chat, run, "title", numbered=False)

    def _says(self, chat: Chat, by: str, text: str, run: int | None) -> None:
        item = {"id": next(self._numbers), "by": by, "text": text, "run": run}
        chat.items.append((asyncio.get_running_loop().time(), item))

    def _tells(
        self, chat: Chat, run: Run, what: str, *, numbered: bool = True, **more: Any
    ) -> None:
        name = next(self._numbers) if numbered else None
        named = {"chat": chat.id} if what == "begin" else {}
        chat.events.append({"id": name, "what": what, "run": run.id, **named, **more})
        chat.grew.set()
        chat.grew = asyncio.Event()

    async def run(self, request: Request) -> Response:
        chat = self._mine(request)
        run = chat and chat.runs.get(int(request.path_params["run"]))
        if chat is None or run is None:
            return not_there()
        return JSONResponse({"chat": chat.id, "is": run.state, "text": run.text})

    async def stop(self, request: Request) -> Response:
        chat = self._mine(request)
        run = chat and chat.runs.get(int(request.path_params["run"]))
        if run is not None:
            run.stop = True
        return Response(status_code=204)

    async def delete(self, request: Request) -> Response:
        """Of whatever is not there it is as well to say that it is gone."""
        chat = self._mine(request)
        if chat is not None:
            del self._chats[chat.id]
        return Response(status_code=204)

    async def said(self, request: Request) -> Response:
        """Of what is another's there is nothing, and of what is not there."""
        chat = self._mine(request)
        until = asyncio.get_running_loop().time() - BEHIND_SECONDS
        items = [item for at, item in chat.items if at <= until] if chat is not None else []
        return JSONResponse(items)

    async def live(self, request: Request) -> Response:
        chat = self._mine(request)
        if chat is None:
            return not_there()
        since = int(request.query_params.get("since", "0"))
        told = self._compressed(self._live(chat, since))
        headers = {"Content-Encoding": "gzip"}
        return StreamingResponse(told, media_type="text/event-stream", headers=headers)

    async def _compressed(self, told: AsyncIterator[str]) -> AsyncIterator[bytes]:
        packer = zlib.compressobj(wbits=31)
        async for each in told:
            yield packer.compress(each.encode()) + packer.flush(zlib.Z_SYNC_FLUSH)

    async def _live(self, chat: Chat, since: int) -> AsyncIterator[str]:
        """What is told again has pieces put together, and says so."""
        hello = json.dumps({"what": "hello", "you": next(self._numbers)})
        yield f"\ufeff: hello\r\rdata: {hello}\r\r"
        at = 0
        while at < len(chat.events) and (chat.events[at]["id"] or 0) <= since:
            at += 1
        again: list[Wire] = []
        for event in chat.events[at:]:
            if again and event["what"] == again[-1]["what"] == "piece":
                again[-1] = {**event, "text": again[-1]["text"] + event["text"]}
            else:
                again.append(event)
        at = len(chat.events)
        for event in again:
            yield self._framed({**event, "again": True})
        while chat.id in self._chats:
            grew = chat.grew
            while at < len(chat.events):
                at += 1
                yield self._framed(chat.events[at - 1])
            yield self._framed({"id": None, "what": "alive"})
            await grew.wait()

    def _framed(self, event: Wire) -> str:
        name = "" if event["id"] is None else f"id:{event['id']}\r"
        told = {key: value for key, value in event.items() if key != "id"}
        lines = json.dumps({**told, "at": asyncio.get_running_loop().time()}, indent=1).splitlines()
        return name + "".join(f"data: {line}\r" for line in lines) + "\r"


def not_there() -> Response:
    return JSONResponse({"error": "there is no such chat"}, 404)


def later() -> Response:
    return JSONResponse({"error": "later"}, 429)


def stranger(seed: int = 0) -> Starlette:
    backend = Backend(seed)
    at = "/chats/{chat}"

    async def kept(request: Request, answer: Any) -> Response:
        reply: Response = await answer(request)
        reply.set_cookie("who", backend.who(request) or "")
        return reply

    def route(path: str, answer: Any, method: str, *, limited: bool = False) -> Route:
        async def answered(request: Request) -> Response:
            if limited and backend.limited():
                return later()
            return await kept(request, answer)

        return Route(path, answered, methods=[method])

    return Starlette(
        routes=[
            route("/chats", backend.open, "POST", limited=True),
            route("/chats", backend.list, "GET"),
            route(at, backend.delete, "DELETE"),
            route(f"{at}/say", backend.say, "POST"),
            route(f"{at}/said", backend.said, "GET", limited=True),
            route(f"{at}/transcript", backend.said, "GET", limited=True),
            route(f"{at}/live", backend.live, "GET"),
            route(f"{at}/runs/{{run}}", backend.run, "GET", limited=True),
            route(f"{at}/runs/{{run}}/stop", backend.stop, "POST"),
        ]
    )
