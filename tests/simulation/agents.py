"""Agents that carry out the plan in the message they answer, and tools that leave a trace.

A plan is a word: t some text, e the end of a message, p progress, s look for what was steered in,
i a tool that is idempotent, n one that is not, b both side by side, f give up, w wait long;
a a tool that asks for an approval, c one that does so and is idempotent beside one that does not
ask, d two that ask, g a tool that needs a grant, h one that needs a grant and asks; u one that
calls another within.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.checker import ASKING, GRANT_OF, Run, Seen, Told

from sessile.core.context import TurnContext
from sessile.core.errors import ContextExpired, ContextMismatch
from sessile.core.events import JsonObject, Progress
from sessile.core.ids import CallId, SessionId, SessionKey
from sessile.core.transcript import History, Message
from sessile.integrations.functions import FunctionLoop
from sessile.ports.agent import (
    AgentEvent,
    AgentFailed,
    AgentLoop,
    MessageEnd,
    TextDelta,
    Tool,
    ToolError,
    Tools,
)

PLAN = re.compile(r"(?P<mark>canary-\d+-[\w-]+) plan:(?P<steps>\w*)")
CALLS = {
    "i": ("look",),
    "n": ("send",),
    "b": ("look", "send"),
    "a": ("asks.pay",),
    "c": ("asks.recall", "look"),
    "d": ("asks.pay", "asks.recall"),
    "g": ("needs.refund",),
    "h": ("asks.wire",),
    "u": ("calls.send",),
}


@dataclass(kw_only=True)
class Stage:
    """What agents and tools of one world share with it."""

    loop: asyncio.AbstractEventLoop
    chance: random.Random
    seen: Seen
    canaries: dict[SessionId, str]
    fence_of: Callable[[SessionKey], int]
    latency_seconds: float = 0.3
    kept: list[TurnContext] = field(default_factory=list[TurnContext])
    """Where a faulty tool keeps what it must not keep."""

    async def latency(self, times: float = 1.0) -> None:
        share = self.chance.choice((1e-4, 0.05, 1.0, self.chance.random()))
        await asyncio.sleep(self.latency_seconds * share * times)

    def own(self, turn: TurnContext, text: str, where: str) -> None:
        """That the text bears the canary of this turn's session."""
        canary = self.canaries[turn.session_id]
        if not text.startswith(canary):
            self.seen.wrong.append(f"{where} of {turn.session_id} was given {text!r}")

    def asked(self, turn: TurnContext, history: History) -> Message:
        """The message to be answered; the history is kept for the checker."""
        key = SessionKey(turn.tenant_id, turn.session_id)
        seqs = tuple(message.seq for message in history.messages)
        self.seen.told.append(Told(key, turn.turn_id, seqs))
        message = next(m for m in reversed(history.messages) if m.role == "user")
        self.own(turn, message.text, "the agent")
        return message


class TracingTool:
    """A tool whose work cannot be undone: the trace of it lies outside of the system."""

    description, timeout_seconds, blocking = "", None, False
    parameters: Mapping[str, Any] = {"type": "object"}

    def __init__(self, name: str, *, idempotent: bool, stage: Stage) -> None:
        self.name = name
        self.idempotent = idempotent
        self.grant, self.approval = GRANT_OF.get(name), name in ASKING
        self._stage = stage

    def check(self, arguments: Mapping[str, Any]) -> None:
        pass

    async def invoke(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        stage = self._stage
        stage.own(turn, arguments["text"], self.name)
        stage.seen.runs.append(
            Run(
                session=turn.session_id,
                call_id=turn.call_id,
                name=self.name,
                act=arguments["act"],
                text=arguments["text"],
                once=not self.idempotent,
                at_seconds=stage.loop.time(),
                current=stage.fence_of(SessionKey(turn.tenant_id, turn.session_id)) == turn.fence,
            )
        )
        await stage.latency(2)
        if self.name == "calls.send":
            inner = {"text": arguments["text"], "act": f"{arguments['act']}/send"}
            result = await turn.call("send", **inner)
            stage.own(turn, str(result.value or inner["text"]), f"a result within {self.name}")
        if stage.chance.random() < 0.1:
            raise ToolError(f"{stage.canaries[turn.session_id]} failed")
        return f"{stage.canaries[turn.session_id]}{self.name}"

    def call_blocking(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        raise NotImplementedError


class KeepsContext(TracingTool):
    """The fault that founded the project: it goes by the first context that it was called with."""

    async def invoke(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        self._stage.kept.append(turn)
        first = self._stage.kept[0]
        try:
            await first.emit(f"{self._stage.canaries[turn.session_id]}update ")
        except (ContextExpired, ContextMismatch) as error:
            self._stage.seen.wrong.append(f"{turn.session_id}: {type(error).__name__}")
            raise
        return await super().invoke(turn, arguments)


class Planned:
    """An assistant of one world."""

    description, tools_allowed = "", ("*",)
    owner_grants = ("refund",)

    def __init__(
        self, name: str, loop: AgentLoop, tools: tuple[Tool, ...], *, exclusive: bool = False
    ) -> None:
        self.name = name
        self.exclusive = exclusive
        self.tools = tools
        self.reads_history = loop.reads_history
        self.restarts = loop.restarts
        self.run = loop.run


def function_agent(
    stage: Stage, tools: tuple[Tool, ...], *, name: str = "function", exclusive: bool = False
) -> Planned:
    """Run again from the top after a loss: the runtime answers its calls from the log."""

    async def answer(
        turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        message = stage.asked(turn, history)
        while message is not None:
            found = PLAN.search(message.text)
            assert found is not None
            mark, canary = found["mark"], stage.canaries[turn.session_id]
            steered: tuple[Message, ...] = ()
            for place, step in enumerate(found["steps"]):
                await stage.latency()
                match step:
                    case "t":
                        for piece in range(3):
                            yield TextDelta(f"{canary}{place}.{piece} ")
                            await stage.latency(0.2)
                    case "e":
                        yield TextDelta(f"{canary}{place} ends")
                        yield MessageEnd()
                    case "p":
                        yield Progress(current_iteration=place + 1, tokens_used=place * 10)
                    case "s":
                        steered = await tools.steered()
                        if steered:
                            break
                    case "f":
                        raise AgentFailed("planned", f"{canary} gave up")
                    case "w":
                        await asyncio.sleep(stage.latency_seconds * 20)
                    case _:
                        calls = (
                            tools.call(name, {"text": canary, "act": f"{mark}/{place}/{name}"})
                            for name in CALLS[step]
                        )
                        for result in await asyncio.gather(*calls):
                            stage.own(turn, str(result.value or canary), f"a result of {mark}")
            message = steered[-1] if steered else None
        yield TextDelta(f"{stage.canaries[turn.session_id]}done")

    return Planned(name, FunctionLoop(answer), tools, exclusive=exclusive)


class _Model:
    """Goes on from the history, as a model does: it announces its calls in a message."""

    reads_history, restarts = True, False

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        stage = self._stage
        message = stage.asked(turn, history)
        canary = stage.canaries[turn.session_id]
        since = history.messages[history.messages.index(message) + 1 :]
        place = 0
        for each in since:
            if each.role == "assistant":
                place += 1
                calls = [part for part in each.parts if part["type"] == "tool_call"]
                if not calls:
                    return  # it has answered
                await self._make(turn, tools, calls)
        while message is not None:
            found = PLAN.search(message.text)
            assert found is not None
            steered: tuple[Message, ...] = ()
            steps = [step for step in found["steps"] if step not in "ew"]
            for step in steps[place:]:
                await stage.latency()
                if step == "s" and (steered := await tools.steered()):
                    break
                if step == "f":
                    raise AgentFailed("planned", f"{canary} gave up", retry=True)
                yield TextDelta(f"{canary}{place} ")
                await stage.latency(0.2)
                yield Progress(current_iteration=place + 1, tokens_used=place * 10)
                calls = [
                    {
                        "type": "tool_call",
                        "call_id": tools.new_call_id(),
                        "name": name,
                        "arguments": {"text": canary, "act": f"{found['mark']}/{place}/{name}"},
                    }
                    for name in CALLS.get(step, ("look",))
                ]
                yield MessageEnd(({"type": "text", "text": f"{canary}{place} calls"}, *calls))
                await self._make(turn, tools, calls)
                place += 1
            message, place = (steered[-1], 0) if steered else (None, 0)
        yield TextDelta(f"{canary}done")

    async def _make(self, turn: TurnContext, tools: Tools, calls: list[JsonObject]) -> None:
        results = await asyncio.gather(
            *(
                tools.call(call["name"], call["arguments"], call_id=CallId(call["call_id"]))
                for call in calls
            )
        )
        for result in results:
            canary = self._stage.canaries[turn.session_id]
            self._stage.own(turn, str(result.value or canary), "a result")


def model_agent(stage: Stage, tools: tuple[Tool, ...]) -> Planned:
    return Planned("model", _Model(stage), tools)
