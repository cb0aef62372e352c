"""The agent: asked for the next step of a turn, it yields what it says and calls tools.

A fresh turn and one that lost its node are the same to it: the history that it gets ends with the
last thing that is in the log, be it the user's message, a tool's outcome or another agent's
reply, and it goes on from there.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sessile.core.codec import to_json
from sessile.core.context import ToolResult, TurnContext
from sessile.core.events import JsonObject, Progress
from sessile.core.ids import CallId
from sessile.core.transcript import History, Message

__all__ = [
    "NAME",
    "Agent",
    "AgentEvent",
    "AgentFailed",
    "AgentLoop",
    "Button",
    "IntentDecision",
    "MessageEnd",
    "TextDelta",
    "ThinkingDelta",
    "Tool",
    "ToolError",
    "ToolResult",
    "Tools",
]

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
"""What assistants, tools and buttons are called."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the message that is being written."""

    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    """More of what the model thinks aloud."""

    text: str


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """The message is whole. `parts` as in `core.events.MessageAdded`; None: the text so far.

    It is durable before any tool call that it announces runs. The message that ends the turn may
    be left open: the end of the run ends it.
    """

    parts: tuple[JsonObject, ...] | None = None


@dataclass(frozen=True, slots=True)
class Button:
    """A button under the message that is being written. A press comes back with its name and
    payload."""

    button: str
    label: str
    payload: JsonObject = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.button):
            raise ValueError(f"{self.button!r} is no button name: it has the form {NAME.pattern}")
        if not self.label:
            raise ValueError(f"{self.button}: a button has a label")
        try:
            to_json(self.payload)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"{self.button}: its payload is not JSON") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentDecision:
    """Who answers the turn: `path` is `button`, `direct`, `intent` or `agent`."""

    path: str
    intent: str | None = None
    score: float = 0.0
    threshold: float = 0.0
    reason: str = ""


AgentEvent = TextDelta | ThinkingDelta | MessageEnd | Progress | Button | IntentDecision


class AgentFailed(Exception):
    """The agent or its model gave up: the turn ends as failed, with this code and message.

    `retry`: the same input may succeed later. Any other exception of a run is a fault of the
    agent, whose message is for the operator's log and not for the session's.
    """

    def __init__(self, code: str, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry = retry


class ToolError(Exception):
    """A tool cannot do what it was asked. Its message is told to the model as it is."""


class Tool(Protocol):
    """What an assistant can do. Made once and shared by all sessions: it holds none."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON Schema of the arguments, an object."""
        ...

    @property
    def idempotent(self) -> bool:
        """Safe to run twice, even at the same time, with the same call id."""
        ...

    @property
    def grant(self) -> str | None:
        """What the session must have been granted, at the moment of each call."""
        ...

    @property
    def approval(self) -> bool:
        """Each call waits until a person approves it."""
        ...

    @property
    def timeout_seconds(self) -> float | None:
        """None: the server's setting."""
        ...

    @property
    def blocking(self) -> bool:
        """It is run by `call_blocking` in a worker thread, not by `invoke`."""
        ...

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raises ToolError where a call with these arguments cannot work: nobody is asked to
        approve it. It need not find out; `invoke` fails then."""
        ...

    async def invoke(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        """Run it for this turn; the answer is JSON. Any exception is the tool's failure."""
        ...

    def call_blocking(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        """The same for a blocking tool. It may go on after its turn was cancelled: its thread is
        free when it returns."""
        ...


class Tools(Protocol):
    """The tools of one turn. Every call is authorised, journalled and has one outcome."""

    @property
    def offered(self) -> tuple[Tool, ...]:
        """What this turn may use, fixed at its start."""
        ...

    @property
    def decided(self) -> str | None:
        """Who answers the turn by the log: the `path` of its `IntentDecision`; `agent` too where
        it was spoken to again."""
        ...

    @property
    def handed_off(self) -> bool:
        """The session is another assistant's by now: this one need not go on."""
        ...

    def new_call_id(self) -> CallId:
        """For a call that a message announces. A run from the top draws the same ones again."""
        ...

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        call_id: CallId | None = None,
        body: Callable[[], Awaitable[Any]] | None = None,
        idempotent: bool | None = None,
    ) -> ToolResult:
        """Run a tool, or answer from the log where the call has its outcome already.

        Without a `call_id`, calls are told apart by their name and arguments, and equal ones by
        their order, in one run of the agent: one that `restarts` must ask the same each time,
        though not in the same order where it asks side by side.
        Behind the agent's own hand-off each call is refused.
        `body` runs in place of the assistant's own tool of that name, for agents that bring
        tools along; `idempotent` then says whether it may run twice.
        """
        ...

    async def steered(self) -> tuple[Message, ...]:
        """Messages that the user has steered into the turn since last asked; they are part of
        the history from here on."""
        ...


class AgentLoop(Protocol):
    """What drives an assistant's turns. Made once and shared by all sessions."""

    @property
    def reads_history(self) -> bool:
        """False: the history is not read from the log for it."""
        ...

    @property
    def restarts(self) -> bool:
        """True: it does not go on from the history, but is run from the top after its node was
        lost, with the history that it was first given. The runtime answers its tool calls from
        the log, gives it what was steered in where it read it before, and passes over the messages
        that are in the log already."""
        ...

    def run(self, turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[AgentEvent]:
        """The turn's next steps until the agent has answered. Cancelled by cancellation."""
        ...


class Agent(AgentLoop, Protocol):
    """An assistant, as the runtime sees it. Made once and shared by all sessions."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def tools(self) -> tuple[Tool, ...]: ...

    @property
    def tools_allowed(self) -> tuple[str, ...]:
        """The allow-list: names or patterns such as `debug.*`."""
        ...

    @property
    def owner_grants(self) -> tuple[str, ...]:
        """What the owner of a session may grant to it; all else only operators and admins."""
        ...

    def pressed(self, button: str, payload: JsonObject) -> str:
        """What a press reads as in the history. Raises InvalidInput where there is no such button,
        or its payload has another form."""
        ...

    @property
    def exclusive(self) -> bool:
        """One active session per user: opening again finds it."""
        ...
