"""What `sessile users` and `sessile keys` do, in the database itself: no server is asked."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar, cast

from sessile.cli.broken import changing
from sessile.cli.failure import CommandFailed
from sessile.cli.plain import one_line
from sessile.core.codec import timestamp
from sessile.core.context import Principal
from sessile.core.errors import NotFound
from sessile.core.ids import TenantId, UserId
from sessile.ports.credentials import Credential
from sessile.runtime.accounts import Accounts
from sessile.runtime.sign_in import SignIn
from sessile.settings import Settings
from sessile.wiring import made, open_accounts

T = TypeVar("T")
DAY_SECONDS = 86_400
PAGE = 200
OPERATOR = UserId("sessile keys")
"""By whom a key was made that was made here."""


class Giving:
    """Each raises CommandFailed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def add_user(self, tenant: str, user: str, *, roles: Collection[str], from_stdin: bool) -> None:
        password = _password(from_stdin=from_stdin)
        added = self._run(
            lambda accounts, _: accounts.add(TenantId(tenant), UserId(user), password, roles=roles)
        )
        if not added:
            raise CommandFailed(f"there is a user {user} of {tenant} already")
        _say(f"{user} of {tenant} may sign in")

    def list_users(self, tenant: str, *, as_json: bool) -> None:
        async def listed(accounts: Accounts, _: SignIn) -> list[dict[str, Any]]:
            return [
                {
                    "user_id": each.user_id,
                    "roles": sorted(each.roles),
                    "created_at": timestamp(each.created_at_ms),
                }
                async for each in accounts.of(TenantId(tenant))
            ]

        _print(self._run(listed), as_json=as_json)

    def set_password(self, tenant: str, user: str, *, from_stdin: bool) -> None:
        password = _password(from_stdin=from_stdin)
        self._known(
            lambda accounts, _: accounts.set_password(TenantId(tenant), UserId(user), password),
            tenant,
            user,
        )
        _say(f"{user} of {tenant} has another password, and is signed out")

    def remove_user(self, tenant: str, user: str) -> None:
        self._known(
            lambda accounts, _: accounts.remove(TenantId(tenant), UserId(user)), tenant, user
        )
        _say(f"{user} of {tenant} is removed")

    def revoke_user(self, tenant: str, user: str) -> None:
        self._run(lambda accounts, _: accounts.revoke(TenantId(tenant), UserId(user)))
        _say(f"what was issued for {user} of {tenant} before now is good no more")

    def add_key(
        self,
        tenant: str,
        user: str,
        *,
        name: str,
        scopes: Collection[str],
        roles: Collection[str],
        days: int | None,
    ) -> None:
        seconds = None if days is None else days * DAY_SECONDS
        secret, key = self._run(
            lambda _, sign_in: sign_in.add_key(
                _operator(tenant),
                name=name,
                scopes=scopes,
                user_id=UserId(user),
                roles=roles,
                seconds=seconds,
            )
        )
        sys.stderr.write(f"{key.credential_id}, which is shown this once:\n")
        _say(secret.text)

    def list_keys(self, tenant: str, *, as_json: bool) -> None:
        async def listed(_: Accounts, sign_in: SignIn) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            after = ""
            while page := await sign_in.keys(_operator(tenant), after=after, limit=PAGE):
                found.extend(map(_shown, page))
                after = page[-1].credential_id
            return found

        _print(self._run(listed), as_json=as_json)

    def revoke_key(self, tenant: str, key: str) -> None:
        try:
            self._run(lambda _, sign_in: sign_in.remove_key(_operator(tenant), key))
        except NotFound:
            raise CommandFailed(f"{tenant} has no API key {key}") from None
        _say(f"{key} is good no more")

    def _known(
        self, work: Callable[[Accounts, SignIn], Awaitable[bool]], tenant: str, user: str
    ) -> None:
        if not self._run(work):
            raise CommandFailed(
                f"there is no built-in user {user} of {tenant};"
                f" `sessile users list {tenant}` names them"
            )

    def _run(self, work: Callable[[Accounts, SignIn], Awaitable[T]]) -> T:
        async def opened() -> T:
            async with open_accounts(self._settings) as (accounts, sign_in):
                return await work(accounts, sign_in)

        with changing(self._settings):
            made(self._settings)
            return asyncio.run(opened())


def _operator(tenant: str) -> Principal:
    return Principal(tenant_id=TenantId(tenant), user_id=OPERATOR, roles=frozenset({"admin"}))


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CommandFailed("there is no terminal to ask for a password on; use --password-stdin")
    first = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != first:
        raise CommandFailed("these are two passwords")
    return first


def _shown(key: Credential) -> dict[str, Any]:
    return {
        "key_id": key.credential_id,
        "name": key.name,
        "user_id": key.user_id,
        "roles": sorted(key.roles),
        "scopes": sorted(key.scopes or ()),
        "created_at": timestamp(key.created_at_ms),
        "expires_at": None if key.expires_at_ms is None else timestamp(key.expires_at_ms),
        "used_at": None if key.used_at_ms is None else timestamp(key.used_at_ms),
    }


def _print(items: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    for item in items:
        if as_json:
            _say(json.dumps(item, ensure_ascii=False))
        else:
            _say("  ".join(map(_word, item.values())))


def _word(value: Any) -> str:
    said = ",".join(cast(list[str], value)) if isinstance(value, list) else str(value or "")
    return one_line(said) or "-"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
