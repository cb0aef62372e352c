"""`ports.store.Records` for both databases: scripts, and who runs them."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from sessile.adapters.sql import keeping, redactions
from sessile.adapters.sql.scripts import Script
from sessile.core.ids import AuditId, NodeId, SessionId, SessionKey, TenantId, UserId
from sessile.core.notes import AuditRecord
from sessile.core.redaction import RedactMessage
from sessile.ports.store import Aged, Committed, Erasure

T = TypeVar("T")


class Run(Protocol):
    """Runs a script in a transaction, anew where that failed. `voids`: what it removes must be gone
    from the files too. `tenants`: whose rows it is about; None: the narrow rows of all."""

    async def __call__(
        self,
        tenants: Sequence[TenantId] | None,
        script: Callable[[], Script[T]],
        /,
        *,
        voids: bool = False,
    ) -> T: ...


class SqlRecords:
    """`write` and `read` run scripts; what reads changes nothing."""

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write = write
        self._read = read

    async def redact(self, key: SessionKey, command: RedactMessage) -> tuple[Committed, ...]:
        return await self._write(
            (key.tenant_id,), lambda: redactions.redact(key, command), voids=True
        )

    async def note(self, record: AuditRecord) -> None:
        await self._write((record.tenant_id,), lambda: keeping.notes([record]))

    async def audit(
        self, tenant_id: TenantId, *, before: AuditId | None = None, limit: int
    ) -> tuple[AuditRecord, ...]:
        return await self._read(
            (tenant_id,), lambda: keeping.audit(tenant_id, before=before, limit=limit)
        )

    async def ask_erasure(
        self, tenant_id: TenantId, user_id: UserId, record: AuditRecord
    ) -> Erasure:
        return await self._write(
            (tenant_id,), lambda: keeping.ask_erasure(tenant_id, user_id, record)
        )

    async def erasures(
        self, tenant_id: TenantId | None = None, *, user_id: UserId | None = None, limit: int
    ) -> tuple[Erasure, ...]:
        return await self._read(
            None if tenant_id is None else (tenant_id,),
            lambda: keeping.erasures(tenant_id, user_id=user_id, limit=limit),
        )

    async def theirs(
        self, tenant_id: TenantId, user_id: UserId, *, limit: int
    ) -> tuple[SessionId, ...]:
        return await self._read(
            (tenant_id,), lambda: keeping.theirs(tenant_id, user_id, limit=limit)
        )

    async def forget(self, tenant_id: TenantId, user_id: UserId, *, limit: int) -> int:
        return await self._write(
            (tenant_id,), lambda: keeping.forget(tenant_id, user_id, limit=limit), voids=True
        )

    async def erased(self, erasure: Erasure, *, sessions: int, record: AuditRecord | None) -> None:
        await self._write(
            (erasure.tenant_id,), lambda: keeping.erased(erasure, sessions=sessions, record=record)
        )

    async def take_chore(self, name: str, node: NodeId, *, lease_ms: int) -> str | None:
        return await self._write((), lambda: keeping.take_chore(name, node, lease_ms=lease_ms))

    async def leave_chore(self, name: str, node: NodeId, left: str) -> None:
        await self._write((), lambda: keeping.leave_chore(name, node, left))

    async def aged(self, after: SessionKey | None, *, limit: int) -> tuple[Aged, ...]:
        return await self._read((), lambda: keeping.aged(after, limit=limit))

    async def compact(self, key: SessionKey, *, before_ms: int, limit: int) -> bool:
        return await self._write(
            (key.tenant_id,),
            lambda: keeping.compact(key, before_ms=before_ms, limit=limit),
            voids=True,
        )
