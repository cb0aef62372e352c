"""The server that the walks go through, its agents, and who asks it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.walk.wire import in_time

from sessile import AgentFailed, Assistant, Principal, Server, Settings, ToolError, TurnContext
from sessile.adapters.dev_tokens import DevTokens
from sessile.http.app import App
from sessile.ports.clock import Clock
from sessile.ports.store import Store
from sessile.wiring import dev_tokens

BASE = "http://localhost:3006"
each_store = pytest.mark.parametrize("walk", ["memory", "sqlite"], indirect=True)


@dataclass
class Holds:
    """Turns whose text begins with `hold` stop here until they are let go."""

    began: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    let_go: dict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))

    async def wait(self, name: str) -> None:
        self.began[name].set()
        await self.let_go[name].wait()

    async def reached(self, name: str) -> None:
        await self.began[name].wait()

    def go(self, name: str) -> None:
        self.let_go[name].set()


@dataclass
class Walk:
    server: Server
    app: App
    tokens: DevTokens
    holds: Holds
    admin: httpx2.AsyncClient
    alice: httpx2.AsyncClient
    bob: httpx2.AsyncClient
    nobody: httpx2.AsyncClient

    def token(self, user: str) -> str:
        return next(login.token for login in self.tokens.logins if login.user_id == user)

    def principal(self, user: str) -> Principal:
        login = next(login for login in self.tokens.logins if login.user_id == user)
        return login.principal()

    async def opened(self, **body: Any) -> str:
        """A session of alice's."""
        reply = await self.alice.post("/v1/sessions", json=body)
        assert reply.status_code == 201, reply.text
        session_id: str = reply.json()["session_id"]
        return session_id

    async def said(self, session_id: str, text: str, **query: Any) -> dict[str, Any]:
        """Alice's turn, when it has ended."""
        reply = await self.alice.post(
            f"/v1/sessions/{session_id}/turns", params={"wait": 30, **query}, json=message(text)
        )
        assert reply.status_code == 200, reply.text
        turn: dict[str, Any] = reply.json()
        return turn

    async def queued(self, session_id: str, text: str) -> dict[str, Any]:
        """Alice's turn, as soon as it was accepted."""
        reply = await self.alice.post(f"/v1/sessions/{session_id}/turns", json=message(text))
        assert reply.status_code == 202, reply.text
        turn: dict[str, Any] = reply.json()
        return turn

    async def log(self, session_id: str) -> list[dict[str, Any]]:
        """All that alice's session has in its log."""
        reply = await self.alice.get(
            f"/v1/sessions/{session_id}/events",
            params={"limit": 1000},
            headers={"accept": "application/json"},
        )
        assert reply.status_code == 200, reply.text
        assert reply.json()["next"] is None
        entries: list[dict[str, Any]] = reply.json()["items"]
        return entries

    async def everything(self) -> dict[str, tuple[Any, ...]]:
        """Every log of every tenant, to see that nothing has changed."""
        logs: dict[str, tuple[Any, ...]] = {}
        for login in self.tokens.logins:
            who = login.principal()
            for found in await self.server.reads.sessions(who, limit=200):
                session_id = found.head.key.session_id
                entries = await self.server.reads.export(who, session_id)
                logs[session_id] = tuple([entry async for entry in entries])
        return logs


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"input": {"type": "message", "text": text}, **more}


def assistants(holds: Holds) -> tuple[Assistant, ...]:
    echo = Assistant("echo", tools_allowed=("clock", "notes.*"))
    only = Assistant("only", exclusive=True)

    @echo.agent
    async def answer(turn: TurnContext) -> str:
        text: str = turn.input["text"]
        verb, _, rest = text.partition(" ")
        match verb:
            case "hold":
                await holds.wait(rest)
            case "fail":
                raise AgentFailed("out_of_ideas", "There is nothing more to say.", retry=True)
            case "progress":
                await turn.progress(current_iteration=1, total_iterations=2, tokens_used=3)
            case _:
                pass
        return f"you said: {text}"

    @echo.tool("notes.find")
    async def find(turn: TurnContext, word: str) -> str:
        """Find a note."""
        raise ToolError(f"no note has {word}")

    @only.tool(grant="deploy")
    async def deploy(turn: TurnContext) -> None:
        """Show everybody."""

    @echo.tool("wipe")
    async def wipe(turn: TurnContext) -> None:
        """Wipe the disk."""

    @only.agent
    async def answer_only(turn: TurnContext) -> str:
        return "only me"

    return echo, only


@asynccontextmanager
async def walking(
    *,
    data_dir: Path,
    store_url: str = "memory",
    mount: Callable[[Server], None] | None = None,
    store: Store | None = None,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Walk]:
    holds = Holds()
    chosen: dict[str, Any] = {"sweep_seconds": 0.05, "drain_seconds_max": 0.2, **settings}
    given = Settings(data_dir=data_dir, store_url=store_url, **chosen)
    async with AsyncExitStack() as stack:
        brought = None if store is None else lambda *_: nullcontext(store)
        server = Server(*assistants(holds), settings=given, store=brought, clock=clock)
        if mount is not None:
            mount(server)
        await stack.enter_async_context(server)
        tokens = dev_tokens(given)
        app = server.app()
        server.identity.let_in(tokens)  # the ones that tests may change
        clients: dict[str, httpx2.AsyncClient] = {}
        for user in ("admin", "alice", "bob", "nobody"):
            known = [login.token for login in tokens.logins if login.user_id == user]
            headers = {"authorization": f"Bearer {known[0]}"} if known else {}
            transport = httpx2.ASGITransport(in_time(app), raise_app_exceptions=False)
            client = httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers)
            clients[user] = await stack.enter_async_context(client)
        yield Walk(server=server, app=app, tokens=tokens, holds=holds, **clients)
