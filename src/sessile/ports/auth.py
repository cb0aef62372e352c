"""Who is it? Asked once a request, and again while a stream stays open."""

from typing import Protocol

from sessile.core.context import Principal


class Authenticator(Protocol):
    async def principal(self, token: str) -> Principal | None:
        """Whose token this is, or None. Takes as long for a wrong token as for a right one."""
        ...
