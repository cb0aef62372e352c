"""What the log says of a turn's tool calls, and the outcomes that a call can have."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from sessile.core.context import ToolResult
from sessile.core.events import (
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolOutcome,
    ToolRefused,
    ToolStarted,
)
from sessile.core.ids import CallId, MessageId, TurnId
from sessile.ports.agent import Tool

Arguments = Mapping[str, Any]
HANDED_OFF = "handed_off"
"""The verdict on a call of an assistant that has handed the session off."""
TOO_LATE = "The session is another assistant's by now."


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said of a call. `reason` where it was denied."""

    granted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A call that no message announced; `parent`: the call from within which it was made."""

    call_id: CallId
    name: str
    arguments: str
    parent: CallId | None


@dataclass(slots=True)
class Calls:
    """What the log says of a turn's tool calls: kept up to date by the attempt that runs."""

    announced: dict[CallId, tuple[str, Arguments]] = field(
        default_factory=dict[CallId, tuple[str, Arguments]]
    )
    """Calls that a message asked for and that have no outcome: name and arguments."""
    started: dict[CallId, ToolStarted] = field(default_factory=dict[CallId, ToolStarted])
    """Calls that were started and have no outcome."""
    outcomes: dict[CallId, ToolResult] = field(default_factory=dict[CallId, ToolResult])
    drawn: list[CallId] = field(default_factory=list[CallId])
    """Ids that the agent's run has given to calls which its messages announced."""
    unnamed: list[Unnamed] = field(default_factory=list[Unnamed])
    """Calls of the agent's run that no message asked for."""
    cards: dict[CallId, MessageId] = field(default_factory=dict[CallId, MessageId])
    """Of the calls that an approval was asked for."""
    answers: dict[CallId, Answer] = field(default_factory=dict[CallId, Answer])
    """What was said of them."""
    asked: set[CallId] = field(default_factory=set[CallId])
    """Of `unnamed`: those that this attempt has asked, again or for the first time."""
    running: set[CallId] = field(default_factory=set[CallId])
    """Calls of this attempt that are at work, whoever made them."""
    waiting: dict[CallId, ToolStarted] = field(default_factory=dict[CallId, ToolStarted])
    """Calls of this attempt that wait for an approval."""

    @property
    def open_ids(self) -> frozenset[CallId]:
        """The calls that have no outcome."""
        return frozenset((*self.started, *self.announced))

    def not_made(self, turn_id: TurnId, new_card: Callable[[], MessageId]) -> list[ToolStarted]:
        """The calls that were announced and never started, as they would be."""
        return [
            ToolStarted(
                turn_id=turn_id,
                call_id=call_id,
                message_id=self.cards.get(call_id) or new_card(),
                name=name,
                arguments=arguments,
            )
            for call_id, (name, arguments) in self.announced.items()
            if call_id not in self.started
        ]

    def note(self, outcome: ToolOutcome) -> ToolResult:
        """The call has its outcome."""
        self.started.pop(outcome.call_id, None)
        self.announced.pop(outcome.call_id, None)
        result = self.outcomes[outcome.call_id] = result_of(outcome)
        return result


def interrupted(calls: Iterable[ToolStarted], reason: str) -> tuple[ToolInterrupted, ...]:
    """The outcome of calls that will never have another."""
    return tuple(call.interrupted(reason) for call in calls)


def failing(tool: Tool, arguments: Arguments) -> Callable[[], Awaitable[Any]] | None:
    """What fails as a call of the tool with these would, where it cannot work; else None."""
    try:
        tool.check(arguments)
    except Exception as error:  # noqa: BLE001  a guest's code ends here
        fault = error
    else:
        return None

    async def fail() -> NoReturn:
        raise fault

    return fail


def result_of(outcome: ToolOutcome) -> ToolResult:
    """What the caller of a tool is told."""
    match outcome:
        case ToolCompleted():
            return ToolResult(
                call_id=outcome.call_id, name=outcome.name, status="completed", value=outcome.result
            )
        case ToolFailed():
            return _unsuccessful(outcome, "failed", outcome.error)
        case ToolInterrupted():
            return _unsuccessful(outcome, "interrupted", outcome.reason)
        case ToolRefused():
            return _unsuccessful(outcome, "refused", outcome.reason)


def _unsuccessful(
    outcome: ToolOutcome, status: Literal["failed", "interrupted", "refused"], reason: str
) -> ToolResult:
    return ToolResult(call_id=outcome.call_id, name=outcome.name, status=status, reason=reason)
