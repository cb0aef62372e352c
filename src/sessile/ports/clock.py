"""Time and chance are arguments."""

from typing import Protocol

from sessile.core.ids import AuditId, CallId, MessageId, SessionId, TurnId


class Clock(Protocol):
    """Wall-clock time, for records and leases. Waiting is the event loop's."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...


class IdSource(Protocol):
    """The one place where ids are born: RFC 9562 version 7, so that they sort by birth."""

    def session_id(self) -> SessionId: ...

    def turn_id(self) -> TurnId: ...

    def message_id(self) -> MessageId: ...

    def call_id(self) -> CallId: ...

    def audit_id(self) -> AuditId: ...
