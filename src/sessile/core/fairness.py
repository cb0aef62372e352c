"""Who is served before whom, where tenants wait beside each other."""

from collections import Counter
from collections.abc import Iterable

from sessile.core.ids import SessionKey, TenantId


def in_turn(due: Iterable[tuple[int, SessionKey]]) -> tuple[SessionKey, ...]:
    """Sessions, each with the time it is due at: every tenant's first before any tenant's second;
    among these, and within a tenant, the longest due first."""
    places = Counter[TenantId]()
    ranked: list[tuple[int, int, SessionKey]] = []
    for at_ms, key in sorted(due):
        ranked.append((places[key.tenant_id], at_ms, key))
        places[key.tenant_id] += 1
    return tuple(key for *_, key in sorted(ranked))
