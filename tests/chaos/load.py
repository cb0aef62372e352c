"""Clients of a round: they speak HTTP to any of the nodes, ask again until they are answered, and
record what they asked, were answered and read."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Any

import httpx2
from tests.chaos.record import Recorder, digest_of

PATIENCE_SECONDS = 60.0
"""How long, once nothing is done to the nodes any more, a question may take, and a reader."""
STREAM_SILENCE_SECONDS_MAX = 3.0
"""Heartbeats come each second."""
STREAM_SECONDS = 8.0
"""How long a reader stays, on average, before it goes to another node."""
STEPS = "tttnnchgsbkpel"
ENDED = frozenset({"completed", "failed", "cancelled", "interrupted"})
LATER = frozenset({429, 502, 503, 504})
"""Statuses that say: not now."""


@dataclass(slots=True)
class Talk:
    """One session as its client knows it."""

    number: int
    session_id: str
    said: int = 0
    pending: dict[str, None] = field(default_factory=dict[str, None])
    """Calls that were asked for, as its reader saw."""
    closed: bool = False

    @property
    def canary(self) -> str:
        return f"canary-{self.number}-"

    @property
    def at(self) -> str:
        return f"/v1/sessions/{self.session_id}"


class Load:
    """Run it as a task. It goes on until `stop`, and then until every question has its answer."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        urls: Sequence[str],
        recorder: Recorder,
        chance: random.Random,
        *,
        sessions: int,
        pause_seconds: float,
    ) -> None:
        self._http = http
        self._urls = urls
        self._recorder = recorder
        self._chance = chance
        self._sessions = sessions
        self._pause_seconds = pause_seconds
        self._stopped = asyncio.Event()
        self._well_since = inf
        self._heads: dict[str, int] = {}
        """The last seq of each session, once all is at rest."""
        self._talks: list[Talk] = []
        self._streams_open = set[asyncio.Timeout]()
        self.over = asyncio.Event()
        """Each question has its answer."""
        self._rested = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as readers:
            self._readers = readers
            readers.create_task(self._approve())
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._sessions):
                    tasks.create_task(self._talk(number))
            self.over.set()

    def stop(self) -> None:
        """Ask nothing new. All is well again: what was asked is to be answered soon."""
        self._stopped.set()
        self._well_since = asyncio.get_running_loop().time()

    def rest_at(self, heads: dict[str, int]) -> None:
        """Nothing is written any more: readers leave when they have read this far."""
        self._heads = heads
        self._rested.set()
        for limit in self._streams_open:
            if limit.expired():
                continue  # it is about to leave
            limit.reschedule(asyncio.get_running_loop().time())

    # -- asking

    async def _ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **query: Any
    ) -> httpx2.Response | None:
        """Of one node after another, until one says yes or no. None where none does though all is
        well again."""
        headers = {} if key is None else {"Idempotency-Key": key}
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() < max(began, self._well_since) + PATIENCE_SECONDS:
            url = self._chance.choice(self._urls)
            try:
                reply = await self._http.request(
                    method, f"{url}{path}", headers=headers, json=body, params=query
                )
            except httpx2.TransportError as error:
                self._recorder.put("lost", path=path, url=url, error=type(error).__name__)
            else:
                if reply.status_code < 500 and reply.status_code not in LATER:
                    return reply
                what = "later" if reply.status_code in LATER else "broken"
                told = reply.text[:500]
                self._recorder.put(what, path=path, url=url, status=reply.status_code, told=told)
            await asyncio.sleep(self._chance.uniform(0.02, 0.3))
        self._recorder.put("gave up", path=path, key=key)
        return None

    async def _say(self, talk: Talk, steps: str, when_busy: str = "enqueue") -> str | None:
        """Answers the turn, where it was accepted."""
        talk.said += 1
        key = f"{talk.canary}{talk.said}"
        text = f"{key} once plan:{steps}"
        about = {"session": talk.session_id, "key": key, "text": text, "when_busy": when_busy}
        self._recorder.put("sent", **about)
        body = {"input": {"type": "message", "text": text}, "when_busy": when_busy}
        reply = await self._ask("POST", f"{talk.at}/turns", body, key=key)
        if reply is None:
            return None
        told = reply.json()
        if reply.status_code not in (200, 202):
            self._recorder.put("refused", **about, status=reply.status_code, code=told["code"])
            return None
        turn_id: str = told["turn_id"]
        self._recorder.put("accepted", **about, turn=turn_id, seq=told["seq"])
        return turn_id

    # -- what clients do

    async def _talk(self, number: int) -> None:
        opened = await self._ask(
            "POST", "/v1/sessions", {"title": f"canary-{number}-"}, key=f"open-{number}"
        )
        if opened is None:
            return
        assert opened.status_code in (200, 201), opened.text
        talk = Talk(number, opened.json()["session_id"])
        self._talks.append(talk)
        self._recorder.put("opened", session=talk.session_id, canary=talk.canary)
        self._readers.create_task(self._read(talk))
        closes = number % 10 == 9
        acts = (self._message,) * 8 + (
            self._burst, self._cancel, self._interrupt, self._steer, self._reject, self._gated,
            self._history,
        )  # fmt: skip
        while not self._stopped.is_set():
            await self._chance.choice(acts)(talk)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.expovariate(1 / self._pause_seconds)):
                    await self._stopped.wait()
        if closes:
            await self._close(talk)
        else:
            await self._history(talk)

    def _steps(self, most: int = 4) -> str:
        return "".join(self._chance.choices(STEPS, k=self._chance.randint(1, most)))

    async def _message(self, talk: Talk) -> None:
        await self._say(talk, self._steps())

    async def _burst(self, talk: Talk) -> None:
        await asyncio.gather(*(self._say(talk, self._steps(2)) for _ in range(5)))

    async def _cancel(self, talk: Talk) -> None:
        turn_id = await self._say(talk, self._chance.choice(("tsts", "tkt", "gtgt", "ttt")))
        if turn_id is None:
            return
        await asyncio.sleep(self._chance.uniform(0, 1.5))
        reply = await self._ask("POST", f"{talk.at}/turns/{turn_id}/cancel")
        if reply is not None and reply.status_code in (200, 202):
            self._recorder.put("cancelled", session=talk.session_id, turn=turn_id)

    async def _interrupt(self, talk: Talk) -> None:
        await self._say(talk, "tst")
        await asyncio.sleep(self._chance.uniform(0, 1))
        await self._say(talk, self._steps(2), "interrupt")

    async def _steer(self, talk: Talk) -> None:
        await self._say(talk, "tltlslt")
        for _ in range(self._chance.randint(1, 3)):
            await asyncio.sleep(self._chance.uniform(0, 1))
            await self._say(talk, self._steps(2), "steer")

    async def _reject(self, talk: Talk) -> None:
        await asyncio.gather(*(self._say(talk, "ts", "reject") for _ in range(3)))

    async def _gated(self, talk: Talk) -> None:
        await self._say(talk, self._chance.choice(("tat", "aca", "sa")))

    async def _close(self, talk: Talk) -> None:
        await self._say(talk, "tst")
        await self._say(talk, "t")
        reply = await self._ask("POST", f"{talk.at}/close")
        if reply is not None and reply.status_code == 200:
            self._recorder.put("closed", session=talk.session_id)
            talk.closed = True
        await self._say(talk, "t")

    async def _approve(self) -> None:
        """Somebody who answers most of the calls that wait, in any session."""
        while not self._rested.is_set():
            for talk in tuple(self._talks):
                for call_id in tuple(talk.pending):
                    del talk.pending[call_id]
                    if self._chance.random() < 0.95:
                        await self._answer(talk, call_id)
            await asyncio.sleep(0.1)

    async def _answer(self, talk: Talk, call_id: str) -> None:
        granted = self._chance.random() < 0.8
        about = {"session": talk.session_id, "call": call_id, "granted": granted}
        self._recorder.put("answering", **about)
        verb = "approve" if granted else "deny"
        reply = await self._ask("POST", f"{talk.at}/calls/{call_id}/{verb}")
        if reply is not None and reply.status_code == 200:
            self._recorder.put("answered", **about)

    # -- reading

    async def _history(self, talk: Talk) -> None:
        """All messages, as they are read page by page."""
        began = asyncio.get_running_loop().time()
        read: list[tuple[int, str]] = []
        query: dict[str, Any] = {"limit": 100}
        while True:
            reply = await self._ask("GET", f"{talk.at}/messages", **query)
            if reply is None:
                return
            page = reply.raise_for_status().json()
            shown = [(m["seq"], digest_of(json.dumps(m, sort_keys=True))) for m in page["items"]]
            read = shown + read
            if page["next"] is None:
                self._recorder.put("history", session=talk.session_id, began=began, read=read)
                return
            query["before"] = page["next"]

    async def _read(self, talk: Talk) -> None:
        """The session's log to its end, over as many connections as it takes."""
        loop = asyncio.get_running_loop()
        cursor, patient_until = 0, inf
        while not self._rested.is_set() or cursor < self._heads.get(talk.session_id, 0):
            if self._rested.is_set() and patient_until == inf:
                patient_until = loop.time() + PATIENCE_SECONDS
            if loop.time() > patient_until:
                break
            url = self._chance.choice(self._urls)
            got: list[tuple[int, str]] = []
            how = "left"
            limit = asyncio.timeout(self._chance.expovariate(1 / STREAM_SECONDS))
            try:
                async with limit:
                    self._streams_open.add(limit)
                    async for name, data in self._stream(url, talk, cursor):
                        if name in ("reset", "end"):
                            how = name
                            break
                        got.append(self._got(talk, name, data))
                        cursor = got[-1][0]
                        if cursor == self._heads.get(talk.session_id):
                            break
            except TimeoutError:
                pass
            except httpx2.HTTPError as error:
                how = type(error).__name__
            finally:
                self._streams_open.discard(limit)
            if got or how == "reset":
                self._recorder.put("read", session=talk.session_id, url=url, got=got, how=how)
            await asyncio.sleep(self._chance.uniform(0.05, 0.4))
        self._recorder.put("read to the end", session=talk.session_id, cursor=cursor)

    def _got(self, talk: Talk, name: str, data: str) -> tuple[int, str]:
        entry = json.loads(data)
        if name == "approval.requested":
            talk.pending.setdefault(entry["body"]["call_id"])
        elif name in ("approval.granted", "approval.denied"):
            talk.pending.pop(entry["body"]["call_id"], None)
        return entry["seq"], digest_of(data)

    async def _stream(self, url: str, talk: Talk, cursor: int) -> AsyncIterator[tuple[str, str]]:
        """The events of one connection: name and data of each that came whole."""
        headers = {"Accept": "text/event-stream"}
        if cursor:
            headers["Last-Event-ID"] = str(cursor)
        timeout = httpx2.Timeout(STREAM_SILENCE_SECONDS_MAX)
        async with self._http.stream(
            "GET", f"{url}{talk.at}/events", headers=headers, timeout=timeout
        ) as reply:
            if reply.status_code == 204:
                return
            reply.raise_for_status()
            name = data = ""
            async for line in reply.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    data = line.removeprefix("data: ")
                elif not line and name:
                    yield name, data
                    name = data = ""
