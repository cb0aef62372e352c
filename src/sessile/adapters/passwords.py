"""Passwords, by argon2id, in threads of their own: as many at once as they are, and no more wait
than they can be through with soon."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sessile.core.errors import LimitReached

THREADS = 1
"""One takes a processor while it hashes, and the turns want the others."""
WAITING_MAX = 16
"""With some tenths of a second each."""
RETRY_AFTER_SECONDS = 2
TIME_COST, MEMORY_KIB, LANES = 3, 65_536, 1
"""RFC 9106's choice where memory is short, in one lane."""
T = TypeVar("T")


class Argon2:
    """A `ports.auth.Passwords`. Close it when nobody signs in any more."""

    def __init__(self, *, time_cost: int = TIME_COST, memory_kib: int = MEMORY_KIB) -> None:
        self._hasher = PasswordHasher(time_cost, memory_kib, LANES)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sessile-password")
        self._waiting = 0
        self._nobodys = ""

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hashed(self, password: str) -> str:
        return await self._run(lambda: self._hasher.hash(_encoded(password)))

    async def matches(self, known: str | None, password: str) -> bool:
        return await self._run(lambda: self._matches(known, password))

    def is_old(self, known: str) -> bool:
        return self._hasher.check_needs_rehash(known)

    def _matches(self, known: str | None, password: str) -> bool:
        if not self._nobodys:
            # At the first sign-in, whose ever it is: none tells by its time who is known.
            self._nobodys = self._hasher.hash(b"nobody's")
        try:
            self._hasher.verify(known or self._nobodys, _encoded(password))
        except (VerificationError, InvalidHashError):
            return False
        return known is not None

    async def _run(self, work: Callable[[], T]) -> T:
        """Who asked and has left meanwhile is still in the thread, or waits for it: it counts until
        its work is done."""
        if self._waiting >= WAITING_MAX:
            raise LimitReached(limit="sign_in_attempts_max", seconds=RETRY_AFTER_SECONDS)
        self._waiting += 1
        working = asyncio.get_running_loop().run_in_executor(self._threads, work)
        working.add_done_callback(self._done)
        return await asyncio.shield(working)

    def _done(self, working: asyncio.Future[T]) -> None:
        self._waiting -= 1
        if not working.cancelled():
            working.exception()  # told to whoever waited, if anybody did


def _encoded(password: str) -> bytes:
    return password.encode(errors="surrogatepass")
