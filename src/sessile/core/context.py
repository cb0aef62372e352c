"""Who asks, and on whose behalf: frozen identity."""

import re
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from operator import index
from typing import Any, Literal, Protocol, cast

from sessile.core.errors import InvalidInput, RoleRequired
from sessile.core.events import JsonObject, Progress
from sessile.core.ids import CallId, Fence, NodeId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.transcript import History

_NAME = re.compile("[^\0\ud800-\udfff]{0,200}")
"""Short enough for the keys of every table."""

ROLES = ("admin", "operator", "service")
SCOPES = ("read", "write", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller of a request, as authentication found it. Raises InvalidInput where the tenant or
    the user has a name that no database takes.

    `roles`: of `admin` (of the tenant), `operator` (sets grants) and `service` (acts for users of
    its tenant); a plain user has none. `scopes`: what the credential is good for, of SCOPES; None
    for all. `only`: the one session that it reaches. `by`: the service that asks for this user,
    for the audit; it makes nobody another caller.
    """

    tenant_id: TenantId
    user_id: UserId
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    only: SessionId | None = None
    by: UserId | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for field_, name in (("tenant_id", self.tenant_id), ("user_id", self.user_id)):
            if not _NAME.fullmatch(name):
                raise InvalidInput(
                    f"{field_} has at most 200 characters, no NUL and no lone surrogate",
                    field=field_,
                )

    def may_reach(self, key: SessionKey, owner: UserId) -> bool:
        """A caller reaches sessions of its own tenant, and of these only its own unless it is an
        admin of the tenant."""
        return (
            self.tenant_id == key.tenant_id
            and (self.user_id == owner or "admin" in self.roles)
            and self.only in (None, key.session_id)
        )

    def has_scope(self, scope: str) -> bool:
        """Whether the credential is good for it: each of SCOPES has those before it in it."""
        if self.scopes is None:
            return True
        return bool(self.scopes.intersection(SCOPES[SCOPES.index(scope) :]))

    def check_scope(self, scope: str) -> None:
        """Raises RoleRequired where the credential is not good for it."""
        if not self.has_scope(scope):
            raise RoleRequired(f"this credential is not good for it: {scope}", scope=scope)

    def acting_for(self, user_id: UserId) -> "Principal":
        """A plain user of the tenant, for whom a service asks. Raises RoleRequired."""
        if "service" not in self.roles:
            raise RoleRequired("only a service acts for users", role="service")
        return replace(self, user_id=user_id, roles=frozenset(), by=self.user_id)


@dataclass(frozen=True, slots=True)
class Holding:
    """The right to write for one turn, as long as no newer fence exists."""

    key: SessionKey
    turn_id: TurnId
    fence: Fence
    attempt: int
    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The one outcome of a call. `value` only where completed, else `reason`."""

    call_id: CallId
    name: str
    status: Literal["completed", "failed", "interrupted", "refused"]
    value: Any = None
    reason: str | None = None


class Door(Protocol):
    """The runtime's side of a turn context: what a turn can do while it is open."""

    def check(self) -> None:
        """Raises ContextExpired after the turn's end, ContextMismatch inside another turn."""
        ...

    def progress(self, progress: Progress, note: str) -> Awaitable[None]: ...

    def emit(self, text: str) -> Awaitable[None]: ...

    def call(
        self, name: str, arguments: Mapping[str, Any], parent: CallId | None
    ) -> Awaitable[ToolResult]: ...

    def ask(self, assistant: str, text: str, parent: CallId | None) -> Awaitable[str]: ...

    def hand_off(self, assistant: str, reason: str) -> Awaitable[None]: ...

    def summarize(self, summary: str) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which turn this is, for whom, and what it was given."""

    tenant_id: TenantId
    user_id: UserId
    session_id: SessionId
    turn_id: TurnId
    fence: Fence
    attempt: int
    assistant: str
    grants: tuple[str, ...]
    input: JsonObject
    metadata: JsonObject = field(default_factory=dict[str, Any])
    call_id: CallId | None = None
    reached: Progress = Progress()


class TurnContext:
    """The identity of one turn, handed to each agent and tool call as an argument.

    It is frozen, and closed when its turn ends: from then on, and inside any other turn, even
    reading an id raises, so that a context kept by mistake cannot name a session.
    """

    __slots__ = ("_door", "_history", "_identity")

    def __init__(self, identity: Identity, door: Door, history: History | None) -> None:
        object.__setattr__(self, "_identity", identity)
        object.__setattr__(self, "_door", door)
        object.__setattr__(self, "_history", history)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a turn context is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a turn context is frozen: {name} cannot be deleted")

    @property
    def tenant_id(self) -> TenantId:
        return self._open().tenant_id

    @property
    def user_id(self) -> UserId:
        return self._open().user_id

    @property
    def session_id(self) -> SessionId:
        return self._open().session_id

    @property
    def turn_id(self) -> TurnId:
        return self._open().turn_id

    @property
    def fence(self) -> Fence:
        return self._open().fence

    @property
    def attempt(self) -> int:
        """1 for the first; higher where a node was lost and the turn goes on from the log."""
        return self._open().attempt

    @property
    def assistant(self) -> str:
        return self._open().assistant

    @property
    def grants(self) -> tuple[str, ...]:
        return self._open().grants

    @property
    def input(self) -> JsonObject:
        """What was asked: `{type, text, …}`. A copy, which is yours."""
        return _copied(self._open().input)

    @property
    def metadata(self) -> JsonObject:
        """The session's metadata as they were when the turn began: what is set meanwhile holds
        from the next turn on. A copy, which is yours."""
        return _copied(self._open().metadata)

    @property
    def call_id(self) -> CallId | None:
        """The call that a tool was given this context for; None outside of tools."""
        return self._open().call_id

    @property
    def reached(self) -> Progress:
        """How far the turn was when this step or call began, attempts that were lost included."""
        return self._open().reached

    @property
    def history(self) -> History:
        """The session's messages as they were when this step began. They are read for tools, for
        handlers and for an agent that takes `turn, history`."""
        self._open()
        history: History | None = self._history
        assert history is not None, "an agent that reads the history takes it: `turn, history`"
        return history

    def progress(
        self,
        *,
        current_iteration: int = 0,
        total_iterations: int = 0,
        tokens_used: int = 0,
        total_tokens: int = 0,
        note: str = "",
    ) -> Awaitable[None]:
        """Report how far the turn is. No number ever falls: the larger of old and new counts.

        A tool that blocks calls it without `await`. Raises TypeError for what is no whole number.
        """
        self._open()
        progress = Progress(
            current_iteration=current_iteration,
            total_iterations=total_iterations,
            tokens_used=tokens_used,
            total_tokens=total_tokens,
        )
        return self._door.progress(whole(progress), _text(note))

    def emit(self, text: str) -> Awaitable[None]:
        """Add text to the reply that the turn is writing; without `await` in a tool that blocks."""
        self._open()
        return self._door.emit(text)

    def call(self, name: str, /, **arguments: Any) -> Awaitable[ToolResult]:
        """Call one of the assistant's tools, as its model would: authorised, and in the log."""
        return self._door.call(name, arguments, self._open().call_id)

    def ask(self, assistant: str, text: str) -> Awaitable[str]:
        """Have another assistant answer `text`, and nothing else of this session, by its own
        tools. Its calls are in this session's log, below the call that asked."""
        return self._door.ask(assistant, text, self._open().call_id)

    def hand_off(self, assistant: str, *, reason: str = "") -> Awaitable[None]:
        """From here on the session is another assistant's. It answers this turn too, where nothing
        has been answered yet. Who hands off may have a last word, and calls nothing more: its
        calls are refused, for after a loss the other assistant is run and not this one."""
        self._open()
        return self._door.hand_off(assistant, _text(reason))

    def summarize(self, summary: str) -> Awaitable[None]:
        """What is read from the next turn on in place of all that was said before this one. Nothing
        is deleted."""
        self._open()
        return self._door.summarize(_text(summary))

    def _open(self) -> Identity:
        self._door.check()
        return self._identity

    def __repr__(self) -> str:
        return f"TurnContext({self._identity.session_id}, {self._identity.turn_id})"

    _identity: Identity
    _door: Door
    _history: History | None


def whole(progress: Progress) -> Progress:
    """The four numbers as JSON has them. Raises TypeError for a guest's number that is not whole:
    a log that refused it would refuse all that is written with it."""
    return Progress(
        current_iteration=int(index(progress.current_iteration)),
        total_iterations=int(index(progress.total_iterations)),
        tokens_used=int(index(progress.tokens_used)),
        total_tokens=int(index(progress.total_tokens)),
    )


def _copied(given: JsonObject) -> JsonObject:
    """With its objects and lists made anew: the rest of JSON cannot be written into. Made where it
    is read, since most calls read neither."""
    return {name: _anew(each) for name, each in given.items()}


def _anew(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _copied(cast(JsonObject, value))
    if isinstance(value, list | tuple):
        return [_anew(each) for each in cast(list[Any], value)]
    return value


def _text(said: object) -> str:
    if not isinstance(said, str):
        raise TypeError(f"a text is a str, not {type(said).__name__}")
    return said
