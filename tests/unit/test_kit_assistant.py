"""What an assistant's declaration holds, and what it refuses."""

import functools
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from tests.integrations.journal import context

from sessile.core.context import TurnContext
from sessile.core.errors import CapturedContext
from sessile.core.transcript import History
from sessile.kit import Assistant
from sessile.ports.agent import AgentEvent, TextDelta, Tools


class Echo:
    reads_history = False
    restarts = True

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        yield TextDelta(turn.session_id)


def test_a_tool_is_declared_bare_or_with_arguments() -> None:
    support = Assistant("support")

    @support.tool
    async def lookup(turn: TurnContext, number: int) -> int:
        return number

    @support.tool("debug.info", idempotent=True, timeout_seconds=5)
    def info(turn: TurnContext) -> str:
        return ""

    @support.tool()
    async def other(turn: TurnContext) -> None: ...

    assert [tool.name for tool in support.tools] == ["lookup", "debug.info", "other"]
    declared = support.tools[1]
    assert (declared.idempotent, declared.timeout_seconds, declared.blocking) == (True, 5, True)
    assert [tool.idempotent for tool in support.tools] == [False, True, False]
    assert not support.exclusive
    assert callable(lookup)
    assert callable(info)


@pytest.mark.parametrize("second", ["debug.info", "debug_info"])
def test_a_name_is_given_once(second: str) -> None:
    support = Assistant("support")

    @support.tool("debug.info")
    async def info(turn: TurnContext) -> None: ...

    with pytest.raises(ValueError, match=r"has a tool 'debug.info' already"):
        support.tool(second)(info)


def test_what_cannot_be_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="is no assistant name"):
        Assistant("no name")
    with pytest.raises(TypeError, match="not one string"):
        Assistant("a", tools_allowed="debug.*")
    with pytest.raises(ValueError, match="brings its own model"):
        Assistant("a", model="demo", agent=lambda turn: None)
    with pytest.raises(ValueError, match="brings its own model"):
        Assistant("a", instructions="Be brief.", agent=lambda turn: None)


def test_an_agent_is_brought_once() -> None:
    support = Assistant("support")

    @support.agent
    async def answer(turn: TurnContext) -> str:
        return ""

    assert support.brought is answer
    with pytest.raises(ValueError, match="has an agent already"):
        support.agent(answer)


def test_an_agent_that_holds_a_context_is_refused() -> None:
    held = context()

    async def answer(turn: TurnContext) -> str:
        return held.session_id

    async def reply(turn: TurnContext, history: TurnContext) -> str:
        return history.session_id

    with pytest.raises(CapturedContext):
        Assistant("support", agent=answer)
    with pytest.raises(CapturedContext):
        Assistant("support", agent=functools.partial(reply, history=held))


@pytest.mark.parametrize("blocking", [False, True])
def test_a_tool_made_elsewhere_that_captured_a_context_is_refused(blocking: bool) -> None:
    class Kept:
        name, description, idempotent, timeout_seconds = "kept", "", False, None
        parameters: Mapping[str, Any] = {"type": "object", "properties": {}}

        def __init__(self, held: TurnContext) -> None:
            self.blocking = blocking
            self._held = held

        def check(self, arguments: Mapping[str, Any]) -> None:
            pass

        async def invoke(self, turn: TurnContext, arguments: Mapping[str, Any]) -> str:
            return self._held.session_id

        def call_blocking(self, turn: TurnContext, arguments: Mapping[str, Any]) -> str:
            return self._held.session_id

    support = Assistant("support")

    with pytest.raises(CapturedContext):
        support.add(Kept(context()))

    assert support.tools == ()


async def test_what_is_driven_is_what_was_declared() -> None:
    support = Assistant("support", description="Helps.", tools_allowed=["debug.*"], exclusive=True)
    agent = support.driven_by(Echo())

    @support.tool
    async def late(turn: TurnContext) -> None: ...

    assert agent.name == "support"
    assert agent.description == "Helps."
    assert agent.tools_allowed == ("debug.*",)
    assert agent.exclusive
    assert not agent.reads_history
    assert agent.restarts
    assert [tool.name for tool in agent.tools] == ["late", "context_status", "context_summarize"]
    reply: Any = [event async for event in agent.run(context(), History(()), _NO_TOOLS)]
    assert reply == [TextDelta("ses_1")]


_NO_TOOLS: Any = None
