"""How many connections there may be: of all, and of one address."""

import asyncio
import logging
from collections import Counter

logger = logging.getLogger(__name__)

TELL_AGAIN_SECONDS = 10.0


class Doors:
    def __init__(self, *, connections_max: int, address_max: int) -> None:
        self._connections_max = connections_max
        self._address_max = address_max
        self._told_at = -TELL_AGAIN_SECONDS
        self._inside = 0
        self._by_address = Counter[str]()

    def enter(self, address: str) -> bool:
        """Whether there is room for one more; then `leave` is owed for it."""
        full = self._inside >= self._connections_max
        if full or self._by_address[address] >= self._address_max:
            limit = "connections_max" if full else "connections_address_max"
            self._tell(limit)
            return False
        self._inside += 1
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        self._inside -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def _tell(self, limit: str) -> None:
        """Now and then: who knocks once may knock a thousand times."""
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= TELL_AGAIN_SECONDS:
            self._told_at = now
            logger.warning(
                "connections are refused", extra={"limit": limit, "connections": self._inside}
            )
