"""Hints within one process."""

from collections.abc import Callable

from sessile.core.ids import SessionId, TenantId
from sessile.ports.notifier import Hint


class LocalNotifier:
    """Hints within one process."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Hint], None]] = []

    def publish(self, hint: Hint) -> None:
        for listener in tuple(self._listeners):
            listener(hint)

    def listen(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def follow(
        self, tenant_id: TenantId, session_id: SessionId | None = None
    ) -> Callable[[], None]:
        return lambda: None
