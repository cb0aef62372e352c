"""How often a password may be tried, on this node: of a user from an address, of either alone."""

import ipaddress
from math import ceil

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from sessile.core.errors import LimitReached
from sessile.core.ids import TenantId, UserId
from sessile.ports.clock import Clock

ALONE = 10
"""So many times as often may a user be tried from anywhere, or anybody from one address: a guesser
does not lock a user out so soon, nor does a house its people behind one address."""


class SignInAttempts:
    """A `ports.auth.Attempts`. What it counts is forgotten after a minute."""

    def __init__(self, clock: Clock, *, attempts_max: int) -> None:
        self._clock = clock
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._both = RateLimitItemPerMinute(attempts_max)
        self._alone = RateLimitItemPerMinute(attempts_max * ALONE)

    def check(self, tenant_id: TenantId, user_id: UserId, address: str) -> None:
        place = _network(address)
        counted = (
            (self._both, ("both", tenant_id, user_id, place)),
            (self._alone, ("user", tenant_id, user_id)),
            (self._alone, ("address", place)),
        )
        for item, names in counted:
            if not self._limiter.hit(item, *names):
                until = self._limiter.get_window_stats(item, *names).reset_time
                left = max(1, ceil(until - self._clock.now_ms() / 1000))
                raise LimitReached(limit="sign_in_attempts_max", seconds=left)


def _network(address: str) -> str:
    """One subscriber has as many addresses of IPv6 as it likes, in one network."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False))
