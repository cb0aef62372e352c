"""Agents that are one function of the turn, its history and its tools.

A function that lost its node is run again from the top. What it did is not done again: the
messages that are in the log are not written twice, and its tool calls are answered from the log.
It must therefore ask its tools the same each time, and await what is not in the log alone by them.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from sessile.core.context import TurnContext
from sessile.core.events import Progress
from sessile.core.transcript import History
from sessile.ports.agent import (
    AgentEvent,
    Button,
    MessageEnd,
    TextDelta,
    ThinkingDelta,
    Tools,
)


class FunctionLoop:
    """Runs an async generator, which yields text, events and the buttons under its reply, or an
    async function, which returns the text of its reply. It takes `turn`, `turn, history` or `turn,
    history, tools`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        code: Any = function if inspect.isroutine(function) else type(function).__call__
        self._generates = inspect.isasyncgenfunction(code)
        if not self._generates and not inspect.iscoroutinefunction(code):
            raise TypeError(f"{function!r} is no agent: it is neither async nor an async generator")
        self._function = function
        self._parameters = _parameters(function)

    @property
    def reads_history(self) -> bool:
        return self._parameters > 1

    @property
    def restarts(self) -> bool:
        return True

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        arguments = (turn, history, tools)[: self._parameters]
        if not self._generates:
            if (event := _event(await self._function(*arguments))) is not None:
                yield event
            return
        async with aclosing(self._function(*arguments)) as yielded:
            async for each in yielded:
                if (event := _event(each)) is not None:
                    yield event


def _parameters(function: Callable[..., Any]) -> int:
    parameters = inspect.signature(function).parameters.values()
    required = [each for each in parameters if each.default is each.empty]
    positional = all(
        each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in required
    )
    if not positional or not 1 <= len(required) <= 3:
        raise TypeError(
            f"{function!r} is no agent: it takes `turn`, `turn, history` or `turn, history, tools`"
        )
    return len(required)


def _event(yielded: Any) -> AgentEvent | None:
    match yielded:
        case None | "":
            return None
        case str():
            return TextDelta(yielded)
        case TextDelta() | ThinkingDelta() | MessageEnd() | Progress() | Button():
            return yielded
        case _:
            kind = type(yielded).__name__
            raise TypeError(f"an agent yields text, buttons and events, not {kind}")
