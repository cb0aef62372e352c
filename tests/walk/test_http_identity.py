"""Who is let in over HTTP, by what, and how it ends."""

import asyncio
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx2
import pytest
from tests.doubles import ManualClock
from tests.servers import waits
from tests.servers.databases import database
from tests.walk.people import BASE, Walk, each_store, message, walking
from tests.walk.test_http_refusals import problem, same_but_for_its_id
from tests.walk.wire import asking, in_time

from sessile.adapters.passwords import Argon2
from sessile.core.ids import SessionId, TenantId, UserId
from sessile.ports.credentials import Account
from sessile.runtime.rates import WINDOW_MS

PASSWORD = "correct horse battery"
DEMO = TenantId("demo")


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessile.adapters.passwords.TIME_COST", 1)
    monkeypatch.setattr(Argon2.__init__, "__kwdefaults__", {"time_cost": 1, "memory_kib": 8})


async def add_user(walk: Walk, user: str = "carol", **more: Any) -> None:
    passwords = Argon2()
    account = Account(
        tenant_id=DEMO, user_id=UserId(user), password_hash=await passwords.hashed(PASSWORD),
        created_at_ms=1, **more,
    )  # fmt: skip
    passwords.close()
    assert await walk.server.sign_in._credentials.add_account(account)


async def sign_in(
    walk: Walk, user: str = "carol", password: str = PASSWORD, **more: Any
) -> httpx2.Response:
    body = {"tenant": "demo", "user": user, "password": password, **more}
    return await walk.nobody.post("/v1/tokens", json=body)


@asynccontextmanager
async def bearer(walk: Walk, token: str, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    given = {"authorization": f"Bearer {token}", **headers}
    transport = httpx2.ASGITransport(in_time(walk.app), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url=BASE, headers=given) as client:
        yield client


async def new_key(walk: Walk, **body: Any) -> dict[str, Any]:
    given = {"name": "test", "scopes": ["write"], **body}
    reply = await walk.admin.post("/v1/keys", json=given)
    assert reply.status_code == 201, reply.text
    key: dict[str, Any] = reply.json()
    return key


async def ticket(walk: Walk, session_id: str, client: httpx2.AsyncClient | None = None) -> str:
    reply = await (client or walk.alice).post("/v1/tickets", json={"session_id": session_id})
    assert reply.status_code == 201, reply.text
    text: str = reply.json()["ticket"]
    return text


async def opens(walk: Walk, path: str) -> bool:
    """Whether it is a stream, in which the session's first entry comes."""
    async with asking(walk.app, path) as stream:
        await stream.event("session.opened")
    return stream.status == 200


# -- passwords


@each_store
async def test_a_user_signs_in_is_known_and_signs_out(walk: Walk) -> None:
    await add_user(walk, roles=frozenset({"operator"}))

    given = await sign_in(walk)

    assert given.status_code == 201
    token = given.json()["token"]
    assert re.fullmatch("st_[A-Za-z0-9_-]+_[0-9a-f]{104}", token)
    async with bearer(walk, token) as carol:
        assert (await carol.get("/v1/me")).json() == {
            "tenant_id": "demo", "user_id": "carol", "roles": ["operator"], "scopes": None,
            "signed_in_by": "token", "expires_at": given.json()["expires_at"],
        }  # fmt: skip
        assert (await carol.post("/v1/sessions", json={})).status_code == 201
        assert (await carol.delete("/v1/tokens/current")).status_code == 204
        problem(await carol.get("/v1/me"), 401, "unauthenticated")


async def test_whatever_is_wrong_the_answer_is_the_same(walk: Walk) -> None:
    await add_user(walk)

    replies = [
        await sign_in(walk, password="wrong"),
        await sign_in(walk, user="nobody"),
        await sign_in(walk, user="nobody", password=""),
        await sign_in(walk, tenant="none"),
        await sign_in(walk, tenant=None),
        await walk.nobody.get("/v1/me"),
        await walk.nobody.get("/v1/me", headers={"authorization": "Bearer st_none"}),
    ]

    for reply in replies:
        problem(reply, 401, "unauthenticated")
        assert same_but_for_its_id(reply) == same_but_for_its_id(replies[0])


async def test_a_password_is_hashed_whoever_is_asked_for(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes the time is done once, for an unknown user as for a wrong password."""
    await add_user(walk)
    await sign_in(walk, password="first")
    passwords = await walk.server.sign_in._hasher()
    verify, hashed = passwords._hasher.verify, list[bool]()  # type: ignore[attr-defined]

    class Counting:
        def verify(self, known: str, password: bytes) -> bool:
            hashed.append(known.startswith("$argon2id$"))
            return bool(verify(known, password))

    monkeypatch.setattr(passwords, "_hasher", Counting())

    for user in ("carol", "nobody"):
        assert (await sign_in(walk, user=user, password="wrong")).status_code == 401

    assert hashed == [True, True]


async def test_sign_ins_are_counted_whoever_is_asked_for(tmp_path: Path) -> None:
    clock = ManualClock()
    clock.advance(milliseconds=WINDOW_MS - clock.now_ms() % WINDOW_MS + 45_000)
    async with walking(data_dir=tmp_path, clock=clock, sign_in_attempts_max=2) as walk:
        await add_user(walk)
        refused = []
        for user in ("carol", "nobody"):
            for _ in range(2):
                assert (await sign_in(walk, user=user, password="wrong")).status_code == 401
            refused.append(await sign_in(walk, user=user))

        assert (await sign_in(walk, user="third")).status_code == 401
        for reply in refused:
            problem(reply, 429, "limit_reached")
            assert reply.json()["details"] == {"limit": "sign_in_attempts_max"}
            # What is left of this minute, and half of the next, in which two count as one.
            assert reply.headers["retry-after"] == str(15 + 30)
            assert same_but_for_its_id(reply) == same_but_for_its_id(refused[0])


async def test_a_hash_of_other_parameters_is_renewed(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_user(walk)
    credentials = walk.server.sign_in._credentials
    before = await credentials.account(DEMO, UserId("carol"))
    monkeypatch.setattr(Argon2.__init__, "__kwdefaults__", {"time_cost": 2, "memory_kib": 8})

    replies = [await sign_in(walk), await sign_in(walk)]

    after = await credentials.account(DEMO, UserId("carol"))
    assert before is not None
    assert after is not None
    assert ",t=1," in before.password_hash
    assert ",t=2," in after.password_hash
    assert [reply.status_code for reply in replies] == [201, 201]
    for reply in replies:
        async with bearer(walk, reply.json()["token"]) as carol:
            assert (await carol.get("/v1/me")).status_code == 200


async def test_a_token_ends_with_its_time(tmp_path: Path) -> None:
    clock = ManualClock()
    async with walking(data_dir=tmp_path, clock=clock, token_seconds_max=60.0) as walk:
        await add_user(walk)
        token = (await sign_in(walk)).json()["token"]
        async with bearer(walk, token) as carol:
            clock.advance(milliseconds=59_999)
            assert (await carol.get("/v1/me")).status_code == 200
            clock.advance(milliseconds=1)
            problem(await carol.get("/v1/me"), 401, "unauthenticated")


@pytest.mark.parametrize("user", ["x" * 201, "a\ud800b", "a\0b"])
async def test_a_name_that_no_user_has_is_refused_as_such(walk: Walk, user: str) -> None:
    body = json.dumps({"user": user, "password": "p"})

    reply = await walk.nobody.post(
        "/v1/tokens", content=body, headers={"content-type": "application/json"}
    )

    assert reply.status_code == 422


# -- keys


@each_store
async def test_a_key_is_shown_once_and_acts_as_its_user(walk: Walk) -> None:
    key = await new_key(walk, user="alice", name="ci ünï")

    listed = (await walk.admin.get("/v1/keys")).json()["items"]

    assert listed == [{name: value for name, value in key.items() if name != "key"}]
    assert key["created_by"] == "admin"
    assert key["key"] not in json.dumps(listed)
    session_id = await walk.opened()
    async with bearer(walk, key["key"]) as ci:
        assert (await ci.get("/v1/me")).json()["user_id"] == "alice"
        assert (await ci.get(f"/v1/sessions/{session_id}")).status_code == 200
        reply = await ci.post(f"/v1/sessions/{session_id}/turns?wait=30", json=message("hi"))
        assert reply.json()["output"] == "you said: hi"
    revoked = await walk.admin.delete(f"/v1/keys/{key['key_id']}")
    async with bearer(walk, key["key"]) as ci:
        problem(await ci.get("/v1/me"), 401, "unauthenticated")
    assert revoked.status_code == 204
    problem(await walk.admin.delete(f"/v1/keys/{key['key_id']}"), 404, "key_not_found")


async def test_keys_are_an_admins_of_its_tenant(walk: Walk) -> None:
    key = await new_key(walk)
    body = {"name": "x", "scopes": ["read"]}

    for client in (walk.alice, walk.bob):
        problem(await client.post("/v1/keys", json=body), 403, "role_required")
        problem(await client.get("/v1/keys"), 403, "role_required")
        for key_id in (key["key_id"], "key_none", "none"):
            reply = await client.delete(f"/v1/keys/{key_id}")
            problem(reply, 403, "role_required")

    assert len((await walk.admin.get("/v1/keys")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("scopes", "roles", "status"),
    [(["admin"], ["admin"], 200), (["write"], ["admin"], 403), (["admin"], [], 403)],
)
async def test_a_key_needs_role_and_scope_to_make_keys(
    walk: Walk, scopes: list[str], roles: list[str], status: int
) -> None:
    key = await new_key(walk, scopes=scopes, roles=roles)

    async with bearer(walk, key["key"]) as robot:
        assert (await robot.get("/v1/keys")).status_code == status


@pytest.mark.parametrize(
    "body",
    [{"scopes": []}, {"scopes": ["all"]}, {"roles": ["root"]}, {"expires_seconds": 0},
     {"user": ""}, {"name": "x" * 201}, {"user": "a\0"}],
)  # fmt: skip
async def test_a_key_that_would_be_none_is_refused(walk: Walk, body: dict[str, Any]) -> None:
    reply = await walk.admin.post("/v1/keys", json={"name": "n", "scopes": ["read"], **body})

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")


async def test_a_key_ends_with_its_time_and_tells_when_it_was_used(tmp_path: Path) -> None:
    clock = ManualClock()
    async with walking(data_dir=tmp_path, clock=clock) as walk:
        key = await new_key(walk, expires_seconds=120)
        credentials = walk.server.sign_in._credentials

        async def used() -> int | None:
            found = await credentials.find(DEMO, key["key_id"])
            assert found is not None
            return found.used_at_ms

        written, write = asyncio.Event(), credentials.used

        async def told(marks: Any) -> None:
            await write(marks)
            written.set()

        credentials.used = told  # type: ignore[method-assign]
        async with bearer(walk, key["key"]) as robot:
            assert (await robot.get("/v1/me")).status_code == 200
            first = clock.now_ms()
            await written.wait()
            clock.advance(milliseconds=59_999)
            assert (await robot.get("/v1/me")).status_code == 200
            clock.advance(milliseconds=60_001)
            problem(await robot.get("/v1/me"), 401, "unauthenticated")
        assert await used() == first


async def test_a_key_that_is_used_while_another_ones_use_is_written_is_not_forgotten(
    walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessile.runtime.identity.USED_SECONDS", 0)
    keys = [await new_key(walk), await new_key(walk)]
    written, goes_on = asyncio.Queue[list[str]](), asyncio.Event()

    async def slow(marks: Any) -> None:
        written.put_nowait([mark.credential_id for mark in marks])
        await goes_on.wait()

    walk.server.sign_in._credentials.used = slow  # type: ignore[method-assign]
    told = []
    async with asyncio.timeout(20), bearer(walk, keys[0]["key"]) as one:
        assert (await one.get("/v1/me")).status_code == 200
        told.append(await written.get())
        async with bearer(walk, keys[1]["key"]) as other:
            assert (await other.get("/v1/me")).status_code == 200
        goes_on.set()
        told.append(await written.get())

    assert told == [[key["key_id"]] for key in keys]


async def test_keys_are_listed_in_pages(walk: Walk) -> None:
    made = sorted([(await new_key(walk))["key_id"] for _ in range(3)])

    first = (await walk.admin.get("/v1/keys?limit=2")).json()
    rest = (await walk.admin.get("/v1/keys", params={"limit": 2, "after": first["next"]})).json()

    assert [each["key_id"] for each in first["items"] + rest["items"]] == made
    assert rest["next"] is None


async def test_a_text_that_was_changed_anywhere_opens_nothing(walk: Walk) -> None:
    key = (await new_key(walk))["key"]

    for place in range(len(key)):
        other = "0" if key[place] != "0" else "1"
        async with bearer(walk, key[:place] + other + key[place + 1 :]) as robot:
            problem(await robot.get("/v1/me"), 401, "unauthenticated")


async def test_who_knows_a_keys_id_does_not_have_its_secret(walk: Walk) -> None:
    key = await new_key(walk)
    digits = key["key"].rpartition("_")[2]
    assert key["key_id"] == f"key_{digits[:32]}"

    forged = key["key"][:-72] + "0" * 64
    forged += f"{crc32(forged.encode()):08x}"

    async with bearer(walk, forged) as robot:
        problem(await robot.get("/v1/me"), 401, "unauthenticated")


async def test_a_key_of_one_tenant_is_not_anothers_by_its_name(walk: Walk) -> None:
    """The tenant is in the text, and it is part of what is hashed."""
    key = (await new_key(walk))["key"]
    name = urlsafe_b64encode(b"other").rstrip(b"=").decode()
    forged = f"sk_{name}_{key.rpartition('_')[2][:-8]}"
    forged += f"{crc32(forged.encode()):08x}"

    async with bearer(walk, forged) as robot:
        problem(await robot.get("/v1/me"), 401, "unauthenticated")


async def test_a_key_of_a_tenant_that_no_database_can_name_is_none(tmp_path: Path) -> None:
    """Whoever wants to makes a text of the right form: its checksum is no secret."""
    name = urlsafe_b64encode(b"a\0b").rstrip(b"=").decode()
    forged = f"sk_{name}_{'0' * 96}"
    forged += f"{crc32(forged.encode()):08x}"

    async with (
        database() as dsn,
        walking(data_dir=tmp_path, store_url=dsn) as walk,
        bearer(walk, forged) as robot,
    ):
        problem(await robot.get("/v1/me"), 401, "unauthenticated")


@each_store
async def test_what_a_key_is_not_good_for_is_refused_to_owners_and_not_there_for_others(
    walk: Walk,
) -> None:
    key = await new_key(walk, user="alice", scopes=["read"])
    own = await walk.opened()
    foreign = (await walk.admin.post("/v1/sessions", json={})).json()["session_id"]
    turn = await walk.said(own, "hi")
    before = await walk.everything()

    async with bearer(walk, key["key"]) as reader:
        assert (await reader.get(f"/v1/sessions/{own}/messages")).status_code == 200
        problem(await reader.post("/v1/sessions", json={}), 403, "role_required")
        problem(await reader.post("/v1/turns", json=message("x")), 403, "role_required")
        for session_id, status in ((own, 403), (foreign, 404)):
            at = f"/v1/sessions/{session_id}"
            replies = [
                await reader.post(f"{at}/turns", json=message("x")),
                await reader.patch(at, json={"title": "x"}),
                await reader.post(f"{at}/close"),
                await reader.delete(at),
                await reader.post(f"{at}/fork", json={"turn_id": turn["turn_id"]}),
                await reader.post(f"{at}/turns/{turn['turn_id']}/cancel"),
                await reader.post(f"{at}/calls/call_1/approve"),
            ]
            assert [reply.status_code for reply in replies] == [status] * len(replies)

    assert await walk.everything() == before


# -- services


async def test_a_service_acts_for_users_of_its_tenant(walk: Walk) -> None:
    key = await new_key(walk, user="backend", roles=["service"])
    alices = await walk.opened()
    bobs = (await walk.bob.post("/v1/sessions", json={})).json()["session_id"]

    async with bearer(walk, key["key"], **{"sessile-user": "alice"}) as service:
        me = (await service.get("/v1/me")).json()
        assert (me["user_id"], me["roles"]) == ("alice", [])
        assert (await service.get(f"/v1/sessions/{alices}")).status_code == 200
        problem(await service.get(f"/v1/sessions/{bobs}"), 404, "session_not_found")
    async with bearer(walk, key["key"]) as service:
        assert (await service.get("/v1/me")).json()["user_id"] == "backend"
        problem(await service.get(f"/v1/sessions/{alices}"), 404, "session_not_found")


@each_store
async def test_the_audit_tells_a_service_from_the_user_it_acts_for(walk: Walk) -> None:
    key = await new_key(walk, user="backend", roles=["service"])
    first, second = await walk.opened(), await walk.opened()

    async with bearer(walk, key["key"], **{"sessile-user": "alice"}) as service:
        assert (await service.delete(f"/v1/sessions/{first}")).is_success
    assert (await walk.alice.delete(f"/v1/sessions/{second}")).is_success

    own, hers, _ = (await walk.admin.get("/v1/audit")).json()["items"]
    assert (own["subject"], own["actor"], own["details"]) == (second, "alice", {})
    assert (hers["subject"], hers["actor"], hers["details"]) == (first, "alice", {"by": "backend"})


@pytest.mark.parametrize("user", ["alice", "admin"])
async def test_nobody_else_does(walk: Walk, user: str) -> None:
    client = getattr(walk, user)
    session_id = await walk.opened()

    for path in ("/v1/me", "/v1/sessions", f"/v1/sessions/{session_id}", "/v1/sessions/ses_none"):
        reply = await client.get(path, headers={"sessile-user": "bob"})
        problem(reply, 403, "role_required")


@pytest.mark.parametrize("user", [b"", b"\xff", b"x" * 201])
async def test_a_service_names_a_user_that_there_can_be(walk: Walk, user: bytes) -> None:
    key = await new_key(walk, roles=["service"])
    headers = [(b"authorization", f"Bearer {key['key']}".encode()), (b"sessile-user", user)]

    reply = await walk.nobody.get("/v1/me", headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")


@each_store
async def test_who_was_erased_comes_in_by_nothing_that_there_was(walk: Walk) -> None:
    await add_user(walk)
    token = (await sign_in(walk)).json()["token"]
    key = (await new_key(walk, user="carol"))["key"]
    others = (await new_key(walk))["key"]
    async with bearer(walk, token) as carol:
        session_id = (await carol.post("/v1/sessions", json={})).json()["session_id"]

        async with asking(walk.app, f"/v1/sessions/{session_id}/events", token=token) as stream:
            await stream.event("session.opened")
            assert (await walk.admin.delete("/v1/users/carol")).status_code == 202
            await stream.until(lambda wire: wire.ended)

    async def erased() -> dict[str, Any] | None:
        told: dict[str, Any] = (await walk.admin.get("/v1/users/carol/erasure")).json()
        return told if told["status"] == "done" else None

    assert (await waits.until(erased))["sessions"] == 1
    problem(await sign_in(walk), 401, "unauthenticated")
    for credential, status in ((token, 401), (key, 401), (others, 200)):
        async with bearer(walk, credential) as client:
            assert (await client.get("/v1/me")).status_code == status


@each_store
async def test_who_made_and_revoked_a_key_is_in_the_audit(walk: Walk) -> None:
    key_id = (await new_key(walk))["key_id"]
    gone = await walk.admin.delete(f"/v1/keys/{key_id}")

    revoked, made = (await walk.admin.get("/v1/audit")).json()["items"]

    assert [(it["actor"], it["action"], it["subject"]) for it in (made, revoked)] == [
        ("admin", "key.created", key_id),
        ("admin", "key.revoked", key_id),
    ]
    assert revoked["request_id"] == gone.headers["x-request-id"]


# -- tickets


async def test_a_ticket_opens_the_stream_of_its_session_and_nothing_else(walk: Walk) -> None:
    own, other = await walk.opened(), await walk.opened()
    text = await ticket(walk, own)
    events = f"/v1/sessions/{own}/events"

    assert await opens(walk, f"{events}?ticket={text}")
    for path in (
        f"/v1/sessions/{other}/events", f"/v1/sessions/{own}", f"/v1/sessions/{own}/messages",
        "/v1/sessions", "/v1/me", "/v1/keys",
    ):  # fmt: skip
        with_ticket = await walk.nobody.get(path, params={"ticket": text})
        assert with_ticket.status_code in (401, 404), path
        async with bearer(walk, text) as client:
            problem(await client.get(path), 401, "unauthenticated")
    page = await walk.nobody.get(
        events, params={"ticket": text}, headers={"accept": "application/json"}
    )
    problem(page, 401, "unauthenticated")


async def test_a_ticket_is_for_a_session_of_ones_own(walk: Walk) -> None:
    session_id = await walk.opened()

    for client, status in ((walk.bob, 404), (walk.nobody, 401), (walk.admin, 201)):
        reply = await client.post("/v1/tickets", json={"session_id": session_id})
        assert reply.status_code == status
        if status != 201:
            absent = await client.post("/v1/tickets", json={"session_id": "ses_" + "0" * 32})
            assert same_but_for_its_id(reply) == same_but_for_its_id(absent)


async def test_who_holds_a_ticket_sees_one_session_through_a_list(walk: Walk) -> None:
    own, _ = await walk.opened(), await walk.opened()
    foreign = (await walk.admin.post("/v1/sessions", json={})).json()["session_id"]
    reads, alice = walk.server.reads, walk.principal("alice")

    async def listed(only: str) -> list[str]:
        who = replace(alice, only=SessionId(only))
        return [found.head.key.session_id for found in await reads.sessions(who, limit=9)]

    assert await listed(own) == [own]
    assert await listed(foreign) == []
    assert await listed("ses_none") == []


async def test_a_ticket_that_was_changed_anywhere_opens_nothing(walk: Walk) -> None:
    session_id = await walk.opened()
    text = await ticket(walk, session_id)

    for place in range(len(text)):
        other = "A" if text[place] != "A" else "B"
        changed = text[:place] + other + text[place + 1 :]
        if len(text) - place == 1 or text[place + 1 : place + 2] == ".":
            continue  # the last letter of base64 has bits that say nothing
        reply = await walk.nobody.get(
            f"/v1/sessions/{session_id}/events", params={"ticket": changed}
        )
        problem(reply, 401, "unauthenticated")


async def test_a_ticket_of_another_database_opens_nothing(walk: Walk, tmp_path: Path) -> None:
    session_id = await walk.opened()
    text = await ticket(walk, session_id)

    async with walking(data_dir=tmp_path / "other") as other:
        reply = await other.nobody.get(f"/v1/sessions/{session_id}/events", params={"ticket": text})
        problem(reply, 401, "unauthenticated")


async def test_a_ticket_opens_for_its_time_and_what_it_opened_goes_on(tmp_path: Path) -> None:
    clock = ManualClock()
    more: dict[str, Any] = {"ticket_seconds_max": 60.0, "access_check_seconds": 0.05}
    async with walking(data_dir=tmp_path, clock=clock, **more) as walk:
        session_id = await walk.opened()
        text = await ticket(walk, session_id)
        path = f"/v1/sessions/{session_id}/events?ticket={text}"
        asked = walk.server.identity.still
        checks = asyncio.Semaphore(0)

        async def counted(*given: Any) -> bool:
            checks.release()
            return await asked(*given)

        walk.server.identity.still = counted  # type: ignore[method-assign]
        async with asking(walk.app, path) as stream:
            await stream.event("session.opened")
            clock.advance(milliseconds=60_000)
            checks = asyncio.Semaphore(0)
            for _ in range(3):
                await checks.acquire()
            await walk.said(session_id, "still here")
            await stream.event("turn.completed")
        problem(await walk.nobody.get(path), 401, "unauthenticated")


async def test_what_was_shown_for_a_ticket_ends_its_stream(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, access_check_seconds=0.05) as walk:
        await add_user(walk)
        token = (await sign_in(walk)).json()["token"]
        async with bearer(walk, token) as carol:
            session_id = (await carol.post("/v1/sessions", json={})).json()["session_id"]
            text = await ticket(walk, session_id, carol)
            path = f"/v1/sessions/{session_id}/events?ticket={text}"
            async with asking(walk.app, path) as stream:
                await stream.event("session.opened")
                await carol.delete("/v1/tokens/current")
                await stream.until(lambda wire: wire.ended)
        problem(await walk.nobody.get(path), 401, "unauthenticated")


async def test_a_ticket_of_a_service_is_the_users_for_whom_it_asked(walk: Walk) -> None:
    key = await new_key(walk, user="backend", roles=["service"])
    session_id = await walk.opened()

    async with bearer(walk, key["key"], **{"sessile-user": "alice"}) as service:
        text = await ticket(walk, session_id, service)
    path = f"/v1/sessions/{session_id}/events?ticket={text}"
    assert await opens(walk, path)
    await walk.admin.delete(f"/v1/keys/{key['key_id']}")

    problem(await walk.nobody.get(path), 401, "unauthenticated")


async def test_a_ticket_is_not_left_in_the_query_for_whoever_writes_logs(walk: Walk) -> None:
    session_id = await walk.opened()
    text = await ticket(walk, session_id)
    scopes: list[dict[str, Any]] = []

    async def spied(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await walk.app(scope, receive, send)

    path = f"/v1/sessions/{session_id}/events?after=0&ticket={text}"
    async with asking(spied, path) as stream:
        await stream.event("session.opened")

    assert scopes[0]["query_string"] == b"after=0"
