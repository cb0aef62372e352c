"""The node's threads for tools that block."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any


class Threads:
    """The node's threads for tools that block. A slot is held until its thread really returns."""

    def __init__(self, *, threads_max: int) -> None:
        self._pool = ThreadPoolExecutor(threads_max, thread_name_prefix="tool")
        self._free = threads_max

    @property
    def free(self) -> int:
        """Slots for further blocking calls; none left means that this node should take no turn."""
        return self._free

    async def run(self, call: Callable[[], Any]) -> Any:
        """Run it with the caller's context variables. Cancelling leaves the thread to its end."""
        loop = asyncio.get_running_loop()
        context = copy_context()
        self._free -= 1
        future = self._pool.submit(context.run, call)
        future.add_done_callback(lambda _: _later(loop, self._release))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release(self) -> None:
        self._free += 1


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """From a thread that may outlive the loop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
