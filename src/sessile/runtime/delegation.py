"""An assistant that another one asks: its answer is the result of the call that asked."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, NoReturn, cast

from sessile.core.attempts import user_message
from sessile.core.codec import encode
from sessile.core.context import Door, Identity, ToolResult, TurnContext
from sessile.core.errors import UnknownAssistant
from sessile.core.events import Entry, Progress
from sessile.core.ids import CallId, Seq
from sessile.core.transcript import History, Message
from sessile.ports.agent import Agent, AgentFailed, MessageEnd, TextDelta, ToolError
from sessile.runtime.node import Node
from sessile.runtime.tools import TurnTools, Within

ASKED_DEPTH_MAX = 4
"""Assistants that ask each other, one below the other."""

Ask = Callable[[str, str, CallId | None], Awaitable[str]]


class Questions:
    """What the assistants of one attempt ask each other. `identity`: of the attempt, in a call;
    `on_tokens`: those that somebody used who was asked."""

    def __init__(
        self,
        node: Node,
        door: Door,
        identity: Callable[[CallId | None], Identity],
        tools: Callable[[Agent, Within], TurnTools],
        *,
        on_tokens: Callable[[int], None],
    ) -> None:
        self._node = node
        self._door = door
        self._identity = identity
        self._tools = tools
        self._on_tokens = on_tokens

    async def ask(
        self, tools: TurnTools, assistant: str, text: str, parent: CallId | None, *, depth: int = 1
    ) -> str:
        """`tools`: of who asks. What no tool asks, but an agent itself, is a call too: in the log,
        and answered from it when the agent is run again.

        Raises UnknownAssistant, and ToolError where there is no answer.
        """
        agent = known(self._node, assistant)
        if depth > ASKED_DEPTH_MAX:
            raise ToolError(f"Assistants ask each other at most {ASKED_DEPTH_MAX} deep.")
        if parent is not None:
            return await self._answer(agent, text, parent, depth=depth)
        result = await tools.call(
            f"ask.{assistant}",
            {"question": text},
            within=lambda call_id: self._answer(agent, text, call_id, depth=depth),
            idempotent=True,
        )
        if result.status != "completed":
            raise ToolError(result.reason or "")
        answered: str = result.value
        return answered

    async def _answer(self, agent: Agent, text: str, parent: CallId, *, depth: int) -> str:
        given = {"type": "message", "text": text}
        turn_id = self._identity(None).turn_id
        question = user_message(turn_id, self._node.ids.message_id(), given)
        history = History((Entry(Seq(0), question.kind, turn_id, 0, encode(question)),))

        def context(call_id: CallId | None) -> TurnContext:
            self._door.check()
            identity = replace(
                self._identity(call_id), assistant=agent.name, input=given, reached=Progress()
            )
            return TurnContext(identity, door, history)

        def ask(assistant: str, text: str, parent: CallId | None) -> Awaitable[str]:
            return self.ask(tools, assistant, text, parent, depth=depth + 1)

        tools = self._tools(agent, Within(parent, Asked(context)))
        door: Door = AskedDoor(self._door, tools=tools, ask=ask)
        most = self._node.settings.output_chars_max
        return await _heard(agent, context(None), tools, chars_max=most, on_tokens=self._on_tokens)


def known(node: Node, assistant: str) -> Agent:
    """Raises UnknownAssistant."""
    if assistant not in node.agents:
        raise UnknownAssistant(assistant=assistant, known=sorted(node.agents))
    return node.agents[assistant]


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


class AskedDoor:
    """Implements `core.context.Door` for the assistant that is asked, within the turn's own: it
    calls its own tools, and the session is not its to hand off or to fold."""

    def __init__(self, door: Door, *, tools: TurnTools, ask: Ask) -> None:
        self._tools = tools
        self._ask = ask
        self.check = door.check
        self.progress = door.progress
        self.emit = door.emit

    async def call(
        self, name: str, arguments: Mapping[str, Any], parent: CallId | None
    ) -> ToolResult:
        self.check()
        return await self._tools.call(name, arguments, parent=parent)

    async def ask(self, assistant: str, text: str, parent: CallId | None) -> str:
        self.check()
        return await self._ask(assistant, text, parent)

    async def hand_off(self, assistant: str, reason: str) -> NoReturn:
        raise ToolError("An assistant that is asked does not hand the session off.")

    async def summarize(self, summary: str) -> NoReturn:
        raise ToolError("An assistant that is asked does not summarise the session.")


async def _heard(
    agent: Agent,
    turn: TurnContext,
    tools: TurnTools,
    *,
    chars_max: int,
    on_tokens: Callable[[int], None],
) -> str:
    """The text of its last message. `on_tokens`: those that it used since it last told.

    Raises ToolError where it gives up, or says too much.
    """
    said: list[str] = []
    chars = tokens = 0
    whole = False
    try:
        async with aclosing(cast(Any, agent.run(turn, turn.history, tools))) as events:
            async for event in events:
                match event:
                    case TextDelta(text):
                        if whole:
                            said, chars, whole = [], 0, False
                        said.append(text)
                        chars += len(text)
                    case MessageEnd(parts):
                        whole = True
                        if parts is not None:
                            said = [part["text"] for part in parts if part["type"] == "text"]
                    case Progress(tokens_used=used) if used > tokens:
                        on_tokens(used - tokens)
                        tokens = used
                    case _:
                        pass
                if chars > chars_max:
                    raise ToolError(f"{agent.name} says more than {chars_max} characters.")
    except AgentFailed as failure:
        raise ToolError(f"{agent.name} gave up: {failure.message}") from failure
    return "".join(said)
