"""The notifier: "this log grew". A hint may be lost, repeated or late, but is never invented."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from sessile.core.events import Entry
from sessile.core.ids import Seq, SessionId, SessionKey, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """`entries`: what was appended, where it came along; else a reader reads the log.

    `due`: a turn can run. `control`: something was said to the turn that runs (cancel, steer,
    close). `deleted`: the session is gone.
    """

    key: SessionKey
    head: Seq
    entries: tuple[Entry, ...] = ()
    due: bool = False
    control: bool = False
    deleted: bool = False


class Notifier(Protocol):
    """Hints travel beside the store, never inside its transactions."""

    def publish(self, hint: Hint) -> None:
        """Tell every listener, on this node and the others. Never waits and never raises."""
        ...

    def listen(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        """Call `listener` in the event loop for each hint; call what is returned to stop.

        Of other nodes' hints, those come that have `due`, `control` or `deleted`, and those of
        sessions that are followed here; others may.
        """
        ...

    def follow(
        self, tenant_id: TenantId, session_id: SessionId | None = None
    ) -> Callable[[], None]:
        """Let all hints of a session, or of all sessions of a tenant, come here from other nodes,
        until what is returned is called. It may take effect a moment later. Never waits."""
        ...
