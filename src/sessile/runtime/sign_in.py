"""What is given out by which one gets in, and taken back: tokens for passwords, and API keys."""

import asyncio
from collections.abc import Callable, Collection

from sessile.core.context import ROLES, SCOPES, Principal
from sessile.core.errors import InvalidInput, NotFound, RoleRequired, Unauthenticated
from sessile.core.ids import TenantId, UserId
from sessile.ports.auth import Passwords, Secret, Secrets, SignedIn
from sessile.ports.clock import Clock
from sessile.ports.credentials import Account, Credential, Credentials
from sessile.runtime.attempts import SignInAttempts
from sessile.runtime.identity import Identity
from sessile.settings import Settings

NAME_CHARS_MAX = 200
PASSWORD_CHARS = range(8, 1_001)


class KeyNotFound(NotFound):
    """There is no such API key."""

    code = "key_not_found"


class TokenNotFound(NotFound):
    """You did not sign in with a password: there is no token to end."""

    code = "token_not_found"


class SignIn:
    """`passwords` are made when they are first needed, in a thread: most servers never do."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        identity: Identity,
        secrets: Secrets,
        clock: Clock,
        settings: Settings,
        passwords: Callable[[], Passwords],
    ) -> None:
        self._credentials = credentials
        self._identity = identity
        self._secrets = secrets
        self._clock = clock
        self._settings = settings
        self._make = passwords
        self._passwords: Passwords | None = None
        self._attempts = SignInAttempts(clock, attempts_max=settings.sign_in_attempts_max)
        self._making = asyncio.Lock()

    async def sign_in(
        self, tenant_id: TenantId | None, user_id: UserId, password: str, *, address: str
    ) -> tuple[Secret, Credential]:
        """A token of the user. `tenant_id` None: the one that the settings name.

        Raises Unauthenticated, as soon for an unknown user as for a wrong password; LimitReached
        and InvalidInput, whoever it is.
        """
        who = Principal(
            tenant_id=TenantId(self._settings.sign_in_tenant) if tenant_id is None else tenant_id,
            user_id=user_id,
        )
        passwords = await self._hasher()
        self._attempts.check(who.tenant_id, who.user_id, address)
        account = await self._credentials.account(who.tenant_id, who.user_id)
        known = None if account is None else account.password_hash
        if not await passwords.matches(known, password):
            raise Unauthenticated()
        assert account is not None, "nobody's password matches"
        if passwords.is_old(account.password_hash):
            account = await self._renewed(account, await passwords.hashed(password))
        secret = self._secrets.token(who.tenant_id)
        now_ms = self._clock.now_ms()
        token = Credential(
            tenant_id=who.tenant_id,
            credential_id=secret.credential_id,
            kind="token",
            secret_hash=secret.secret_hash,
            user_id=who.user_id,
            roles=account.roles,
            created_by=who.user_id,
            created_at_ms=now_ms,
            expires_at_ms=now_ms + int(self._settings.token_seconds_max * 1000),
        )
        if not await self._credentials.add(token, password_hash=account.password_hash):
            raise Unauthenticated()  # its password was changed meanwhile
        return secret, token

    async def is_used(self) -> bool:
        """Whether anybody was ever given a way in by this database."""
        return await self._credentials.any()

    async def sign_out(self, signed_in: SignedIn) -> None:
        """Raises TokenNotFound where it is by no token of ours."""
        tenant_id = signed_in.principal.tenant_id
        by_token = signed_in.by == "token"
        if not by_token or not await self._credentials.remove(tenant_id, signed_in.ref, "token"):
            raise TokenNotFound()
        self._identity.forget()

    async def add_key(
        self,
        principal: Principal,
        *,
        name: str,
        scopes: Collection[str],
        user_id: UserId | None = None,
        roles: Collection[str] = (),
        seconds: int | None = None,
    ) -> tuple[Secret, Credential]:
        """A key of the caller's tenant that acts as the user, or as the caller; for so long.

        Raises RoleRequired unless the caller is an admin, and InvalidInput.
        """
        _check_admin(principal)
        acts_as = Principal(
            tenant_id=principal.tenant_id,
            user_id=principal.user_id if user_id is None else user_id,
            roles=checked(roles, ROLES, "roles"),
            scopes=checked(scopes, SCOPES, "scopes"),
        )
        if not acts_as.scopes:
            raise InvalidInput("a key is good for something", field="scopes")
        if len(name) > NAME_CHARS_MAX:
            raise InvalidInput(f"name has at most {NAME_CHARS_MAX} characters", field="name")
        secret = self._secrets.key(principal.tenant_id)
        now_ms = self._clock.now_ms()
        key = Credential(
            tenant_id=acts_as.tenant_id,
            credential_id=secret.credential_id,
            kind="key",
            secret_hash=secret.secret_hash,
            user_id=acts_as.user_id,
            roles=acts_as.roles,
            scopes=acts_as.scopes,
            name=name,
            created_by=principal.user_id,
            created_at_ms=now_ms,
            expires_at_ms=None if seconds is None else now_ms + seconds * 1000,
        )
        await self._credentials.add(key)
        return secret, key

    async def keys(
        self, principal: Principal, *, after: str = "", limit: int
    ) -> tuple[Credential, ...]:
        """Those of the caller's tenant. Raises RoleRequired."""
        _check_admin(principal)
        return await self._credentials.keys(principal.tenant_id, after=after, limit=limit)

    async def remove_key(self, principal: Principal, key_id: str) -> None:
        """Raises RoleRequired, KeyNotFound."""
        _check_admin(principal)
        if not await self._credentials.remove(principal.tenant_id, key_id, "key"):
            raise KeyNotFound()
        self._identity.forget()

    async def remove_user(self, tenant_id: TenantId, user_id: UserId) -> None:
        """With all by which it comes in; nothing that was issued for it before is good any more."""
        await self._credentials.revoke(tenant_id, user_id, at_ms=self._clock.now_ms())
        await self._credentials.remove_account(tenant_id, user_id)
        self._identity.forget()

    async def _hasher(self) -> Passwords:
        if self._passwords is None:
            async with self._making:
                if self._passwords is None:
                    self._passwords = await asyncio.to_thread(self._make)
        return self._passwords

    async def _renewed(self, account: Account, new: str) -> Account:
        """With a hash as one is made now. Of two that sign in at once, one renews it."""
        await self._credentials.set_password(
            account.tenant_id, account.user_id, new, old=account.password_hash
        )
        return await self._credentials.account(account.tenant_id, account.user_id) or account


def checked(given: Collection[str], known: Collection[str], field: str) -> frozenset[str]:
    """Raises InvalidInput for what is none of them."""
    if unknown := sorted({*given} - {*known}):
        raise InvalidInput(f"{', '.join(unknown)}: is none of {', '.join(known)}", field=field)
    return frozenset(given)


def check_password(password: str) -> str:
    """Raises InvalidInput for one that is too short, or too long to be hashed."""
    if len(password) not in PASSWORD_CHARS:
        raise InvalidInput(
            f"a password has {PASSWORD_CHARS[0]} to {PASSWORD_CHARS[-1]} characters",
            field="password",
        )
    return password


def _check_admin(principal: Principal) -> None:
    if "admin" not in principal.roles or principal.only is not None:
        raise RoleRequired("only an admin of the tenant may do this", role="admin")
    principal.check_scope("admin")
