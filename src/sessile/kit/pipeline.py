"""What a turn goes through before its agent: button, direct handlers, intent.

Each stage may answer, or hand on to the next with the same turn: by returning None, or by failing.
What was decided, and why, is in the log before the agent is asked: a turn that lost its node does
not go through the stages again once the agent has begun.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from sessile.core.context import TurnContext
from sessile.core.errors import SessileError
from sessile.core.transcript import History
from sessile.kit.captured import function_name
from sessile.kit.replies import Intent, Reply
from sessile.kit.stages import Handler, Stages
from sessile.ports.agent import (
    AgentEvent,
    AgentFailed,
    AgentLoop,
    ButtonOffer,
    IntentDecision,
    TextDelta,
    Tools,
)

logger = logging.getLogger(__name__)


class Pipeline:
    """An agent's loop behind the stages. A task, which nobody typed, goes straight to it."""

    def __init__(self, stages: Stages, loop: AgentLoop) -> None:
        self._stages = stages
        self._loop = loop

    @property
    def reads_history(self) -> bool:
        return bool(self._stages) or self._loop.reads_history

    @property
    def restarts(self) -> bool:
        return self._loop.restarts

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        if self._stages and turn.input["type"] != "task" and tools.decided != "agent":
            passage = _Passage(self._stages, turn)
            reply = await passage.reply()
            if tools.decided is None:
                yield passage.decision
            if reply is not None:
                yield TextDelta(reply.text)
                for each in reply.buttons:
                    yield ButtonOffer(button=each.button, label=each.label, payload=each.payload)
                return
        async with aclosing(cast(Any, self._loop.run(turn, history, tools))) as events:
            async for event in events:
                yield event


@dataclass(slots=True)
class _Passage:
    """One turn's way through the stages."""

    stages: Stages
    turn: TurnContext
    passed: list[str] = field(default_factory=list[str])
    decision: IntentDecision = field(init=False)

    async def reply(self) -> Reply | None:
        """The first answer; None where the agent is to give one. `decision` says which, and why."""
        return await self._of_button() or await self._of_direct() or await self._of_intent()

    async def _of_button(self) -> Reply | None:
        given = self.turn.input
        if given["type"] != "button":
            return None
        press = self.stages.presses.get(given["button"])
        if press is None:
            self.passed.append(f"no handler of the button {given['button']}")
            return None
        payload = press.payload(given["payload"])
        if (reply := await self._tried("button", press.handler, payload)) is not None:
            self._decide("button")
        return reply

    async def _of_direct(self) -> Reply | None:
        for handler in self.stages.direct:
            if (reply := await self._tried("direct", handler)) is not None:
                self._decide("direct")
                return reply
        return None

    async def _of_intent(self) -> Reply | None:
        if not self.stages.intents:
            self._decide("agent")
            return None
        text = self.turn.input["text"]
        specs = tuple(spec for spec, _ in self.stages.intents.values())
        guess = await self.stages.classifier.classify(text, specs)
        self.passed.append(guess.reason)
        reply = None
        if guess.intent is not None:
            _, handler = self.stages.intents[guess.intent]
            intent = Intent(guess.intent, guess.score, text)
            reply = await self._tried("intent", handler, intent)
        path = "agent" if reply is None else "intent"
        self._decide(path, intent=guess.intent, score=guess.score, threshold=guess.threshold)
        return reply

    async def _tried(self, stage: str, handler: Handler, *arguments: Any) -> Reply | None:
        """None too where it failed: the next stage has the turn then."""
        name = function_name(handler)
        try:
            reply = await handler(self.turn, *arguments)
        except (SessileError, AgentFailed):
            raise
        except Exception as error:
            logger.exception("a handler failed", extra=self._fields(stage, name))
            self.passed.append(f"{stage} {name} failed: {type(error).__name__}")
            return None
        if reply is None:
            self.passed.append(f"{stage} {name} had no answer")
            return None
        logger.info("a handler answered", extra=self._fields(stage, name))
        return Reply(reply) if isinstance(reply, str) else reply

    def _decide(self, path: str, **said: Any) -> None:
        self.decision = IntentDecision(path=path, reason="; ".join(self.passed), **said)

    def _fields(self, stage: str, name: str) -> Mapping[str, object]:
        turn = self.turn
        return {
            "tenant_id": turn.tenant_id,
            "session_id": turn.session_id,
            "turn_id": turn.turn_id,
            "stage": stage,
            "handler": name,
        }
