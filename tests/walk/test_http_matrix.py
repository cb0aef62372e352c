"""Every operation of the OpenAPI document, asked with every credential that is not good for it."""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx2
import pytest
from tests.servers.databases import database
from tests.walk.issuer import Issuer, issuing
from tests.walk.people import Walk, message, walking
from tests.walk.test_http_identity import bearer, new_key, ticket
from tests.walk.test_http_oidc import NOW, part, trusting
from tests.walk.test_http_owned import ABSENT_CALL, ABSENT_MESSAGE, ABSENT_TURN, ROUTES
from tests.walk.test_http_refusals import problem, same_but_for_its_id

from sessile.adapters.memory import MemoryStore
from sessile.adapters.system import SystemClock

OPEN = {
    ("GET", "/"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"),
    ("POST", "/v1/tokens"),
}  # fmt: skip
"""What asks for no credential."""
OTHERS: dict[tuple[str, str], Any] = {
    ("GET", "/v1/assistants"): None,
    ("GET", "/v1/sessions"): None,
    ("POST", "/v1/sessions"): {},
    ("POST", "/v1/turns"): message("for nobody"),
    ("GET", "/v1/me"): None,
    ("DELETE", "/v1/tokens/current"): None,
    ("POST", "/v1/tickets"): {"session_id": "{session_id}"},
    ("POST", "/v1/keys"): {"name": "mine", "scopes": ["write"]},
    ("GET", "/v1/keys"): None,
    ("DELETE", "/v1/keys/{key_id}"): None,
    ("DELETE", "/v1/users/{user_id}"): None,
    ("GET", "/v1/users/{user_id}/erasure"): None,
    ("GET", "/v1/audit"): None,
    ("POST", "/v1/webhooks"): {"url": "https://hooks.example/take"},
    ("GET", "/v1/webhooks"): None,
    ("GET", "/v1/webhooks/{webhook_id}"): None,
    ("DELETE", "/v1/webhooks/{webhook_id}"): None,
    ("POST", "/v1/webhooks/{webhook_id}/enable"): {},
}
GUARDED = ROUTES | OTHERS
PUSHER = ("POST", "/pusher/auth")
"""By which a WebSocket follows a session; what it signs is the protocol's, not the document's."""
KEPT = ("session_id", "key_id", "webhook_id")
"""What a tenant has, as paths name it."""


def rows(data_dir: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every table but what a node writes by itself (who does its chores and sends its webhooks, and
    whether the disk takes anything), without the time at which a credential was last used."""
    (path,) = [each for each in data_dir.rglob("*.db") if each.is_file()]
    with closing(sqlite3.connect(path)) as database:
        names = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name not in ("chore", "store", "webhook_work")
        ]
        found = {}
        for name in names:
            columns = [each[1] for each in database.execute(f"PRAGMA table_info({name})")]
            kept = ", ".join(each for each in columns if not each.startswith("used_at"))
            found[name] = sorted(database.execute(f"SELECT {kept} FROM {name}"), key=repr)
        return found


async def rows_at(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """The same of a PostgreSQL database."""
    tables = """
        SELECT table_name, string_agg(quote_ident(column_name), ', ')
        FROM information_schema.columns
        WHERE table_schema = current_schema() AND NOT starts_with(column_name, 'used_at')
        AND table_name NOT IN ('chore', 'store', 'webhook_work') GROUP BY table_name
    """
    connection = await asyncpg.connect(dsn)
    try:
        return {
            name: sorted(map(tuple, await connection.fetch(f"SELECT {kept} FROM {name}")), key=repr)
            for name, kept in await connection.fetch(tables)
        }
    finally:
        await connection.close()


@asynccontextmanager
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Walk, Issuer]]:
    async with (
        issuing() as issuer,
        trusting(issuer, tmp_path / "data", store_url="sqlite") as walk,
    ):
        yield walk, issuer


def named(session_id: str, turn_id: str, key_id: str) -> dict[str, str]:
    """What stands in the paths and bodies."""
    return {
        "session_id": session_id, "turn_id": turn_id, "key_id": key_id, "user_id": "alice",
        "call_id": ABSENT_CALL, "message_id": ABSENT_MESSAGE, "webhook_id": "whk_none",
    }  # fmt: skip


async def ask_all(client: httpx2.AsyncClient, ids: dict[str, str], query: str) -> Any:
    """The reply of each operation."""
    replies = {each: await ask_one(client, *each, ids, query) for each in GUARDED}
    replies[PUSHER] = await ask_channel(client, ids["session_id"], query)
    return replies


async def ask_one(
    client: httpx2.AsyncClient, method: str, path: str, ids: dict[str, str], query: str
) -> httpx2.Response:
    body = GUARDED[method, path]
    content = None if body is None else json.dumps(body)
    for name, value in ids.items():
        content = content and content.replace(f"{{{name}}}", value)
    headers = {} if content is None else {"content-type": "application/json"}
    return await client.request(
        method, path.format(**ids) + query, content=content, headers=headers
    )


async def ask_channel(client: httpx2.AsyncClient, session_id: str, query: str) -> httpx2.Response:
    form = {"socket_id": "1.1", "channel_name": f"private-sb-{session_id}"}
    return await client.request("POST", PUSHER[1] + query, data=form)


async def test_every_operation_has_a_row(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (walk, _):
        paths = (await walk.nobody.get("/openapi.json")).json()["paths"]

        known = {(method.upper(), path) for path, has in paths.items() for method in has}

        assert known == GUARDED.keys() | OPEN


def confused(issuer: Issuer) -> str:
    public = issuer.keys["k1"].as_pem(private=False)
    return issuer.token(NOW, key=public, header={"alg": "HS256"})


def unsigned(issuer: Issuer) -> str:
    claims = issuer.token(NOW).split(".")[1]
    return f"{part({'alg': 'none', 'kid': 'k1', 'typ': 'JWT'})}.{claims}."


BAD: dict[str, Callable[[Issuer], str]] = {
    "no token": lambda _: "",
    "not ascii": lambda _: "é",
    "a scheme": lambda _: "Bearer",
    "malformed": lambda _: "a.b.c",
    "expired": lambda issuer: issuer.token(NOW, exp=NOW - 3600),
    "wrong audience": lambda issuer: issuer.token(NOW, aud="other"),
    "alg none": unsigned,
    "HS for RS": confused,
}


@pytest.mark.parametrize("credential", [*BAD, "revoked key", "ticket", "ticket as a token"])
async def test_what_is_no_credential_opens_nothing_and_changes_nothing(
    tmp_path: Path, credential: str
) -> None:
    async with guarded(tmp_path) as (walk, issuer):
        session_id, other = await walk.opened(), await walk.opened()
        turn_id = (await walk.said(session_id, "private"))["turn_id"]
        token, query = "", ""
        key = await new_key(walk)
        if credential == "revoked key":
            token = key["key"]
            assert (await walk.admin.delete(f"/v1/keys/{key['key_id']}")).status_code == 204
        elif credential.startswith("ticket"):
            text = await ticket(walk, other)
            token, query = (text, "") if "token" in credential else ("", f"?ticket={text}")
        else:
            token = BAD[credential](issuer)
        ids = named(session_id, turn_id, key["key_id"])
        absent = {**ids, "session_id": "ses_" + "0" * 32, "turn_id": ABSENT_TURN}
        before = rows(tmp_path)

        async with bearer(walk, "") as client:
            del client.headers["authorization"]
            if token:
                client.headers = [
                    *client.headers.raw,
                    (b"authorization", f"Bearer {token}".encode()),
                ]
            theirs, nobodys = [await ask_all(client, each, query) for each in (ids, absent)]

        for (method, path), reply in theirs.items():
            if credential == "ticket" and path.endswith(("/events", PUSHER[1])):
                problem(reply, 404, "session_not_found")
            else:
                problem(reply, 401, "unauthenticated")
                assert reply.headers["www-authenticate"] == 'Bearer realm="sessile"'
            same = same_but_for_its_id(nobodys[method, path])
            assert same_but_for_its_id(reply) == same, (method, path)
        assert rows(tmp_path) == before


async def test_a_key_that_may_only_read_writes_nothing(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (walk, _):
        key = await new_key(walk, scopes=["read"], user="alice")
        session_id = await walk.opened()
        turn_id = (await walk.said(session_id, "private"))["turn_id"]
        ids = named(session_id, turn_id, key["key_id"])
        said = (await walk.alice.get(f"/v1/sessions/{session_id}/messages")).json()["items"]
        ids["message_id"] = said[0]["message_id"]
        before = rows(tmp_path)

        async with bearer(walk, key["key"]) as client:
            for (method, path), body in GUARDED.items():
                if method == "GET" or path in ("/v1/tickets", "/v1/tokens/current"):
                    continue  # a ticket only reads; a key is no token, and is not signed out
                content = None if body is None else json.dumps(body).replace("{turn_id}", turn_id)
                reply = await client.request(
                    method, path.format(**ids), content=content,
                    headers={} if content is None else {"content-type": "application/json"},
                )  # fmt: skip
                problem(reply, 403, "role_required")

        assert rows(tmp_path) == before


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_an_admin_of_another_tenant_reaches_nothing_of_this_one(
    tmp_path: Path, kind: str
) -> None:
    shared = database() if kind == "postgres" else nullcontext("")
    async with issuing() as issuer, shared as dsn:

        async def kept() -> dict[str, list[tuple[Any, ...]]]:
            found = await rows_at(dsn) if dsn else rows(tmp_path)
            return {name: of_tenant(each, "demo") for name, each in found.items()}

        claim = {"oidc_tenant_claim": "tenant", "oidc_roles_claim": "r", "oidc_roles": "boss=admin"}
        store = {"store_url": dsn or "sqlite"}
        async with trusting(issuer, tmp_path / "data", **store, **claim) as walk:
            session_id = await walk.opened()
            turn_id = (await walk.said(session_id, "private"))["turn_id"]
            ids = named(session_id, turn_id, (await new_key(walk))["key_id"])
            said = (await walk.alice.get(f"/v1/sessions/{session_id}/messages")).json()["items"]
            ids["message_id"] = said[0]["message_id"]
            hook = await walk.admin.post("/v1/webhooks", json={"url": "https://hooks.example/take"})
            ids["webhook_id"] = hook.json()["webhook_id"]
            absent = named("ses_" + "0" * 32, ABSENT_TURN, "key_" + "0" * 32)
            before = await kept()

            async with bearer(
                walk, issuer.token(NOW, sub="eve", tenant="evil", r=["boss"])
            ) as client:
                assert (await client.get("/v1/me")).json()["roles"] == ["admin"]
                theirs, nobodys = [await ask_all(client, each, "") for each in (ids, absent)]

            for (method, path), reply in theirs.items():
                names = any(f"{{{each}}}" in path for each in KEPT)
                if names or path in ("/v1/tickets", PUSHER[1]):
                    assert reply.status_code == 404, (method, path)
                    same = same_but_for_its_id(nobodys[method, path])
                    assert same_but_for_its_id(reply) == same, (method, path)
                else:
                    assert session_id not in reply.text, (method, path)
            assert await kept() == before
            assert sum(map(len, before.values())) > 5


def of_tenant(kept: list[tuple[Any, ...]], tenant: str) -> list[tuple[Any, ...]]:
    return [row for row in kept if tenant in row]


class Counted:
    """The store, with the names of what it was asked for by callers."""

    def __init__(self, store: Any, asked: list[str] | None = None) -> None:
        self._store = store
        self.asked: list[str] = [] if asked is None else asked

    def __getattr__(self, name: str) -> Any:
        if name == "records":
            return Counted(self._store.records, self.asked)
        ask = getattr(self._store, name)
        if name in NODES_OWN:
            return ask

        def counted(*given: Any, **how: Any) -> Any:
            self.asked.append(name)
            return ask(*given, **how)

        return counted


NODES_OWN = {
    "sweep", "renew", "identity", "probe", "take_chore", "leave_chore", "erasures", "aged"
}  # fmt: skip
"""What a node asks for by itself."""


async def test_absent_and_foreign_cost_the_store_the_same(tmp_path: Path) -> None:
    """The class of time that a reply takes, without a clock: on every operation."""
    counted = Counted(MemoryStore(clock=SystemClock()))
    async with walking(data_dir=tmp_path, store=cast(Any, counted)) as walk:
        session_id = await walk.opened()
        turn_id = (await walk.said(session_id, "private"))["turn_id"]
        mine = await walk.bob.post("/v1/sessions", json={})
        assert mine.status_code == 201
        names = {**named(session_id, turn_id, "key_" + "0" * 32), "user_id": "bob"}
        asked: list[dict[tuple[str, str], list[str]]] = []
        for each in (session_id, "ses_" + "0" * 32):
            told = {}
            for method, path in ROUTES:
                counted.asked.clear()
                reply = await ask_one(walk.bob, method, path, {**names, "session_id": each}, "")
                problem(reply, 404, "session_not_found")
                told[method, path] = list(counted.asked)
            counted.asked.clear()
            problem(await ask_channel(walk.bob, each, ""), 404, "session_not_found")
            asked.append({**told, PUSHER: list(counted.asked)})

        assert asked[0] == asked[1]
        assert all(asked[0].values())


async def test_an_admins_key_that_may_only_write_is_no_admins(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (walk, _):
        key = await new_key(walk, scopes=["write"], user="admin", roles=["admin"])

        async with bearer(walk, key["key"]) as client:
            for method, path in (
                ("GET", "/v1/audit"),
                ("DELETE", "/v1/users/alice"),
                ("GET", "/v1/webhooks"),
                ("GET", "/v1/keys"),
            ):
                problem(await client.request(method, path), 403, "role_required")
