"""The closed set of facts that a log may hold, and the entry that carries one.

Kind names are for ever. A field may be added with a default; none is renamed or removed.
Everything here is made of JSON values, so that `codec` needs no rule a kind.

`redacted`: there was content, and it was voided (`redaction`). It is written only where it is true.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple

from sessile.core.ids import CallId, Fence, MessageId, Seq, SessionId, TurnId, UserId

JsonObject = Mapping[str, Any]
Role = Literal["user", "assistant", "tool", "system"]
WhenBusy = Literal["enqueue", "reject", "interrupt", "steer"]


class Entry(NamedTuple):
    """One fact at its place in one session's log. `body` is JSON text; `codec.decode` reads it."""

    seq: Seq
    kind: str
    turn_id: TurnId | None
    at_ms: int
    """Milliseconds since 1970, UTC. For people: order is `seq`."""
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened:
    kind: ClassVar[str] = "session.opened"
    user_id: UserId
    assistant: str
    title: str | None = None
    metadata: JsonObject = field(default_factory=dict[str, Any])
    exclusive_key: str | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUpdated:
    """The title and metadata as they are from now on."""

    kind: ClassVar[str] = "session.updated"
    title: str | None
    metadata: JsonObject
    by: UserId
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionForked:
    """Written into the new session, before what it inherits."""

    kind: ClassVar[str] = "session.forked"
    from_session_id: SessionId
    from_turn_id: TurnId
    from_seq: Seq


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHandedOff:
    kind: ClassVar[str] = "session.handed_off"
    assistant: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionGranted:
    kind: ClassVar[str] = "session.granted"
    grant: str
    by: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRevoked:
    kind: ClassVar[str] = "session.revoked"
    grant: str
    by: UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSummarized:
    """What an agent reads in place of all messages up to `upto_seq`; nothing is deleted."""

    kind: ClassVar[str] = "session.summarized"
    summary: str
    upto_seq: Seq
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRedacted:
    """The content of these messages was voided, wherever this log had it. `reason`: a code."""

    kind: ClassVar[str] = "session.redacted"
    message_ids: tuple[MessageId, ...]
    by: UserId
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed:
    kind: ClassVar[str] = "session.closed"
    by: UserId
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnQueued:
    """An accepted input: from here on it is durable. `message_id` is the user's message to be."""

    kind: ClassVar[str] = "turn.queued"
    turn_id: TurnId
    position: int
    input: JsonObject
    message_id: MessageId
    by: UserId
    when_busy: WhenBusy = "enqueue"
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEdited:
    kind: ClassVar[str] = "turn.edited"
    turn_id: TurnId
    input: JsonObject
    by: UserId
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted:
    """An attempt begins. `strikes`: attempts lost in a row without a durable step."""

    kind: ClassVar[str] = "turn.started"
    turn_id: TurnId
    attempt: int
    fence: Fence
    node: str
    strikes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSteered:
    """A message for a running turn. Unread at the turn's end it becomes the turn `steer_id`."""

    kind: ClassVar[str] = "turn.steered"
    turn_id: TurnId
    steer_id: TurnId
    message_id: MessageId
    input: JsonObject
    by: UserId
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The four numbers that every turn record and progress event has: 0 until known."""

    current_iteration: int = 0
    total_iterations: int = 0
    tokens_used: int = 0
    total_tokens: int = 0

    def raised_to(self, other: "Progress") -> "Progress":
        """Each number the larger of the two: none ever falls."""
        if (
            type(self) is Progress
            and other.current_iteration <= self.current_iteration
            and other.total_iterations <= self.total_iterations
            and other.tokens_used <= self.tokens_used
            and other.total_tokens <= self.total_tokens
        ):
            return self
        return Progress(
            current_iteration=max(self.current_iteration, other.current_iteration),
            total_iterations=max(self.total_iterations, other.total_iterations),
            tokens_used=max(self.tokens_used, other.tokens_used),
            total_tokens=max(self.total_tokens, other.total_tokens),
        )

    def settled(self) -> "Progress":
        """At a turn's end: totals that nobody announced are the final counts; none falls."""
        if (
            type(self) is Progress
            and self.total_iterations >= self.current_iteration
            and self.total_tokens >= self.tokens_used
        ):
            return self
        return Progress(
            current_iteration=self.current_iteration,
            total_iterations=max(self.total_iterations, self.current_iteration),
            tokens_used=self.tokens_used,
            total_tokens=max(self.total_tokens, self.tokens_used),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnProgress(Progress):
    kind: ClassVar[str] = "turn.progress"
    turn_id: TurnId
    note: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnAwaiting:
    """Nobody runs the turn until each of `call_ids` is approved or denied.

    `calls`: all calls that have no outcome yet, `{call_id, message_id, name, arguments,
    parent_call_id}`: were the turn ended now, these would need one. `output`: the reply so far.
    `open_message_id`: of a message that has deltas and is not whole; were the turn ended now, it
    would be void.
    """

    kind: ClassVar[str] = "turn.awaiting"
    turn_id: TurnId
    call_ids: tuple[CallId, ...]
    expires_at_ms: int
    calls: tuple[JsonObject, ...] = ()
    output: str = ""
    open_message_id: MessageId | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCancelRequested:
    kind: ClassVar[str] = "turn.cancel_requested"
    turn_id: TurnId
    by: UserId
    reason: str = "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCompleted(Progress):
    kind: ClassVar[str] = "turn.completed"
    turn_id: TurnId
    output: str
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFailed(Progress):
    """The agent or its model gave up. `error`: `{code, message, retry}`."""

    kind: ClassVar[str] = "turn.failed"
    turn_id: TurnId
    error: JsonObject
    output: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCancelled(Progress):
    """Asked for, displaced or closed over: `reason` says which. `output`: the text so far."""

    kind: ClassVar[str] = "turn.cancelled"
    turn_id: TurnId
    reason: str
    by: UserId
    output: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnInterrupted(Progress):
    """Its node was lost and it could not be continued."""

    kind: ClassVar[str] = "turn.interrupted"
    turn_id: TurnId
    reason: str
    output: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageAdded:
    """A whole message; it replaces all deltas of its id.

    `parts`: `{type: text, text}`, `{type: thinking, text}`,
    `{type: tool_call, call_id, name, arguments}`, each with an optional `provider` object that
    only the agent's own integration reads, and `{type: button, button, label, payload}`.
    `steer_id` names the steered input that it delivers; `asked_again`: it came when the agent had
    answered, and began a new run of it.
    """

    kind: ClassVar[str] = "message.added"
    turn_id: TurnId | None
    message_id: MessageId
    role: Role
    parts: tuple[JsonObject, ...]
    state: Literal["complete", "partial"] = "complete"
    steer_id: TurnId | None = None
    asked_again: bool = False
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDelta:
    """Text that joins an unfinished message at `offset`, counted in Unicode code points of its
    `channel`."""

    kind: ClassVar[str] = "message.delta"
    turn_id: TurnId
    message_id: MessageId
    offset: int
    text: str
    channel: Literal["text", "thinking"] = "text"
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReset:
    """The partial text of an attempt that was lost is void."""

    kind: ClassVar[str] = "message.reset"
    turn_id: TurnId
    message_id: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEvent:
    """What all tool events say. `message_id` is the card that they update in place;
    `parent_call_id`: the call from within which this one was made."""

    turn_id: TurnId | None
    call_id: CallId
    message_id: MessageId
    name: str
    arguments: JsonObject
    parent_call_id: CallId | None = None
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted(ToolEvent):
    """Where it names a `grant`, the session had it at this moment."""

    kind: ClassVar[str] = "tool.started"
    idempotent: bool = False
    grant: str | None = None

    def completed(self, result: Any) -> "ToolCompleted":
        return ToolCompleted(**self._same(), result=result)

    def failed(self, error: str) -> "ToolFailed":
        """Run, and it gave no result."""
        return ToolFailed(**self._same(), error=error)

    def interrupted(self, reason: str) -> "ToolInterrupted":
        """The call will never have another outcome."""
        return ToolInterrupted(**self._same(), reason=reason)

    def refused(self, *, verdict: str, reason: str) -> "ToolRefused":
        """Not run, and why."""
        return ToolRefused(**self._same(), verdict=verdict, reason=reason)

    def _same(self) -> dict[str, Any]:
        """What a call's outcome says as its start does."""
        return {each.name: getattr(self, each.name) for each in fields(ToolEvent)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCompleted(ToolEvent):
    kind: ClassVar[str] = "tool.completed"
    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFailed(ToolEvent):
    kind: ClassVar[str] = "tool.failed"
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolInterrupted(ToolEvent):
    """It may or may not have taken effect; it is not run again, and the model is told so."""

    kind: ClassVar[str] = "tool.interrupted"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRefused(ToolEvent):
    kind: ClassVar[str] = "tool.refused"
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested:
    """`message_id` is the card of the call."""

    kind: ClassVar[str] = "approval.requested"
    turn_id: TurnId
    call_id: CallId
    message_id: MessageId
    name: str
    arguments: JsonObject
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGranted:
    """`unanswered`: calls of the turn that still wait; at 0 it goes on."""

    kind: ClassVar[str] = "approval.granted"
    turn_id: TurnId
    call_id: CallId
    by: UserId
    unanswered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDenied:
    """Nobody denied it where `by` is null: its time was over."""

    kind: ClassVar[str] = "approval.denied"
    turn_id: TurnId
    call_id: CallId
    by: UserId | None
    unanswered: int
    reason: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentDecided:
    kind: ClassVar[str] = "intent.decided"
    turn_id: TurnId
    intent: str | None
    score: float
    threshold: float
    path: str
    reason: str = ""
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonOffered:
    """Under a message that is being written; the whole message then has it among its parts."""

    kind: ClassVar[str] = "button.offered"
    turn_id: TurnId
    message_id: MessageId
    button: str
    label: str
    payload: JsonObject = field(default_factory=dict[str, Any])
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonPressed:
    """What the turn was begun with, before the message that it reads as."""

    kind: ClassVar[str] = "button.pressed"
    turn_id: TurnId
    button: str
    payload: JsonObject = field(default_factory=dict[str, Any])
    redacted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCompacted:
    """Stands at seq `to_seq` for the deltas `from_seq..to_seq`, and fills the hole they left."""

    kind: ClassVar[str] = "log.compacted"
    from_seq: Seq
    to_seq: Seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A kind that a newer version wrote; kept as it is."""

    kind: str
    turn_id: TurnId | None
    body: JsonObject = field(default_factory=dict[str, Any])


SessionEvent = (
    SessionOpened
    | SessionUpdated
    | SessionForked
    | SessionHandedOff
    | SessionGranted
    | SessionRevoked
    | SessionSummarized
    | SessionRedacted
    | SessionClosed
    | LogCompacted
)
Terminal = TurnCompleted | TurnFailed | TurnCancelled | TurnInterrupted
TurnEvent = (
    TurnQueued
    | TurnEdited
    | TurnStarted
    | TurnSteered
    | TurnProgress
    | TurnAwaiting
    | TurnCancelRequested
    | Terminal
)
ToolOutcome = ToolCompleted | ToolFailed | ToolInterrupted | ToolRefused
Event = (
    SessionEvent
    | TurnEvent
    | MessageAdded
    | MessageDelta
    | MessageReset
    | ToolStarted
    | ToolOutcome
    | ApprovalRequested
    | ApprovalGranted
    | ApprovalDenied
    | IntentDecided
    | ButtonOffered
    | ButtonPressed
    | Unknown
)

TERMINAL_KINDS = frozenset({"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"})
