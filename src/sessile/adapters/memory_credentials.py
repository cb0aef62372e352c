"""Accounts, keys and tokens in memory: the reference, and of a server that keeps nothing."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice

from sessile.core.ids import TenantId, UserId
from sessile.ports.credentials import Account, Credential, Kind, Used

EXPIRED_MS = 86_400_000


class MemoryCredentials:
    """Each method runs in one piece, which is its transaction."""

    def __init__(self) -> None:
        self._given: dict[tuple[TenantId, str], Credential] = {}
        self._accounts: dict[tuple[TenantId, UserId], Account] = {}
        self._revoked: dict[tuple[TenantId, UserId], int] = {}
        self._any = False

    async def find(self, tenant_id: TenantId, credential_id: str) -> Credential | None:
        return self._given.get((tenant_id, credential_id))

    async def add(self, credential: Credential, *, password_hash: str | None = None) -> bool:
        if password_hash is not None:
            account = self._accounts.get((credential.tenant_id, credential.user_id))
            before = credential.created_at_ms - EXPIRED_MS
            for each in self._of(credential.tenant_id, credential.user_id):
                if each.kind == "token" and (each.expires_at_ms or before) < before:
                    del self._given[each.tenant_id, each.credential_id]
            if account is None or account.password_hash != password_hash:
                return False
        self._given[credential.tenant_id, credential.credential_id] = credential
        self._any = True
        return True

    async def keys(
        self, tenant_id: TenantId, *, after: str = "", limit: int
    ) -> tuple[Credential, ...]:
        found = sorted(
            (each for each in self._given.values() if each.tenant_id == tenant_id),
            key=lambda each: each.credential_id,
        )
        keys = (each for each in found if each.kind == "key" and each.credential_id > after)
        return tuple(islice(keys, limit))

    async def remove(self, tenant_id: TenantId, credential_id: str, kind: Kind) -> bool:
        found = self._given.get((tenant_id, credential_id))
        if found is None or found.kind != kind:
            return False
        del self._given[tenant_id, credential_id]
        return True

    async def used(self, marks: Collection[Used]) -> None:
        for tenant_id, credential_id, at_ms in marks:
            found = self._given.get((tenant_id, credential_id))
            if found is not None and (found.used_at_ms or 0) < at_ms:
                self._given[tenant_id, credential_id] = replace(found, used_at_ms=at_ms)

    async def account(self, tenant_id: TenantId, user_id: UserId) -> Account | None:
        return self._accounts.get((tenant_id, user_id))

    async def accounts(
        self, tenant_id: TenantId, *, after: str = "", limit: int
    ) -> tuple[Account, ...]:
        found = sorted(self._accounts.values(), key=lambda each: each.user_id)
        own = (each for each in found if each.tenant_id == tenant_id and each.user_id > after)
        return tuple(islice(own, limit))

    async def add_account(self, account: Account) -> bool:
        place = (account.tenant_id, account.user_id)
        if place in self._accounts:
            return False
        self._accounts[place] = account
        self._any = True
        return True

    async def set_password(
        self, tenant_id: TenantId, user_id: UserId, new: str, *, old: str | None = None
    ) -> bool:
        account = self._accounts.get((tenant_id, user_id))
        if account is None or old not in (None, account.password_hash):
            return False
        self._accounts[tenant_id, user_id] = replace(account, password_hash=new)
        if old is None:
            for each in self._of(tenant_id, user_id):
                if each.kind == "token":
                    del self._given[tenant_id, each.credential_id]
        return True

    async def remove_account(self, tenant_id: TenantId, user_id: UserId) -> bool:
        self._take(tenant_id, user_id)
        return self._accounts.pop((tenant_id, user_id), None) is not None

    async def revoke(self, tenant_id: TenantId, user_id: UserId, *, at_ms: int) -> None:
        self._take(tenant_id, user_id)
        self._revoked[tenant_id, user_id] = max(at_ms, self._revoked.get((tenant_id, user_id), 0))

    async def revoked_ms(self, tenant_id: TenantId, user_id: UserId) -> int:
        return self._revoked.get((tenant_id, user_id), 0)

    async def any(self) -> bool:
        return self._any

    def _of(self, tenant_id: TenantId, user_id: UserId) -> Iterator[Credential]:
        for each in tuple(self._given.values()):
            if (each.tenant_id, each.user_id) == (tenant_id, user_id):
                yield each

    def _take(self, tenant_id: TenantId, user_id: UserId) -> None:
        for each in self._of(tenant_id, user_id):
            del self._given[tenant_id, each.credential_id]
