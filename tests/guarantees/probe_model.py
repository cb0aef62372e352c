"""The probe, and beside it an assistant whose model refuses a history as providers do."""

from collections.abc import AsyncIterator
from typing import Any

from probe import declare_tools, hold, note, worker
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sessile import Assistant


def refused_by_a_provider(messages: list[ModelMessage]) -> str | None:
    """Why a provider would refuse this history: calls and results that do not pair up."""
    open_calls: set[str] = set()
    for message in messages:
        if message.kind == "response":
            if open_calls:
                return f"calls without a result: {open_calls}"
            new = [part.tool_call_id for part in message.parts if part.part_kind == "tool-call"]
            open_calls = set(new)
            if len(open_calls) < len(new):
                return f"one id for two calls: {new}"
            continue
        for part in message.parts:
            if part.part_kind in ("tool-return", "retry-prompt"):
                if part.tool_call_id not in open_calls:
                    return f"a result without a call: {part.tool_call_id}"
                open_calls.remove(part.tool_call_id)
            elif part.part_kind == "user-prompt" and open_calls:
                return f"a user speaks before the result: {open_calls}"
    return f"calls without a result: {open_calls}" if open_calls else None


def last_said(messages: list[ModelMessage]) -> tuple[str, list[Any]]:
    """What the user said last, and the results that came since."""
    said, results = "", []
    for message in messages:
        for part in message.parts:
            if part.part_kind == "user-prompt":
                said, results = str(part.content), []
            elif part.part_kind in ("tool-return", "retry-prompt"):
                results.append(part)
    return said, results


async def think(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[Any]:
    fault = refused_by_a_provider(messages)
    if fault is not None:
        note("refused", fault)
        raise ValueError(fault)
    said, results = last_said(messages)
    verb, _, rest = said.partition(" ")
    calls = rest.split(",") if verb == "call" else []
    if calls and not results:
        yield f"calling {len(calls)} "
        # The id is the same each time, as some models do it.
        for index, name in enumerate(calls):
            yield {index: DeltaToolCall(name, "{}", tool_call_id=f"call-{index}")}
    elif verb == "fail":
        raise ValueError("the model is down")
    else:
        if verb == "hold":
            yield "held "
            await hold()
        told = " ".join(f"{part.tool_name}={part.content}" for part in results)
        yield f"heard {rest} {told}"


thinker = Assistant("thinker", model=FunctionModel(stream_function=think))

declare_tools(thinker)

__all__ = ["thinker", "worker"]
