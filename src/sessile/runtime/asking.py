"""Who asks: found by a token or a ticket, and asked again for as long as a connection is open."""

from collections.abc import Mapping

from sessile.core.context import Principal
from sessile.core.errors import InvalidInput, Unauthenticated
from sessile.core.ids import UserId
from sessile.ports.auth import Authenticator, SignedIn, Ticket
from sessile.runtime import tickets
from sessile.runtime.identity import Identity

USER_HEADER = b"sessile-user"


class Asking:
    """`ticket`: the text of one, in place of a token. `acting_for`: for which user of its tenant a
    service asks."""

    __slots__ = ("_authenticator", "_ticket", "_ticket_text", "_token", "acting_for")

    def __init__(
        self,
        authenticator: Authenticator,
        token: str,
        *,
        ticket: str = "",
        acting_for: UserId | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._token = token
        self._ticket_text = ticket
        self._ticket: Ticket | None = None
        self.acting_for = acting_for

    @classmethod
    def of(
        cls, headers: Mapping[bytes, bytes], authenticator: Authenticator, *, ticket: str = ""
    ) -> "Asking":
        """Raises Unauthenticated where neither a bearer's token nor a ticket is shown; where both
        are, the token counts. InvalidInput for a name that no user has."""
        shown = headers.get(b"authorization")
        if shown is None and ticket:
            return cls(authenticator, "", ticket=ticket)
        scheme, _, token = (shown or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Unauthenticated()
        acting_for = None
        if (user := headers.get(USER_HEADER)) is not None:
            acting_for = _user(user)
        return cls(authenticator, token.decode("latin-1"), acting_for=acting_for)

    async def principal(self) -> Principal:
        """Raises Unauthenticated, and RoleRequired where it acts for a user and is no service."""
        if self._ticket_text:
            return await self._by_ticket()
        principal = await self._authenticator.principal(self._token)
        if principal is None:
            raise Unauthenticated()
        return tickets.acting(principal, self.acting_for)

    async def signed_in(self) -> SignedIn:
        """By what, and as whom without regard to for whom it acts. Raises Unauthenticated."""
        if self._ticket_text:
            await self._by_ticket()
            assert self._ticket is not None
            return self._ticket.made_from
        if isinstance(self._authenticator, Identity):
            signed_in = await self._authenticator.signed_in(self._token)
        else:
            principal = await self._authenticator.principal(self._token)
            signed_in = None if principal is None else SignedIn(principal=principal, by="other")
        if signed_in is None:
            raise Unauthenticated()
        return signed_in

    async def _by_ticket(self) -> Principal:
        """A ticket is read once: what it opened goes on after its end, as long as what it was made
        from is good."""
        if not isinstance(self._authenticator, Identity):
            raise Unauthenticated()
        if self._ticket is None:
            self._ticket = self._authenticator.read_ticket(self._ticket_text)
        if not await self._authenticator.still(self._ticket.made_from):
            raise Unauthenticated()
        return tickets.principal_of(self._ticket)


def _user(value: bytes) -> UserId:
    try:
        name = value.decode()
    except UnicodeDecodeError:
        name = ""
    if not name:
        raise InvalidInput("Sessile-User names a user, in UTF-8", field="Sessile-User")
    return UserId(name)
