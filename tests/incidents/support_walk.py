"""What the front ends of several companies do at once, and what can go wrong with it on any
backend: it is asked, and it is listened to on the channel of each session."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tests.guarantees.callers import ENDS, Caller, Record
from tests.incidents.conftest import PATIENCE_SECONDS, Site
from tests.pusher.browser import Browser, Client

from sessile import SessionId
from sessile.demo import support

Shown = dict[str, Any]
"""The data of an event, as the front end gets it."""
Channel = AsyncIterator[Shown | Literal["replied"]]


class Front(Protocol):
    """One company's front end."""

    @property
    def company(self) -> str: ...

    async def opened(self) -> str: ...

    async def asks(self, session_id: str, text: str) -> str:
        """The reply."""
        ...

    def listens(self, session_id: str) -> AbstractAsyncContextManager[Channel]:
        """What is shown on the session's channel, from its first event on."""
        ...


async def walk(
    fronts: Sequence[Front], *, sessions: int, text: str = "show debug info"
) -> list[str]:
    """The same action in all sessions at once, and once more. Answers what went wrong."""
    homes = [
        (front, await front.opened())
        for front in itertools.islice(itertools.cycle(fronts), sessions)
    ]
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        AsyncExitStack() as stack,
        asyncio.TaskGroup() as tasks,
    ):
        channels = [
            await stack.enter_async_context(front.listens(session_id))
            for front, session_id in homes
        ]
        listening = [tasks.create_task(_heard(channel, replies=2)) for channel in channels]
        asked = [
            await asyncio.gather(*(front.asks(session_id, text) for front, session_id in homes))
            for _ in range(2)
        ]
    faults: Counter[str] = Counter()
    told = zip(homes, listening, zip(*asked, strict=True), strict=True)
    for (front, session_id), each, replies in told:
        faults.update(_of_channel(each.result(), front.company, session_id, actions=2))
        if any(f'"session_id": "{session_id}"' not in reply for reply in replies):
            faults["a reply tells of another session"] += 1
    return [f"{fault}, in {count} of {sessions} sessions" for fault, count in faults.items()]


async def _heard(channel: Channel, *, replies: int) -> list[Shown]:
    """What was shown until so many replies were."""
    shown: list[Shown] = []
    async for event in channel:
        if event != "replied":
            shown.append(event)
        elif not (replies := replies - 1):
            break
    return shown


def _of_channel(shown: list[Shown], company: str, session_id: str, *, actions: int) -> set[str]:
    faults: set[str] = set()
    if len(shown) < 2 * actions:
        faults.add("an action is not shown on the channel of the session that asked")
    elif len(shown) > 2 * actions:
        faults.add("another session's action is shown on a channel")
    elif any(statuses != ["started", "completed"] for statuses in cards(shown).values()):
        faults.add("an action's end does not update the message of its start")
    for event in shown:
        where = event["result"] or {"session_id": session_id, "company": company}
        if {event["sessionId"], where["session_id"]} != {session_id}:
            faults.add("an event names another session than its channel's")
        if where["company"] != company:
            faults.add("an event names another company than its channel's")
    return faults


def cards(shown: list[Shown]) -> dict[str, list[str]]:
    """What became of each message, in order."""
    statuses: dict[str, list[str]] = {}
    for event in shown:
        statuses.setdefault(event["messageId"], []).append(event["status"])
    return statuses


@dataclass(frozen=True)
class LogFront:
    """A front end that is fed from the log, by `support.shown`."""

    caller: Caller
    assistant: str = "support"

    @property
    def company(self) -> str:
        return self.caller.login.tenant

    async def opened(self) -> str:
        return await self.caller.opened(assistant=self.assistant)

    async def asks(self, session_id: str, text: str) -> str:
        reply: str = (await self.caller.said(session_id, text))["output"]
        return reply

    @asynccontextmanager
    async def listens(self, session_id: str) -> AsyncIterator[Channel]:
        async with self.caller.follow(session_id) as stream:
            yield self._channel(session_id, (frame.entry async for frame in stream))

    async def shown(self, session_id: str) -> list[Shown]:
        """What was shown until now."""
        entries = await self.caller.log(session_id)
        return [event for entry in entries for event in _shown(session_id, entry)]

    async def _channel(self, session_id: str, entries: AsyncIterator[Record]) -> Channel:
        async for entry in entries:
            for event in _shown(session_id, entry):
                yield event
            if entry["kind"] in ENDS:
                yield "replied"


def _shown(session_id: str, entry: Record) -> list[Shown]:
    return [dict(data) for _, data in support.shown(SessionId(session_id), entry)]


@dataclass(frozen=True)
class PusherFront:
    """A front end that listens by the real pusher-js, a client a session."""

    log: LogFront
    browser: Browser
    key: str
    url: str

    @property
    def company(self) -> str:
        return self.log.company

    async def opened(self) -> str:
        return await self.log.opened()

    async def asks(self, session_id: str, text: str) -> str:
        return await self.log.asks(session_id, text)

    @asynccontextmanager
    async def listens(self, session_id: str) -> AsyncIterator[Channel]:
        client = self.browser.client(session_id)
        port = int(self.url.rpartition(":")[2])
        client.do("connect", key=self.key, port=port, token=self.log.caller.login.token)
        await client.state("connected")
        answer = await client.subscribed(f"private-sb-{session_id}")
        assert answer["event"] == "pusher:subscription_succeeded", answer
        yield self._channel(client, f"private-sb-{session_id}")
        client.do("disconnect")

    async def _channel(self, client: Client, channel: str) -> Channel:
        for place in itertools.count():
            heard = await client.until(lambda _: True, after=place)
            if heard["on"] == "event":
                assert heard["channel"] == channel, heard
                if heard["event"] == "action":
                    yield heard["data"]
                elif heard["event"] in ENDS:
                    yield "replied"


@dataclass(frozen=True)
class NaiveFront:
    """A front end of the naive backend."""

    site: Site
    company: str

    async def opened(self) -> str:
        reply = await self.site.http.post("/sessions", json={"companyId": self.company})
        session_id: str = reply.json()["sessionId"]
        return session_id

    async def asks(self, session_id: str, text: str) -> str:
        reply = await self.site.http.post(f"/sessions/{session_id}/messages", json={"text": text})
        assert reply.status_code == 200, reply.text
        said: str = reply.json()["reply"]
        return said

    @asynccontextmanager
    async def listens(self, session_id: str) -> AsyncIterator[Channel]:
        async with self.site.http.stream("GET", f"/channels/{session_id}") as reply:
            yield self._channel(reply)

    async def _channel(self, reply: Any) -> Channel:
        async for line in reply.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))
