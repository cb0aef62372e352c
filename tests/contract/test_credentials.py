"""Accounts, keys and tokens: the same on every store, and what is taken away is gone at once."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.contract.desk import ACME, OTHER
from tests.servers.databases import database

from sessile.adapters.memory_credentials import MemoryCredentials
from sessile.adapters.migrations import migrate
from sessile.adapters.postgres.credentials import open_credentials as open_pooled
from sessile.adapters.sqlite.credentials import open_credentials as open_file
from sessile.core.ids import UserId
from sessile.ports.credentials import Account, Credential, Credentials, Used

ANN, BEN = UserId("ann"), UserId("ben")
DAY_MS = 86_400_000


@asynccontextmanager
async def memory(_: Path) -> AsyncIterator[Credentials]:
    yield MemoryCredentials()


@asynccontextmanager
async def sqlite(directory: Path) -> AsyncIterator[Credentials]:
    migrate(directory / "sessile.db")
    async with open_file(directory / "sessile.db", busy_seconds=5) as credentials:
        yield credentials


@asynccontextmanager
async def postgres(_: Path) -> AsyncIterator[Credentials]:
    async with database() as dsn, open_pooled(dsn, lease_ms=12_000, busy_seconds=5) as credentials:
        yield credentials


KINDS: dict[str, Callable[[Path], AbstractAsyncContextManager[Credentials]]] = {
    "memory": memory,
    "postgres": postgres,
    "sqlite": sqlite,
}


@pytest.fixture(params=KINDS)
async def credentials(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Credentials]:
    async with KINDS[request.param](tmp_path) as credentials:
        yield credentials


def key(credential_id: str = "key_1", **more: Any) -> Credential:
    given: dict[str, Any] = {
        "tenant_id": ACME, "credential_id": credential_id, "kind": "key", "secret_hash": "h",
        "user_id": ANN, "created_by": BEN, "created_at_ms": 1_000, **more,
    }  # fmt: skip
    return Credential(**given)


def token(credential_id: str = "tok_1", **more: Any) -> Credential:
    return key(credential_id, **{"kind": "token", "created_by": ANN, **more})


def account(user_id: UserId = ANN, **more: Any) -> Account:
    given: dict[str, Any] = {
        "tenant_id": ACME, "user_id": user_id, "password_hash": "p1", "created_at_ms": 1, **more,
    }  # fmt: skip
    return Account(**given)


async def test_what_is_put_in_comes_out(credentials: Credentials) -> None:
    whole = key(
        name="deploy ünï",
        roles=frozenset({"operator", "service"}),
        scopes=frozenset({"read", "write"}),
        expires_at_ms=2**45,
    )
    none_of_it = key("key_2", scopes=frozenset())
    ann = account(roles=frozenset({"admin"}))

    assert await credentials.add(whole)
    assert await credentials.add(none_of_it)
    assert await credentials.add(key("key_3"))
    assert await credentials.add_account(ann)

    assert await credentials.find(ACME, "key_1") == whole
    assert await credentials.find(ACME, "key_2") == none_of_it
    assert (await credentials.find(ACME, "key_3")) == key("key_3")
    assert await credentials.account(ACME, ANN) == ann


async def test_what_is_anothers_is_not_there(credentials: Credentials) -> None:
    await credentials.add(key())
    await credentials.add_account(account())

    assert await credentials.find(OTHER, "key_1") is None
    assert await credentials.account(OTHER, ANN) is None
    assert await credentials.keys(OTHER, limit=9) == ()
    assert await credentials.accounts(OTHER, limit=9) == ()
    assert not await credentials.remove(OTHER, "key_1", "key")
    assert not await credentials.remove_account(OTHER, ANN)
    assert not await credentials.set_password(OTHER, ANN, "p2")
    await credentials.revoke(OTHER, ANN, at_ms=5)
    await credentials.used([Used(OTHER, "key_1", 7)])

    assert await credentials.find(ACME, "key_1") == key()
    assert await credentials.account(ACME, ANN) == account()
    assert await credentials.revoked_ms(ACME, ANN) == 0


async def test_lists_are_by_name_and_in_pages(credentials: Credentials) -> None:
    for number in (3, 1, 2):
        await credentials.add(key(f"key_{number}"))
        await credentials.add_account(account(UserId(f"user{number}")))
    await credentials.add_account(account())
    await credentials.add(token(), password_hash="p1")

    first = await credentials.keys(ACME, limit=2)
    rest = await credentials.keys(ACME, after=first[-1].credential_id, limit=2)
    users = await credentials.accounts(ACME, after="ann", limit=2)

    assert [each.credential_id for each in (*first, *rest)] == ["key_1", "key_2", "key_3"]
    assert [each.user_id for each in users] == ["user1", "user2"]


async def test_there_is_one_account_of_a_name(credentials: Credentials) -> None:
    assert await credentials.add_account(account())
    assert not await credentials.add_account(account(password_hash="p2"))

    assert await credentials.account(ACME, ANN) == account()


async def test_a_token_is_added_while_its_password_is_the_accounts(
    credentials: Credentials,
) -> None:
    await credentials.add_account(account())

    assert await credentials.add(token(), password_hash="p1")
    assert not await credentials.add(token("tok_2"), password_hash="p0")
    assert not await credentials.add(token("tok_3", user_id=BEN), password_hash="p1")

    assert await credentials.find(ACME, "tok_1") == token()
    assert await credentials.find(ACME, "tok_2") is None


async def test_tokens_that_ended_long_ago_go_when_their_user_signs_in(
    credentials: Credentials,
) -> None:
    await credentials.add_account(account())
    now_ms = 10 * DAY_MS
    for name, ended_ms in (("old", now_ms - DAY_MS - 1), ("late", now_ms - DAY_MS)):
        await credentials.add(token(f"tok_{name}", expires_at_ms=ended_ms), password_hash="p1")
    await credentials.add(key(expires_at_ms=5))

    await credentials.add(token("tok_new", created_at_ms=now_ms), password_hash="p1")

    assert await credentials.find(ACME, "tok_old") is None
    assert await credentials.find(ACME, "tok_late") is not None
    assert await credentials.find(ACME, "key_1") is not None


async def test_a_new_password_ends_its_tokens_and_no_key(credentials: Credentials) -> None:
    await credentials.add_account(account())
    await credentials.add(token(), password_hash="p1")
    await credentials.add(key())

    assert await credentials.set_password(ACME, ANN, "p2")

    assert await credentials.find(ACME, "tok_1") is None
    assert await credentials.find(ACME, "key_1") is not None
    changed = await credentials.account(ACME, ANN)
    assert changed == account(password_hash="p2")
    assert not await credentials.set_password(ACME, BEN, "p2")


async def test_a_hash_is_renewed_where_it_is_still_the_accounts(credentials: Credentials) -> None:
    await credentials.add_account(account())
    await credentials.add(token(), password_hash="p1")

    assert await credentials.set_password(ACME, ANN, "p2", old="p1")
    assert not await credentials.set_password(ACME, ANN, "p3", old="p1")

    assert (await credentials.account(ACME, ANN)) == account(password_hash="p2")
    assert await credentials.find(ACME, "tok_1") is not None


async def test_with_an_account_goes_all_that_acts_as_it(credentials: Credentials) -> None:
    await credentials.add_account(account())
    await credentials.add(token(), password_hash="p1")
    await credentials.add(key())
    await credentials.add(key("key_2", user_id=BEN))

    assert await credentials.remove_account(ACME, ANN)
    assert not await credentials.remove_account(ACME, ANN)

    assert await credentials.account(ACME, ANN) is None
    assert await credentials.find(ACME, "tok_1") is None
    assert [each.credential_id for each in await credentials.keys(ACME, limit=9)] == ["key_2"]


async def test_what_is_revoked_is_gone_and_the_account_stays(credentials: Credentials) -> None:
    await credentials.add_account(account())
    await credentials.add(token(), password_hash="p1")
    await credentials.add(key())
    await credentials.add(key("key_2", user_id=BEN))

    await credentials.revoke(ACME, ANN, at_ms=5_000)
    await credentials.revoke(ACME, ANN, at_ms=4_000)

    assert await credentials.revoked_ms(ACME, ANN) == 5_000
    assert await credentials.revoked_ms(ACME, BEN) == 0
    assert [each.credential_id for each in await credentials.keys(ACME, limit=9)] == ["key_2"]
    assert await credentials.find(ACME, "tok_1") is None
    assert await credentials.account(ACME, ANN) == account()
    assert await credentials.add(token("tok_2"), password_hash="p1")


async def test_only_what_is_of_the_kind_is_removed(credentials: Credentials) -> None:
    await credentials.add(key())

    assert not await credentials.remove(ACME, "key_1", "token")
    assert await credentials.remove(ACME, "key_1", "key")
    assert not await credentials.remove(ACME, "key_1", "key")


async def test_the_last_use_never_goes_back(credentials: Credentials) -> None:
    await credentials.add(key())
    await credentials.add(key(tenant_id=OTHER))

    await credentials.used([Used(OTHER, "key_1", 70), Used(ACME, "key_1", 60)])
    await credentials.used([Used(ACME, "key_1", 50), Used(ACME, "key_9", 50)])

    assert await credentials.find(ACME, "key_1") == replace(key(), used_at_ms=60)
    assert await credentials.find(OTHER, "key_1") == key(tenant_id=OTHER, used_at_ms=70)
    assert await credentials.find(ACME, "key_9") is None


@pytest.mark.parametrize("first", ["key", "account"])
async def test_it_is_known_that_there_is_a_way_in(credentials: Credentials, first: str) -> None:
    assert not await credentials.any()

    assert await (credentials.add(key()) if first == "key" else credentials.add_account(account()))

    assert await credentials.any()
