"""The runtime's side of a turn context: it closes with the turn, and opens for no other."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar, Token  # noqa: TID251

from sessile.core.errors import ContextExpired, ContextMismatch
from sessile.core.events import Progress
from sessile.ports.agent import AgentFailed
from sessile.runtime.telemetry import Telemetry

# A tripwire, not a source of identity: tools are given their context as an argument. This tells
# only that code which runs for one turn used the context of another.
_entered: ContextVar["TurnDoor | None"] = ContextVar("entered_door", default=None)


class TurnDoor:
    """Implements `core.context.Door` for one attempt."""

    def __init__(
        self,
        *,
        telemetry: Telemetry,
        add_text: Callable[[str], None],
        note_progress: Callable[[Progress, str], None],
    ) -> None:
        self._telemetry = telemetry
        self._add_text = add_text
        self._note_progress = note_progress
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
        return self._tell(self._note_progress, progress, note)

    def emit(self, text: str) -> Awaitable[None]:
        return self._tell(self._add_text, text)

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
