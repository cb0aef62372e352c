"""The runtime's side of a turn context: it closes with the turn, and opens for no other."""

from collections.abc import Callable
from contextvars import ContextVar, Token  # noqa: TID251

from sessile.core.errors import ContextExpired, ContextMismatch
from sessile.core.events import Progress
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

    async def progress(self, progress: Progress, note: str) -> None:
        self._note_progress(progress, note)

    async def emit(self, text: str) -> None:
        self._add_text(text)
