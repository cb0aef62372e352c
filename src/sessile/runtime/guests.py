"""An agent at work: in a task of its own, so that its turn ends though it does not."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from sessile.ports.apart import held

GRACE_SECONDS = 1.0
"""What a guest that is cancelled may take to close what it has open. Less than a draining server
waits for its turns to be handed back, and than a user waits without asking again."""


class Guests:
    """The node's guests that were given up and have not returned: each holds its turn's slot."""

    def __init__(self) -> None:
        self._left: set[asyncio.Task[None]] = set()

    @property
    def left(self) -> int:
        return len(self._left)

    def leave(self, task: asyncio.Task[None]) -> None:
        self._left.add(task)
        task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._left.discard(task)
        with suppress(asyncio.CancelledError):
            task.exception()  # its turn has ended: nobody else will ask


class Guest:
    """One run of an agent, with all that it awaits."""

    def __init__(self, work: Callable[[], Awaitable[None]], guests: Guests) -> None:
        self._loop = asyncio.get_running_loop()
        self._guests = guests
        self._over = self._loop.create_future()
        self._task = self._loop.create_task(held(work))
        self._task.add_done_callback(self._let_go)
        self._grace: asyncio.TimerHandle | None = None
        self.expired = False
        """It was stopped by its deadline."""

    def stop(self) -> None:
        """Cancel it, once: a guest that does not heed it is given up after the grace."""
        if self._grace is None:
            self._task.cancel()
            self._grace = self._loop.call_later(GRACE_SECONDS, self._let_go)

    async def ended(self, *, seconds: float) -> bool:
        """Whether it has ended; else it was given up, and goes on without its turn."""
        deadline = self._loop.call_later(seconds, self._expire)
        try:
            await self._over
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            deadline.cancel()
            if self._grace is not None:
                self._grace.cancel()
            if not self._task.done():
                self._guests.leave(self._task)
        return self._task.done()

    @property
    def error(self) -> BaseException | None:
        """What it ended with; None where it returned."""
        try:
            return self._task.exception()
        except asyncio.CancelledError as cancelled:
            return cancelled

    def _expire(self) -> None:
        self.expired = self._grace is None
        self.stop()

    def _let_go(self, *_: object) -> None:
        if not self._over.done():
            self._over.set_result(None)
