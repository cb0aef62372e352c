"""How often a password may be tried, on this node: of a user from an address, of either alone."""

import ipaddress

from sessile.core.errors import LimitReached
from sessile.core.ids import TenantId, UserId
from sessile.ports.clock import Clock
from sessile.runtime.rates import Rates

ALONE = 10
"""So many times as often may a user be tried from anywhere, or anybody from one address: a guesser
does not lock a user out so soon, nor does a house its people behind one address."""


class SignInAttempts:
    """What it counts is forgotten after two minutes."""

    def __init__(self, clock: Clock, *, attempts_max: int) -> None:
        self._clock = clock
        self._rates = Rates()
        self._most = attempts_max

    def check(self, tenant_id: TenantId, user_id: UserId, address: str) -> None:
        """Count one more, unless it is refused. Raises LimitReached."""
        place, now_ms = _network(address), self._clock.now_ms()
        counted: tuple[tuple[int, tuple[str, ...]], ...] = (
            (self._most, ("both", tenant_id, user_id, place)),
            (self._most * ALONE, ("user", tenant_id, user_id)),
            (self._most * ALONE, ("address", place)),
        )
        for most, key in counted:
            if seconds := self._rates.wait(key, most=most, now_ms=now_ms):
                raise LimitReached(limit="sign_in_attempts_max", seconds=seconds)
        self._rates.count(*(key for _, key in counted), now_ms=now_ms)


def _network(address: str) -> str:
    """One subscriber has as many addresses of IPv6 as it likes, in one network."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    if known.version == 4:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False))
