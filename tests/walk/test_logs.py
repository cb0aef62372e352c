"""What a server writes into its log while people, and others, do what they like with it."""

import io
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from tests.servers.databases import database
from tests.servers.receiver import receiving
from tests.walk.listening import listening
from tests.walk.people import Walk, message, walking
from tests.walk.test_http_sockets import answered, connected, get, upgrade

from sessile import Assistant, Server, TurnContext
from sessile.cli.logs import configure
from sessile.wiring import pusher_keys

FORGED = '\r\n{"level":"info","message":"forged"}\n2026-01-01T00:00:00Z [info     ] forged'
HOSTILE = f"a{FORGED}\x1b[2J\x00\x9b1A\u2028\u202e\u2066 forged"
CANARY = "canary7f3a"


def logged(form: str) -> io.StringIO:
    stream = io.StringIO()
    configure(level="debug", form=form, stream=stream)
    return stream


def hostile(server: Server) -> None:
    router = APIRouter()

    @router.get("/mounted/{session_id:path}")
    async def fails(session_id: str) -> None:
        raise RuntimeError(f"of {session_id}: {HOSTILE}")

    server.mount(router)


def raising() -> Assistant:
    raises = Assistant("raises")

    @raises.agent
    async def answer(turn: TurnContext) -> str:
        raise RuntimeError(HOSTILE)

    return raises


@asynccontextmanager
async def raising_too(data_dir: Path) -> AsyncIterator[Walk]:
    def mount(server: Server) -> None:
        hostile(server)
        brought = raising()
        server._agents["raises"] = brought.driven_by(_loop(brought))

    async with walking(data_dir=data_dir, mount=mount) as walk:
        yield walk


def _loop(assistant: Assistant) -> Any:
    from sessile.integrations.functions import FunctionLoop

    assert assistant.brought is not None
    return FunctionLoop(assistant.brought)


async def attack(walk: Walk, port: int) -> None:
    """Every way in that a client has."""
    quoted = "%0d%0a%7b%22message%22%3a%22forged%22%7d%1b%5b2J%e2%80%ae"
    for path in ("/", "/mounted/", "/v1/sessions/", "/healthz?"):
        await answered(port, get(walk, port, path + quoted))
    for header in ("X-Request-Id", "User-Agent", "Origin", "Referer", "Cookie", "X-Forwarded-For"):
        for value in ("a\x1b[2J\x9bforged\u00ad", "a\rforged"):
            await answered(port, get(walk, port, "/v1/sessions/x", f"{header}: {value}"))
    await answered(port, b"FORGED\x1b[2J / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await answered(port, b"GET / HTTP/1.1\r\nHost: \x1b[2Jforged\r\n\r\n")
    async with connected(port) as (reader, writer):
        writer.write(upgrade(port, f"/app/{quoted}"))
        await reader.readuntil(b"4001")
    base = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=base, headers=walk.alice.headers) as client:
        await client.post("/v1/turns?wait=30", json=message("hi", assistant="raises"))
        await client.post("/v1/turns", json=message(HOSTILE, assistant=HOSTILE))
        await client.post("/v1/sessions", json={"title": HOSTILE, "metadata": {HOSTILE: HOSTILE}})


async def test_each_record_is_one_line_of_json(tmp_path: Path) -> None:
    stream = logged("json")

    async with raising_too(tmp_path) as walk, listening(walk) as (_, port):
        await attack(walk, port)

    told = stream.getvalue()
    records = [json.loads(line) for line in told.splitlines()]
    assert told.isascii()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", told)
    assert "forged" in told, "what was tried came so far"
    assert {record["message"] for record in records} >= {"request", "agent raised"}
    assert all({"at", "level", "logger"} <= record.keys() for record in records)
    assert "forged" not in {record["message"] for record in records}


async def test_no_line_of_text_is_forged_and_no_terminal_is_moved(tmp_path: Path) -> None:
    stream = logged("text")

    async with raising_too(tmp_path) as walk, listening(walk) as (_, port):
        await attack(walk, port)

    lines = stream.getvalue().splitlines()
    assert any("forged" in line for line in lines)
    for line in lines:
        assert line.isprintable(), line
        record = re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[\w+ *\] (.*)", line)
        assert record or line.startswith("    "), line
        assert not (record and record[1].startswith("forged")), line


@asynccontextmanager
async def stored(kind: str) -> AsyncIterator[str]:
    async with database() if kind == "postgres" else nullcontext(kind) as url:
        yield url


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_nothing_that_was_said_and_nothing_that_lets_in_is_logged(
    tmp_path: Path, kind: str
) -> None:
    stream = logged("json")
    async with stored(kind) as url, receiving() as receiver:
        receiver.status = 500
        given: dict[str, Any] = {
            "dev_token": f"{CANARY}-of-the-admin-0123456789", "webhook_http": True,
            "webhook_private": True, "webhook_ports": str(receiver.port),
            "pusher_secret": f"{CANARY}-of-pusher", "pusher_key": "k",
        }  # fmt: skip
        async with (
            walking(data_dir=tmp_path, store_url=url, **given) as walk,
            listening(walk) as (_, port),
        ):
            await use(walk, port, receiver.url)
            await receiver.until(1)
        secrets = [login.token for login in walk.tokens.logins]

    told = stream.getvalue()
    assert '"message": "request"' in told
    assert '"level": "debug"' in told
    assert CANARY not in told
    for secret in secrets:
        assert secret not in told


async def use(walk: Walk, port: int, hook: str) -> None:
    """All that there is to do with a session, each with something that no log may have."""
    base = f"http://127.0.0.1:{port}"
    async with (
        httpx2.AsyncClient(base_url=base, headers=walk.alice.headers, timeout=30) as client,
        httpx2.AsyncClient(base_url=base, headers=walk.admin.headers, timeout=30) as admin,
    ):
        hooked = await admin.post("/v1/webhooks", json={"url": f"{hook}&token={CANARY}"})
        assert hooked.status_code == 201
        about = {"title": CANARY, "metadata": {CANARY: CANARY}}
        opened = await client.post("/v1/sessions", json=about)
        at = f"/v1/sessions/{opened.json()['session_id']}"
        for text in (CANARY, f"fail {CANARY}", f"progress {CANARY}"):
            turn = await client.post(f"{at}/turns?wait=30", json=message(text))
            assert turn.status_code == 200
        key = {"idempotency-key": CANARY}
        await client.post(f"{at}/turns?wait=30", json=message(CANARY), headers=key)
        await client.post(f"{at}/turns?wait=30", json=message("other"), headers=key)
        await client.patch(at, json={"title": f"{CANARY} again"})
        first = (await client.get(f"{at}/turns")).json()["items"][0]["turn_id"]
        fork = await client.post(f"{at}/fork", json={"turn_id": first, "title": CANARY})
        assert fork.status_code == 201
        for path in ("", "/messages", "/turns", "/tools", "/context", "/export"):
            assert (await client.get(f"{at}{path}")).status_code == 200, path
        asked = {"accept": "application/json"}
        assert CANARY in (await client.get(f"{at}/events", headers=asked)).text
        await client.put(f"{at}/grants", json={"grants": [CANARY]})
        await client.post(f"{at}/turns", content=f'{{"{CANARY}')
        await client.get(f"/v1/sessions?{CANARY}={CANARY}")
        wrong = {"authorization": f"Bearer {CANARY}"}
        assert (await client.get("/v1/sessions", headers=wrong)).status_code == 401
        form = {"socket_id": "1.1", "channel_name": f"private-sb-{at.rpartition('/')[2]}"}
        assert (await client.post("/pusher/auth", data=form)).status_code == 200
        await follow(walk, port, at)
        await client.post(f"{at}/close")
        await client.delete(at)


async def follow(walk: Walk, port: int, at: str) -> None:
    """As a stream, and on a WebSocket that is told what no log may have."""
    await answered(port, get(walk, port, f"{at}/events?after=1", "Accept: application/json"))
    from websockets.asyncio.client import connect

    key = pusher_keys(walk.server.settings).key
    async with connect(f"ws://127.0.0.1:{port}/app/{key}?protocol=7") as socket:
        await socket.recv()
        await socket.send(json.dumps({"event": "client-x", "data": CANARY, "channel": CANARY}))
        auth = {"channel": f"private-{CANARY}", "auth": f"k:{CANARY}"}
        await socket.send(json.dumps({"event": "pusher:subscribe", "data": auth}))
        await socket.recv()
