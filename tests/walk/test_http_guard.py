"""What holds for every request: where it may come from, what its reply carries, what is logged."""

import logging
from typing import Any

import pytest
from fastapi import APIRouter
from tests.walk.people import Walk, message, walking
from tests.walk.test_http_refusals import problem

from sessile import Caller, Server


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:3006",
        "127.0.0.1:3006",
        "127.8.9.10",
        "[::1]:3006",
        "[::1]",
        "LocalHost",
    ],
)
async def test_a_loopback_server_answers_to_its_own_names(walk: Walk, host: str) -> None:
    assert (await walk.alice.get("/v1/sessions", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:3006", "localhost.evil.example", "127.0.0.1.evil.example", "",
     "10.0.0.1", "[::1", "[::1]x", "[fe80::1]", "localhost@evil.example", "0.0.0.0"],
)  # fmt: skip
async def test_a_loopback_server_answers_to_no_other_name(walk: Walk, host: str) -> None:
    """DNS rebinding: a page of evil.example, whose name now points here."""
    before = await walk.everything()

    for method, path in (("GET", "/v1/sessions"), ("POST", "/v1/sessions"), ("GET", "/metrics")):
        reply = await walk.alice.request(method, path, headers={"host": host})
        problem(reply, 421, "host_refused")

    assert await walk.everything() == before


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:9999", "http://localhost", "x"]
)
async def test_another_site_changes_nothing(walk: Walk, origin: str) -> None:
    session_id = await walk.opened()
    before = await walk.everything()

    for method, path in (
        ("POST", "/v1/sessions"),
        ("POST", f"/v1/sessions/{session_id}/turns"),
        ("PATCH", f"/v1/sessions/{session_id}"),
        ("DELETE", f"/v1/sessions/{session_id}"),
    ):
        reply = await walk.alice.request(method, path, json={}, headers={"origin": origin})
        problem(reply, 403, "origin_refused")

    assert await walk.everything() == before


async def test_our_own_pages_may_change_things_and_no_site_may_read(walk: Walk) -> None:
    headers = {"origin": "http://localhost:3006"}

    reply = await walk.alice.post("/v1/sessions", json={}, headers=headers)
    read = await walk.alice.get("/v1/sessions", headers={"origin": "https://evil.example"})

    assert reply.status_code == 201
    for each in (reply, read):
        assert not [name for name in each.headers if name.startswith("access-control-")]


async def test_every_reply_is_made_safe_for_browsers(walk: Walk) -> None:
    session_id = await walk.opened()
    paths = [
        "/",
        "/nothing",
        "/openapi.json",
        "/metrics",
        f"/v1/sessions/{session_id}",
        "/v1/turns",
    ]

    for path in paths:
        headers = (await walk.alice.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in headers


async def test_every_reply_has_a_request_id_of_its_own_or_the_callers(walk: Walk) -> None:
    replies = [await walk.nobody.get(path) for path in ("/", "/", "/nothing", "/v1/sessions")]

    assert len({reply.headers["x-request-id"] for reply in replies}) == 4
    for given, taken in (("trace-1.a_B", True), ("a b", False), ("x" * 65, False), ("a\tb", False)):
        reply = await walk.nobody.get("/nothing", headers={"x-request-id": given})
        assert (reply.headers["x-request-id"] == given) is taken
        assert reply.json()["instance"] == reply.headers["x-request-id"]


async def test_a_log_line_has_ids_and_neither_text_nor_token(
    walk: Walk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    session_id = await walk.opened()

    reply = await walk.alice.post(
        f"/v1/sessions/{session_id}/turns?wait=30", json=message("my secret")
    )
    await walk.alice.post(f"/v1/sessions/{session_id}/turns", json=message("my secret\0"))

    lines = [record.__dict__ for record in caplog.records if record.name == "sessile.http.guard"]
    first = next(line for line in lines if line["request_id"] == reply.headers["x-request-id"])
    assert first["message"] == "request"
    told = {name: first[name] for name in ("method", "route", "status", "session_id", "levelname")}
    assert told == {
        "method": "POST",
        "route": "/v1/sessions/{session_id}/turns",
        "status": 200,
        "session_id": session_id,
        "levelname": "DEBUG",
    }
    assert first["ms"] > 0
    assert [line["levelname"] for line in lines if line["status"] == 422] == ["INFO"]
    everything = repr([record.__dict__ for record in caplog.records])
    assert "my secret" not in everything
    assert walk.token("alice") not in everything


async def test_a_router_of_your_own_knows_the_caller_and_fails_in_the_same_way(
    tmp_path: Any,
) -> None:
    router = APIRouter(prefix="/mine")

    @router.get("/whoami")
    async def whoami(caller: Caller) -> dict[str, str]:
        return {"user_id": caller.user_id}

    @router.post("/add")
    async def add(body: dict[str, int]) -> int:
        return sum(body.values())

    @router.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret")

    def mount(server: Server) -> None:
        server.mount(router)

    async with walking(data_dir=tmp_path, mount=mount, body_bytes_max=1000) as walk:
        known = await walk.alice.get("/mine/whoami")
        unknown = await walk.nobody.get("/mine/whoami")
        wrong = await walk.alice.post("/mine/add", json={"a": "b"})
        large = await walk.alice.post("/mine/add", json={"a" * 1000: 1})
        chunked = await walk.alice.post(
            "/mine/add", content=_pieces(100_000), headers={"content-type": "application/json"}
        )
        fault = await walk.alice.get("/mine/broken")
        documented = (await walk.nobody.get("/openapi.json")).json()["paths"]

    assert known.json() == {"user_id": "alice"}
    assert known.headers["x-content-type-options"] == "nosniff"
    problem(unknown, 401, "unauthenticated")
    problem(wrong, 422, "invalid_input", "a")
    problem(large, 413, "body_too_large")
    problem(chunked, 413, "body_too_large")
    problem(fault, 500, "internal_server_error")
    assert "/mine/whoami" in documented


async def _pieces(size: int) -> Any:
    for _ in range(0, size, 500):
        yield b" " * 500


async def test_the_surface_may_be_mounted_below_a_path(walk: Walk) -> None:
    import httpx2
    from fastapi import FastAPI

    outer = FastAPI()
    outer.mount("/sessile", walk.app)
    transport = httpx2.ASGITransport(outer)
    headers = {"authorization": f"Bearer {walk.token('alice')}"}

    async with httpx2.AsyncClient(
        transport=transport, base_url="http://localhost/sessile", headers=headers
    ) as client:
        opened = await client.post("/v1/sessions", json={})
        found = await client.get(f"/v1/sessions/{opened.json()['session_id']}")
        absent = await client.get("/v1/sessions/x")

    assert found.json() == opened.json()
    problem(absent, 404, "session_not_found")


async def test_below_a_path_like_one_of_its_own_it_is_not_mistaken(walk: Walk) -> None:
    import httpx2
    from fastapi import FastAPI

    outer = FastAPI()
    outer.mount("/v1", walk.app)
    transport = httpx2.ASGITransport(outer)

    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        problem(await client.get("/v1/sessions"), 404, "not_found")
        problem(await client.get("/v1/v1/sessions"), 401, "unauthenticated")
