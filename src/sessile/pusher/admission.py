"""For whom a signature was made: carried in `channel_data`, so that any node can tell.

A signature is good for a socket and a channel; it says that somebody was let in, not who. The
auth endpoint therefore signs the caller's identity along with them, and the socket brings it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from sessile.core.codec import to_json
from sessile.core.context import Principal
from sessile.core.ids import SessionId, SessionKey, TenantId, UserId
from sessile.ports.auth import SignedIn
from sessile.runtime import tickets

GOOD_SECONDS = 300
"""How long a signature opens its channel, and how long a subscription lasts of whom no node can
say whether they may still be there: then the client comes back and is asked for its token anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Why a socket is in a session's channel; asked again as long as it is."""

    principal: Principal
    key: SessionKey
    known: Callable[[], Awaitable[bool]]
    """Whether the token is still the principal's."""
    until_ms: float
    """When the client has to authorise again; infinite where `known` can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Whom a signature names, and until when it may be used."""

    principal: Principal
    until_seconds: int
    made_from: SignedIn | None
    """What it is good as long as; None where only the node knows that signed."""


def channel_data(
    principal: Principal,
    *,
    until_seconds: int,
    made_from: SignedIn | None = None,
    acting_for: UserId | None = None,
) -> str:
    """What is signed along. `user_id` is also the name that a presence channel shows; the rest is
    shown to nobody, and opens nothing."""
    source = None
    if made_from is not None and made_from.by != "other":
        source = tickets.packed(made_from, acting_for)
    scopes = None if principal.scopes is None else sorted(principal.scopes)
    return to_json(
        {
            "user_id": principal.user_id,
            "tenant_id": principal.tenant_id,
            "roles": sorted(principal.roles),
            "scopes": scopes,
            "only": principal.only,
            "until": until_seconds,
            "from": source,
        }
    )


class _Signed(BaseModel):
    user_id: str = Field(min_length=1)
    tenant_id: str = Field(min_length=1)
    roles: list[str]
    scopes: list[str] | None = None
    only: str | None = None
    until: int
    made_from: list[Any] | None = Field(None, alias="from")


def read(text: str) -> Named | None:
    """Whom the signed text names; None if nobody. A backend that has the secret may have made
    it."""
    try:
        signed = _Signed.model_validate_json(text, strict=True)
    except ValidationError:
        return None
    principal = Principal(
        tenant_id=TenantId(signed.tenant_id),
        user_id=UserId(signed.user_id),
        roles=frozenset(signed.roles),
        scopes=None if signed.scopes is None else frozenset(signed.scopes),
        only=None if signed.only is None else SessionId(signed.only),
    )
    made_from = tickets.unpacked(signed.made_from)
    return Named(
        principal=principal,
        until_seconds=signed.until,
        made_from=None if made_from is None else made_from[0],
    )
