"""An assistant that another one asks: its answer is the result of the call that asked."""

from collections.abc import Callable
from contextlib import aclosing
from typing import Any, cast

from sessile.core.codec import encode
from sessile.core.context import TurnContext
from sessile.core.events import Entry, MessageAdded, Progress
from sessile.core.ids import CallId, Seq
from sessile.core.transcript import History, Message
from sessile.ports.agent import Agent, MessageEnd, TextDelta, Tools


class Asked:
    """Implements `runtime.tools.Asking` for the assistant that is asked: nobody speaks to it, and
    it hands nothing off."""

    decided = "agent"
    handed_off = False

    def __init__(self, context: Callable[[CallId | None], TurnContext]) -> None:
        self.context = context

    async def steered_after(self, made: int) -> tuple[Message, ...]:
        return ()

    def on_waiting(self) -> None:
        raise AssertionError("a call from within a tool does not wait")


async def asked(agent: Agent, turn: TurnContext, question: MessageAdded, tools: Tools) -> str:
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
