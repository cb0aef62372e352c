"""Served to the browser's tests as a process of its own: the demos, and two assistants that do what
a test tells them.

`player` holds where a test wants to look, until `POST /test/go/{session_id}` tells it to go on.
`hostile` answers what would run in a page that takes text for HTML.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from tests.browser.hostile import PAYLOADS, nested

from sessile import (
    Assistant,
    Button,
    History,
    MessageEnd,
    Server,
    Settings,
    ToolError,
    Tools,
    TurnContext,
)
from sessile.demo import banking, sites, support, tasks, workspace
from sessile.demo.assistant import demo_assistant

gates: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))
"""Of each session: how often it may go on."""

Yielded = str | Button | MessageEnd

player = Assistant("player", description="Does what the test says.", owner_grants=["stock"])


def words(first: int, last: int) -> str:
    return "".join(f"w{number} " for number in range(first, last + 1))


@player.agent
async def play(turn: TurnContext, _history: History, tools: Tools) -> AsyncIterator[Yielded]:
    verb, _, rest = turn.input["text"].partition(" ")
    gate = gates[turn.session_id]
    if verb == "write":  # write 5 20: so many words, a halt, and on to the last one
        first, last = map(int, rest.split())
        for number in range(1, first + 1):
            yield words(number, number)
        await gate.acquire()
        for number in range(first + 1, last + 1):
            yield words(number, number)
    elif verb == "hold":
        await gate.acquire()
        yield f"held: {rest}"
    elif verb == "call":
        result = await tools.call(rest)
        yield f"{rest} {result.status}: {result.value or result.reason}"
    elif verb == "progress":
        await turn.progress(
            current_iteration=3, total_iterations=12, tokens_used=1234, total_tokens=5000
        )
        await gate.acquire()
        yield "all of it"
    elif verb == "fill":  # so many messages, and half as many calls
        for number in range(1, int(rest) + 1):
            yield f"line {number}"
            yield MessageEnd()
        await asyncio.gather(*(tools.call("quick") for _ in range(int(rest) // 2)))
        yield "filled"
    elif verb == "offer":
        yield "Pick one."
        yield Button("pick", "The first", {"number": 1})
        yield Button("pick", "The second", {"number": 2})
    elif verb == "say":
        yield rest
    else:
        yield f"heard: {turn.input['text']}"


@player.button("pick", label="Pick")
async def pick(_turn: TurnContext, payload: dict[str, Any]) -> str:
    return f"You picked {payload['number']}."


@player.tool("held.work", idempotent=True)
async def held_work(turn: TurnContext) -> str:
    """Is done when the test says so."""
    await gates[turn.session_id].acquire()
    return "the work is done"


@player.tool("held.fail", idempotent=True)
async def held_fail(turn: TurnContext) -> str:
    """Fails when the test says so."""
    await gates[turn.session_id].acquire()
    raise ToolError("it went wrong")


@player.tool("quick", idempotent=True)
async def quick(_turn: TurnContext) -> str:
    """Is done at once."""
    return "quick"


@player.tool("asks.first", approval=True)
async def asks_first(_turn: TurnContext) -> str:
    """Waits for a yes."""
    return "it was allowed"


@player.tool("stock.count", grant="stock")
async def stock_count(_turn: TurnContext) -> int:
    """Needs a grant."""
    return 12


hostile = Assistant("hostile", description="Answers what must not run.")


@hostile.tool("hostile.result", idempotent=True)
async def hostile_result(_turn: TurnContext) -> dict[str, Any]:
    """Every payload, and deep nesting."""
    return {"payloads": list(PAYLOADS), "nested": nested(40), **{each: each for each in PAYLOADS}}


@hostile.tool("hostile.fail", idempotent=True)
async def hostile_fail(_turn: TurnContext) -> None:
    """Fails in the same words."""
    raise ToolError(" ".join(PAYLOADS))


@hostile.agent
async def answer(turn: TurnContext, _history: History, tools: Tools) -> AsyncIterator[str | Button]:
    if turn.input["text"] == "long":
        for _ in range(16):
            yield "<b>long</b> " * 5_000
        return
    await tools.call("hostile.result")
    await tools.call("hostile.fail")
    for payload in PAYLOADS:
        yield f"{payload}\n\n"
    yield Button("hostile", PAYLOADS[0])


routes = APIRouter(prefix="/test")


@routes.post("/go/{session_id}")
async def go(session_id: str) -> dict[str, str]:
    gates[session_id].release()
    return {"session_id": session_id}


desk = support.assistants()
server = Server(
    demo_assistant(others=desk[:1]),
    *desk,
    *sites.assistants(),
    *banking.assistants(),
    *tasks.assistants(),
    *workspace.assistants(),
    player,
    hostile,
    settings=Settings(),
)
server.mount(routes)
