"""Agents that are a function, and what they find when they are run again."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integrations.journal import Journal

from sessile.core.context import TurnContext
from sessile.core.events import MessageAdded, Progress, ToolCompleted, ToolStarted
from sessile.core.transcript import History
from sessile.integrations.functions import FunctionLoop
from sessile.kit import FunctionTool
from sessile.ports.agent import Button, MessageEnd, TextDelta, ThinkingDelta, Tools


async def test_a_generator_yields_text_and_events() -> None:
    async def agent(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[Any]:
        yield ThinkingDelta("hm")
        yield "Hello "
        yield Progress(current_iteration=1)
        yield Button("more", "More", {"page": 2})
        yield TextDelta(history.messages[-1].text)
        yield MessageEnd()
        yield ""
        yield "Bye"

    journal = Journal().asked("Ana")

    await journal.run(FunctionLoop(agent))

    assert journal.transcript() == [
        ("user", "Ana"),
        ("assistant", "Hello Ana"),
        ("assistant", "Bye"),
    ]
    assert Progress(current_iteration=1) in journal.yielded
    assert Button("more", "More", {"page": 2}) in journal.yielded


async def test_an_async_function_returns_its_reply() -> None:
    async def agent(turn: TurnContext) -> str:
        return turn.session_id

    async def silent(turn: TurnContext, history: History) -> None: ...

    journal = Journal().asked("hi")

    assert await journal.run(FunctionLoop(agent)) == "ses_1"
    assert await Journal().asked("hi").run(FunctionLoop(silent)) == ""


async def test_a_callable_object_is_an_agent() -> None:
    class Agent:
        async def __call__(self, turn: TurnContext, history: History) -> str:
            return str(len(history.messages))

    assert await Journal().asked("hi").run(FunctionLoop(Agent())) == "1"


def test_history_is_read_for_those_who_take_it() -> None:
    async def one(turn: TurnContext) -> str:
        return ""

    async def two(turn: TurnContext, history: History) -> str:
        return ""

    async def one_and_default(turn: TurnContext, style: str = "plain") -> str:
        return style

    assert not FunctionLoop(one).reads_history
    assert FunctionLoop(two).reads_history
    assert not FunctionLoop(one_and_default).reads_history


def blocking(turn: TurnContext) -> str:
    return ""


async def without_turn() -> str:
    return ""


async def with_four(turn: Any, history: Any, tools: Any, more: Any) -> str:
    return ""


async def with_keyword(turn: Any, *, history: Any) -> str:
    return ""


@pytest.mark.parametrize("function", [blocking, without_turn, with_four, with_keyword])
def test_a_function_that_cannot_answer_a_turn_is_refused(function: Any) -> None:
    with pytest.raises(TypeError, match="is no agent"):
        FunctionLoop(function)


async def test_what_is_neither_text_nor_event_fails_the_turn() -> None:
    async def agent(turn: TurnContext) -> AsyncIterator[Any]:
        yield 3

    with pytest.raises(TypeError, match="an agent yields text, buttons and events, not int"):
        await Journal().asked("hi").run(FunctionLoop(agent))


async def test_a_turn_cut_anywhere_goes_on_and_does_nothing_twice() -> None:
    ran: list[int] = []

    async def step(turn: TurnContext, number: int) -> int:
        ran.append(number)
        return number * 10

    async def agent(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[Any]:
        first, second = await asyncio.gather(
            tools.call("step", {"number": 1}), tools.call("step", {"number": 1})
        )
        yield f"{first.value} and {second.value}"
        yield MessageEnd()
        third = await tools.call("step", {"number": 2})
        yield f"then {third.value}"
        yield MessageEnd()
        fourth = await tools.call("step", {"number": 3})
        yield f"last {fourth.value}"

    loop = FunctionLoop(agent)
    whole = Journal(tools=(FunctionTool(step),)).asked("go")
    await whole.run(loop)
    assert len(whole.events) == 1 + 4 * 2 + 3
    ran.clear()

    for length in range(1, len(whole.events) + 1):
        journal = whole.cut(length)
        done = len(journal.of(ToolCompleted))
        started = len(journal.of(ToolStarted))
        await journal.run(loop)

        assert len(ran) == 4 - max(done, started), f"cut at {length}"
        assert len(journal.of(MessageAdded)) == 4, f"cut at {length}"
        if started == done:
            assert journal.transcript() == whole.transcript(), f"cut at {length}"
        ran.clear()


async def test_a_steered_message_is_answered_by_another_run() -> None:
    async def agent(turn: TurnContext, history: History) -> str:
        return f"You said {history.messages[-1].text}"

    journal = Journal().asked("one")
    await journal.run(FunctionLoop(agent))
    journal.asked("two")

    assert await journal.run(FunctionLoop(agent)) == "You said two"


async def test_a_reply_that_is_in_the_log_is_not_written_again() -> None:
    async def agent(turn: TurnContext, history: History) -> str:
        return "once"

    journal = Journal().asked("hi")
    await journal.run(FunctionLoop(agent))
    await journal.run(FunctionLoop(agent))

    assert journal.transcript() == [("user", "hi"), ("assistant", "once")]


async def test_an_agent_uses_what_it_is_offered() -> None:
    async def step(turn: TurnContext, number: int) -> int:
        return number

    async def agent(turn: TurnContext, history: History, tools: Tools) -> str:
        call_id = tools.new_call_id()
        steered = await tools.steered()
        told = await tools.call("nowhere")
        result = await tools.call("step", {"number": 1}, call_id=call_id)
        names = [tool.name for tool in tools.offered]
        return f"{names} {steered[0].text} {told.status} {result.call_id == call_id}"

    journal = Journal(tools=(FunctionTool(step),), to_steer=["and"]).asked("hi")

    assert await journal.run(FunctionLoop(agent)) == "['step'] and refused True"
