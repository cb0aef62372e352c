"""Accounts, API keys and tokens: who may sign in, and what was given out. No secret is stored but
by its hash."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from sessile.core.ids import TenantId, UserId

Kind = Literal["key", "token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A built-in user."""

    tenant_id: TenantId
    user_id: UserId
    roles: frozenset[str] = frozenset()
    password_hash: str = field(repr=False)
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """An API key, or the token of a built-in user who signed in. `scopes` None: all."""

    tenant_id: TenantId
    credential_id: str
    kind: Kind
    secret_hash: str = field(repr=False)
    user_id: UserId
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    name: str = ""
    created_by: UserId
    created_at_ms: int
    expires_at_ms: int | None = None
    used_at_ms: int | None = None


class Used(NamedTuple):
    tenant_id: TenantId
    credential_id: str
    at_ms: int


class Credentials(Protocol):
    """Each method is durable on return, and raises what `ports.store.Store` raises. A read sees
    every write that was acknowledged before it, on any node."""

    async def find(self, tenant_id: TenantId, credential_id: str) -> Credential | None: ...

    async def add(self, credential: Credential, *, password_hash: str | None = None) -> bool:
        """`password_hash`: only while it is the account's, so that no token is left of a password
        that was changed meanwhile. What expired of the user's is removed. Answers whether it was
        added."""
        ...

    async def keys(
        self, tenant_id: TenantId, *, after: str = "", limit: int
    ) -> tuple[Credential, ...]:
        """A tenant's API keys by id, from the one behind `after` on."""
        ...

    async def remove(self, tenant_id: TenantId, credential_id: str, kind: Kind) -> bool:
        """Whether there was one of the kind."""
        ...

    async def used(self, marks: Collection[Used]) -> None:
        """When keys were last used. Of one that was removed, nothing."""
        ...

    async def account(self, tenant_id: TenantId, user_id: UserId) -> Account | None: ...

    async def accounts(
        self, tenant_id: TenantId, *, after: str = "", limit: int
    ) -> tuple[Account, ...]:
        """A tenant's users by name, from the one behind `after` on."""
        ...

    async def add_account(self, account: Account) -> bool:
        """Whether it was added: there was none of the name."""
        ...

    async def set_password(
        self, tenant_id: TenantId, user_id: UserId, new: str, *, old: str | None = None
    ) -> bool:
        """A new hash. `old`: of the same password, where that is still the account's; else its
        tokens are removed. Answers whether there was such an account."""
        ...

    async def remove_account(self, tenant_id: TenantId, user_id: UserId) -> bool:
        """With its tokens, and the API keys that act as it. Whether there was one."""
        ...

    async def revoke(self, tenant_id: TenantId, user_id: UserId, *, at_ms: int) -> None:
        """All that the user has: its tokens, the API keys that act as it, and what others issued up
        to then. It may sign in again."""
        ...

    async def revoked_ms(self, tenant_id: TenantId, user_id: UserId) -> int:
        """Up to when all that was issued for the user is revoked; 0 where nothing is."""
        ...

    async def any(self) -> bool:
        """Whether there is an account or an API key, of any tenant."""
        ...
