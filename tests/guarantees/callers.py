"""Who asks a server, over HTTP alone: nothing here knows the code that answers."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx2

PATIENCE_SECONDS = 30.0
"""What should happen at once has this long, on a machine that does much else besides."""
ENDS = ("turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted")
OUTCOMES = ("tool.completed", "tool.failed", "tool.interrupted", "tool.refused")
FIGURES = ("current_iteration", "total_iterations", "tokens_used", "total_tokens")

Record = dict[str, Any]


class Login(NamedTuple):
    tenant: str
    user: str
    role: str

    @property
    def token(self) -> str:
        return f"token-of-{self.user}-of-{self.tenant}"


LOGINS = (
    Login("acme", "root", "admin"),
    Login("acme", "ana", "user"),
    Login("acme", "ben", "user"),
    Login("globex", "boss", "admin"),
    Login("globex", "cleo", "user"),
    Login("globex", "ana", "user"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream, with its data as it came."""

    id: str
    event: str
    data: str

    @property
    def entry(self) -> Record:
        entry: Record = json.loads(self.data)
        return entry


def frames_of(data: bytes) -> list[Frame]:
    """The whole events in these bytes; what no empty line has ended never was one."""
    frames: list[Frame] = []
    for block in data.decode(errors="replace").split("\n\n")[:-1]:
        fields: dict[str, list[str]] = {"id": [], "event": [], "data": []}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if name in fields:
                fields[name].append(value.removeprefix(" "))
        if fields["data"]:
            last_id, event = ("".join(fields[name][-1:]) for name in ("id", "event"))
            frames.append(Frame(last_id, event, "\n".join(fields["data"])))
    return frames


class Stream:
    """An event stream that is open. What one reader of it has taken, the next has behind it."""

    def __init__(self, reply: httpx2.Response) -> None:
        self.reply = reply
        self._frames = self._read()

    async def _read(self) -> AsyncGenerator[Frame, None]:
        rest = b""
        async with aclosing(self.reply.aiter_raw()) as chunks:
            async for chunk in chunks:
                whole, end, rest = (rest + chunk).rpartition(b"\n\n")
                for frame in frames_of(whole + end):
                    yield frame

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self._frames

    async def until(self, *kinds: str, turn: str | None = None) -> list[Record]:
        """Entries up to the first of one of these kinds, of this turn if one is named."""
        entries: list[Record] = []
        async for frame in self._frames:
            entries.append(frame.entry)
            if frame.event in kinds and turn in (None, frame.entry["turn_id"]):
                return entries
        raise AssertionError(f"the stream ended before any of {kinds}: {entries}")

    async def aclose(self) -> None:
        await self._frames.aclose()


class Caller:
    """One user of the API."""

    def __init__(self, http: httpx2.AsyncClient, login: Login) -> None:
        self.login = login
        self._http = http

    def __getattr__(self, method: str) -> Any:
        """`await ana.get(path, …)`: any method, as this user."""

        def ask(path: str, *, headers: Any = None, **given: Any) -> Awaitable[httpx2.Response]:
            return self.request(method.upper(), path, headers=headers, **given)

        return ask

    async def request(
        self, method: str, path: str, *, headers: Any = None, **given: Any
    ) -> httpx2.Response:
        return await self._http.request(method, path, headers=self._headers(headers), **given)

    def _headers(self, more: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.login.token}", **(more or {})}

    async def open(self, **body: Any) -> Record:
        return told(await self.post("/v1/sessions", json=body), 200, 201)

    async def opened(self, **body: Any) -> str:
        session_id: str = (await self.open(**body))["session_id"]
        return session_id

    async def submit(
        self, session_id: str, text: str, /, *, key: str | None = None, wait: float = 0, **body: Any
    ) -> httpx2.Response:
        """A message, and whatever is the answer to it."""
        reply: httpx2.Response = await self.post(
            f"/v1/sessions/{session_id}/turns",
            headers=None if key is None else {"Idempotency-Key": key},
            params={"wait": wait} if wait else None,
            json={"input": {"type": "message", "text": text}, **body},
        )
        return reply

    async def accepted(self, session_id: str, text: str, /, **given: Any) -> Record:
        """The turn of a message that was taken."""
        return told(await self.submit(session_id, text, **given), 202)

    async def said(self, session_id: str, text: str, /, **given: Any) -> Record:
        """The turn of a message, when it has ended."""
        return told(await self.submit(session_id, text, wait=PATIENCE_SECONDS, **given), 200)

    async def ended(self, turn: Record) -> Record:
        """The turn, when it has ended."""
        path = f"/v1/sessions/{turn['session_id']}/turns/{turn['turn_id']}"
        record = told(await self.get(path, params={"wait": PATIENCE_SECONDS}), 200)
        while record["status"] == "awaiting":  # until its time is over
            record = told(await self.get(path, params={"wait": PATIENCE_SECONDS}), 200)
        assert record["ended_at"] is not None, record
        return record

    async def cancel(self, turn: Record) -> httpx2.Response:
        path = f"/v1/sessions/{turn['session_id']}/turns/{turn['turn_id']}/cancel"
        reply: httpx2.Response = await self.post(path)
        return reply

    async def session(self, session_id: str) -> Record:
        return told(await self.get(f"/v1/sessions/{session_id}"), 200)

    async def log(self, session_id: str, *, after: int = 0, limit: int = 1000) -> list[Record]:
        """All entries behind the cursor, by pages of JSON."""
        entries: list[Record] = []
        cursor: str | None = str(after)
        while cursor is not None:
            page = told(
                await self.get(
                    f"/v1/sessions/{session_id}/events",
                    params={"after": cursor, "limit": limit},
                    headers={"Accept": "application/json"},
                ),
                200,
            )
            entries += page["items"]
            cursor = page["next"]
        return entries

    async def listed(self, path: str, *, by: str, **query: Any) -> list[Record]:
        """All items of a list, page by page, in the order in which they come."""
        items: list[Record] = []
        while True:
            page = told(await self.get(path, params=query), 200)
            items += page["items"]
            if page["next"] is None:
                return items
            query[by] = page["next"]

    async def turns(self, session_id: str) -> list[Record]:
        return await self.listed(f"/v1/sessions/{session_id}/turns", by="after")

    async def sessions(self) -> list[Record]:
        return await self.listed("/v1/sessions", by="before")

    async def messages(self, session_id: str) -> list[Record]:
        """The whole history, oldest first."""
        messages: list[Record] = []
        query: Record = {"limit": 200}
        while True:
            page = told(await self.get(f"/v1/sessions/{session_id}/messages", params=query), 200)
            messages = page["items"] + messages
            if page["next"] is None:
                return messages
            query["before"] = page["next"]

    @asynccontextmanager
    async def follow(
        self, session_id: str, *, after: int | None = None, last_event_id: str | None = None
    ) -> AsyncIterator[Stream]:
        headers = {"Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        asked = self._http.stream(
            "GET",
            f"/v1/sessions/{session_id}/events",
            headers=self._headers(headers),
            params=None if after is None else {"after": after},
        )
        async with asked as reply, aclosing(Stream(reply)) as stream:
            yield stream


def told(reply: httpx2.Response, *statuses: int) -> Record:
    """The JSON of a reply that has one of these statuses."""
    assert reply.status_code in statuses, f"{reply.status_code}: {reply.text}"
    body: Record = reply.json()
    return body


def refused(reply: httpx2.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    assert reply.headers["content-type"] == "application/problem+json", reply.text
    problem = reply.json()
    assert problem["status"] == reply.status_code
    return reply.status_code, problem["code"]


def of_kind(entries: list[Record], *kinds: str) -> list[Record]:
    return [entry for entry in entries if entry["kind"] in kinds]


def assert_whole(entries: list[Record]) -> None:
    """What holds of every log at rest: no gap (G5), each turn and each call ended once (G8), and
    the four numbers of a turn always there and never falling (G13)."""
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    queued = [entry["turn_id"] for entry in of_kind(entries, "turn.queued")]
    ended = [entry["turn_id"] for entry in of_kind(entries, *ENDS)]
    assert len(set(queued)) == len(queued)
    assert sorted(ended) == sorted(queued)
    begun = {entry["body"]["call_id"] for entry in of_kind(entries, "tool.started")}
    outcomes = [entry["body"]["call_id"] for entry in of_kind(entries, *OUTCOMES)]
    assert len(set(outcomes)) == len(outcomes)
    assert begun <= set(outcomes)
    known: dict[str, list[int]] = {}
    for entry in of_kind(entries, "turn.progress", *ENDS):
        figures = [entry["body"][name] for name in FIGURES]
        assert all(type(figure) is int and figure >= 0 for figure in figures)
        before = known.get(entry["turn_id"], [0, 0, 0, 0])
        assert all(map(int.__ge__, figures, before)), "a number of a turn falls"
        known[entry["turn_id"]] = figures
