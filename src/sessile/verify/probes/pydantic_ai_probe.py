"""A probe for `sessile verify --probe`, as an agent of pydantic-ai, such as one behind an AG-UI
endpoint. What it does is in the table of docs/verify.md."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

NONCE = re.compile("vq[0-9a-f]{32}")
COMMAND = re.compile("probe: ([a-z]+)")
CALLS = {"call": "probe_look", "break": "probe_break"}


def step(messages: Sequence[ModelMessage], info: AgentInfo) -> TextPart | ToolCallPart:
    """What a model that does as it is told says next."""
    parts = [part for each in messages for part in each.parts]
    place = max(n for n, part in enumerate(parts) if isinstance(part, UserPromptPart))
    text = str(parts[place].content)
    results = [part for part in parts[place:] if isinstance(part, ToolReturnPart | RetryPromptPart)]
    command = (COMMAND.findall(text) or [""])[0]
    if not command or command == "wait":
        return TextPart(text)
    if command == "fail":
        raise RuntimeError("it was to fail")
    if command in CALLS and not results:
        return ToolCallPart(CALLS[command], "{}", tool_call_id=f"call-{NONCE.findall(text)[0]}")
    told = {"probe": command, **shown(parts, text)}
    told["offered"] = [each.name for each in info.function_tools]
    if results:
        failed = isinstance(results[-1], RetryPromptPart)
        told["refused" if failed else "tool"] = results[-1].content
    return TextPart(json.dumps(told))


def shown(parts: Sequence[Any], text: str) -> dict[str, Any]:
    calls: dict[str, int] = {}
    for part in parts:
        if isinstance(part, ToolCallPart):
            calls.setdefault(part.tool_call_id, 0)
        elif isinstance(part, ToolReturnPart | RetryPromptPart):
            calls[part.tool_call_id] = calls.get(part.tool_call_id, 0) + 1
    said = [str(each.content) for each in parts if isinstance(each, UserPromptPart | TextPart)]
    return {
        "nonce": (NONCE.findall(text) or [""])[0],
        "nonces": list(dict.fromkeys(NONCE.findall(" ".join(said)))), "calls": calls,
    }  # fmt: skip


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[step(messages, info)])


async def stream(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    said = step(messages, info)
    if isinstance(said, ToolCallPart):
        yield {0: DeltaToolCall(said.tool_name, "{}", tool_call_id=said.tool_call_id)}
        return
    if "probe: wait" in said.content:
        run = secrets.token_hex(4)
        for place in range(40):
            await asyncio.sleep(0.03)
            yield f"run-{run}-{place} "
    yield said.content


agent = Agent(FunctionModel(answer, stream_function=stream))


@agent.tool
def probe_look(context: RunContext[Any]) -> dict[str, str | None]:
    """Say what it was given."""
    return {"session": context.conversation_id, "turn": context.run_id}


@agent.tool_plain
def probe_break() -> str:
    """Fail."""
    raise RuntimeError("it was to fail")
