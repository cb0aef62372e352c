"""What can be asked of a session, what a store must read for it, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, assert_never

from sessile.core.context import Holding, Principal
from sessile.core.errors import AssistantNotHere, InvalidInput, LimitReached
from sessile.core.events import (
    Event,
    JsonObject,
    Progress,
    SessionForked,
    ToolStarted,
    TurnSteered,
    WhenBusy,
)
from sessile.core.ids import CallId, MessageId, NodeId, Seq, SessionId, TurnId, UserId
from sessile.core.notes import Note
from sessile.core.session import FREE, Lease, Session, SessionHead, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """An idempotency key as its user sent it. `scope`: the session, or `open`."""

    user_id: UserId
    scope: str
    key: str
    request_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What was answered under an idempotency key. `created`: it made the session."""

    request_hash: str
    session_id: SessionId
    turn_id: TurnId | None
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A node that has a slot free for a turn, what its lease would be, and whose turns it can
    run."""

    node: NodeId
    lease_ms: int
    assistants: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """A press of a button, as each assistant that the node knows reads it: the input that it is,
    or why it is none. `malformed`: why it is none of anybody's."""

    readings: Mapping[str, JsonObject | InvalidInput]
    malformed: InvalidInput | None = None

    def read_by(self, assistant: str) -> JsonObject:
        """Raises InvalidInput, AssistantNotHere."""
        reading = self.malformed or self.readings.get(assistant)
        if reading is None:
            raise AssistantNotHere(assistant=assistant)
        if isinstance(reading, InvalidInput):
            raise reading
        return reading


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitTurn:
    """`runner`: starts the turn at once if the session is free and it knows the assistant; else,
    and where it is `None`, the turn is queued only. `limited`: why it is refused unless it repeats
    one that was accepted."""

    principal: Principal
    turn_id: TurnId
    message_id: MessageId
    input: JsonObject | Press
    when_busy: WhenBusy
    queue_max: int
    runner: Runner | None = None
    once: Once | None = None
    limited: LimitReached | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """`inherited`: what a fork copies, after `forked` says from where; `origin_seen`: how far the
    log was that it was read from, which must be as far still: else it may have been redacted.
    `first`: submitted in the same transaction, to the session that was opened or found; its answer
    is remembered by the `once` of the open. `limited`: why none is made, if there is none yet."""

    principal: Principal
    assistant: str
    title: str | None = None
    metadata: JsonObject = field(default_factory=dict[str, Any])
    exclusive_key: str | None = None
    forked: SessionForked | None = None
    origin_seen: Seq | None = None
    inherited: tuple[Event, ...] = ()
    first: SubmitTurn | None = None
    once: Once | None = None
    limited: LimitReached | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditTurn:
    principal: Principal
    turn_id: TurnId
    input: JsonObject | Press


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelTurn:
    principal: Principal
    turn_id: TurnId
    reason: str = "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSession:
    """Merges `metadata` key by key (a null removes its key); `title` only where `retitle`."""

    principal: Principal
    title: str | None = None
    retitle: bool = False
    metadata: JsonObject = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseSession:
    principal: Principal
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetGrants:
    """The session's grants are these from now on. `changeable`: those that the caller may give
    and take; `None`: any."""

    principal: Principal
    grants: tuple[str, ...]
    changeable: frozenset[str] | None = None
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerApproval:
    """Approve or deny a call that waits; the last answer makes the turn due."""

    principal: Principal
    call_id: CallId
    granted: bool
    reason: str = ""
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSession:
    principal: Principal
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireSession:
    """Delete it if it is idle and still ends at `head`, where it was found to be too old."""

    principal: Principal
    head: Seq
    note: Note | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTurn:
    """Claims what is due: a lost or handed-back turn first, else the queue's first.

    Of an assistant that the runner does not know only a turn that is to be cancelled, as that
    takes no agent. `suspects`: whether to take a turn that was lost twice in a row without
    a durable step.
    """

    runner: Runner
    suspects: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseTurn:
    """Hands the lease back unfinished; the next attempt is no strike."""

    holding: Holding


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitTurn:
    """Ask for approvals and release the lease. `closing`: what must be written before."""

    holding: Holding
    step: int
    asked: tuple[ToolStarted, ...]
    open_calls: tuple[ToolStarted, ...]
    """All that have no outcome yet, those that are asked for among them."""
    expires_ms: int
    output: str = ""
    open_message_id: MessageId | None = None
    closing: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishTurn:
    """Ends the turn. `closing`: what must be written before the end, in the same transaction.

    `unread`: the steered inputs that the agent has not read. `successor`: take the session's
    next turn under a new fence, if it knows the assistant; `None`: release the lease.
    """

    holding: Holding
    step: int
    end: Literal["completed", "failed", "cancelled", "interrupted"]
    output: str = ""
    error: JsonObject | None = None
    reason: str = ""
    progress: Progress = Progress()
    closing: tuple[Event, ...] = ()
    unread: tuple[TurnSteered, ...] = ()
    successor: Runner | None = None


Command = (
    OpenSession
    | SubmitTurn
    | EditTurn
    | CancelTurn
    | UpdateSession
    | CloseSession
    | SetGrants
    | AnswerApproval
    | DeleteSession
    | ExpireSession
    | StartTurn
    | AwaitTurn
    | ReleaseTurn
    | FinishTurn
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a store shows `decide`, read inside the session's lock."""

    now_ms: int
    head: SessionHead | None = None
    lease: Lease = FREE
    session: Session | None = None
    turns: Mapping[TurnId, Turn] = field(default_factory=dict[TurnId, Turn])
    """The turn that the command names, the running one, and as much of the queue as it named."""
    remembered: Remembered | None = None
    origin: SessionHead | None = None
    """Of the session that an `OpenSession` is a fork of."""
    exclusive: bool = False
    """Shown, and locked, is the active session that holds the exclusive key of an `OpenSession`,
    not the one that it would have opened."""

    @property
    def assistant(self) -> str | None:
        """The session's, where the wide row was named."""
        return None if self.session is None else self.session.assistant


class Decision(NamedTuple):
    """What to write, in one transaction. `lease=None` leaves the lease alone."""

    events: tuple[Event, ...] = ()
    lease: Lease | None = None
    turn_id: TurnId | None = None
    """The turn that the answer is about."""
    session_id: SessionId | None = None
    """The session that the answer is about, where it is not the one that was locked."""
    created: bool = False
    """The session was made by this command, or by the one that it repeats."""
    repeated: bool = False
    """Nothing is written: the answer was given before."""
    deleted: bool = False
    lost: Lease | None = None
    """Of the attempt that the one which is started follows, if its node was lost."""


class Named(NamedTuple):
    """The rows that a command needs beside the head, the lease and the running turn."""

    turn_id: TurnId | None = None
    queue: Literal["none", "first", "all"] = "none"
    session: bool = False
    once: Once | None = None
    exclusive_key: str | None = None
    origin: SessionId | None = None
    """Of which only the head is needed; locked, as it must not be redacted meanwhile."""


def named(command: Command) -> Named:
    """What a store must read for `decide`. Stated apart, so that a batch is read in one go."""
    match command:
        case SubmitTurn():
            queue: Literal["none", "all"] = "all" if command.when_busy == "interrupt" else "none"
            return Named(
                turn_id=command.turn_id,
                once=command.once,
                queue=queue,
                session=command.runner is not None or isinstance(command.input, Press),
            )
        case FinishTurn():
            return Named(
                turn_id=command.holding.turn_id,
                queue="first",
                session=command.successor is not None or any(map(_gated, command.closing)),
            )
        case OpenSession():
            first = Named() if command.first is None else named(command.first)
            forked = command.forked
            return first._replace(
                once=command.once,
                exclusive_key=command.exclusive_key,
                origin=None if forked is None else forked.from_session_id,
            )
        case EditTurn():
            return Named(turn_id=command.turn_id, session=isinstance(command.input, Press))
        case CancelTurn():
            return Named(turn_id=command.turn_id)
        case UpdateSession():
            return Named(session=True)
        case CloseSession():
            return Named(queue="all", session=True)
        case SetGrants():
            return Named(session=True)
        case AwaitTurn():
            return Named(turn_id=command.holding.turn_id)
        case DeleteSession() | ExpireSession() | ReleaseTurn() | AnswerApproval():
            return Named()
        case StartTurn():
            return Named(queue="first", session=True)
        case _:
            assert_never(command)


def _gated(event: Event) -> bool:
    return isinstance(event, ToolStarted) and event.grant is not None
