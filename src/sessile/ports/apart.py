"""A guest's code in a task of its own, so that how it ends is told from how its caller is ended.

Of one task that cannot be told: before Python 3.13, `asyncio.Task.cancelling` goes on counting what
a TaskGroup asked of the task that was leaving it, when one of its own tasks failed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class GuestExited(Exception):
    """A guest asked for the end of the process, which is not its own."""


async def apart(
    work: Callable[[], Awaitable[T]], *, seconds: float | None = None
) -> asyncio.Task[T]:
    """The task that did the work, when it has ended. It is cancelled with its caller, and after
    `seconds`: raises TimeoutError where it heeds that. What does not is waited for, until the
    caller is cancelled again."""
    task = asyncio.get_running_loop().create_task(held(work))
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task
        task.cancel()
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        task.add_done_callback(_heard)
        if not task.done():
            await asyncio.wait({task})
        raise
    if task.cancelled():
        raise TimeoutError
    return task


async def held(work: Callable[[], Awaitable[T]]) -> T:
    """Raises GuestExited for SystemExit, which would end the event loop."""
    try:
        return await work()
    except SystemExit as error:
        raise GuestExited(str(error)) from error


def _heard(task: asyncio.Task[Any]) -> None:
    """Nobody will ask for its error."""
    if not task.cancelled():
        task.exception()
