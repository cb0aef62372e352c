"""Which commands leave an audit record, and what it says."""

from typing import Any, assert_never

from sessile.core.commands import (
    AnswerApproval,
    Command,
    Decision,
    DeleteSession,
    ExpireSession,
    SetGrants,
)
from sessile.core.context import Principal
from sessile.core.ids import SessionKey
from sessile.core.notes import AuditRecord, Note

Audited = SetGrants | AnswerApproval | DeleteSession | ExpireSession


def noted(
    principal: Principal, note: Note, action: str, subject: str, *, now_ms: int, **details: Any
) -> AuditRecord:
    """The record of an act by this caller; and `by` which service, where one asked for the user."""
    if principal.by is not None:
        details["by"] = principal.by
    return AuditRecord(
        tenant_id=principal.tenant_id,
        audit_id=note.audit_id,
        at_ms=now_ms,
        actor=principal.user_id,
        action=action,
        subject=subject,
        request_id=note.request_id,
        details=details,
    )


def record_of(
    key: SessionKey, command: Command, decision: Decision, *, now_ms: int
) -> AuditRecord | None:
    """To be written with what was decided; None where that changes nothing, or is not noted."""
    if not isinstance(command, Audited) or command.note is None or decision.repeated:
        return None
    if not (decision.events or decision.deleted):
        return None
    details: dict[str, Any] = {}
    match command:
        case SetGrants():
            action, details["grants"] = "grants.set", list(command.grants)
        case AnswerApproval():
            action = "approval.granted" if command.granted else "approval.denied"
            details["call_id"] = command.call_id
        case DeleteSession():
            action = "session.deleted"
        case ExpireSession():
            action = "session.expired"
        case _:
            assert_never(command)
    return noted(command.principal, command.note, action, key.session_id, now_ms=now_ms, **details)
