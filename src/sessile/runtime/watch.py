"""An agent that gives no sign of life is stopped."""

import asyncio
from collections.abc import Callable

from sessile.settings import Settings


class Watch:
    """Calls `on_silence` once when the agent is silent too long while none of its tools runs."""

    def __init__(
        self, *, settings: Settings, busy: Callable[[], bool], on_silence: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._busy = busy
        self._on_silence = on_silence
        self._idle_seconds = settings.agent_idle_seconds_max
        self._limit = settings.agent_first_seconds_max
        self._seen_at = self._loop.time()
        self._timer = self._loop.call_later(self._limit, self._look)

    def seen(self) -> None:
        """A sign of life."""
        self._seen_at = self._loop.time()
        if self._limit != self._idle_seconds:
            self._limit = self._idle_seconds
            self._timer.cancel()
            self._timer = self._loop.call_later(self._limit, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        if self._busy():
            self._seen_at = now
        left = self._seen_at + self._limit - now
        if left <= 0:
            self._on_silence()
        else:
            self._timer = self._loop.call_later(left, self._look)
