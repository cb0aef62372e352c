"""All systems on one server, as a plain `sessile serve` has them: who may reach which route."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.guarantees.callers import refused
from tests.guarantees.servers import World, asking, write_logins
from tests.incidents.conftest import port, served, url_of
from tests.incidents.support_walk import LogFront, PusherFront, walk
from tests.pusher.browser import browsing

from sessile import Settings
from sessile.demo.systems import demo_server
from sessile.http.listener import Listener
from sessile.wiring import pusher_keys

LOGIN = {"username": "manager", "password": "Password123!"}


@dataclass(frozen=True)
class Route:
    """How to ask for it. `token`: it wants the bank's; `session`: it names one."""

    method: str
    path: str
    token: bool = False
    session: bool = False
    body: Any = None
    header: bool = False

    def asked(self, session_id: str) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "method": self.method,
            "url": self.path.format(session_id=session_id, task_id=f"{session_id}.trn_1"),
            "headers": {"X-Session-ID": session_id} if self.header else {},
        }
        if self.body is not None:
            asked["json"] = {
                name: value.format(session_id=session_id) if isinstance(value, str) else value
                for name, value in self.body.items()
            }
        return asked


ROUTES = (
    Route("POST", "/api/message", body={"from": "crew", "text": "Hello"}),
    Route("POST", "/api/button", body={"from": "crew", "button": "view_sites", "payload": {}}),
    Route("POST", "/api/auth/login", body=LOGIN),
    Route("POST", "/api/sessions", token=True, body={"userId": "u"}),
    Route(
        "POST", "/api/chat/message", token=True, session=True, header=True, body={"content": "x"}
    ),
    Route("GET", "/api/sessions/{session_id}/history", token=True, session=True),
    Route("POST", "/api/tasks", session=True, body={"task": "x", "session_id": "{session_id}"}),
    Route("GET", "/api/tasks?session_id={session_id}", session=True),
    Route("GET", "/api/tasks/{task_id}", session=True),
    Route("POST", "/api/tasks/{task_id}/cancel", session=True),
    Route("GET", "/api/sse?session_id={session_id}", session=True),
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    write_logins(tmp_path)
    server = demo_server(Settings(data_dir=tmp_path, drain_seconds_max=2.0))
    with port() as listening:
        async with server:
            listener = Listener(server.app(), server.settings)
            async with served(listener, listening), asking(url_of(listening)) as world:
                yield world


async def ask(world: World, route: Route, session_id: str, **headers: str) -> httpx2.Response:
    asked = route.asked(session_id)
    asked["headers"] |= headers
    return await world.http.request(**asked)


async def token(world: World) -> str:
    logged_in = await world.http.post("/api/auth/login", json=LOGIN)
    return f"Bearer {logged_in.json()['token']}"


async def test_no_route_is_forgotten(world: World) -> None:
    paths = (await world.http.get("/openapi.json")).json()["paths"]
    there = {
        (method.upper(), path)
        for path, operations in paths.items()
        for method in operations
        if path.startswith("/api")
    }

    assert there == {(route.method, route.path.partition("?")[0]) for route in ROUTES}


async def test_what_is_another_s_is_not_there_on_any_route(world: World) -> None:
    """A session of another company, of another user of the demo's company, and none."""
    theirs = await world.ana.opened(assistant="tasks.writer.full")
    bank = await token(world)
    in_bank = await world.http.post("/api/sessions", json={}, headers={"Authorization": bank})
    in_tasks = await world.http.post("/api/tasks", json={"task": "x"})

    for route in ROUTES:
        if not route.session:
            continue
        headers = {"Authorization": bank} if route.token else {}
        other = in_tasks.json()["session_id"] if route.token else in_bank.json()["sessionId"]
        told = [
            await ask(world, route, session_id, **headers)
            for session_id in (theirs, other, "ses_none")
        ]
        assert [refused(reply)[0] for reply in told] == [404] * 3, route
        bodies = [{**reply.json(), "instance": None} for reply in told]
        assert all(body == bodies[0] for body in bodies), route
    assert len(await world.ana.log(theirs)) == 1


async def test_the_bank_s_routes_want_its_token_and_take_no_other(world: World) -> None:
    bank = await token(world)
    opened = await world.http.post("/api/sessions", json={}, headers={"Authorization": bank})
    session_id = opened.json()["sessionId"]

    for route in ROUTES:
        if route.token:
            for other in ("", f"Bearer {world.root.login.token}", *spoiled(bank)):
                reply = await ask(world, route, session_id, Authorization=other)
                assert refused(reply)[0] == 401, (route, other)
    as_admin = await world.http.get(f"/v1/sessions/{session_id}", headers={"Authorization": bank})
    assert refused(as_admin)[0] == 401


def spoiled(bearer: str) -> tuple[str, ...]:
    """What is nearly the bank's token."""
    scheme, _, text = bearer.partition(" ")
    other = "0" if text[-1] != "0" else "1"
    return (f"Basic {text}", scheme, *(f"{scheme} {it}" for it in (text[:-1], text[:-1] + other)))


async def test_pages_of_other_sites_reach_none_of_them(world: World) -> None:
    for route in ROUTES:
        rebound = await ask(world, route, "ses_none", host="evil.example")
        assert refused(rebound) == (421, "host_refused"), route
        if route.method == "POST":
            foreign = await ask(world, route, "ses_none", origin="https://evil.example")
            assert refused(foreign) == (403, "origin_refused"), route
        read = await ask(world, route, "ses_none", origin=world.url)
        assert "access-control-allow-origin" not in read.headers
        assert read.headers["cross-origin-resource-policy"] == "same-origin"


async def test_support_s_actions_are_shown_on_its_channels(world: World, tmp_path: Path) -> None:
    key = pusher_keys(Settings(data_dir=tmp_path)).key
    async with browsing() as browser:
        fronts = [
            PusherFront(LogFront(caller, assistant), browser, key, world.url)
            for caller, assistant in ((world.ana, "support"), (world.cleo, "support.reader"))
        ]

        assert await walk(fronts, sessions=4) == []


@pytest.mark.parametrize(
    ("settings", "there"),
    [({}, True), ({"host": "0.0.0.0"}, False), ({"host": "0.0.0.0", "demo_open": True}, True)],
)
def test_others_reach_the_demos_only_where_it_was_said(
    settings: dict[str, Any], there: bool
) -> None:
    server = demo_server(Settings(**settings))

    assert bool([router for router in server.routers if router.routes]) is there
