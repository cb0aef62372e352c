"""A probe for `sessile verify --probe`, as an agent of ADK: the `agent.py` of its directory. What
it does is in the table of docs/verify.md."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.tools.function_tool import FunctionTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types

NONCE = re.compile("vq[0-9a-f]{32}")
COMMAND = re.compile("probe: ([a-z]+)")
CALLS = {"call": "probe_look", "break": "probe_break", "ask": "probe_ask"}


def given(context: ToolContext) -> dict[str, Any]:
    return {
        "session": context.session.id, "turn": context.invocation_id, "principal": context.user_id,
    }  # fmt: skip


def probe_look(tool_context: ToolContext) -> dict[str, Any]:
    """Say what it was given."""
    return given(tool_context)


def probe_break() -> None:
    """Fail."""
    raise RuntimeError("it was to fail")


def probe_ask(tool_context: ToolContext) -> dict[str, Any]:
    """Wait for an approval."""
    return given(tool_context)


class Probe(BaseLlm):
    """A model that does as it is told."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        parts = [part for each in llm_request.contents for part in each.parts or ()]
        said = [
            part for each in llm_request.contents if each.role == "user"
            for part in each.parts or () if part.text
        ]  # fmt: skip
        text = said[-1].text or ""
        place = max(n for n, part in enumerate(parts) if part is said[-1])
        results = [r for part in parts[place:] if (r := part.function_response)]
        command = (COMMAND.findall(text) or [""])[0]
        if not command or command == "wait":
            await asyncio.sleep(1 if command else 0)
            answer = types.Part(text=text)
        elif command == "fail":
            raise RuntimeError("it was to fail")
        elif command in CALLS and not results:
            answer = types.Part(function_call=types.FunctionCall(name=CALLS[command], args={}))
        else:
            told = {"probe": command, **shown(parts, text), "offered": [*llm_request.tools_dict]}
            if results:
                failed = "error" in (results[-1].response or {})
                told["refused" if failed else "tool"] = (
                    str(results[-1].response) if failed else results[-1].response
                )
            answer = types.Part(text=json.dumps(told))
        yield LlmResponse(content=types.Content(role="model", parts=[answer]))


def shown(parts: list[types.Part], text: str) -> dict[str, Any]:
    """Calls have no ids here by which they could be told apart: they are counted by their order."""
    calls: dict[str, int] = {}
    waiting: list[str] = []
    for part in parts:
        if part.function_call is not None:
            waiting.append(part.function_call.id or f"call {len(calls) + 1}")
            calls[waiting[-1]] = 0
        elif part.function_response is not None:
            name = part.function_response.id or (waiting[-1] if waiting else "?")
            calls[name] = calls.get(name, 0) + 1
    words = NONCE.findall(" ".join(_texts(parts)))
    return {
        "nonce": (NONCE.findall(text) or [""])[0],
        "nonces": list(dict.fromkeys(words)), "calls": calls,
    }  # fmt: skip


def _texts(parts: list[types.Part]) -> Iterator[str]:
    return (part.text for part in parts if part.text)


ask = FunctionTool(probe_ask, require_confirmation=True)
root_agent = LlmAgent(
    name="probe", model=Probe(model="probe"), tools=[probe_look, probe_break, ask]
)
