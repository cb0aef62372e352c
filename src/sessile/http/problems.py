"""Problem documents (RFC 9457): what every refusal looks like on the wire."""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sessile.core.codec import to_json
from sessile.core.errors import InvalidInput, SessileError, TooLarge
from sessile.http.reply import Header, Reply

MEDIA_TYPE = b"application/problem+json"
ERRORS_MAX = 20
"""Faults of one request that are told; a body may have as many as it has bytes."""
FIELD_CHARS_MAX = 200
MESSAGES = {
    "dict_type": "Input should be an object",
    "extra_forbidden": "There is no such field",
    "missing": "Has to be given",
    "model_attributes_type": "Input should be an object",
    "model_type": "Input should be an object",
    "union_tag_invalid": "Has to be message, task or button",
    "union_tag_not_found": "Has to be message, task or button",
}
"""Where pydantic speaks of Python, or of its own settings."""


class MalformedJson(SessileError):
    """The body is not JSON."""

    code = "malformed_json"
    status = 400


class SessionMismatch(SessileError):
    """The request names two sessions; the one in the path is the only place for it."""

    code = "session_mismatch"
    status = 400


class BodyTooLarge(SessileError):
    """The body is larger than this server takes."""

    code = "body_too_large"
    status = 413


class UnsupportedMediaType(SessileError):
    """The body has to be application/json, in UTF-8 and not compressed."""

    code = "unsupported_media_type"
    status = 415


class HostRefused(SessileError):
    """This server listens on a loopback address and answers to the names of it only."""

    code = "host_refused"
    status = 421


class OriginRefused(SessileError):
    """A page of another site asked to change something."""

    code = "origin_refused"
    status = 403


class InvalidHeader(SessileError):
    """A header of the request is not one that HTTP allows."""

    code = "invalid_header"
    status = 400


class MalformedRequest(SessileError):
    """What came is not HTTP."""

    code = "malformed_request"
    status = 400


class HeadTooLarge(SessileError):
    """The request's line and headers are larger than this server takes."""

    code = "head_too_large"
    status = 431


class NotReady(SessileError):
    """This node takes no work now."""

    code = "not_ready"
    status = 503
    retry_after_seconds = 2


class ConnectionsFull(NotReady):
    """This node has as many connections as it may have, or your address has."""


CLOSING = (
    BodyTooLarge, ConnectionsFull, HeadTooLarge, InvalidHeader, MalformedRequest, TooLarge,
)  # fmt: skip


class InvalidFields(SessileError):
    """The request does not have the form that this operation asks for."""

    code = InvalidInput.code
    status = InvalidInput.status

    def __init__(self, faults: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self.faults = tuple(faults)

    @classmethod
    def of(cls, error: ValidationError, *, within: str = "") -> "InvalidFields":
        """Names and reasons only: what the caller sent is not sent back."""
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        return cls(
            (_path(within, _place(fault)), MESSAGES.get(fault["type"], fault["msg"]))
            for fault in faults[:ERRORS_MAX]
        )


def problem(error: SessileError, *, request_id: str | None) -> Reply:
    """The reply that tells a refusal."""
    faults: Sequence[tuple[str, str]] = ()
    details: Mapping[str, object] = error.details
    if isinstance(error, InvalidFields):
        faults = error.faults
    elif isinstance(error, InvalidInput) and (field := error.details.get("field")):
        faults = ((str(field), str(error)),)
        details = {name: value for name, value in details.items() if name != "field"}
    headers: list[Header] = []
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="sessile"'))
    if isinstance(error, CLOSING):
        # What is left of the request would have to be read before the connection is used again.
        headers.append((b"connection", b"close"))
    title = (type(error).__doc__ or error.code).partition("\n")[0]
    return document(
        error.status,
        error.code,
        title=title,
        detail=str(error),
        request_id=request_id,
        faults=faults,
        details=details,
        headers=headers,
    )


def plain_problem(
    status: int, *, request_id: str | None, detail: str = "", headers: Sequence[Header] = ()
) -> Reply:
    """A problem of HTTP itself: no such route, no such method; or what a mounted route says."""
    phrase = HTTPStatus(status).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_").replace("'", "")
    return document(
        status, code, title=phrase, detail=detail or phrase, request_id=request_id, headers=headers
    )


def document(
    status: int,
    code: str,
    *,
    title: str,
    detail: str,
    request_id: str | None,
    faults: Sequence[tuple[str, str]] = (),
    details: Mapping[str, object] | None = None,
    headers: Sequence[Header] = (),
) -> Reply:
    body: dict[str, Any] = {
        "type": f"urn:sessile:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "instance": request_id,
        "errors": [{"field": field, "message": message} for field, message in faults],
        "details": details or {},
    }
    return Reply(status, to_json(body).encode(), headers, media_type=MEDIA_TYPE)


def _place(fault: ErrorDetails) -> tuple[int | str, ...]:
    """Without the kind of input, which pydantic puts among the names of fields."""
    place = fault["loc"]
    if fault["type"].startswith("union_tag"):
        return (*place, "type")
    return (*place[:1], *place[2:]) if place[:1] == ("input",) else place


def _path(within: str, place: tuple[int | str, ...]) -> str:
    path = ".".join(str(step) for step in ((within, *place) if within else place))
    return path if len(path) <= FIELD_CHARS_MAX else path[:FIELD_CHARS_MAX] + "…"
