"""What the checks are worth: they have nothing against a naive backend without its fault, and find
by name what each fault does."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.incidents import sites_naive, workspace_naive
from tests.incidents.conftest import Serve, Site, naive
from tests.incidents.sites_walk import Crew, walk
from tests.incidents.workspace_walk import faults_of, stored, written

from sessile.demo import sites, workspace

FIRST_MESSAGES = 20
SESSIONS = 40

Record = dict[str, Any]


# -- B: the message bot


async def first_messages(http: httpx2.AsyncClient, sender: str) -> list[str]:
    """Of one sender, all at once. Answers what went wrong."""
    crew = Crew(http, sender)
    await asyncio.gather(*(crew.says("Bonjour") for _ in range(FIRST_MESSAGES)))
    sessions = {each["sessionId"] for each in crew.heard}
    return [] if len(sessions) == 1 else [f"{len(sessions)} sessions of one sender"]


def looking() -> Starlette:
    """A bot that looks for its sender's session, and opens one where it has found none."""
    active: dict[str, str] = {}
    numbers = itertools.count(1)
    looked = asyncio.Barrier(FIRST_MESSAGES)

    async def message(request: Request) -> JSONResponse:
        sender = (await request.json())["from"]
        session_id = active.get(sender)
        await looked.wait()  # as they do who ask a database at once
        if session_id is None:
            session_id = active[sender] = f"ses_{next(numbers)}"  # the fault
        return JSONResponse({"sessionId": session_id, "text": "Hello", "buttons": []})

    return Starlette(routes=[Route("/api/message", message, methods=["POST"])])


async def test_what_catches_the_bot_has_nothing_against_it_without_its_fault() -> None:
    async with naive(sites_naive.naive(sites.Office())) as site:
        assert await walk(Crew(site.http, "ana")) == []
        assert await first_messages(site.http, "ben") == []


async def test_a_bot_that_looks_before_it_opens_is_caught() -> None:
    async with naive(looking()) as site:
        assert await first_messages(site.http, "ana") == [
            f"{FIRST_MESSAGES} sessions of one sender"
        ]


async def test_the_bot_itself_opens_one(serve: Serve) -> None:
    async with serve(sites.assistants(), sites.router) as site:
        assert await first_messages(site.http, "ana") == []


# -- E: the workspace


def locking(app: ASGIApp) -> ASGIApp:
    """The same backend, which answers one request after another."""
    lock = asyncio.Lock()

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        async with lock:
            await app(scope, receive, send)

    return answered


def keeping() -> Starlette:
    """A workspace whose model is handed whatever prompt came last, of all sessions."""
    messages: dict[str, list[Record]] = defaultdict(list)
    numbers = itertools.count(1)
    kept = {"prompt": ""}
    waits = asyncio.Barrier(SESSIONS)

    async def open_session(_request: Request) -> JSONResponse:
        return JSONResponse({"session_id": f"ses_{next(numbers)}"}, status_code=201)

    async def submit(request: Request) -> JSONResponse:
        text = kept["prompt"] = (await request.json())["input"]["text"]
        await waits.wait()
        reply = f"You said {kept['prompt']!r}."  # the fault
        mine = messages[request.path_params["session_id"]]
        mine += [{"role": "user", "text": text}, {"role": "assistant", "text": reply}]
        return JSONResponse({})

    async def history(request: Request) -> JSONResponse:
        items = messages[request.path_params["session_id"]]
        return JSONResponse({"items": items, "next": None})

    at = "/v1/sessions/{session_id}"
    return Starlette(
        routes=[
            Route("/v1/sessions", open_session, methods=["POST"]),
            Route(f"{at}/turns", submit, methods=["POST"]),
            Route(f"{at}/messages", history),
        ]
    )


async def canaries(site: Site) -> list[str]:
    """A word of its own in each session, in all at once. Answers what went wrong."""
    token = site.admin or "any"
    headers = {"Authorization": f"Bearer {token}"}

    async def said(number: int) -> str:
        opened = await site.http.post("/v1/sessions", headers=headers, json={})
        session_id = opened.json()["session_id"]
        for _ in range(2):
            reply = await site.http.post(
                f"/v1/sessions/{session_id}/turns",
                params={"wait": 60},
                headers=headers,
                json={"input": {"type": "message", "text": f"canary-{number:03}"}},
            )
            assert reply.status_code == 200, reply.text
        return str([each["text"] for each in await stored(site.http, session_id, token=token)])

    told = await asyncio.gather(*(said(number) for number in range(SESSIONS)))
    faults: set[str] = set()
    for number, place in enumerate(told):
        own = place.count(f"canary-{number:03}")
        if place.count("canary-") != own:
            faults.add("a session has the canary of another")
        elif own != 4:
            faults.add("a session has lost its canary")
    return sorted(faults)


@pytest.fixture
async def locked() -> AsyncIterator[Site]:
    async with naive(locking(workspace_naive.naive())) as site:
        yield site


async def test_what_catches_the_workspace_has_nothing_against_one_that_locks(
    locked: Site,
) -> None:
    session_id = (await locked.http.post("/v1/sessions", json={})).json()["session_id"]
    turns = await written([locked.url], "any", session_id)

    assert faults_of(await stored(locked.http, session_id), turns) == []
    assert await canaries(locked) == []


async def test_a_workspace_that_keeps_a_prompt_is_caught() -> None:
    async with naive(keeping()) as site:
        assert await canaries(site) == ["a session has the canary of another"]


async def test_the_workspace_itself_keeps_none(serve: Serve) -> None:
    async with serve(workspace.assistants()) as site:
        assert await canaries(site) == []
