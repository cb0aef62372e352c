"""The renewal of a node's leases, by a connection of its own."""

import asyncio
from collections.abc import Collection

from sessile.adapters.postgres.tenants import TenantConnection
from sessile.core.context import Holding
from sessile.core.ids import NodeId, SessionKey

AGAIN_SECONDS = 0.02


async def renew(
    connection: TenantConnection, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
) -> frozenset[SessionKey]:
    """The sessions whose lease was lost, or not extended.

    A row that is locked is passed over, for an append that is on its way holds it, and is asked
    for again until a quarter of the lease is over: the others do not wait for it.
    """
    sql = """
        WITH held AS (
            SELECT h.tenant_id, h.session_id
            FROM unnest($3::text[], $4::text[], $5::bigint[]) AS k(tenant_id, session_id, fence)
            JOIN session_head AS h ON h.tenant_id = k.tenant_id AND h.session_id = k.session_id
            WHERE h.lease_owner = $1 AND h.fence = k.fence
            ORDER BY h.tenant_id, h.session_id
            FOR UPDATE OF h SKIP LOCKED
        )
        UPDATE session_head AS h SET
            lease_until_ms = sessile_now_ms() + $2, due_at_ms = sessile_now_ms() + $2
        FROM held
        WHERE h.tenant_id = held.tenant_id AND h.session_id = held.session_id
        RETURNING h.tenant_id, h.session_id
    """
    await connection.tell({holding.key.tenant_id for holding in holdings})
    left = {holding.key: holding for holding in holdings}
    lost: frozenset[SessionKey] = frozenset()
    end = asyncio.get_running_loop().time() + lease_ms / 4000
    while True:
        asked = [(*key, holding.fence) for key, holding in left.items()]
        rows = await connection.fetch(sql, node, lease_ms, *zip(*asked, strict=True))
        for row in rows:
            left.pop(SessionKey(row[0], row[1]), None)
        if left:
            lost |= await _lost(connection, node, left.values())
            left = {key: holding for key, holding in left.items() if key not in lost}
        if not left or asyncio.get_running_loop().time() > end:
            return lost | frozenset(left)
        await asyncio.sleep(AGAIN_SECONDS)


async def _lost(
    connection: TenantConnection, node: NodeId, holdings: Collection[Holding]
) -> frozenset[SessionKey]:
    """Those that somebody else holds by now, or nobody."""
    sql = """
        SELECT k.tenant_id, k.session_id
        FROM unnest($2::text[], $3::text[], $4::bigint[]) AS k(tenant_id, session_id, fence)
        LEFT JOIN session_head AS h
            ON h.tenant_id = k.tenant_id AND h.session_id = k.session_id
            AND h.lease_owner = $1 AND h.fence = k.fence
        WHERE h.session_id IS NULL
    """
    asked = [(*holding.key, holding.fence) for holding in holdings]
    rows = await connection.fetch(sql, node, *zip(*asked, strict=True))
    return frozenset(SessionKey(row[0], row[1]) for row in rows)
