"""`sessile erase`: removes all of a user's sessions, keys and credentials."""

import sys

from sessile.cli.broken import changing
from sessile.cli.plain import one_line
from sessile.core.ids import TenantId, UserId
from sessile.settings import Settings
from sessile.wiring import erase_user


def erase(settings: Settings, tenant: str, user: str) -> None:
    """Says when it is done. Raises CommandFailed."""
    with changing(settings):
        erasure = erase_user(settings, TenantId(tenant), UserId(user))
    told = f"{one_line(user)} of {one_line(tenant)}: erased, {erasure.sessions} sessions"
    sys.stdout.write(f"{told}\n")
