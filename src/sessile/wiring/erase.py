"""A user's erasure from a terminal: by a server that serves nobody."""

import asyncio
from dataclasses import replace

from sessile.core.context import Principal, TurnContext
from sessile.core.ids import TenantId, UserId
from sessile.kit.assistant import Assistant
from sessile.ports.store import Erasure
from sessile.settings import Settings
from sessile.wiring.server import Server

OPERATOR = UserId("operator")
"""As the audit records name who asked for it."""
LOOK_SECONDS = 0.05


def erase_user(settings: Settings, tenant_id: TenantId, user_id: UserId) -> Erasure:
    """Erase a user in the database of the settings, and return when it is done. Nodes may use a
    PostgreSQL database meanwhile.

    Raises FileNotFoundError where there is no database, DataDirectoryLocked where a server uses
    the file, StorageUnreachable, and InvalidInput for what is no name.
    """
    path = settings.data_dir / "sessile.db"
    if not settings.shared and not path.is_file():
        raise FileNotFoundError(path)
    return asyncio.run(_erase(settings, tenant_id, user_id))


async def _erase(settings: Settings, tenant_id: TenantId, user_id: UserId) -> Erasure:
    nobody = Assistant("nobody")

    @nobody.agent
    async def answer(turn: TurnContext) -> str:
        raise AssertionError("it runs no turns")

    by = Principal(tenant_id=tenant_id, user_id=OPERATOR, roles=frozenset({"admin"}))
    user_id = Principal(tenant_id=tenant_id, user_id=user_id).user_id
    quick = replace(settings, role="surfaces", housekeeping_seconds=1.0)
    async with Server(nobody, settings=quick) as server:
        erasure = await server.keeping.erase_user(by, user_id)
        while erasure.done_at_ms is None:
            # Another node may be at it.
            await asyncio.sleep(LOOK_SECONDS)
            erasure = await server.keeping.erasure(by, user_id)
        return erasure
