"""Agents that are one function of the turn, its history and its tools.

A function that lost its node is run again from the top. What it did is not done again: the
messages that are in the log are not written twice, and its tool calls are answered from the log.
It must therefore call its tools in the same order, and await what is not in the log alone by them.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, assert_never

from sessile.core.context import TurnContext
from sessile.core.events import JsonObject, Progress
from sessile.core.ids import CallId
from sessile.core.transcript import History, Message
from sessile.ports.agent import (
    AgentEvent,
    MessageEnd,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolResult,
    Tools,
)


class FunctionLoop:
    """Runs an async generator, which yields events or text, or an async function, which returns
    the text of its reply. It takes `turn`, `turn, history` or `turn, history, tools`."""

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

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        replay = _Replay(tools, _since_asked(turn, history) if self.reads_history else ())
        arguments = (turn, history, replay)[: self._parameters]
        if not self._generates:
            event = _event(await self._function(*arguments))
            if event is not None and not replay.repeats(event):
                yield event
            return
        async with aclosing(self._function(*arguments)) as yielded:
            async for each in yielded:
                event = _event(each)
                if event is not None and not replay.repeats(event):
                    yield event


class _Replay:
    """The tools of a turn whose function is run again, up to where its last message ended.

    The runtime tells calls apart by their order since the turn's last message; what lies before
    that message is answered here, from the history.
    """

    def __init__(self, tools: Tools, recorded: tuple[Message, ...]) -> None:
        self._tools = tools
        self._messages_left = sum(message.role == "assistant" for message in recorded)
        self._outcomes = [
            part for message in recorded for part in message.parts if part["type"] == "tool_result"
        ]

    def repeats(self, event: AgentEvent) -> bool:
        """Whether the event is part of a message that the log has."""
        match event:
            case Progress():
                return False
            case MessageEnd():
                self._messages_left -= 1
                return self._messages_left >= 0
            case TextDelta() | ThinkingDelta():
                return self._messages_left > 0
            case _:
                assert_never(event)

    @property
    def offered(self) -> tuple[Tool, ...]:
        return self._tools.offered

    def new_call_id(self) -> CallId:
        return self._tools.new_call_id()

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        call_id: CallId | None = None,
        body: Callable[[], Awaitable[Any]] | None = None,
        idempotent: bool | None = None,
    ) -> ToolResult:
        if self._messages_left > 0 and call_id is None:
            if recorded := self._take(name, arguments or {}):
                return recorded
        return await self._tools.call(
            name, arguments, call_id=call_id, body=body, idempotent=idempotent
        )

    async def steered(self) -> tuple[Message, ...]:
        return await self._tools.steered()

    def _take(self, name: str, arguments: Mapping[str, Any]) -> ToolResult | None:
        for index, part in enumerate(self._outcomes):
            if part["name"] == name and part["arguments"] == arguments:
                del self._outcomes[index]
                return _result(part)
        return None


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


def _since_asked(turn: TurnContext, history: History) -> tuple[Message, ...]:
    """What the turn did since the user's last message, which may be one that was steered in."""
    turn_id = turn.turn_id
    done: list[Message] = []
    for message in reversed(history.messages):
        if message.turn_id != turn_id or message.role == "user":
            break
        done.append(message)
    return tuple(reversed(done))


def _event(yielded: Any) -> AgentEvent | None:
    match yielded:
        case None | "":
            return None
        case str():
            return TextDelta(yielded)
        case TextDelta() | ThinkingDelta() | MessageEnd() | Progress():
            return yielded
        case _:
            raise TypeError(f"an agent yields text and events, not {type(yielded).__name__}")


def _result(part: JsonObject) -> ToolResult:
    return ToolResult(
        call_id=part["call_id"],
        name=part["name"],
        status=part["status"],
        value=part["result"],
        reason=part["reason"],
    )
