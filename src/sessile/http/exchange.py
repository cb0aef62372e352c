"""One request as every route sees it, and who asks."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Scope

from sessile.core.context import Principal
from sessile.core.errors import RoleRequired, Unauthenticated
from sessile.core.ids import MessageId, SessionId, TurnId, UserId
from sessile.ports.auth import Authenticator
from sessile.runtime.asking import Asking


@dataclass(slots=True)
class Exchange:
    """A request, as `guard` met it. `session_id`: what its path names, once that was read.
    `address`: whence it came; a proxy's, where there is one. `ticket`: of its query, which counts
    where its endpoint takes tickets."""

    request_id: str
    headers: Mapping[bytes, bytes]
    authenticator: Authenticator
    count: Callable[[Principal], None]
    session_id: SessionId | None = None
    address: str = ""
    ticket: str = ""
    takes_tickets: bool = False
    counted: bool = False
    _asking: Asking | None = None

    @property
    def asking(self) -> Asking:
        """Raises Unauthenticated, InvalidInput."""
        if self._asking is None:
            ticket = self.ticket if self.takes_tickets else ""
            self._asking = Asking.of(self.headers, self.authenticator, ticket=ticket)
        return self._asking

    async def principal(self) -> Principal:
        """Raises Unauthenticated, RoleRequired, InvalidInput, and LimitReached; the request counts
        once, however often who asks is asked for."""
        principal = await self.asking.principal()
        if not self.counted:
            self.counted = True
            self.count(principal)
        return principal


class Access:
    """Of a long reply: whether who was let in is so still, asked `seconds` apart."""

    def __init__(self, asked: Exchange, principal: Principal, *, seconds: float) -> None:
        self._asked = asked
        self._principal = principal
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self.due = self._loop.time() + seconds
        """When it is asked next, in the loop's time."""

    async def holds(self) -> bool:
        """The same token is still the same caller's. Raises what who is asked raises, such as
        StorageBusy."""
        if self._loop.time() < self.due:
            return True
        self.due = self._loop.time() + self._seconds
        try:
            return self._principal == await self._asked.principal()
        except (Unauthenticated, RoleRequired):
            return False


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
