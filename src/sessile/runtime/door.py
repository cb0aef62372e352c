"""The runtime's side of a turn context: it closes with the turn, and opens for no other."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token  # noqa: TID251
from typing import Any, Protocol, TypeVar

from sessile.core.context import ToolResult
from sessile.core.errors import ContextExpired, ContextMismatch
from sessile.core.events import Progress
from sessile.core.ids import CallId
from sessile.ports.agent import AgentFailed, ToolError
from sessile.runtime.telemetry import Telemetry

T = TypeVar("T")

# A tripwire, not a source of identity: tools are given their context as an argument. This tells
# only that code which runs for one turn used the context of another.
_entered: ContextVar["TurnDoor | None"] = ContextVar("entered_door", default=None)


class Inside(Protocol):
    """The attempt behind a door."""

    def note_progress(self, progress: Progress, note: str) -> None: ...

    def add_aside(self, text: str) -> None: ...

    async def call(
        self, name: str, arguments: Mapping[str, Any], parent: CallId | None
    ) -> ToolResult: ...

    async def ask_other(self, assistant: str, text: str, parent: CallId | None) -> str: ...

    async def hand_off(self, assistant: str, reason: str) -> None: ...

    async def summarize(self, summary: str) -> None: ...


class TurnDoor:
    """Implements `core.context.Door` for one attempt."""

    def __init__(self, inside: Inside, *, telemetry: Telemetry) -> None:
        self._inside = inside
        self._telemetry = telemetry
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._closed = False
        self._token: Token[TurnDoor | None] | None = None

    def enter(self) -> None:
        """From here on, what the current task and its children do is done for this turn."""
        self._token = _entered.set(self)

    def close(self) -> None:
        """Every context of this attempt is expired."""
        self._closed = True
        if self._token is not None:
            _entered.reset(self._token)
            self._token = None

    def check(self) -> None:
        if self._closed:
            raise ContextExpired()
        entered = _entered.get()
        if entered is not None and entered is not self:
            self._telemetry.mismatches.inc()
            raise ContextMismatch()

    def progress(self, progress: Progress, note: str) -> Awaitable[None]:
        return self._tell(self._inside.note_progress, progress, note)

    def emit(self, text: str) -> Awaitable[None]:
        return self._tell(self._inside.add_aside, text)

    def call(
        self, name: str, arguments: Mapping[str, Any], parent: CallId | None
    ) -> Awaitable[ToolResult]:
        return self._awaited(lambda: self._inside.call(name, arguments, parent))

    def ask(self, assistant: str, text: str, parent: CallId | None) -> Awaitable[str]:
        return self._awaited(lambda: self._inside.ask_other(assistant, text, parent))

    def hand_off(self, assistant: str, reason: str) -> Awaitable[None]:
        return self._awaited(lambda: self._inside.hand_off(assistant, reason))

    def summarize(self, summary: str) -> Awaitable[None]:
        return self._awaited(lambda: self._inside.summarize(summary))

    def _awaited(self, ask: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """Raises ToolError in a tool's own thread, which cannot await it."""
        if threading.get_ident() != self._thread:
            raise ToolError("A tool that blocks cannot do this: it is for one that is async.")
        return self._checked(ask)

    async def _checked(self, ask: Callable[[], Awaitable[T]]) -> T:
        self.check()  # again: it may be awaited later than it was asked for
        return await ask()

    def _tell(self, tell: Callable[..., None], *what: object) -> Awaitable[None]:
        """At once in the event loop; from a tool's own thread, as soon as the loop comes to it."""
        if threading.get_ident() == self._thread:
            tell(*what)
        else:
            self._loop.call_soon_threadsafe(self._told, tell, what)
        return _DONE

    def _told(self, tell: Callable[..., None], what: tuple[object, ...]) -> None:
        if not self._closed:
            with suppress(AgentFailed):  # too large: the agent's own next word fails of it too
                tell(*what)


class _Done:
    """Need not be awaited: what a thread cannot do."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_DONE = _Done()
