"""Served by test_kill: a turn of two tools, by a function and by a model, that waits at each step.

At a step a file `AGENT.STEP.reached` is made, and `AGENT.STEP.open` is waited for. What the tools
did is in the file `AGENT.effects`.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

from sessile import Assistant, History, Tools, TurnContext

HERE = Path(__file__).parent


async def gate(agent: str, step: str) -> None:
    (HERE / f"{agent}.{step}.reached").touch()
    # The test that opens it is another process.
    while not (HERE / f"{agent}.{step}.open").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def note(agent: str, effect: str) -> None:
    with (HERE / f"{agent}.effects").open("a", encoding="utf-8") as file:
        file.write(f"{effect}\n")


def with_tools(assistant: Assistant) -> Assistant:
    name = assistant.name

    @assistant.tool("one", idempotent=True)
    async def one(turn: TurnContext) -> str:
        """The first of two."""
        note(name, "one began")
        await gate(name, "in-one")
        note(name, "one ended")
        return "1"

    @assistant.tool("two")
    async def two(turn: TurnContext) -> str:
        """The second, which may not be run twice."""
        note(name, "two began")
        await gate(name, "in-two")
        note(name, "two ended")
        return "2"

    return assistant


function = with_tools(Assistant("function"))


@function.agent
async def answer(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[str]:
    await gate("function", "begin")
    first = await tools.call("one")
    await gate("function", "between")
    second = await tools.call("two")
    yield f"one {first.status}, "
    await gate("function", "streaming")
    yield f"two {second.status}"
    await gate("function", "end")


async def reply(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    results = _results(messages)
    if not results:
        await gate("model", "begin")
        yield {0: DeltaToolCall("one", "{}", tool_call_id="one")}
    elif len(results) == 1:
        await gate("model", "between")
        yield {0: DeltaToolCall("two", "{}", tool_call_id="two")}
    else:
        yield f"one {_status(results[0])}, "
        await gate("model", "streaming")
        yield f"two {_status(results[1])}"
        await gate("model", "end")


def _results(messages: list[ModelMessage]) -> list[ToolReturnPart]:
    """Of the turn that runs: what came since the last thing that the user said."""
    results: list[ToolReturnPart] = []
    for message in messages:
        for part in message.parts:
            if part.part_kind == "user-prompt":
                results.clear()
            elif isinstance(part, ToolReturnPart):
                results.append(part)
    return results


def _status(result: ToolReturnPart) -> str:
    return "interrupted" if "Interrupted" in str(result.content) else "completed"


model = with_tools(Assistant("model", model=FunctionModel(stream_function=reply)))
