"""What callers may have removed, and what is remembered of it: deletion, redaction, erasure of a
user, and the audit records."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable

from sessile.core.commands import Command, DeleteSession
from sessile.core.context import Principal
from sessile.core.errors import InvalidInput, NotFound, RoleRequired
from sessile.core.events import Entry
from sessile.core.ids import AuditId, MessageId, Seq, SessionId, SessionKey, UserId
from sessile.core.notes import AuditRecord
from sessile.core.records import noted
from sessile.core.redaction import RedactMessage
from sessile.ports.notifier import Hint, Notifier
from sessile.ports.store import Committed, Erasure
from sessile.runtime.announce import tell_audit
from sessile.runtime.inputs import session_key
from sessile.runtime.node import Node
from sessile.runtime.reads import Reads

_REASON = re.compile(r"[a-z0-9_.-]{0,40}")


class Keeping:
    """Each raises SessionNotFound where the caller may not reach the session that it names.
    `request_id`: of the request that asked, as it is remembered."""

    def __init__(
        self, *, node: Node, reads: Reads, notifier: Notifier, erase: Callable[[], None]
    ) -> None:
        self._node = node
        self._reads = reads
        self._notifier = notifier
        self._erase = erase
        self._redacting = asyncio.Lock()

    async def delete(
        self, principal: Principal, session_id: SessionId, *, request_id: str = ""
    ) -> None:
        """Every row of the session; its readers end. What it was forked to stays."""
        note = self._node.note(request_id)
        await self.remove(
            session_key(principal, session_id), DeleteSession(principal=principal, note=note)
        )

    async def remove(self, key: SessionKey, command: Command) -> bool:
        """Whether the command deleted the session; who reads it is told, and who runs it."""
        committed = await self._node.store.transact(key, command)
        self._node.publish(committed)
        if committed.deleted:
            self._notifier.publish(Hint(key=key, head=Seq(0), deleted=True))
        return committed.deleted

    async def redact(
        self,
        principal: Principal,
        session_id: SessionId,
        message_id: MessageId,
        *,
        reason: str = "",
        request_id: str = "",
    ) -> tuple[Committed, ...]:
        """Void the message's content here, in forks, and in what this is a fork of. Answers for
        each session that changed, this one first. Again, it changes nothing.

        Raises RoleRequired, MessageNotFound, StillInUse; InvalidInput for a reason that is no code.
        """
        if not _REASON.fullmatch(reason):
            raise InvalidInput(f"a reason has the form {_REASON.pattern}", field="reason")
        command = RedactMessage(
            principal=principal,
            message_id=message_id,
            reason=reason,
            note=self._node.note(request_id),
        )
        key = session_key(principal, session_id)
        # A long log is read and written with its session locked, and in SQLite with all of them.
        async with self._redacting:
            done = await self._node.store.records.redact(key, command)
        for committed in done:
            self._node.publish(committed)
        return done

    async def export(
        self, principal: Principal, session_id: SessionId, *, request_id: str = ""
    ) -> AsyncIterator[Entry]:
        """As `Reads.export`; that it was asked for is durable before its first entry."""
        entries = await self._reads.export(principal, session_id)
        await self.note(principal, "session.exported", session_id, request_id=request_id)
        return entries

    async def note(
        self, principal: Principal, action: str, subject: str, *, request_id: str = ""
    ) -> None:
        """Remember an act that is no transaction of a session's. No text goes in."""
        record = self._record(principal, action, subject, request_id)
        await self._node.store.records.note(record)
        tell_audit(record)

    async def audit(
        self, principal: Principal, *, before: AuditId | None = None, limit: int
    ) -> tuple[AuditRecord, ...]:
        """The tenant's records, the newest first. Raises RoleRequired unless by an admin."""
        if "admin" not in principal.roles:
            raise RoleRequired("the audit records are for admins", role="admin")
        principal.check_scope("admin")
        limit = max(1, min(limit, self._node.settings.page_items_max))
        return await self._node.store.records.audit(principal.tenant_id, before=before, limit=limit)

    async def erase_user(
        self, principal: Principal, user_id: UserId, *, request_id: str = ""
    ) -> Erasure:
        """Have all of a user's sessions, keys and credentials removed: from when this returns it is
        done sooner or later, whatever becomes of this node. Asked again meanwhile, it is the same.

        Raises RoleRequired unless by an admin, or for the caller itself; and where the credential
        is not good for it.
        """
        principal.check_scope("write")
        self._check_own(principal, user_id)
        record = self._record(principal, "user.erasure_asked", user_id, request_id)
        erasure = await self._node.store.records.ask_erasure(principal.tenant_id, user_id, record)
        tell_audit(record)
        self._erase()
        return erasure

    async def erasure(self, principal: Principal, user_id: UserId) -> Erasure:
        """How far it is. Raises NotFound where none was asked for, RoleRequired."""
        self._check_own(principal, user_id)
        found = await self._node.store.records.erasures(
            principal.tenant_id, user_id=user_id, limit=1
        )
        if not found:
            raise NotFound("nobody asked for this user's erasure")
        return found[0]

    def _record(
        self, principal: Principal, action: str, subject: str, request_id: str
    ) -> AuditRecord:
        note, now_ms = self._node.note(request_id), self._node.clock.now_ms()
        return noted(principal, note, action, subject, now_ms=now_ms)

    def _check_own(self, principal: Principal, user_id: UserId) -> None:
        if user_id == principal.user_id:
            return
        if "admin" not in principal.roles:
            raise RoleRequired("another user's erasure is for admins", role="admin")
        principal.check_scope("admin")
