"""What the task API promises, held against any backend that speaks its wire format. Each check
raises an AssertionError that names what is broken."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from tests.guarantees.callers import Frame, Stream
from tests.incidents.conftest import PATIENCE_SECONDS, Site, polled

FIGURES = ("current_iteration", "total_iterations", "tokens_used", "total_tokens")
ENDS = ("completed", "failed", "cancelled")

Record = dict[str, Any]


async def started(site: Site, task: str, **body: Any) -> Record:
    reply = await site.http.post("/api/tasks", json={"task": task, **body})
    assert reply.status_code in (200, 201, 202), f"a task is refused: {reply.text}"
    record: Record = reply.json()
    return record


async def looked(site: Site, task_id: str) -> Record:
    reply = await site.http.get(f"/api/tasks/{task_id}")
    assert reply.status_code == 200, f"a task is not found: {reply.text}"
    record: Record = reply.json()
    return record


async def ended(site: Site, task: Record) -> list[Record]:
    """All that was told of a task until its end."""
    return await polled(
        lambda: looked(site, task["task_id"]),
        lambda record: record["status"] in ENDS,
        "a task does not end",
    )


@asynccontextmanager
async def streaming(site: Site, session_id: str, *, behind: str = "") -> AsyncIterator[Stream]:
    headers = {"Accept": "text/event-stream"}
    if behind:
        headers["Last-Event-ID"] = behind
    url = "/api/sse"
    async with site.http.stream(
        "GET", url, params={"session_id": session_id}, headers=headers
    ) as reply:
        assert reply.status_code == 200, "the session has no stream"
        stream = Stream(reply)
        try:
            yield stream
        finally:
            await stream.aclose()


async def told(stream: Stream, count: int, *, why: str) -> list[Frame]:
    """Events up to the `count`-th end of a task."""
    frames: list[Frame] = []
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for frame in stream:
                frames.append(frame)
                count -= frame.entry["status"] in ENDS
                if not count:
                    return frames
    except TimeoutError:
        pass
    raise AssertionError(f"{why}: {[frame.data for frame in frames[-3:]]}")


def check_first(record: Record, *, session_id: str | None = None) -> None:
    """The reply that comes at once."""
    assert record["session_id"], "the session does not exist before the task"
    if session_id is not None:
        assert record["session_id"] == session_id, "the session that was given is replaced"
    assert record["status"] == "pending", "a task that was just accepted is not pending"
    assert [record[name] for name in FIGURES] == [0, 0, 0, 0], "the figures do not begin at 0"


def check_figures(records: Iterable[Record]) -> None:
    """All four are there in each, as numbers, and none falls."""
    before = dict.fromkeys(FIGURES, 0)
    for record in records:
        for name in FIGURES:
            assert type(record.get(name)) is int, f"{name} is no number"
            assert record[name] >= before[name], f"{name} falls"
            before[name] = record[name]


def check_end(record: Record) -> None:
    assert record["status"] == "completed", f"a task is not completed: {record}"
    assert record["current_iteration"] > 0, "a task that is completed had no progress"
    assert record["tokens_used"] > 0, "a task that is completed used no tokens"
    assert record["total_iterations"] == record["current_iteration"], "a total is not the count"
    assert record["total_tokens"] == record["tokens_used"], "a total is not the count"
    result = record["result"]
    assert result["answer"], "there is no answer"
    assert result["iterations"] == record["current_iteration"], "the result has another count"
    assert result["tokens_used"] == record["tokens_used"], "the result has another count"


async def check_task(site: Site, *, progress: bool = True) -> None:
    """One task without a session, from the request to its end, by replies and by events."""
    first = await started(site, "test task without session")
    check_first(first)
    async with streaming(site, first["session_id"]) as stream:
        records = [first, *await ended(site, first)]
        check_figures(records)
        ids = {(record["task_id"], record["session_id"]) for record in records}
        assert len(ids) == 1, "the id of the first reply is not that of every later one"
        live = [r for r in records if r["status"] == "running" and r["current_iteration"] > 0]
        assert live or not progress, "progress goes nowhere: a running task tells none"
        check_end(records[-1])
        events = await told(stream, 1, why="progress goes nowhere: the session has no events")
    check_events(events, first)
    last = json.loads(events[-1].data)
    assert {name: last[name] for name in FIGURES} == {
        name: records[-1][name] for name in FIGURES
    }, "the events end with other figures than the replies"


def check_events(events: list[Frame], first: Record) -> None:
    entries = [frame.entry for frame in events]
    ids = {(entry["task_id"], entry["session_id"]) for entry in entries}
    assert ids == {(first["task_id"], first["session_id"])}, "an event is another task's"
    check_figures(entries)
    assert entries[0]["status"] == "pending", "the events do not begin with the task"
    assert any(entry["status"] == "running" for entry in entries), "no progress is told"


async def check_many(site: Site, *, sessions: int, tasks: int) -> None:
    """Many tasks at once over several sessions: each is told in its own session, and no other."""
    homes = [(await started(site, f"opens {n}"))["session_id"] for n in range(sessions)]
    assert len(set(homes)) == sessions, "two tasks without a session share one"
    firsts = await asyncio.gather(
        *(started(site, f"number {n}", session_id=homes[n % sessions]) for n in range(tasks))
    )
    for number, first in enumerate(firsts):
        check_first(first, session_id=homes[number % sessions])
    assert len({first["task_id"] for first in firsts}) == tasks, "two tasks share an id"

    async def check_home(session_id: str) -> None:
        own = {first["task_id"] for first in firsts if first["session_id"] == session_id}
        async with streaming(site, session_id) as stream:
            events = [f.entry for f in await told(stream, len(own) + 1, why="tasks do not end")]
        assert {event["session_id"] for event in events} == {session_id}, "a session is mixed up"
        heard = {event["task_id"] for event in events} - {events[0]["task_id"]}
        assert heard == own, "an event is of another session's task"
        for task_id in own:
            of_task = [event for event in events if event["task_id"] == task_id]
            check_figures(of_task)
            check_end(of_task[-1])
            assert sum(event["status"] in ENDS for event in of_task) == 1, "a task ends twice"
        listed = (await site.http.get("/api/tasks", params={"session_id": session_id})).json()
        assert own < {task["task_id"] for task in listed["tasks"]}, "a task is not listed"

    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        await asyncio.gather(*(check_home(session_id) for session_id in homes))
