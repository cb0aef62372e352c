"""A text that came in by every way there is, and then is nowhere: no route, no event, no line of
the log, and no byte of the database's files has it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.walk.people import BASE, Walk, each_store, message
from tests.walk.pusher import channels, signed
from tests.walk.wire import in_time

from sessile import Assistant, Server, Settings, TurnContext
from sessile.wiring import dev_tokens

CANARY = "canary-5b1d9e"
SAID = f"my number is {CANARY}"


def keeper() -> Assistant:
    """Does with a text what can be done with one: calls tools with it, asks, sums up."""
    assistant = Assistant("keeper", tools_allowed=("*",))

    @assistant.tool("notes.save")
    async def save(turn: TurnContext, text: str) -> dict[str, str]:
        """Save a note."""
        return {"saved": text}

    @assistant.tool("notes.send", approval=True)
    async def send(turn: TurnContext, text: str) -> str:
        """Send a note."""
        return text

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        verb, _, rest = turn.input["text"].partition(" ")
        match verb:
            case "save":
                await turn.call("notes.save", text=rest)
            case "send":
                await turn.call("notes.send", text=rest)
            case "sum":
                await turn.summarize(f"somebody said: {rest}")
            case "wait":
                await asyncio.Event().wait()
            case _:
                return f"you said: {rest}"
        return "done"

    return assistant


class Place:
    """A server on SQLite, alice's client and an admin's."""

    def __init__(self, server: Server, clients: dict[str, httpx2.AsyncClient]) -> None:
        self.server = server
        self.alice, self.admin = clients["alice"], clients["admin"]
        self.data_dir = server.settings.data_dir

    async def said(self, session_id: str, text: str) -> dict[str, Any]:
        reply = await self.alice.post(
            f"/v1/sessions/{session_id}/turns?wait=20", json=message(text)
        )
        assert reply.status_code < 300, reply.text
        turn: dict[str, Any] = reply.json()
        return turn

    async def shown(self, *session_ids: str) -> str:
        """Everything that any route tells of these."""
        texts = [(await self.admin.get(path)).text for path in ("/v1/sessions", "/v1/audit")]
        for session_id in session_ids:
            at = f"/v1/sessions/{session_id}"
            for path in ("", "/messages", "/turns", "/context", "/tools", "/export"):
                texts.append((await self.alice.get(at + path)).text)
            headers = {"accept": "application/json"}
            events = await self.alice.get(f"{at}/events?limit=1000", headers=headers)
            texts.append(events.text)
        return "\n".join(texts)

    def bytes_with(self, text: str) -> list[str]:
        """The files of the data directory that have it."""
        files = [each for each in self.data_dir.iterdir() if each.is_file()]
        return sorted(it.name for it in files if text.encode() in it.read_bytes())


@asynccontextmanager
async def placed(data_dir: Path, **settings: Any) -> AsyncIterator[Place]:
    given = Settings(data_dir=data_dir, store_url="sqlite", sweep_seconds=0.05, **settings)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server(keeper(), settings=given))
        tokens = dev_tokens(given)
        app = server.app(tokens)
        clients: dict[str, httpx2.AsyncClient] = {}
        for user in ("admin", "alice"):
            token = next(login.token for login in tokens.logins if login.user_id == user)
            client = httpx2.AsyncClient(
                transport=httpx2.ASGITransport(in_time(app)),
                base_url=BASE,
                headers={"authorization": f"Bearer {token}"},
            )
            clients[user] = await stack.enter_async_context(client)
        yield Place(server, clients)


async def everything_said(place: Place) -> tuple[list[str], list[str]]:
    """Ids of the sessions that have the text, and of the messages that said it."""
    opened = await place.alice.post(
        "/v1/sessions", json={"title": SAID, "metadata": {"note": f"he wrote: save {SAID}"}}
    )
    session_id: str = opened.json()["session_id"]
    at = f"/v1/sessions/{session_id}"
    await place.said(session_id, f"save {SAID}")
    asked = await place.said(session_id, f"send {SAID}")
    assert asked["status"] == "awaiting"
    log = await entries(place, session_id)
    (call,) = [it["body"] for it in log if it["kind"] == "approval.requested"]
    denied = await place.alice.post(f"{at}/calls/{call['call_id']}/deny", json={"reason": SAID})
    assert denied.status_code == 200
    await place.alice.get(f"{at}/turns/{asked['turn_id']}?wait=20")
    await place.said(session_id, f"echo {SAID}")
    await place.said(session_id, f"sum {SAID}")
    await place.alice.post(f"{at}/turns", json=message("wait"))
    waits = await place.alice.post(f"{at}/turns", json=message(f"first {SAID}"))
    await place.alice.post(f"{at}/turns", json=message(f"steer {SAID}", when_busy="steer"))
    turn = f"{at}/turns/{waits.json()['turn_id']}"
    await place.alice.patch(turn, json=message(f"then {SAID}"))
    await place.alice.post(f"{turn}/cancel")
    running = (await place.alice.get(at)).json()["running_turn_id"]
    await place.alice.post(f"{at}/turns/{running}/cancel")
    await place.alice.get(f"{at}/turns/{running}?wait=20")
    async with asyncio.timeout(20):
        while (await place.alice.get(at)).json()["running_turn_id"] is not None:
            pass
    fork = await place.alice.post(f"{at}/fork", json={"turn_id": asked["turn_id"]})
    assert fork.status_code == 201, fork.text
    fork_id: str = fork.json()["session_id"]
    said = {
        it["body"]["message_id"]
        for it in await entries(place, session_id)
        if CANARY in str(it["body"]) and "message_id" in it["body"]
    }
    return [session_id, fork_id], sorted(said)


async def entries(place: Place, session_id: str) -> list[dict[str, Any]]:
    reply = await place.alice.get(
        f"/v1/sessions/{session_id}/events?limit=1000", headers={"accept": "application/json"}
    )
    found: list[dict[str, Any]] = reply.json()["items"]
    return found


async def test_what_was_redacted_is_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="sessile"):
        async with placed(tmp_path) as place:
            session_ids, message_ids = await everything_said(place)
            assert CANARY in await place.shown(*session_ids)
            assert place.bytes_with(CANARY)
            assert len(message_ids) >= 8

            for message_id in message_ids:
                reply = await place.alice.post(
                    f"/v1/sessions/{session_ids[0]}/messages/{message_id}/redact",
                    json={"reason": "personal_data"},
                )
                assert reply.status_code == 200, reply.text

            assert CANARY not in await place.shown(*session_ids)
            assert place.bytes_with(CANARY) == []
            assert (await place.said(session_ids[0], "echo hello"))["output"] == "you said: hello"
        assert place.bytes_with(CANARY) == []
        async with placed(tmp_path) as place:
            assert CANARY not in await place.shown(*session_ids)
    lines = "\n".join(str(vars(record)) for record in caplog.records)
    assert "message.redacted" in lines
    assert CANARY not in lines


async def test_what_was_deleted_is_nowhere(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        session_ids, _ = await everything_said(place)

        for session_id in session_ids:
            assert (await place.alice.delete(f"/v1/sessions/{session_id}")).status_code == 204

        assert CANARY not in await place.shown(*session_ids)
        assert place.bytes_with(CANARY) == []


async def test_a_user_who_was_erased_is_nowhere_but_in_the_audit(tmp_path: Path) -> None:
    forgotten: list[tuple[str, str]] = []

    async def forget(tenant_id: str, user_id: str) -> None:
        forgotten.append((tenant_id, user_id))

    async with placed(tmp_path) as place:
        place.server.erases(forget)
        session_ids, _ = await everything_said(place)
        await place.alice.post(f"/v1/sessions/{session_ids[0]}/turns", json=message("wait"))
        keyed = {"idempotency-key": CANARY}
        await place.alice.post(
            f"/v1/sessions/{session_ids[0]}/turns", json=message("more"), headers=keyed
        )
        other = (await place.admin.post("/v1/sessions", json={})).json()["session_id"]
        refused = await place.alice.delete("/v1/users/admin")
        assert (refused.status_code, refused.json()["code"]) == (403, "role_required")

        asked = await place.alice.delete("/v1/users/me")
        assert asked.status_code == 202
        assert asked.json()["status"] == "running"
        at = "/v1/users/alice/erasure"
        async with asyncio.timeout(20):
            while (told := (await place.admin.get(at)).json())["status"] == "running":
                pass

        assert told["sessions"] == 2
        assert forgotten == [("demo", "alice")]
        assert (await place.alice.get("/v1/sessions")).json()["items"] == []
        assert place.bytes_with(CANARY) == []
        assert (await place.admin.get(f"/v1/sessions/{other}")).status_code == 200
        audit = (await place.admin.get("/v1/audit")).json()["items"]
        actions = [it["action"] for it in audit if it["subject"] == "alice"]
        assert actions == ["user.erased", "user.erasure_asked"]


@each_store
async def test_the_audit_is_an_admins_and_says_who_asked_for_what(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.alice.get(f"/v1/sessions/{session_id}/export")
    gone = await walk.alice.delete(f"/v1/sessions/{session_id}")

    refused = await walk.alice.get("/v1/audit")
    assert (refused.status_code, refused.json()["code"]) == (403, "role_required")
    page = (await walk.admin.get("/v1/audit?limit=1")).json()
    (newest,) = page["items"]
    assert (newest["actor"], newest["action"]) == ("alice", "session.deleted")
    assert newest["subject"] == session_id
    assert newest["request_id"] == gone.headers["x-request-id"]
    rest = (await walk.admin.get(f"/v1/audit?before={page['next']}")).json()
    assert [it["action"] for it in rest["items"]] == ["session.exported"]
    assert rest["next"] is None


@each_store
async def test_a_name_that_is_none_is_refused(walk: Walk) -> None:
    for user in ("a%00b", "a" * 300):
        reply = await walk.admin.delete(f"/v1/users/{user}")
        assert reply.status_code == 422
    reply = await walk.admin.delete("/v1/users/a%0d%0ax:%20y")
    assert reply.headers["location"] == "/v1/users/a%0D%0Ax%3A%20y/erasure"
    assert (await walk.admin.get("/v1/users/nobody/erasure")).status_code == 404


async def test_who_follows_is_told_and_who_comes_later_hears_no_content(tmp_path: Path) -> None:
    async with channels(tmp_path) as served, served.plain() as first, served.plain() as late:
        session_id = await served.walk.opened()
        channel = f"private-sb-{session_id}"
        auth = (await signed(served.walk, first.socket_id, channel)).json()
        await first.subscribe(channel, **auth)
        await served.walk.said(session_id, SAID)
        log = await served.walk.log(session_id)
        (queued,) = [it for it in log if it["kind"] == "turn.queued"]
        message_id = queued["body"]["message_id"]

        await served.walk.alice.post(f"/v1/sessions/{session_id}/messages/{message_id}/redact")

        told = await first.hear("session.redacted")
        assert told["body"]["message_ids"] == [message_id]
        auth = (await signed(served.walk, late.socket_id, channel)).json()
        await late.subscribe(channel, **auth)
        await late.hear("pusher_internal:subscription_succeeded")
