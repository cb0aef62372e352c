"""Agno's echo: an agent whose model answers the same text, in a second where asked to, served
by AgentOS on SQLite."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from agno.agent import Agent
from agno.db.sqlite import AsyncSqliteDb
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.os import AgentOS


class Echo(Model):
    def invoke(self, *, messages: list[Message], **_: Any) -> ModelResponse:
        said = next(each for each in reversed(messages) if each.role == "user")
        return ModelResponse(role="assistant", content=said.get_content_string())

    async def ainvoke(self, **given: Any) -> ModelResponse:
        answer = self.invoke(**given)
        if "wait a second" in (answer.content or ""):
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


model: Model = Echo(id="echo")
tools: list[Any] = []
if probes := os.environ.get("PROBES"):  # the directory of the checker's probes
    sys.path.append(probes)
    from agno_probe import Probe, tools

    model = Probe(id="probe")

port, file = sys.argv[1:]
agent = Agent(
    id="echo",
    model=model,
    tools=tools,
    db=AsyncSqliteDb(db_file=file),
    add_history_to_context=True,
    telemetry=False,
)
app = AgentOS(agents=[agent], telemetry=False).get_app()

if __name__ == "__main__":
    uvicorn.run(app, port=int(port), log_level="warning")
