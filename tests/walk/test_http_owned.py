"""What is not yours is not there: the same bytes, on every route, for everyone but its owner."""

import json
import re
from typing import Any

import httpx2
import pytest
from tests.walk.people import Walk, each_store, message
from tests.walk.test_http_refusals import problem, same_but_for_its_id
from tests.walk.wire import ask

from sessile import Principal
from sessile.core.errors import SessionNotFound
from sessile.core.ids import SessionId, TenantId, TurnId, UserId

ABSENT = "ses_" + "0" * 32
ABSENT_TURN = "trn_" + "0" * 32
ABSENT_MESSAGE = "msg_01a01a01a01a701a801a01a01a01a01a"
ABSENT_CALL = "call_" + "0" * 32

# Every route with a session in its path; `test_http_matrix` compares with OpenAPI.
ROUTES: dict[tuple[str, str], Any] = {
    ("GET", "/v1/sessions/{session_id}"): None,
    ("PATCH", "/v1/sessions/{session_id}"): {"title": "mine now"},
    ("DELETE", "/v1/sessions/{session_id}"): None,
    ("POST", "/v1/sessions/{session_id}/close"): {},
    ("POST", "/v1/sessions/{session_id}/fork"): {"turn_id": "{turn_id}"},
    ("GET", "/v1/sessions/{session_id}/export"): None,
    ("GET", "/v1/sessions/{session_id}/messages"): None,
    ("POST", "/v1/sessions/{session_id}/messages/{message_id}/redact"): {},
    ("GET", "/v1/sessions/{session_id}/tools"): None,
    ("GET", "/v1/sessions/{session_id}/context"): None,
    ("GET", "/v1/sessions/{session_id}/events"): None,
    ("GET", "/v1/sessions/{session_id}/turns"): None,
    ("POST", "/v1/sessions/{session_id}/turns"): message("for you"),
    ("GET", "/v1/sessions/{session_id}/turns/{turn_id}"): None,
    ("PATCH", "/v1/sessions/{session_id}/turns/{turn_id}"): message("changed"),
    ("POST", "/v1/sessions/{session_id}/turns/{turn_id}/cancel"): {},
    ("PUT", "/v1/sessions/{session_id}/grants"): {"grants": ["manage_sessions"]},
    ("POST", "/v1/sessions/{session_id}/calls/{call_id}/approve"): {},
    ("POST", "/v1/sessions/{session_id}/calls/{call_id}/deny"): {},
}


async def request(
    client: httpx2.AsyncClient, method: str, path: str, body: Any, session_id: str, turn_id: str
) -> httpx2.Response:
    path = path.format(
        session_id=session_id, turn_id=turn_id, call_id=ABSENT_CALL, message_id=ABSENT_MESSAGE
    )
    if body is None:
        return await client.request(method, path)
    content = json.dumps(body).replace("{turn_id}", turn_id)
    return await client.request(
        method, path, content=content, headers={"content-type": "application/json"}
    )


async def busy_session(walk: Walk, client: httpx2.AsyncClient) -> tuple[str, str, str]:
    """With a turn that ended, one that runs and one that waits."""
    opened = await client.post("/v1/turns?wait=30", json=message("private"))
    session_id = opened.json()["session_id"]
    url = f"/v1/sessions/{session_id}/turns"
    await client.post(url, json=message(f"hold {session_id}"))
    waiting = await client.post(url, json=message("later"))
    await walk.holds.reached(session_id)
    return session_id, opened.json()["turn_id"], waiting.json()["turn_id"]


@each_store
@pytest.mark.parametrize("stranger", ["bob", "alice", "admin"])
async def test_a_stranger_gets_what_an_absent_session_gets(walk: Walk, stranger: str) -> None:
    """Another tenant's user; another user of the tenant (the admin's session); its admin."""
    owner = {"bob": walk.alice, "alice": walk.admin, "admin": walk.bob}[stranger]
    asker: httpx2.AsyncClient = getattr(walk, stranger)
    session_id, ended, waiting = await busy_session(walk, owner)
    before = await walk.everything()

    for (method, path), body in ROUTES.items():
        for turn_id in (ended, waiting, ABSENT_TURN):
            foreign = await request(asker, method, path, body, session_id, turn_id)
            absent = await request(asker, method, path, body, ABSENT, turn_id)
            problem(foreign, 404, "session_not_found")
            assert same_but_for_its_id(foreign) == same_but_for_its_id(absent), (method, path)

    assert await walk.everything() == before
    seen = (await asker.get("/v1/sessions")).json()["items"]
    assert session_id not in [each["session_id"] for each in seen]
    walk.holds.go(session_id)


@pytest.mark.parametrize("scheme", ["Basic ", "bearer", "Token "])
async def test_only_bearer_tokens_are_taken(walk: Walk, scheme: str) -> None:
    headers = {"authorization": scheme + walk.token("alice")}

    problem(await walk.nobody.get("/v1/sessions", headers=headers), 401, "unauthenticated")


async def test_a_stream_of_somebody_elses_is_refused_before_its_first_byte(walk: Walk) -> None:
    session_id = await walk.opened()

    foreign = await ask(walk.app, f"/v1/sessions/{session_id}/events", token=walk.token("bob"))
    replayed = await ask(
        walk.app,
        f"/v1/sessions/{session_id}/events",
        token=walk.token("bob"),
        headers={"last-event-id": "1"},
    )

    assert (foreign.status, replayed.status) == (404, 404)
    assert foreign.headers["content-type"] == "application/problem+json"


async def test_a_cursor_of_one_session_replays_nothing_of_it_in_another(walk: Walk) -> None:
    secret, own = await walk.opened(), await walk.opened()
    await walk.said(secret, "the secret")

    reply = await walk.alice.get(
        f"/v1/sessions/{own}/events",
        params={"after": 0},
        headers={"accept": "application/json", "last-event-id": "1"},
    )

    assert "secret" not in reply.text


async def test_a_key_of_one_user_is_not_anothers(walk: Walk) -> None:
    headers = {"idempotency-key": "shared"}

    mine = await walk.alice.post("/v1/turns?wait=30", json=message("mine"), headers=headers)
    theirs = await walk.bob.post("/v1/turns?wait=30", json=message("theirs"), headers=headers)
    admins = await walk.admin.post("/v1/turns?wait=30", json=message("admins"), headers=headers)

    outputs = [reply.json()["output"] for reply in (mine, theirs, admins)]
    assert outputs == ["you said: mine", "you said: theirs", "you said: admins"]


async def test_an_admin_reaches_every_session_of_its_tenant(walk: Walk) -> None:
    session_id, ended, waiting = await busy_session(walk, walk.alice)

    for (method, path), body in ROUTES.items():
        if method == "DELETE" or path.endswith(("/close", "/events")):
            continue
        turn_id = waiting if method in ("PATCH", "POST") and "fork" not in path else ended
        reply = await request(walk.admin, method, path, body, session_id, turn_id)
        if "{message_id}" in path:
            assert reply.json()["code"] == "message_not_found", "as with the call below"
        elif "{call_id}" in path:
            assert reply.json()["code"] == "call_not_found", "it is the call that is not there"
        else:
            assert reply.status_code < 300, (method, path, reply.text)
    walk.holds.go(session_id)


class Roles:
    """Tokens are the names of roles; whoever bears one is ann."""

    async def principal(self, token: str) -> Principal | None:
        roles = frozenset(token.split("+"))
        return Principal(tenant_id=TenantId("demo"), user_id=UserId("ann"), roles=roles)


async def test_a_user_with_more_than_one_role_may_do_what_each_of_them_may(walk: Walk) -> None:
    """And is one user: what is opened in one role is its own in the other."""
    alices = await walk.opened()
    transport = httpx2.ASGITransport(walk.server.app(Roles()))
    key = {"idempotency-key": "once"}

    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        seen: dict[str, list[Any]] = {}
        for roles in ("user", "user+admin", "admin+user", "admin", "support+user", "administrator"):
            client.headers["authorization"] = f"Bearer {roles}"
            mine = await client.post("/v1/sessions", json={}, headers=key)
            theirs = await client.get(f"/v1/sessions/{alices}")
            listed = (await client.get("/v1/sessions")).json()["items"]
            owners = sorted({each["user_id"] for each in listed})
            seen[roles] = [mine.json()["session_id"], theirs.status_code, owners]

    (own,) = {session_id for session_id, *_ in seen.values()}
    some, all_of_it = [own, 404, ["ann"]], [own, 200, ["alice", "ann"]]
    assert seen == {
        "user": some,
        "user+admin": all_of_it,
        "admin+user": all_of_it,
        "admin": all_of_it,
        "support+user": some,
        "administrator": some,
    }


async def test_the_log_does_not_tell_its_reader_of_the_machine(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.said(session_id, "hi")

    nodes = [e["body"]["node"] for e in await walk.log(session_id) if e["kind"] == "turn.started"]

    assert nodes == [walk.server.node_id]
    assert re.fullmatch("node_[0-9a-f]{12}", nodes[0])


@each_store
@pytest.mark.parametrize("session_id", ["", "ses_", "ses_\ud800", "ses_a\0b", "x" * 5_000])
async def test_what_cannot_be_an_id_is_no_session_to_whoever_embeds_the_server(
    walk: Walk, session_id: str
) -> None:
    alice, nobodys = walk.principal("alice"), SessionId(session_id)
    server = walk.server

    for asked in (
        server.submit(alice, nobodys, "hello"),
        server.history(alice, nobodys),
        server.cancel(alice, nobodys, TurnId(ABSENT_TURN)),
        server.gates.grant(alice, nobodys, ["any"]),
        anext(server.follow(alice, nobodys)),
    ):
        with pytest.raises(SessionNotFound):
            await asked
