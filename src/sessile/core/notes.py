"""Who did what, as it is remembered when the session is gone: never a message's text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sessile.core.ids import AuditId, TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """That an act is to be remembered, under which id, and in which request it was asked for."""

    audit_id: AuditId
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """`actor`: who did it. `subject`: the id of what it was done to. `details`: ids, codes and
    names of grants."""

    tenant_id: TenantId
    audit_id: AuditId
    at_ms: int
    actor: str
    action: str
    subject: str
    request_id: str = ""
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])
