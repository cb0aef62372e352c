"""An assistant on pydantic-ai, with a model that is a function and answers at once."""

from collections.abc import AsyncIterator

from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Assistant

REPLY = "Your last order came to 42 EUR, and it will arrive on Friday before noon. " * 7


async def _reply(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    yield REPLY[:500]


model = Assistant("model", model=FunctionModel(stream_function=_reply))
