"""What can be refused, and how it is told: a stable code, an HTTP status, whether to retry."""

from collections.abc import Mapping
from typing import ClassVar


class SessileError(Exception):
    """A refusal or conflict. `code` is stable for ever; `details` are safe to show the caller."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    retry_after_seconds: int | None = None
    """When set, the same request may succeed after this time."""

    def __init__(self, message: str = "", **details: object) -> None:
        super().__init__(message or (type(self).__doc__ or self.code).partition("\n")[0])
        self.details: Mapping[str, object] = details


class InvalidInput(SessileError):
    """The request does not have the form that this operation asks for."""

    code = "invalid_input"
    status = 422


class Unauthenticated(SessileError):
    """No valid credentials came with the request."""

    code = "unauthenticated"
    status = 401


class IssuerAway(SessileError):
    """The keys of the tokens' issuer are not known now, so that no token of it can be checked."""

    code = "issuer_away"
    status = 503
    retry_after_seconds = 5


class NotFound(SessileError):
    """There is no such thing, or it is not yours: the two are the same answer."""

    code = "not_found"
    status = 404


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "session_not_found"


class TurnNotFound(NotFound):
    """There is no such turn in this session."""

    code = "turn_not_found"


class MessageNotFound(NotFound):
    """There is no such message in this session."""

    code = "message_not_found"


class CallNotFound(NotFound):
    """No call of that id waits for an approval in this session."""

    code = "call_not_found"


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "webhook_not_found"


class Forbidden(SessileError):
    """You may read this session, and may not do this in it."""

    code = "forbidden"
    status = 403


class RoleRequired(Forbidden):
    """Your role, or what your credential is good for, does not include this."""

    code = "role_required"


class ApprovalAnswered(SessileError):
    """The call was answered before, and otherwise."""

    code = "approval_answered"
    status = 409


class UnknownAssistant(SessileError):
    """This server has no assistant of that name.

    The request names it: whoever asked has to ask for another, and to ask again is of no use.
    """

    code = "unknown_assistant"
    status = 422


class AssistantNotHere(SessileError):
    """This node does not have the session's assistant, which alone can say; another node may.

    The request is right, and the session was opened where there is such an assistant. So it is
    for the proxy or the client to ask again, which another node answers.
    """

    code = "assistant_not_here"
    status = 503
    retry_after_seconds = 2


class UnknownGrant(SessileError):
    """No tool of this server's assistants asks for this grant."""

    code = "unknown_grant"
    status = 422


class SessionBusy(SessileError):
    """The session is running a turn, and the request asked to be rejected in that case."""

    code = "session_busy"
    status = 409


class SessionClosed(SessileError):
    """The session is closed and never reopens; open a new one."""

    code = "session_closed"
    status = 409


class QueueFull(SessileError):
    """The session has as many queued turns as it may have."""

    code = "queue_full"
    status = 429
    retry_after_seconds = 5


class LimitReached(SessileError):
    """The tenant or the user has as much as it may have. `limit` is the setting's name."""

    code = "limit_reached"
    status = 429

    def __init__(self, message: str = "", *, limit: str = "", seconds: int = 1) -> None:
        super().__init__(message, **({"limit": limit} if limit else {}))
        self.limit = limit
        self.retry_after_seconds = seconds


class IdempotencyConflict(SessileError):
    """This idempotency key was used before, with another body."""

    code = "idempotency_conflict"
    status = 409


class TurnNotQueued(SessileError):
    """The turn has left the queue; its input can no longer be changed."""

    code = "turn_not_queued"
    status = 409


class TurnEnded(SessileError):
    """The turn has already ended."""

    code = "turn_ended"
    status = 409


class TurnNotEnded(SessileError):
    """The turn has not ended yet; a fork is cut at one that has."""

    code = "turn_not_ended"
    status = 409


class StillInUse(SessileError):
    """The message's turn has not ended, or another runs that has read it: cancel it first."""

    code = "message_in_use"
    status = 409


class OriginMoved(SessileError):
    """The session that is forked has grown meanwhile; read what came, and ask again."""

    code = "origin_moved"
    status = 409


class CursorAhead(SessileError):
    """The cursor lies ahead of the session's log, or is of another epoch of its database."""

    code = "cursor_ahead"
    status = 400


class TooLarge(SessileError):
    """The request asks for more than one transaction may write."""

    code = "too_large"
    status = 413


class StorageBusy(SessileError):
    """The database did not take the write in time; nothing was stored."""

    code = "storage_busy"
    status = 503
    retry_after_seconds = 2


class StorageFull(SessileError):
    """The disk is full; nothing was stored."""

    code = "storage_full"
    status = 507
    retry_after_seconds = 60


class StorageDamaged(SessileError):
    """The database cannot be read: its file is damaged; `sessile doctor` says more."""

    code = "storage_damaged"


class StorageGone(StorageDamaged):
    """The database was removed or replaced under this server; nothing was stored. Stop it."""

    code = "storage_gone"


class LeaseLost(SessileError):
    """Another attempt holds the session under a newer fence, or it was closed; stop at once."""

    code = "lease_lost"
    status = 409


class SteerUnread(SessileError):
    """A message was steered into the turn that its agent has not read; it cannot end yet."""

    code = "steer_unread"
    status = 409


class ContextExpired(SessileError):
    """This turn context outlived its turn; use the one that your tool was called with."""

    code = "context_expired"


class ContextMismatch(SessileError):
    """This turn context belongs to another turn than the one that is running here."""

    code = "context_mismatch"


class CapturedContext(SessileError):
    """A tool holds a turn context in its closure or defaults; take it as an argument instead."""

    code = "captured_context"
