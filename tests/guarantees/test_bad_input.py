"""All sorts of bad input at once, over HTTP and WebSocket: each is refused in documented words, and
who does nothing wrong is told all of its session meanwhile."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.guarantees.callers import Caller, assert_whole, of_kind, refused, told
from tests.guarantees.conftest import Serve
from tests.guarantees.servers import World
from tests.walk.pusher import Plain
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from sessile import Assistant, Reply, Settings, TurnContext
from sessile.wiring import pusher_keys

DOCS = Path(__file__).parents[2] / "docs"
MEBIBYTE = 1_048_576
WITNESSED = 5
JSON = {"Content-Type": "application/json"}


class Site(BaseModel):
    """The payload of a press."""

    site: int


def bot() -> Assistant:
    assistant = Assistant("bot")

    @assistant.button("site")
    async def site(turn: TurnContext, payload: Site) -> Reply:
        return Reply(f"site {payload.site}")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        return f"heard {turn.input['text']}"

    return assistant


def documented() -> set[tuple[int, str]]:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    return {(int(status), code) for code, status in rows}


def codes_documented() -> set[int]:
    return {int(code) for code in re.findall(r"\b(\d{4})\b", (DOCS / "pusher.md").read_text())}


class Sockets:
    """Raw WebSockets of the server's Pusher app, and who signs for them."""

    def __init__(self, world: World, data_dir: Path) -> None:
        self.keys = pusher_keys(Settings(data_dir=data_dir))
        self._url = f"{world.url.replace('http', 'ws')}/app/{self.keys.key}?protocol=7"

    @asynccontextmanager
    async def plain(self) -> AsyncIterator[Plain]:
        async with connect(self._url, proxy=None, compression=None, max_size=None) as socket:
            plain = Plain(socket)
            greeting = await plain.hear("pusher:connection_established")
            plain.socket_id = greeting["socket_id"]
            yield plain

    async def signed(self, caller: Caller, plain: Plain, session_id: str) -> Any:
        form = {"socket_id": plain.socket_id, "channel_name": f"private-sb-{session_id}"}
        return await caller.post("/pusher/auth", data=form)

    async def enter(self, caller: Caller, plain: Plain, session_id: str) -> None:
        given = told(await self.signed(caller, plain, session_id), 200)
        await plain.subscribe(f"private-sb-{session_id}", **given)
        await plain.hear("sessile.position")


async def over_http(world: World, closed: str, mine: str) -> list[tuple[str, tuple[int, str]]]:
    """What each bad request was answered."""
    ana = world.ana
    at, gone = f"/v1/sessions/{mine}/turns", f"/v1/sessions/{closed}/turns"

    def press(**given: Any) -> dict[str, Any]:
        return {"json": {"input": {"type": "button", **given}}}

    def raw(body: bytes) -> dict[str, Any]:
        return {"content": body, "headers": JSON}

    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("a payload of the wrong shape", at, press(button="site", payload={"site": "x"})),
        ("a payload that is a list", at, press(button="site", payload=[1])),
        ("a button that there is not", at, press(button="nowhere", payload={})),
        ("a press on a closed session", gone, press(button="site", payload={"site": 1})),
        ("a list without end", at, raw(b"[" * 200_000)),
        ("an object without end", at, raw(b'{"a":' * 100_000)),
        ("a number without end", at, raw(b'{"input":' + b"9" * 5_000 + b"}")),
        ("a mebibyte too many", at, raw(b'"' + b"a" * (MEBIBYTE + 1) + b'"')),
        ("bytes", at, raw(bytes(range(256)))),
        ("a channel of nobody's", "/pusher/auth", {"data": {"socket_id": "1.1"}}),
    ]
    replies = await asyncio.gather(*(ana.post(path, **given) for _, path, given in requests))
    return [(name, refused(reply)) for (name, *_), reply in zip(requests, replies, strict=True)]


EXPECTED_OVER_HTTP = {
    "a payload of the wrong shape": (422, "invalid_input"),
    "a payload that is a list": (422, "invalid_input"),
    "a button that there is not": (422, "invalid_input"),
    "a press on a closed session": (409, "session_closed"),
    "a list without end": (400, "malformed_json"),
    "an object without end": (400, "malformed_json"),
    "a number without end": (400, "malformed_json"),
    "a mebibyte too many": (413, "body_too_large"),
    "bytes": (400, "malformed_json"),
    "a channel of nobody's": (400, "pusher_not_signable"),
}

FRAMES: list[tuple[Any, int]] = [
    ('{"event":"pusher:no_such_event","data":{}}', 4300),
    ('{"event":"made.up","channel":"c","data":{}}', 4301),
    (b"\x00" * 100, 4300),
    ("[" * 100_000, 4300),
]
ENDING: list[Any] = ["a" * MEBIBYTE, b"a" * MEBIBYTE]


async def over_websocket(world: World, sockets: Sockets, theirs: str, mine: str) -> None:
    async def said(frame: Any, code: int) -> None:
        async with sockets.plain() as plain:
            await plain.socket.send(frame)
            assert (await plain.hear("pusher:error"))["code"] == code
            await plain.alive()

    async def ends(frame: Any) -> None:
        async with sockets.plain() as plain:
            with suppress(ConnectionClosed):
                await plain.socket.send(frame)
            assert await plain.closed() == 1009

    async def floods() -> None:
        async with sockets.plain() as plain:
            with suppress(ConnectionClosed):
                for number in range(10_000):
                    await plain.subscribe(f"channel-{number}")
            assert await plain.closed() == 4100

    async def forges() -> None:
        async with sockets.plain() as plain:
            given = told(await sockets.signed(world.ana, plain, mine), 200)
            wrong = {**given, "auth": f"{sockets.keys.key}:{'0' * 64}"}
            for channel, auth in ((mine, wrong), (theirs, given)):
                await plain.subscribe(f"private-sb-{channel}", **auth)
                assert (await plain.hear("pusher:subscription_error"))["status"] == 401
            foreign = await sockets.signed(world.ana, plain, theirs)
            assert refused(foreign) == (404, "session_not_found")
            await plain.alive()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for frame, code in FRAMES:
            tasks.create_task(said(frame, code))
        for frame in ENDING:
            tasks.create_task(ends(frame))
        tasks.create_task(floods())
        tasks.create_task(forges())


async def test_whatever_is_thrown_at_a_server_the_others_are_undisturbed(
    serve: Serve, tmp_path: Path
) -> None:
    async with serve(bot()) as world:
        sockets = Sockets(world, tmp_path / "data")
        mine, closed = await world.ana.opened(), await world.ana.opened()
        theirs = await world.cleo.opened()
        told(await world.ana.post(f"/v1/sessions/{closed}/close"), 200)
        before = [await world.ana.log(each) for each in (mine, closed)]

        async with sockets.plain() as witness:
            await sockets.enter(world.cleo, witness, theirs)

            async def works() -> list[dict[str, Any]]:
                return [await world.cleo.said(theirs, f"number {n}") for n in range(WITNESSED)]

            answers, turns, _ = await asyncio.gather(
                over_http(world, closed, mine),
                works(),
                over_websocket(world, sockets, theirs, mine),
            )
            log = await world.cleo.log(theirs)
            seen: list[dict[str, Any]] = []
            while len(seen) < len(log) - 1:
                frame = await witness.frame()
                assert frame["channel"] == f"private-sb-{theirs}"
                if not frame["event"].startswith("sessile."):
                    seen.append(json.loads(frame["data"]))
            await witness.alive()
        after = [await world.ana.log(each) for each in (mine, closed)]

    assert dict(answers) == EXPECTED_OVER_HTTP
    assert {refusal for _, refusal in answers} <= documented()
    assert {code for _, code in FRAMES} | {1009, 4100} <= codes_documented()
    assert [turn["output"] for turn in turns] == [f"heard number {n}" for n in range(WITNESSED)]
    assert len(of_kind(log, "turn.completed")) == WITNESSED
    assert seen == log[1:]
    assert_whole(log)
    assert after == before


@pytest.mark.parametrize("text", ["heard", "site 3"])
async def test_after_all_that_the_one_who_did_it_may_go_on(serve: Serve, text: str) -> None:
    async with serve(bot()) as world:
        mine, closed = await world.ana.opened(), await world.ana.opened()
        told(await world.ana.post(f"/v1/sessions/{closed}/close"), 200)
        await over_http(world, closed, mine)
        given = (
            {"type": "button", "button": "site", "payload": {"site": 3}}
            if text != "heard"
            else {"type": "message", "text": "hello"}
        )
        reply = await world.ana.post(f"/v1/sessions/{mine}/turns?wait=20", json={"input": given})
        turn = told(reply, 200)

    assert turn["output"] == ("site 3" if text != "heard" else "heard hello")
