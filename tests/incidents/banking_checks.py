"""What the bank's chatbot promises, held against any backend that speaks its wire format. Each
check raises an AssertionError that names what is broken."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
from tests.incidents.conftest import Site

MANAGER = {"username": "manager", "password": "Password123!"}

Record = dict[str, Any]


class Client:
    """Somebody who has logged in; without a token, somebody who has not."""

    def __init__(self, site: Site, token: str | None) -> None:
        self._http = site.http
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    @property
    def json_headers(self) -> dict[str, str]:
        return {**self._headers, "Content-Type": "application/json"}

    async def open(self, user_id: str, **body: Any) -> Record:
        # Any text can be written in ASCII, by escapes.
        content = json.dumps({"userId": user_id, **body})
        reply = await self._http.post("/api/sessions", content=content, headers=self.json_headers)
        assert reply.status_code == 201, f"a session is refused: {reply.text}"
        opened: Record = reply.json()
        return opened

    async def posted(
        self, session_id: str | None, content: str, *, key: str | None = None
    ) -> httpx2.Response:
        """A message, and whatever is the answer to it."""
        named = {"X-Session-ID": session_id, "Idempotency-Key": key}
        given = {name: value for name, value in named.items() if value is not None}
        return await self._http.post(
            "/api/chat/message",
            content=json.dumps({"content": content}),
            headers={**self.json_headers, **given},
        )

    async def say(self, session_id: str, content: str, *, key: str | None = None) -> Record:
        reply = await self.posted(session_id, content, key=key)
        assert reply.status_code == 200, f"a message is refused: {reply.text}"
        said: Record = reply.json()
        return said

    async def history(self, session_id: str) -> list[Record]:
        messages: list[Record] = (await self.page(session_id))["messages"]
        return messages

    async def page(self, session_id: str, *, before: int | None = None) -> Record:
        reply = await self._http.get(
            f"/api/sessions/{session_id}/history",
            params={} if before is None else {"before": before},
            headers=self._headers,
        )
        assert reply.status_code == 200, f"the session has no history: {reply.text}"
        page: Record = reply.json()
        return page


async def logged_in(site: Site) -> Client:
    reply = await site.http.post("/api/auth/login", json=MANAGER)
    assert reply.status_code == 200, f"the demo user is refused: {reply.text}"
    assert reply.json()["user"], "the login does not say whose it is"
    return Client(site, reply.json()["token"])


def check_opened(opened: Record, *, user_id: str) -> str:
    """The one id of a new session."""
    ids = [
        opened["sessionId"],
        opened["chatSession"]["sessionId"],
        opened["session"]["sessionId"],
    ]
    assert all(ids), "a session id is null"
    assert len(set(ids)) == 1, "a session is born with two ids"
    assert opened["chatSession"]["userId"] == user_id, "the session is another user's"
    assert opened["timestamp"], "there is no timestamp"
    session_id: str = ids[0]
    return session_id


async def check_flow(client: Client, *, number: int = 1) -> str:
    """Create, message, history: all of it one session, and nothing of any other."""
    user_id, account = f"test-user-{number}", 1000 + number
    session_id = check_opened(await client.open(user_id), user_id=user_id)
    asked = ("Hello, test message", f"The balance of account {account}?", "The balance again?")
    replies = [await client.say(session_id, content) for content in asked]
    assert {reply["sessionId"] for reply in replies} == {session_id}, "a reply is of another id"
    for reply in replies[1:]:
        assert str(account) in reply["reply"], f"a reply is not about {account}: {reply}"
    messages = await client.history(session_id)
    told = [(message["role"], message["content"]) for message in messages]
    expected = [
        said
        for content, reply in zip(asked, replies, strict=True)
        for said in (("user", content), ("assistant", reply["reply"]))
    ]
    assert told == expected, f"the history is not what was said: {told}"
    return session_id


async def check_all(site: Site, database: Path) -> None:
    """One user's whole way, and what it leaves in the database."""
    await check_flow(await logged_in(site))
    check_rows(database)


async def check_many(client: Client, *, users: int) -> None:
    ids = await asyncio.gather(*(check_flow(client, number=n) for n in range(users)))
    assert len(set(ids)) == users, "two users share a session"


def check_rows(database: Path) -> None:
    """No row of any table has a session id that is null or empty."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
        tables = [
            name for (name,) in rows.execute("select name from sqlite_master where type='table'")
        ]
        looked = 0
        for table in tables:
            columns = {column[1] for column in rows.execute(f'pragma table_info("{table}")')}
            if "session_id" not in columns:
                continue
            (lost,) = rows.execute(
                f"select count(*) from \"{table}\" where coalesce(session_id, '') = ''"
            ).fetchone()
            assert not lost, f"{lost} rows of {table} have a session id that is null"
            looked += rows.execute(f'select count(*) from "{table}"').fetchone()[0]
    assert looked, "there is nothing in the database"
