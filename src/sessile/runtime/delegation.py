"""An assistant that another one asks: its answer is the result of the call that asked."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

from sessile.core.codec import encode
from sessile.core.context import ToolResult, TurnContext
from sessile.core.events import Entry, MessageAdded, Progress
from sessile.core.ids import CallId, Seq
from sessile.core.transcript import History, Message
from sessile.ports.agent import Agent, MessageEnd, TextDelta, Tool
from sessile.runtime.tools import TurnTools


class Below:
    """Implements `ports.agent.Tools` for the assistant that is asked: its calls are made from
    within the call that asked, and nobody speaks to it."""

    decided = "agent"
    handed_off = False

    def __init__(self, tools: TurnTools, parent: CallId | None) -> None:
        self._tools = tools
        self._parent = parent

    @property
    def offered(self) -> tuple[Tool, ...]:
        """None that waits for an approval: a call from within a tool cannot."""
        return tuple(tool for tool in self._tools.offered if not tool.approval)

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
        return await self._tools.call(
            name,
            arguments,
            call_id=call_id,
            body=body,
            idempotent=idempotent,
            parent=self._parent,
        )

    async def steered(self) -> tuple[Message, ...]:
        return ()


async def asked(agent: Agent, turn: TurnContext, question: MessageAdded, tools: Below) -> str:
    """The text of its last message."""
    entry = Entry(Seq(0), question.kind, question.turn_id, 0, encode(question))
    said: list[str] = []
    async with aclosing(cast(Any, agent.run(turn, History((entry,)), tools))) as events:
        async for event in events:
            match event:
                case TextDelta(text):
                    said.append(text)
                case MessageEnd(parts):
                    if parts is not None:
                        said = [part["text"] for part in parts if part["type"] == "text"]
                case Progress():
                    await turn.progress(tokens_used=turn.reached.tokens_used + event.tokens_used)
                case _:
                    pass
    return "".join(said)
