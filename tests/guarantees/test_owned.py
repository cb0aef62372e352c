"""G11: a caller reaches its own. All else is 404, the same as not existing, on every route."""

import asyncio
import json
import re
from typing import Any, NamedTuple

import httpx2
from tests.guarantees.callers import Caller, Record, told
from tests.guarantees.conftest import Serve
from tests.guarantees.servers import World

from sessile import Assistant, TurnContext

MESSAGE = {"type": "message", "text": "zq-intruder"}
BODIES: dict[str, Any] = {
    "PATCH /v1/sessions/{session_id}": {"title": "zq-intruder"},
    "POST /v1/sessions/{session_id}/turns": {"input": MESSAGE},
    "PATCH /v1/sessions/{session_id}/turns/{turn_id}": {"input": MESSAGE},
    "POST /v1/sessions/{session_id}/fork": {"turn_id": "{turn_id}"},
    "PUT /v1/sessions/{session_id}/grants": {"grants": ["everything"]},
}
QUERY = {"wait": 5, "after": 1, "before": 3, "limit": 1}
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"params": QUERY},
    {"headers": {"Accept": "application/json"}},
    {"headers": {"Accept": "text/event-stream", "Last-Event-ID": "2"}},
    {"headers": {"Idempotency-Key": "the-owners"}},
)


class Target(NamedTuple):
    """What a path names: a session, a turn, a call, a message."""

    session_id: str
    turn_id: str
    call_id: str
    message_id: str = "msg_" + "1" * 32


ABSENT = Target("ses_" + "0" * 32, "trn_" + "0" * 32, "call_" + "0" * 32)


class Held:
    def __init__(self) -> None:
        self.assistant = Assistant("held")
        self.began, self.go = asyncio.Event(), asyncio.Event()

        @self.assistant.agent
        async def answer(turn: TurnContext) -> str:
            if turn.input["text"] == "hold":
                self.began.set()
                await self.go.wait()
            return "zq-secret"

    async def target(self, owner: Caller, *, title: str) -> tuple[Target, Record, Record]:
        """A session with a turn that ended, one that runs and one that waits."""
        session_id = await owner.opened(title=title)
        ended = await owner.said(session_id, "zq-secret", key="the-owners")
        await owner.accepted(session_id, "hold")
        await self.began.wait()
        waits = await owner.accepted(session_id, "zq-secret-2")
        return Target(session_id, ended["turn_id"], "call_" + "1" * 32), ended, waits


class Route(NamedTuple):
    method: str
    path: str
    query: dict[str, Any]
    """What it takes of the query."""


async def routes(world: World) -> list[Route]:
    """All that the server says it has below a session."""
    paths = told(await world.ana.get("/openapi.json"), 200)["paths"]
    found = []
    for path, methods in paths.items():
        for method, described in methods.items():
            takes = {each["name"] for each in described.get("parameters", ())}
            query = {name: value for name, value in QUERY.items() if name in takes}
            found.append(Route(method.upper(), path, query))
    below = [route for route in found if "{session_id}" in route.path]
    assert len(below) >= 15
    return below


async def ask(
    caller: Caller, route: Route, target: Target, variant: dict[str, Any]
) -> tuple[Any, ...]:
    """The whole reply, but for what tells one request from another."""
    method, path, query = route
    if "params" in variant:
        variant = {**variant, "params": query}
    body = BODIES.get(f"{method} {path}")
    if body is not None:
        text = json.dumps(body).replace("{turn_id}", target.turn_id)
        variant = {**variant, "json": json.loads(text)}
    reply: httpx2.Response = await caller.request(
        method, path.format(**target._asdict()), **variant
    )
    headers = {name: value for name, value in reply.headers.items() if name != "date"}
    request_id = headers.pop("x-request-id")
    own = [(request_id, "req"), *((value, "id") for value in target)]
    content = reply.content.decode()
    for value, name in own:
        content = content.replace(value, name)
    headers["content-length"] = str(len(content))
    return reply.status_code, headers, content


async def test_g11_what_is_not_yours_is_not_there(serve: Serve) -> None:
    """Every route of the server's own description, asked by another user, by another tenant, by
    its admin and by a namesake there; beside one that never was, one that was deleted."""
    held = Held()
    async with serve(held.assistant) as world:
        target, _, waits = await held.target(world.ana, title="zq-title")
        gone = Target(await world.ana.opened(), target.turn_id, target.call_id)
        assert (await world.ana.delete(f"/v1/sessions/{gone.session_id}")).status_code == 204
        waiting = target._replace(turn_id=waits["turn_id"])
        before = await seen_by(world.root, target.session_id)
        counted = 0

        for route in await routes(world):
            for variant in VARIANTS:
                for caller in (world.ben, world.cleo, world.boss, world.namesake):
                    absent = await ask(caller, route, ABSENT, variant)
                    assert absent[0] == 404, (route, absent)
                    for real in (target, waiting, gone):
                        found = await ask(caller, route, real, variant)
                        assert found == absent, (route, caller.login, variant)
                        counted += 1
                assert await ask(world.ana, route, gone, variant) == absent

        assert counted >= 15 * len(VARIANTS) * 4 * 3
        assert await seen_by(world.root, target.session_id) == before
        for caller in (world.ben, world.cleo, world.boss, world.namesake):
            assert await caller.sessions() == []
        held.go.set()
        assert (await world.ana.ended(waits))["output"] == "zq-secret"


async def seen_by(caller: Caller, session_id: str) -> list[Any]:
    """All that there is to know of a session."""
    export = await caller.get(f"/v1/sessions/{session_id}/export")
    return [
        await caller.session(session_id),
        export.content,
        await caller.messages(session_id),
        await caller.turns(session_id),
        told(await caller.get(f"/v1/sessions/{session_id}/context"), 200),
    ]


async def test_g11_a_turn_is_found_in_its_own_session_alone(serve: Serve) -> None:
    """Neither the turn of one's other session nor a stranger's, each under one's own session."""
    held = Held()
    async with serve(held.assistant) as world:
        target, _, waits = await held.target(world.ana, title="zq-title")
        cleos = await world.cleo.opened()
        strangers = await world.cleo.said(cleos, "zq-other")
        mine = await world.ana.opened()
        before = await seen_by(world.root, target.session_id)
        absent = Target(mine, ABSENT.turn_id, ABSENT.call_id)

        for route in await routes(world):
            body = BODIES.get(f"{route.method} {route.path}")
            if "{turn_id}" not in f"{route.path} {body}":
                continue
            expected = await ask(world.ana, route, absent, {})
            assert expected[0] == 404, (route, expected)
            for turn_id in (target.turn_id, waits["turn_id"], strangers["turn_id"]):
                crossed = absent._replace(turn_id=turn_id)
                assert await ask(world.ana, route, crossed, {}) == expected, route

        assert await seen_by(world.root, target.session_id) == before
        held.go.set()
        assert (await world.ana.ended(waits))["status"] == "completed"


async def test_g11_who_is_nobody_reaches_nothing(serve: Serve) -> None:
    held = Held()
    async with serve(held.assistant) as world:
        target, _, _ = await held.target(world.ana, title="zq-title")
        before = await seen_by(world.root, target.session_id)
        every = [
            *await routes(world),
            Route("GET", "/v1/sessions", {}),
            Route("POST", "/v1/sessions", {}),
            Route("POST", "/v1/turns", {}),
        ]

        for route in every:
            for headers in (
                {"Authorization": ""},
                {"Authorization": "Bearer nobody"},
                {"Authorization": f"Basic {world.ana.login.token}"},
                {"Authorization": f"Bearer {world.ana.login.token.upper()}"},
            ):
                answers = [
                    await ask(world.ana, route, each, {"headers": headers})
                    for each in (target, ABSENT)
                ]
                assert answers[0] == answers[1], route
                assert answers[0][0] == 401, (route, answers[0])

        assert await seen_by(world.root, target.session_id) == before
        held.go.set()


async def test_g11_lists_and_cursors_tell_nothing_of_others(serve: Serve) -> None:
    """A list has one's own; an id of another's as a cursor is a place like any other."""
    held = Held()
    async with serve(held.assistant) as world:
        opened = {}
        for caller in (world.ana, world.ben, world.cleo, world.namesake) * 3:
            opened.setdefault(caller, []).append(await caller.opened())
        for caller, own in opened.items():
            assert sorted(each["session_id"] for each in await caller.sessions()) == sorted(own)
        acme = sorted(opened[world.ana] + opened[world.ben])
        globex = sorted(opened[world.cleo] + opened[world.namesake])
        assert sorted(each["session_id"] for each in await world.root.sessions()) == acme
        assert sorted(each["session_id"] for each in await world.boss.sessions()) == globex

        foreign = opened[world.ana][1]
        nobodys = re.sub(".$", lambda last: "0" if last[0] != "0" else "1", foreign)
        pages = [
            (await world.cleo.get("/v1/sessions", params={"before": each})).content
            for each in (foreign, nobodys)
        ]
        assert pages[0] == pages[1]


async def test_g11_an_admin_reaches_its_tenant_and_no_other(serve: Serve) -> None:
    held = Held()
    async with serve(held.assistant) as world:
        mine = await world.ana.opened(title="zq-title")
        assert (await world.root.session(mine))["user_id"] == "ana"
        turn = await world.root.said(mine, "zq-by-admin")
        assert turn["output"] == "zq-secret"
        assert (await world.root.patch(f"/v1/sessions/{mine}", json={"title": "t"})).is_success
        assert (await world.boss.get(f"/v1/sessions/{mine}")).status_code == 404
        queued = [e for e in await world.ana.log(mine) if e["kind"] == "turn.queued"]
        assert [e["body"]["by"] for e in queued] == ["root"]


async def test_g11_a_session_id_alone_opens_no_door_of_an_exclusive_assistant(
    serve: Serve,
) -> None:
    """One user's active session is never answered to another's open."""
    assistant = Assistant("only", exclusive=True)

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        return turn.user_id

    async with serve(assistant) as world:
        callers = (world.ana, world.ben, world.cleo, world.namesake, world.root)
        session_ids = await asyncio.gather(
            *(caller.opened() for caller in callers for _ in range(4))
        )
        assert len(set(session_ids)) == len(callers)
        for caller, session_id in zip(callers, session_ids[::4], strict=True):
            assert (await caller.said(session_id, "who"))["output"] == caller.login.user
