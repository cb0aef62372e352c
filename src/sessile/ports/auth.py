"""Who is it? Asked once a request, and again while a stream stays open."""

from dataclasses import dataclass, field
from typing import Protocol

from sessile.core.context import Principal
from sessile.core.ids import SessionId, TenantId, UserId


class Authenticator(Protocol):
    async def principal(self, token: str) -> Principal | None:
        """Whose token this is, or None. Takes as long for a wrong token as for a right one. A
        stream that is open asks again, every few seconds, and ends where the answer is another."""
        ...


class Developers(Authenticator, Protocol):
    """Who may use a server on their own machine."""

    def knows(self, principal: Principal) -> bool:
        """Whether there is a token of this one, still."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """Who asks, and by what. `by`: dev, key, token, oidc, or another where the program that embeds
    the server says who is who. `ref`: by which this is found again, and which opens nothing: the
    id of a key or a token, or when a JWT was issued, in milliseconds. `until_ms`: its end."""

    principal: Principal
    by: str
    ref: str = ""
    until_ms: int | None = None


class Issuers(Protocol):
    """Reads tokens that others have issued."""

    async def read(self, token: str) -> SignedIn | None:
        """Whom a JWT names, if one of the issuers has signed it for this server, and it is good
        now. Raises IssuerAway where no key of its issuer is known."""
        ...


class Passwords(Protocol):
    """Slow on purpose. Raises LimitReached where too many wait already."""

    async def hashed(self, password: str) -> str: ...

    async def matches(self, known: str | None, password: str) -> bool:
        """Takes as long where there is no hash to be held against."""
        ...

    def is_old(self, known: str) -> bool:
        """Whether it is one of other parameters than are used now."""
        ...


@dataclass(frozen=True, slots=True)
class Secret:
    """A key or a token, made for `credential_id`. `text` is shown once, and never stored."""

    credential_id: str
    text: str = field(repr=False)
    secret_hash: str


class Secrets(Protocol):
    """Makes and reads the texts of keys and tokens."""

    def key(self, tenant_id: TenantId) -> Secret: ...

    def token(self, tenant_id: TenantId) -> Secret: ...

    def read(self, text: str) -> tuple[TenantId, Secret] | None:
        """What the text says of itself; None for what this never made."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What opens the stream of one session for a short time, and what it was made from."""

    session_id: SessionId
    until_ms: int
    made_from: SignedIn
    acting_for: UserId | None = None
