"""Served by the nodes: an assistant that carries out the plan in the message it answers.

A plan is a word: t some text, e the end of a message, l look for what was steered in, p progress;
n and s tools that are idempotent, quick and slow; c and k ones that are not, quick and slow; g one
that blocks a thread and is not, h one that does and is; a one that is approved first; b two side
by side. What tools did is in the file `runs.jsonl`, beside this one; each text, result and note
says under which fence it was made.
"""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sessile import Assistant, History, Message, MessageEnd, Tools, TurnContext

RUNS = Path(__file__).with_name("runs.jsonl")
PLAN = re.compile(r"(?P<canary>canary-\d+-)(?P<mark>\S+) once plan:(?P<steps>\w*)")
CALLS = {
    "n": ("note",),
    "s": ("slow",),
    "c": ("charge",),
    "k": ("crawl",),
    "g": ("grind",),
    "h": ("hash",),
    "a": ("asks.pay",),
    "b": ("slow", "charge"),
}

chaos = Assistant("chaos")


def record(what: str, turn: TurnContext, **more: Any) -> None:
    """In one write, so that lines of many processes stay whole."""
    line = {
        "what": what,
        "session": turn.session_id,
        "turn": turn.turn_id,
        "call": turn.call_id,
        "fence": turn.fence,
        "pid": os.getpid(),
        "at": time.monotonic(),
        **more,
    }
    descriptor = os.open(RUNS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(descriptor)


def runs(turn: TurnContext, name: str, canary: str, act: str) -> str:
    """Its work begins; what it will answer."""
    record("run", turn, name=name, canary=canary, act=act)
    return f"{canary}fence-{turn.fence}."


@chaos.tool("note", idempotent=True)
async def note(turn: TurnContext, canary: str, act: str) -> str:
    """Quick, and safe to run twice."""
    answer = runs(turn, "note", canary, act)
    await asyncio.sleep(0.02)
    return answer


@chaos.tool("slow", idempotent=True)
async def slow(turn: TurnContext, canary: str, act: str) -> str:
    """Slow, and safe to run twice."""
    answer = runs(turn, "slow", canary, act)
    await asyncio.sleep(1.2)
    return answer


@chaos.tool("charge")
async def charge(turn: TurnContext, canary: str, act: str) -> str:
    """Quick, and never to be run twice."""
    answer = runs(turn, "charge", canary, act)
    await asyncio.sleep(0.05)
    return answer


@chaos.tool("crawl")
async def crawl(turn: TurnContext, canary: str, act: str) -> str:
    """Longer than a lease, and never to be run twice."""
    answer = runs(turn, "crawl", canary, act)
    await asyncio.sleep(2.5)
    return answer


@chaos.tool("grind")
def grind(turn: TurnContext, canary: str, act: str) -> str:
    """Blocks a thread, and is never to be run twice."""
    answer = runs(turn, "grind", canary, act)
    time.sleep(0.4)
    return answer


@chaos.tool("hash", idempotent=True)
def hash_(turn: TurnContext, canary: str, act: str) -> str:
    """Blocks a thread, and is safe to run twice."""
    answer = runs(turn, "hash", canary, act)
    time.sleep(0.4)
    return answer


@chaos.tool("asks.pay", approval=True)
async def pay(turn: TurnContext, canary: str, act: str) -> str:
    """Approved by a person, and never to be run twice."""
    answer = runs(turn, "asks.pay", canary, act)
    await asyncio.sleep(0.05)
    return answer


@chaos.agent
async def answer(
    turn: TurnContext, history: History, tools: Tools
) -> AsyncIterator[str | MessageEnd]:
    message: Message | None = next(m for m in reversed(history.messages) if m.role == "user")
    said = ""
    while message is not None:
        found = PLAN.fullmatch(message.text)
        assert found is not None, message.text
        canary = found["canary"]
        for each in history.messages:
            if not each.text.startswith(canary) and each.role != "tool":
                record("wrong", turn, text=each.text)
        said = f"{canary}fence-{turn.fence}. "
        steered: tuple[Message, ...] = ()
        for place, step in enumerate(found["steps"]):
            match step:
                case "t":
                    for _ in range(3):
                        yield said
                        await asyncio.sleep(0.06)
                case "e":
                    yield said
                    yield MessageEnd()
                case "p":
                    note = f"fence-{turn.fence}."
                    await turn.progress(current_iteration=place, tokens_used=place, note=note)
                case "l":
                    await asyncio.sleep(0.3)
                    if steered := await tools.steered():
                        break
                case _:
                    act = f"{canary}{found['mark']}/{place}"
                    await asyncio.gather(
                        *(
                            tools.call(name, {"canary": canary, "act": f"{act}/{name}"})
                            for name in CALLS[step]
                        )
                    )
        message = steered[-1] if steered else None
    yield said
