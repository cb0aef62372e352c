"""What can be refused: codes and statuses are read by programs, and so are for ever."""

from collections.abc import Iterator

import pytest

from sessile.core import errors
from sessile.core.errors import NotFound, SessileError, SessionNotFound, TurnNotFound

# Never changed: a client branches on the code, and a proxy on the status.
TOLD = {
    "SessileError": ("error", 500, None),
    "InvalidInput": ("invalid_input", 422, None),
    "Unauthenticated": ("unauthenticated", 401, None),
    "IssuerAway": ("issuer_away", 503, 5),
    "NotFound": ("not_found", 404, None),
    "SessionNotFound": ("session_not_found", 404, None),
    "TurnNotFound": ("turn_not_found", 404, None),
    "MessageNotFound": ("message_not_found", 404, None),
    "CallNotFound": ("call_not_found", 404, None),
    "Forbidden": ("forbidden", 403, None),
    "RoleRequired": ("role_required", 403, None),
    "ApprovalAnswered": ("approval_answered", 409, None),
    "UnknownAssistant": ("unknown_assistant", 422, None),
    "AssistantNotHere": ("assistant_not_here", 503, 2),
    "UnknownGrant": ("unknown_grant", 422, None),
    "SessionBusy": ("session_busy", 409, None),
    "SessionClosed": ("session_closed", 409, None),
    "WebhookNotFound": ("webhook_not_found", 404, None),
    "LimitReached": ("limit_reached", 429, None),
    "QueueFull": ("queue_full", 429, 5),
    "IdempotencyConflict": ("idempotency_conflict", 409, None),
    "TurnNotQueued": ("turn_not_queued", 409, None),
    "TurnEnded": ("turn_ended", 409, None),
    "TurnNotEnded": ("turn_not_ended", 409, None),
    "StillInUse": ("message_in_use", 409, None),
    "OriginMoved": ("origin_moved", 409, None),
    "CursorAhead": ("cursor_ahead", 400, None),
    "TooLarge": ("too_large", 413, None),
    "StorageBusy": ("storage_busy", 503, 2),
    "StorageFull": ("storage_full", 507, 60),
    "StorageDamaged": ("storage_damaged", 500, None),
    "StorageGone": ("storage_gone", 500, None),
    "LeaseLost": ("lease_lost", 409, None),
    "SteerUnread": ("steer_unread", 409, None),
    "ContextExpired": ("context_expired", 500, None),
    "ContextMismatch": ("context_mismatch", 500, None),
    "CapturedContext": ("captured_context", 500, None),
}


def family(error: type[SessileError]) -> Iterator[type[SessileError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


ALL = [error for error in family(SessileError) if error.__module__ == errors.__name__]


def test_codes_and_statuses_are_those_that_were_told() -> None:
    told = {each.__name__: (each.code, each.status, each.retry_after_seconds) for each in ALL}

    # An error that is new is added to the table; one that is in it keeps its line.
    assert told == TOLD


def test_no_two_errors_share_a_code() -> None:
    assert len({error.code for error in ALL}) == len(ALL)


@pytest.mark.parametrize("error", ALL)
def test_an_error_explains_itself(error: type[SessileError]) -> None:
    raised = error()

    assert str(raised)
    assert "\n" not in str(raised)
    assert str(raised) == (error.__doc__ or "").splitlines()[0]
    assert dict(raised.details) == {}


def test_a_message_of_its_own_and_details_are_kept() -> None:
    raised = errors.QueueFull("too many wait", queue_max=4)

    assert str(raised) == "too many wait"
    assert raised.details == {"queue_max": 4}


def test_a_limit_is_told_with_when_to_ask_again() -> None:
    raised = errors.LimitReached("ten a minute", limit="requests_per_minute_max", seconds=7)

    assert (str(raised), raised.limit) == ("ten a minute", "requests_per_minute_max")
    assert raised.details == {"limit": "requests_per_minute_max"}
    assert raised.retry_after_seconds == 7
    assert errors.LimitReached().retry_after_seconds == 1


def test_an_error_without_a_docstring_is_told_by_its_code() -> None:
    undocumented = type("Undocumented", (SessileError,), {"code": "undocumented"})

    assert str(undocumented()) == "undocumented"


def test_whatever_is_not_found_is_caught_as_one() -> None:
    assert issubclass(SessionNotFound, NotFound)
    assert issubclass(TurnNotFound, NotFound)
