"""A whole reply, written as it is: bytes, a status and headers."""

from collections.abc import Iterable
from typing import Any

from starlette.types import Receive, Scope, Send

from sessile.core.codec import to_json

Header = tuple[bytes, bytes]
ABORT = "sessile.abort"
"""The ASGI extension by which `listener` lets a connection be dropped with what it buffers."""


class Reply:
    """An ASGI application that answers one request. Nothing is converted on the way."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: Iterable[Header] = (),
        *,
        media_type: bytes = b"application/json",
    ) -> None:
        self.status = status
        self.body = body
        self.headers: list[Header] = [*headers]
        if status != 204:
            self.headers.append((b"content-type", media_type))
            self.headers.append((b"content-length", b"%d" % len(body)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def abort(scope: Scope) -> None:
    """Drop the connection of a client that takes nothing: closing it would wait for the client."""
    drop = scope.get("extensions", {}).get(ABORT)
    if drop is not None:
        drop()


def json_reply(status: int, value: Any, headers: Iterable[Header] = ()) -> Reply:
    return Reply(status, to_json(value).encode(), headers)
