"""Webhooks over HTTP: who may have them, what is sent, in which order, and what is done about those
who do not take it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.servers import waits
from tests.servers.receiver import Receiver, receiving
from tests.walk.people import Walk, walking

from sessile.runtime import deliveries
from sessile.runtime.webhooks import KINDS

SLOW_SECONDS = 0.05


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "RETRY_SECONDS", 0.01)


@asynccontextmanager
async def hooked(data_dir: Path, receiver: Receiver, **settings: Any) -> AsyncIterator[Walk]:
    """A server that sends to the receiver."""
    given: dict[str, Any] = {
        "webhook_http": True, "webhook_private": True,
        "webhook_ports": f"443,{receiver.port}", "webhook_wait_seconds_max": 0.02, **settings,
    }  # fmt: skip
    async with walking(data_dir=data_dir, **given) as walk:
        yield walk


async def register(walk: Walk, url: str, **body: Any) -> dict[str, Any]:
    reply = await walk.admin.post("/v1/webhooks", json={"url": url, **body})
    assert reply.status_code == 201, reply.text
    webhook: dict[str, Any] = reply.json()
    assert reply.headers["location"] == f"/v1/webhooks/{webhook['webhook_id']}"
    return webhook


async def looked_at(walk: Walk, webhook_id: str) -> dict[str, Any]:
    reply = await walk.admin.get(f"/v1/webhooks/{webhook_id}")
    assert reply.status_code == 200
    webhook: dict[str, Any] = reply.json()
    return webhook


async def until(walk: Walk, webhook_id: str, **wanted: Any) -> dict[str, Any]:
    async def holds() -> dict[str, Any] | None:
        webhook = await looked_at(walk, webhook_id)
        return webhook if all(webhook[name] == value for name, value in wanted.items()) else None

    webhook: dict[str, Any] = await waits.until(holds)
    return webhook


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_what_is_asked_for_is_sent_signed_and_in_order(tmp_path: Path, store: str) -> None:
    async with receiving() as receiver, hooked(tmp_path, receiver, store_url=store) as walk:
        before = await walk.opened()
        await walk.said(before, "nobody is told")
        webhook = await register(walk, receiver.url)
        session_id = await walk.opened()

        for number in range(3):
            await walk.said(session_id, str(number))
        await walk.said(before, "now told")
        await walk.alice.post(f"/v1/sessions/{session_id}/close")

        came = await receiver.until(5)
        log = {each: await walk.log(each) for each in (session_id, before)}
        told = {
            each: [one.entry for one in came if one.entry["session_id"] == each] for each in log
        }
        assert told[session_id] == [
            {"tenant_id": "demo", "session_id": session_id, **entry}
            for entry in log[session_id]
            if entry["kind"] in KINDS
        ]
        assert [each["seq"] for each in told[before]] == [log[before][-1]["seq"]]
        assert all(one.signed_with(webhook["secret"]) for one in came)
        assert not any(one.signed_with("whsec_AAAA") for one in came)
        assert len({one.headers["webhook-id"] for one in came}) == 5
        assert {one.path for one in came} == {"/hook?key=1"}
        assert {one.headers["host"] for one in came} == {f"127.0.0.1:{receiver.port}"}
        done = await until(walk, webhook["webhook_id"], last_status=200)
        assert (done["last_error"], done["failing_since"], done["behind"]) == (None, None, 0)


async def test_what_was_not_taken_is_sent_again_before_what_is_behind_it(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, receiver) as walk:
        receiver.status = 500
        webhook = await register(walk, receiver.url, kinds=["turn.queued", "turn.completed"])
        session_id = await walk.opened()
        await walk.said(session_id, "hello")
        await receiver.until(3)
        failing = await until(walk, webhook["webhook_id"], last_status=500)
        assert failing["last_error"] == "status 500"
        assert failing["behind"] == 1
        assert failing["failing_since"] is not None

        receiver.status = 204

        async def last_came() -> bool:
            return bool(receiver.came[-1].entry["kind"] == "turn.completed")

        await waits.until(last_came)
        await until(walk, webhook["webhook_id"], last_status=204, failing_since=None, behind=0)
        *before, last = receiver.came
        assert {one.entry["kind"] for one in before} == {"turn.queued"}
        assert len({one.headers["webhook-id"] for one in before}) == 1
        assert last.headers["webhook-id"] != before[0].headers["webhook-id"]


async def test_who_takes_nothing_is_given_up_and_goes_on_when_asked(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, receiver, webhook_attempts_max=3) as walk:
        receiver.status = 400
        webhook = await register(walk, receiver.url)
        session_id = await walk.opened()
        await walk.said(session_id, "hello")

        given_up = await until(walk, webhook["webhook_id"], status="disabled")
        assert given_up["disabled_reason"] == "one entry was not taken in 3 attempts: status 400"
        assert len(receiver.came) == 3
        await walk.said(session_id, "not told yet")

        receiver.status = 200
        path = f"/v1/webhooks/{webhook['webhook_id']}/enable"
        again = (await walk.admin.post(path)).json()
        assert (again["status"], again["disabled_reason"]) == ("active", None)
        came = await receiver.until(5)
        assert [one.entry["body"]["output"] for one in came[2:]] == [
            "you said: hello", "you said: hello", "you said: not told yet",
        ]  # fmt: skip


async def test_who_is_gone_is_not_asked_again(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, receiver) as walk:
        receiver.status = 410
        webhook = await register(walk, receiver.url)
        await walk.said(await walk.opened(), "hello")

        await until(walk, webhook["webhook_id"], status="disabled")
        assert len(receiver.came) == 1


async def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with hooked(tmp_path, receiver, store_url="sqlite") as walk:
            webhook = await register(walk, receiver.url)
            session_id = await walk.opened()
            await walk.said(session_id, "one")
            await receiver.until(1)
            await until(walk, webhook["webhook_id"], last_status=200)
            receiver.status = 503
            await walk.said(session_id, "two")
            tried = len(await receiver.until(2))
        receiver.status = 200
        async with hooked(tmp_path, receiver, store_url="sqlite") as walk:
            await until(walk, webhook["webhook_id"], last_status=200, failing_since=None)

        assert tried >= 2
        outputs = [one.entry["body"]["output"] for one in receiver.came]
        assert outputs[0] == "you said: one"
        assert {*outputs[1:]} == {"you said: two"}


async def test_only_an_admin_has_to_do_with_them_and_the_audit_says_which(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, receiver) as walk:
        webhook = await register(walk, receiver.url)
        one = f"/v1/webhooks/{webhook['webhook_id']}"
        for client, status, code in (
            (walk.alice, 403, "role_required"),
            (walk.bob, 403, "role_required"),
            (walk.nobody, 401, "unauthenticated"),
        ):
            for method, path in (
                ("GET", "/v1/webhooks"), ("POST", "/v1/webhooks"), ("GET", one), ("DELETE", one),
                ("POST", f"{one}/enable"),
            ):  # fmt: skip
                body = (
                    {"url": receiver.url} if path == "/v1/webhooks" and method == "POST" else None
                )
                reply = await client.request(method, path, json=body)
                assert (reply.status_code, reply.json()["code"]) == (status, code), (method, path)
        await walk.bob.post("/v1/turns?wait=30", json={"input": {"type": "message", "text": "x"}})
        await walk.said(await walk.opened(), "mine")

        (came,) = await receiver.until(1)
        assert came.entry["tenant_id"] == "demo"
        for path in ("/v1/webhooks/whk_0", "/v1/webhooks/x"):
            reply = await walk.admin.get(path)
            assert (reply.status_code, reply.json()["code"]) == (404, "webhook_not_found")
        listed = (await walk.admin.get("/v1/webhooks")).json()
        assert [each["webhook_id"] for each in listed["items"]] == [webhook["webhook_id"]]
        assert "secret" not in listed["items"][0]
        assert (await walk.admin.delete(one)).status_code == 204
        assert (await walk.admin.get("/v1/webhooks")).json() == {"items": [], "next": None}
        audit = (await walk.admin.get("/v1/audit")).json()["items"]
        assert [(it["actor"], it["action"], it["subject"]) for it in audit] == [
            ("admin", "webhook.removed", webhook["webhook_id"]),
            ("admin", "webhook.created", webhook["webhook_id"]),
        ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"url": "ftp://a.example/"}, "scheme"),
        ({"url": "http://a.example/"}, "scheme"),
        ({"url": "https://a.example:22/"}, "port"),
        ({"url": "https://me:secret@a.example/"}, "password"),
        ({"url": "https://127.0.0.1/"}, "internet"),
        ({"url": "https://[::1]/"}, "internet"),
        ({"url": "https:///x"}, "host"),
        ({"url": "https://a.example:99999/"}, "ort"),
        ({"url": "https://a.example/", "kinds": ["turn.made-up"]}, "turn.made-up"),
        ({"url": "https://a.example/", "kinds": []}, ""),
        ({"url": "https://a.example/", "more": 1}, ""),
    ],
)
async def test_an_address_that_is_never_sent_to_is_refused(
    walk: Walk, body: dict[str, Any], said: str
) -> None:
    reply = await walk.admin.post("/v1/webhooks", json=body)

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
    assert said in reply.json()["detail"]
    assert "secret" not in reply.text
    assert (await walk.admin.get("/v1/webhooks")).json()["items"] == []


async def test_a_tenant_has_so_many_at_most(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, webhooks_tenant_max=1) as walk:
        await register(walk, "https://a.example/")

        reply = await walk.admin.post("/v1/webhooks", json={"url": "https://a.example/"})

        assert (reply.status_code, reply.json()["code"]) == (429, "limit_reached")
        assert reply.json()["details"]["limit"] == "webhooks_tenant_max"
        assert reply.headers["retry-after"]


async def test_a_tenant_has_so_many_requests_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers slowly has no more of the connections than that."""
    monkeypatch.setattr(deliveries, "TENANT_AT_ONCE", 2)
    at_once = [0]

    async def slowly(writer: asyncio.StreamWriter) -> None:
        at_once.append(at_once[-1] + 1)
        await asyncio.sleep(SLOW_SECONDS)
        at_once.append(at_once[-1] - 1)
        writer.write(b"HTTP/1.1 204 X\r\nConnection: close\r\n\r\n")

    async with receiving() as receiver, hooked(tmp_path, receiver) as walk:
        receiver.answer = slowly
        for _ in range(2):
            await register(walk, receiver.url, kinds=["session.opened"])
        for _ in range(6):
            await walk.opened()

        await receiver.until(12)

    assert max(at_once) == 2


async def test_a_large_entry_is_sent_without_its_body(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, receiver, webhook_bytes_max=400) as walk:
        await register(walk, receiver.url)
        session_id = await walk.opened()
        await walk.said(session_id, "x" * 1_000)

        (came,) = await receiver.until(1)

        assert len(came.body) <= 400
        assert came.entry["body"] is None
        assert (came.entry["kind"], came.entry["session_id"]) == ("turn.completed", session_id)


async def test_a_deleted_session_holds_up_nothing(tmp_path: Path) -> None:
    async with receiving() as receiver, hooked(tmp_path, receiver) as walk:
        receiver.status = 500
        webhook = await register(walk, receiver.url)
        session_id = await walk.opened()
        await walk.said(session_id, "hello")
        await receiver.until(2)

        await walk.alice.delete(f"/v1/sessions/{session_id}")
        receiver.status = 200
        other = await walk.opened()
        await walk.said(other, "and on")

        await until(walk, webhook["webhook_id"], last_status=200, behind=0)
        assert receiver.came[-1].entry["session_id"] == other


async def test_nothing_of_a_message_an_address_or_a_secret_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with receiving() as receiver, hooked(tmp_path, receiver, webhook_attempts_max=2) as walk:
        receiver.status = 500
        webhook = await register(walk, f"{receiver.url}&canary-in-url")
        await walk.said(await walk.opened(), "canary-in-text")
        await until(walk, webhook["webhook_id"], status="disabled")

    told = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "a webhook was disabled" in told
    for secret in ("canary-in-url", "canary-in-text", webhook["secret"]):
        assert secret not in told
