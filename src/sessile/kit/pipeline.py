"""What a turn goes through before its agent: button, direct handlers, intent.

Each stage may answer, or hand on to the next with the same turn: by returning None, or by failing.
What was decided, and why, is in the log before the agent is asked, so that a turn which lost its
node does not go through the stages a second time once the agent has begun.
"""

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sessile.core.context import TurnContext
from sessile.core.errors import InvalidInput, SessileError
from sessile.core.events import JsonObject
from sessile.core.transcript import History
from sessile.kit.captured import function_name, refuse_captured
from sessile.kit.replies import Intent, Reply
from sessile.ports.agent import (
    AgentEvent,
    AgentFailed,
    AgentLoop,
    ButtonOffer,
    Decision,
    TextDelta,
    Tools,
)
from sessile.ports.intents import Classifier, IntentSpec

logger = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[Reply | str | None]]


class Press:
    """A declared button: its handler, and the form of its payload."""

    def __init__(self, name: str, handler: Handler) -> None:
        checked(handler, ("turn", "payload"))
        second = list(inspect.signature(handler).parameters)[1]
        form: Any = get_type_hints(handler).get(second, dict[str, Any])
        self.name = name
        self.handler = handler
        self._payload: TypeAdapter[Any] = TypeAdapter(form)

    def payload(self, given: JsonObject) -> Any:
        """As the handler wants it. Raises InvalidInput where it has another form."""
        try:
            return self._payload.validate_python(dict(given))
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'payload'}: {fault['msg']}"
                for fault in error.errors(include_url=False, include_input=False)
            )
            raise InvalidInput(
                f"the payload of {self.name} has another form: {told}", field="input.payload"
            ) from error


@dataclass(frozen=True, slots=True)
class Stages:
    """What an assistant declares of them. Shared by all sessions: it holds none."""

    classifier: Classifier
    presses: dict[str, Press] = field(default_factory=dict[str, Press])
    direct: list[Handler] = field(default_factory=list[Handler])
    intents: dict[str, tuple[IntentSpec, Handler]] = field(
        default_factory=dict[str, tuple[IntentSpec, Handler]]
    )

    def __bool__(self) -> bool:
        return bool(self.presses or self.direct or self.intents)


class Pipeline:
    """An agent loop behind the stages."""

    def __init__(self, stages: Stages, loop: AgentLoop) -> None:
        self._stages = stages
        self._loop = loop

    @property
    def reads_history(self) -> bool:
        return True

    @property
    def restarts(self) -> bool:
        return self._loop.restarts

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        if turn.input["type"] != "task" and tools.decided != "agent":
            answered = await self._answered(turn)
            if tools.decided is None:
                yield answered.decision
            if answered.reply is not None:
                yield TextDelta(answered.reply.text)
                for each in answered.reply.buttons:
                    yield ButtonOffer(button=each.button, label=each.label, payload=each.payload)
                return
        async with aclosing(cast(Any, self._loop.run(turn, history, tools))) as events:
            async for event in events:
                yield event

    async def _answered(self, turn: TurnContext) -> "_Answered":
        passed: list[str] = []

        async def tried(path: str, handler: Handler, *arguments: Any) -> Reply | None:
            name = function_name(handler)
            try:
                reply = await handler(turn, *arguments)
            except (SessileError, AgentFailed):
                raise
            except Exception as error:
                logger.exception("a handler failed", extra=_fields(turn, path, name))
                passed.append(f"{path} {name} failed: {type(error).__name__}")
                return None
            if reply is None:
                passed.append(f"{path} {name} had no answer")
                return None
            logger.info("a handler answered", extra=_fields(turn, path, name))
            return Reply(reply) if isinstance(reply, str) else reply

        def by(path: str, reply: Reply | None, intent: str | None = None, **said: Any) -> _Answered:
            reason = "; ".join([*passed, *said.pop("reason", ())])
            return _Answered(reply, Decision(path=path, intent=intent, reason=reason, **said))

        given = turn.input
        if given["type"] == "button":
            press = self._stages.presses.get(given["button"])
            if press is None:
                passed.append(f"no handler of {given['button']}")
            else:
                payload = press.payload(given["payload"])
                if (reply := await tried("button", press.handler, payload)) is not None:
                    return by("button", reply)
        for handler in self._stages.direct:
            if (reply := await tried("direct", handler)) is not None:
                return by("direct", reply)
        if not self._stages.intents:
            return by("agent", None)
        specs = tuple(spec for spec, _ in self._stages.intents.values())
        guess = await self._stages.classifier.classify(given["text"], specs)
        said = {"score": guess.score, "threshold": guess.threshold}
        if guess.intent is None:
            return by("agent", None, reason=[guess.reason], **said)
        intent = Intent(guess.intent, guess.score, given["text"])
        _, handler = self._stages.intents[guess.intent]
        reply = await tried("intent", handler, intent)
        path = "agent" if reply is None else "intent"
        return by(path, reply, guess.intent, reason=[guess.reason], **said)


@dataclass(frozen=True, slots=True)
class _Answered:
    reply: Reply | None
    decision: Decision


def checked(handler: Any, parameters: tuple[str, ...]) -> None:
    """Raises TypeError where it is no handler of these parameters, and CapturedContext where it
    holds a turn."""
    refuse_captured(handler)
    name = function_name(handler)
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"{name}: a handler is async and returns a Reply, a text or None")
    if len(inspect.signature(handler).parameters) != len(parameters):
        raise TypeError(f"{name}: this handler takes {', '.join(parameters)}")


def _fields(turn: TurnContext, path: str, name: str) -> Mapping[str, object]:
    return {
        "tenant_id": turn.tenant_id,
        "session_id": turn.session_id,
        "turn_id": turn.turn_id,
        "stage": path,
        "handler": name,
    }
