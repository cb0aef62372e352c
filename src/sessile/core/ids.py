"""Identifiers: a type each, so that the type checkers tell them apart."""

import re
from typing import NamedTuple, NewType

TenantId = NewType("TenantId", str)
UserId = NewType("UserId", str)
SessionId = NewType("SessionId", str)
TurnId = NewType("TurnId", str)
MessageId = NewType("MessageId", str)
CallId = NewType("CallId", str)
WebhookId = NewType("WebhookId", str)
NodeId = NewType("NodeId", str)
AuditId = NewType("AuditId", str)
Seq = NewType("Seq", int)
"""A place in one session's log; the first entry has 1."""
Fence = NewType("Fence", int)
"""Raised by one at each start of a turn's attempt; a write that names an older one is refused."""

_FORM = re.compile(r"(ses|trn|msg|call|key|aud|whk)_[A-Za-z0-9_-]{1,64}")


class SessionKey(NamedTuple):
    """What every table row and every lookup of a session begins with."""

    tenant_id: TenantId
    session_id: SessionId


def well_formed(text: str, *, prefix: str) -> bool:
    """Whether `text` could be an id of this prefix; says nothing of whether it exists."""
    match = _FORM.fullmatch(text)
    return match is not None and match[1] == prefix
