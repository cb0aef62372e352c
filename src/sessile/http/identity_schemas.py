"""What goes over the wire of who you are and what lets you in, for OpenAPI."""

from typing import Annotated, Literal

from pydantic import Field

from sessile.http.schemas import At, Input, Output, SessionIdText

KeyIdText = Annotated[str, Field(examples=["key_6f0d7c1b2a394855a1b2c3d4e5f60718"])]
Role = Literal["admin", "operator", "service"]
Scope = Literal["read", "write", "admin"]


class TokenRequest(Input):
    """`tenant`: the one that the server's settings name, where it is not given."""

    tenant: Annotated[str, Field(max_length=200)] | None = None
    user: Annotated[str, Field(max_length=200)]
    password: Annotated[str, Field(max_length=1_000)]


class TicketRequest(Input):
    session_id: SessionIdText


class KeyRequest(Input):
    """A key acts as `user`, with `roles`; in your own name and with none, where they are not given.
    `expires_seconds`: how long it is good; null for ever."""

    name: Annotated[str, Field(max_length=200)]
    scopes: list[Scope]
    user: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    roles: list[Role] = Field(default_factory=list[Role])
    expires_seconds: Annotated[int, Field(ge=1, le=10 * 366 * 86_400)] | None = None


class Token(Output):
    """`token` is shown this once."""

    token: str
    tenant_id: str
    user_id: str
    roles: list[Role]
    expires_at: At


class Ticket(Output):
    """Open the session's stream with `?ticket=`, until `expires_at`."""

    ticket: str
    session_id: SessionIdText
    expires_at: At


class Key(Output):
    """`created_by`: the user who made it. `used_at`: to the minute."""

    key_id: KeyIdText
    name: str
    user_id: str
    roles: list[Role]
    scopes: list[Scope]
    created_by: str
    created_at: At
    expires_at: At | None
    used_at: At | None


class NewKey(Key):
    """`key` is shown this once."""

    key: str


class KeyPage(Output):
    """`next` is a key id: pass it as `after`."""

    items: list[Key]
    next: KeyIdText | None


class Me(Output):
    """`scopes`: null for all. `signed_in_by`: what you showed; `other` where the program around
    this server says who is who."""

    tenant_id: str
    user_id: str
    roles: list[str]
    scopes: list[Scope] | None
    signed_in_by: Literal["dev", "key", "token", "oidc", "other"]
    expires_at: At | None
