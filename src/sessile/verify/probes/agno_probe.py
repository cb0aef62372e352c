"""A probe for `sessile verify --probe`, for Agno: `tools` and `Probe(id="probe")` as the tools and
the model of an agent. What it does is in the table of docs/verify.md."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.run import RunContext

NONCE = re.compile("vq[0-9a-f]{32}")
COMMAND = re.compile("probe: ([a-z]+)")
CALLS = {"call": "probe_look", "break": "probe_break"}


def probe_look(run_context: RunContext) -> str:
    """Say what it was given."""
    return json.dumps({
        "session": run_context.session_id, "turn": run_context.run_id,
        "principal": run_context.user_id,
    })  # fmt: skip


def probe_break() -> str:
    """Fail."""
    raise RuntimeError("it was to fail")


tools = [probe_look, probe_break]


class Probe(Model):
    """A model that does as it is told."""

    def invoke(self, *, messages: list[Message], **_: Any) -> ModelResponse:
        place = max(n for n, each in enumerate(messages) if each.role == "user")
        text = messages[place].get_content_string()
        results = [each for each in messages[place:] if each.role == "tool"]
        command = (COMMAND.findall(text) or [""])[0]
        if not command or command == "wait":
            return ModelResponse(role="assistant", content=text)
        if command == "fail":
            raise RuntimeError("it was to fail")
        if command in CALLS and not results:
            named = {"name": CALLS[command], "arguments": "{}"}
            call = {"id": f"call-{NONCE.findall(text)[0]}", "type": "function", "function": named}
            return ModelResponse(role="assistant", tool_calls=[call])
        told = {"probe": command, **shown(messages, text)}
        if results:
            failed = results[-1].tool_call_error
            said = results[-1].get_content_string()
            told["refused" if failed else "tool"] = said if failed else json.loads(said)
        return ModelResponse(role="assistant", content=json.dumps(told))

    async def ainvoke(self, **given: Any) -> ModelResponse:
        answer = self.invoke(**given)
        if "probe: wait" in (answer.content or ""):
            await asyncio.sleep(1)
        return answer

    def invoke_stream(self, **given: Any) -> Iterator[ModelResponse]:
        yield self.invoke(**given)

    async def ainvoke_stream(self, **given: Any) -> AsyncIterator[ModelResponse]:
        yield await self.ainvoke(**given)

    def _parse_provider_response(self, response: ModelResponse, **_: Any) -> ModelResponse:
        return response

    def _parse_provider_response_delta(self, response: ModelResponse) -> ModelResponse:
        return response


def shown(messages: list[Message], text: str) -> dict[str, Any]:
    calls: dict[str, int] = {}
    for each in messages:
        for call in each.tool_calls or ():
            calls.setdefault(call["id"], 0)
        if each.role == "tool":
            calls[each.tool_call_id or "?"] = calls.get(each.tool_call_id or "?", 0) + 1
    words = NONCE.findall(" ".join(each.get_content_string() for each in messages))
    return {
        "nonce": (NONCE.findall(text) or [""])[0], "offered": [each.__name__ for each in tools],
        "nonces": list(dict.fromkeys(words)), "calls": calls,
    }  # fmt: skip
