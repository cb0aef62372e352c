"""One request as every route sees it, and who asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from sessile.core.context import Principal
from sessile.core.errors import Unauthenticated
from sessile.core.ids import MessageId, SessionId, TurnId, UserId
from sessile.ports.auth import Authenticator


@dataclass(slots=True)
class Exchange:
    """A request, as `guard` met it. `session_id`: what its path names, once that was read."""

    request_id: str
    headers: Mapping[bytes, bytes]
    authenticator: Authenticator
    session_id: SessionId | None = None

    async def principal(self) -> Principal:
        """Raises Unauthenticated."""
        scheme, _, token = self.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Unauthenticated()
        principal = await self.authenticator.principal(token.decode("latin-1"))
        if principal is None:
            raise Unauthenticated()
        return principal


def exchange(scope: Scope) -> Exchange:
    found: Exchange = scope["sessile"]
    return found


async def here(request: Request) -> Exchange:
    return exchange(request.scope)


async def caller(
    request: Request,
    _credentials: Annotated[
        HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
    ],
) -> Principal:
    return await exchange(request.scope).principal()


Here = Annotated[Exchange, Depends(here)]
Caller = Annotated[Principal, Depends(caller)]
"""Whoever asks: a parameter of any route, your own too. 401 without valid credentials."""
SessionPath = Annotated[SessionId, Path(description="The session's id.")]
MessagePath = Annotated[MessageId, Path(description="The message's id.")]
UserPath = Annotated[UserId, Path(description="A user's id; `me`: your own.")]
TurnPath = Annotated[TurnId, Path(description="The turn's id.")]
