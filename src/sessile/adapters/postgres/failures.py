"""What a lane could not store: what its callers are told, and the operator."""

import asyncio
import logging
import math

from sessile.adapters.postgres.connections import brief, is_passing, told
from sessile.core.errors import StorageBusy

logger = logging.getLogger(__name__)

TELL_AGAIN_SECONDS = 60.0
UNKNOWN = "The database was lost in the commit; whether it was stored is not known."


def refusal(error: Exception, *, unknown: bool) -> Exception:
    """As the port says it. `unknown`: an earlier try may have stored it, and nobody could look."""
    if not unknown:
        return told(error)
    busy = StorageBusy(UNKNOWN)
    busy.__cause__ = told(error).__cause__ or error
    return busy


class Failures:
    """Tells the operator at once; of what passes by itself, while it lasts, now and then."""

    def __init__(self) -> None:
        self._told_at: dict[str, float] = {}

    def tell(self, error: Exception, *, jobs: int, unknown: int) -> None:
        """`unknown`: of how many of the jobs nobody knows whether they were stored."""
        message = "whether it was stored is not known" if unknown else "nothing was stored"
        now = asyncio.get_running_loop().time()
        if is_passing(error):
            if now - self._told_at.get(message, -math.inf) < TELL_AGAIN_SECONDS:
                return
            self._told_at[message] = now
        logger.error(message, extra={"jobs": jobs, "unknown": unknown, **brief(error)})
