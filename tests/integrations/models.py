"""Models that follow a script: what they answer depends on nothing but the messages."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

Step = str | Sequence[Any] | Callable[[list[ModelMessage]], Any]


def call(name: str, arguments: Any = None, *, call_id: str = "same") -> DeltaToolCall:
    """A tool call; `arguments` that are text are sent as they are."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return DeltaToolCall(name, text, tool_call_id=call_id)


def thinking(text: str, **details: Any) -> DeltaThinkingPart:
    return DeltaThinkingPart(content=text, **details)


class Script:
    """A model whose n-th response is the n-th step. A step is a text or a list of texts, calls
    and thinking, or a function of the messages that answers one."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps
        self.asked: list[list[Any]] = []
        """What the model was shown at each request."""
        self.offered: list[list[str]] = []
        self.instructions: list[str | None] = []

    def model(self) -> FunctionModel:
        return FunctionModel(self._whole, stream_function=self._stream, model_name="script")

    async def _whole(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        parts: list[Any] = []
        async for item in self._stream(messages, info):
            if isinstance(item, str):
                parts.append(TextPart(item))
            else:
                parts.extend(
                    ToolCallPart(each.name, each.json_args, each.tool_call_id)
                    for each in item.values()
                )
        return ModelResponse(parts=parts)

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        self.asked.append(shape(messages))
        self.offered.append([tool.name for tool in info.function_tools])
        self.instructions.append(info.instructions)
        place = sum(isinstance(message, ModelResponse) for message in messages)
        step = self._steps[min(place, len(self._steps) - 1)]
        if callable(step):
            step = step(messages)
        for index, item in enumerate([step] if isinstance(step, str) else step):
            yield item if isinstance(item, str) else {index: item}


def shape(messages: Sequence[ModelMessage]) -> list[Any]:
    """The messages without what no model is shown."""
    shapes: list[Any] = []
    for message in messages:
        for part in message.parts:
            said: Any = getattr(part, "content", None)
            if part.part_kind == "tool-call":
                said = (part.tool_name, part.args_as_dict(), part.tool_call_id)
            elif part.part_kind == "tool-return":
                said = (part.tool_name, part.tool_call_id, part.outcome, part.content)
            shapes.append((part.part_kind, said))
    return shapes
