"""What a turn goes through before its agent: button, direct handlers, intent.

Each stage may answer, or hand on to the next with the same turn: by returning None, or by failing.
What was decided, and why, is in the log before all that the agent does: a turn that lost its node
does not go through the stages again once the agent has left a trace.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from sessile.core.codec import to_json
from sessile.core.context import TurnContext
from sessile.core.errors import ContextExpired, ContextMismatch, LeaseLost
from sessile.core.events import JsonObject, Progress
from sessile.core.transcript import History
from sessile.kit.captured import function_name
from sessile.kit.replies import Intent, Reply, as_reply
from sessile.kit.stages import Handler, Stages
from sessile.ports.agent import (
    AgentEvent,
    AgentFailed,
    AgentLoop,
    IntentDecision,
    TextDelta,
    Tools,
)
from sessile.ports.apart import apart
from sessile.ports.intents import IntentGuess

logger = logging.getLogger(__name__)

T = TypeVar("T")

STALE = "This button is no longer offered."

_TURN_IS_OVER = (AgentFailed, ContextExpired, ContextMismatch, LeaseLost)
"""No failures of a stage: the turn gives up, or is not this one's any more."""


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
        spent = 0
        if self._stages and turn.input["type"] != "task" and tools.decided != "agent":
            passage = _Passage(self._stages, turn, tools)
            reply = await passage.reply()
            yield passage.decision
            if spent := passage.tokens_used:
                yield Progress(tokens_used=turn.reached.tokens_used + spent)
            if reply is not None:
                yield TextDelta(reply.text)
                for button in reply.buttons:
                    yield button
                return
            if tools.handed_off:
                return
        async with aclosing(cast(Any, self._loop.run(turn, history, tools))) as events:
            async for event in events:
                if spent and isinstance(event, Progress):
                    # The agent's own count: what the classifier used comes on top.
                    yield replace(event, tokens_used=event.tokens_used + spent)
                else:
                    yield event


@dataclass(slots=True)
class _Passage:
    """One turn's way through the stages."""

    stages: Stages
    turn: TurnContext
    tools: Tools
    path: str = "agent"
    guess: IntentGuess | None = None
    passed: list[str] = field(default_factory=list[str])

    async def reply(self) -> Reply | None:
        """The first answer; None where the agent is to give one, or the assistant that a stage
        has handed the session to."""
        for path, stage in (
            ("button", self._of_button),
            ("direct", self._of_direct),
            ("intent", self._of_intent),
        ):
            reply = await stage()
            if reply is not None or self.tools.handed_off:
                self.path = path
                return reply
        return None

    @property
    def decision(self) -> IntentDecision:
        guess = self.guess
        return IntentDecision(
            path=self.path,
            intent=guess.intent if guess else None,
            score=float(guess.score) if guess else 0.0,
            threshold=float(guess.threshold) if guess else 0.0,
            reason="; ".join(self.passed),
        )

    @property
    def tokens_used(self) -> int:
        """By the classifier's model, if it has one and was asked."""
        return self.guess.tokens_used if self.guess else 0

    async def _of_button(self) -> Reply | None:
        given = self.turn.input
        if given["type"] != "button":
            return None
        if not self._is_offered(given):
            self.passed.append("stale")
            return Reply(STALE) if self.stages.stale is None else await self._of_stale()
        press = self.stages.presses.get(given["button"])
        if press is None:
            self.passed.append(f"no handler of the button {given['button']}")
            return await self._of_stale()

        async def pressed() -> Any:
            return await press.handler(self.turn, press.payload(given["payload"]))

        return await self._answer(f"button {press.name}", pressed)

    async def _of_stale(self) -> Reply | None:
        handler = self.stages.stale
        return (
            None
            if handler is None
            else await self._answer(f"stale {function_name(handler)}", handler, self.turn)
        )

    def _is_offered(self, given: JsonObject) -> bool:
        """With this payload. A press that names no message is taken as it is."""
        named = given.get("message_id")
        offered = ("button", given["button"], json.loads(to_json(given["payload"])))
        return named is None or any(
            (part["type"], part.get("button"), part.get("payload")) == offered
            for message in self.turn.history.messages
            if message.message_id == named
            for part in message.parts
        )

    async def _of_direct(self) -> Reply | None:
        for handler in self.stages.direct:
            reply = await self._answer(f"direct {function_name(handler)}", handler, self.turn)
            if reply is not None or self.tools.handed_off:
                return reply
        return None

    async def _of_intent(self) -> Reply | None:
        if not self.stages.intents:
            return None
        text = self.turn.input["text"]
        specs = tuple(spec for spec, _ in self.stages.intents.values())
        guess = await self._tried("classifier", self.stages.classifier.classify, text, specs)
        if guess is None:
            return None
        self.guess = guess
        self.passed.append(guess.reason.rstrip("."))
        if guess.intent is None:
            return None
        if guess.intent not in self.stages.intents:
            self.passed.append(f"there is no intent {guess.intent!r}")
            return None
        _, handler = self.stages.intents[guess.intent]
        intent = Intent(guess.intent, guess.score, text)
        return await self._answer(f"intent {intent.name}", handler, self.turn, intent)

    async def _answer(self, stage: str, handler: Handler, *arguments: Any) -> Reply | None:
        async def answered() -> Reply | None:
            return as_reply(await handler(*arguments))

        failures = len(self.passed)
        reply = await self._tried(stage, answered)
        if reply is not None:
            self.passed.append(f"{stage} answered" + f": {reply.reason}" * bool(reply.reason))
            logger.info("a stage answered", extra=self._fields(stage))
        elif self.tools.handed_off:
            self.passed.append(f"{stage} handed the session on")
        elif len(self.passed) == failures:
            self.passed.append(f"{stage} had no answer")
        return reply

    async def _tried(
        self, stage: str, work: Callable[..., Awaitable[T]], *arguments: Any
    ) -> T | None:
        """None too where it failed: the next stage has the turn then."""
        ended = await apart(lambda: work(*arguments))
        try:
            return ended.result()
        except _TURN_IS_OVER:
            raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  a guest's code
            self._failed(stage, error)
            return None

    def _failed(self, stage: str, error: BaseException) -> None:
        logger.error("a stage failed", exc_info=error, extra=self._fields(stage))
        self.passed.append(f"{stage} failed: {type(error).__name__}")

    def _fields(self, stage: str) -> Mapping[str, object]:
        turn = self.turn
        return {
            "tenant_id": turn.tenant_id,
            "session_id": turn.session_id,
            "turn_id": turn.turn_id,
            "stage": stage,
        }
