"""A node's leases, renewed as long as their turns run here."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from sessile.core.ids import SessionKey
from sessile.runtime.journal import patiently
from sessile.runtime.node import Node
from sessile.runtime.outages import told
from sessile.runtime.turns import Attempt

logger = logging.getLogger(__name__)

RENEWALS_PER_TTL = 4
LATE_AT_SHARE_OF_TTL = 0.6


async def renew_for_ever(
    node: Node,
    attempts: Mapping[SessionKey, Attempt],
    *,
    in_time: Callable[[], None],
    late: Callable[[], None],
) -> None:
    """A node that cannot renew in time stops its turns itself. One of `in_time` and `late` is
    called each time, `RENEWALS_PER_TTL` times a lease."""
    runner, store = node.runner, node.store
    ttl_seconds = runner.lease_ms / 1000
    interval = ttl_seconds / RENEWALS_PER_TTL
    while True:
        await asyncio.sleep(interval)
        held = {key: attempt.holding for key, attempt in attempts.items()}
        if not held:
            in_time()
            continue
        holdings = tuple(held.values())
        try:
            async with asyncio.timeout(ttl_seconds * LATE_AT_SHARE_OF_TTL - interval):
                lost = await patiently(
                    lambda: store.renew(runner.node, holdings, lease_ms=runner.lease_ms)  # noqa: B023
                )
            in_time()
        except TimeoutError:
            lost = frozenset(held)
            late()
            logger.error(
                "leases not renewed in time", extra={"turns": len(held), "sessions": told(held)}
            )
        except Exception:
            lost = frozenset(held)  # the store failed: the turns must not go on
            logger.exception(
                "leases not renewed", extra={"turns": len(held), "sessions": told(held)}
            )
        for key, holding in held.items():
            attempt = attempts.get(key)
            if key in lost and attempt is not None and attempt.holding == holding:
                attempt.stop("lost")
