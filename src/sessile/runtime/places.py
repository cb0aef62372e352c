"""How many readers one user, and one tenant, may have here at once, whatever they read by."""

from collections import Counter

from sessile.core.context import Principal
from sessile.core.ids import TenantId, UserId
from sessile.settings import Settings


class Places:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._taken = Counter[tuple[TenantId, UserId | None]]()
        """By user; None for all of the tenant."""

    def enter(self, who: Principal) -> str | None:
        """Take a place, for which `leave` is owed; else the name of the setting that is reached."""
        if self._taken[who.tenant_id, who.user_id] >= self._settings.streams_user_max:
            return "streams_user_max"
        if self._taken[who.tenant_id, None] >= self._settings.streams_tenant_max:
            return "streams_tenant_max"
        self._taken.update(((who.tenant_id, who.user_id), (who.tenant_id, None)))
        return None

    def leave(self, who: Principal) -> None:
        self._taken.subtract(((who.tenant_id, who.user_id), (who.tenant_id, None)))
        for key in ((who.tenant_id, who.user_id), (who.tenant_id, None)):
            if not self._taken[key]:
                del self._taken[key]  # users come and go
