"""A probe for `sessile verify --probe`, in place of an assistant of Sessile's own kit:
`sessile serve sessile_probe.py`. What it does is in the table of docs/verify.md."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from typing import Any

from sessile import Assistant, History, Tools, TurnContext

NONCE = re.compile("vq[0-9a-f]{32}")
COMMAND = re.compile("probe: ([a-z]+)")
CALLS = {"call": "probe_look", "break": "probe_break", "gated": "probe_gated", "ask": "probe_ask"}

probe = Assistant("probe", owner_grants=["probe"])


def given(turn: TurnContext) -> dict[str, str]:
    who = f"{turn.tenant_id}/{turn.user_id}"
    return {"session": turn.session_id, "turn": turn.turn_id, "principal": who}


@probe.tool("probe_look", idempotent=True)
async def look(turn: TurnContext) -> dict[str, str]:
    return given(turn)


@probe.tool("probe_break")
async def fail(turn: TurnContext) -> None:
    raise RuntimeError("it was to fail")


@probe.tool("probe_gated", idempotent=True, grant="probe")
async def gated(turn: TurnContext) -> dict[str, str]:
    return given(turn)


@probe.tool("probe_ask", idempotent=True, approval=True)
async def ask(turn: TurnContext) -> dict[str, str]:
    return given(turn)


@probe.agent
async def answer(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[str]:
    text = str(turn.input.get("text", ""))
    command = (COMMAND.findall(text) or [""])[0]
    tool, refused = None, None
    match command:
        case "":
            yield text
            return
        case "wait":
            run = secrets.token_hex(4)
            for place in range(40):
                await asyncio.sleep(0.03)
                yield f"run-{run}-{place} "
            return
        case "fail":
            raise RuntimeError("it was to fail")
        case "call" | "break" | "gated" | "ask":
            result = await tools.call(CALLS[command], {})
            tool, refused = result.value, result.reason
    calls: dict[str, int] = {}
    said: list[str] = [text]
    for message in history.messages:
        said.append(message.text)
        for part in message.parts:
            if part.get("type") == "tool_result":
                calls[part["call_id"]] = calls.get(part["call_id"], 0) + 1
    told: dict[str, Any] = {
        "probe": command, "nonce": (NONCE.findall(text) or [""])[0], "agent": given(turn),
        "tool": tool, "refused": refused, "offered": [each.name for each in tools.offered],
        "nonces": list(dict.fromkeys(NONCE.findall(" ".join(said)))), "calls": calls,
    }  # fmt: skip
    yield json.dumps(told)
