"""pydantic-ai's echo behind its own AG-UI endpoint. Its model is a function, which answers the
same text, in a second where asked to; the history is the caller's, or at /kept, a conversation
store's in memory."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import uvicorn
from pydantic_ai import Agent
from pydantic_ai.conversation_store import InMemoryConversationStore
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.usage import UsageLimits
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def _said(messages: list[ModelMessage]) -> str:
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    return "".join(str(part.content) for part in last.parts if isinstance(part, UserPromptPart))


def _answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    return ModelResponse(parts=[TextPart(_said(messages))])


async def _stream(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str]:
    said = _said(messages)
    if "wait a second" in said:
        await asyncio.sleep(1)
    yield said


agent = Agent(FunctionModel(_answer, stream_function=_stream))
if probes := os.environ.get("PROBES"):  # the directory of the checker's probes
    sys.path.append(probes)
    import pydantic_ai_probe

    agent = pydantic_ai_probe.agent
store = InMemoryConversationStore()
# The usage of a kept conversation adds up: by default its 51st run is refused.
limits = UsageLimits(request_limit=None)


async def _run(request: Request) -> Response:
    return await AGUIAdapter.dispatch_request(request, agent=agent)


async def _kept(request: Request) -> Response:
    return await AGUIAdapter.dispatch_request(
        request, agent=agent, conversation_store=store, usage_limits=limits
    )


app = Starlette(
    routes=[Route("/", _run, methods=["POST"]), Route("/kept", _kept, methods=["POST"])]
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
