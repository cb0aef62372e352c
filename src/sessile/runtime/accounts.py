"""Built-in users, as the operator of a database has them."""

from collections.abc import AsyncIterator, Collection

from sessile.core.context import ROLES, Principal
from sessile.core.ids import TenantId, UserId
from sessile.ports.auth import Passwords
from sessile.ports.clock import Clock
from sessile.ports.credentials import Account, Credentials
from sessile.runtime.sign_in import check_password, checked

PAGE = 200


class Accounts:
    def __init__(self, credentials: Credentials, passwords: Passwords, clock: Clock) -> None:
        self._credentials = credentials
        self._passwords = passwords
        self._clock = clock

    async def add(
        self, tenant_id: TenantId, user_id: UserId, password: str, *, roles: Collection[str]
    ) -> bool:
        """Whether there was none of the name. Raises InvalidInput."""
        who = Principal(tenant_id=tenant_id, user_id=user_id, roles=checked(roles, ROLES, "roles"))
        account = Account(
            tenant_id=who.tenant_id,
            user_id=who.user_id,
            roles=who.roles,
            password_hash=await self._passwords.hashed(check_password(password)),
            created_at_ms=self._clock.now_ms(),
        )
        return await self._credentials.add_account(account)

    async def set_password(self, tenant_id: TenantId, user_id: UserId, password: str) -> bool:
        """Its tokens end. Whether there is such a user. Raises InvalidInput."""
        new = await self._passwords.hashed(check_password(password))
        return await self._credentials.set_password(tenant_id, user_id, new)

    async def remove(self, tenant_id: TenantId, user_id: UserId) -> bool:
        """With its tokens, and the API keys that act as it. Whether there was such a user."""
        return await self._credentials.remove_account(tenant_id, user_id)

    async def revoke(self, tenant_id: TenantId, user_id: UserId) -> None:
        """All that was issued for the user before now, whoever issued it."""
        await self._credentials.revoke(tenant_id, user_id, at_ms=self._clock.now_ms())

    async def of(self, tenant_id: TenantId) -> AsyncIterator[Account]:
        """The tenant's, by name."""
        after = ""
        while page := await self._credentials.accounts(tenant_id, after=after, limit=PAGE):
            for account in page:
                yield account
            after = page[-1].user_id
