"""The agent: asked for the next step of a turn, it yields what it says and calls tools.

A fresh turn and one that lost its node are the same to it: the history that it gets ends with the
last thing that is in the log, be it the user's message, a tool's outcome or another agent's
reply, and it goes on from there.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sessile.core.context import TurnContext
from sessile.core.events import JsonObject, Progress
from sessile.core.ids import CallId
from sessile.core.transcript import History, Message


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


AgentEvent = TextDelta | ThinkingDelta | MessageEnd | Progress


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
    def timeout_seconds(self) -> float | None:
        """None: the server's setting."""
        ...

    @property
    def blocking(self) -> bool:
        """It is run by `call_blocking` in a worker thread, not by `invoke`."""
        ...

    async def invoke(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        """Run it for this turn; the answer is JSON. Any exception is the tool's failure."""
        ...

    def call_blocking(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        """The same for a blocking tool. It may go on after its turn was cancelled: its thread is
        free when it returns."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The one outcome of a call. `value` only where completed, else `reason`."""

    call_id: CallId
    name: str
    status: Literal["completed", "failed", "interrupted", "refused"]
    value: Any = None
    reason: str | None = None


class Tools(Protocol):
    """The tools of one turn. Every call is authorised, journalled and has one outcome."""

    @property
    def offered(self) -> tuple[Tool, ...]:
        """What this turn may use, fixed at its start."""
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
    def exclusive(self) -> bool:
        """One active session per user: opening again finds it."""
        ...
