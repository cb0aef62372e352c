"""The task API: a session exists before its task, and the task's progress is told there."""

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Serve as Process
from tests.incidents.conftest import PATIENCE_SECONDS, Serve, Site, naive, reaching
from tests.incidents.tasks_checks import (
    FIGURES,
    check_end,
    check_events,
    check_figures,
    check_first,
    check_many,
    check_task,
    ended,
    looked,
    started,
    streaming,
    told,
)
from tests.incidents.tasks_naive import Fault, backend

from sessile.demo import tasks

APP = Path(__file__).with_name("tasks_app.py")
LIVE_SECONDS = 0.2
JSON = {"Content-Type": "application/json"}
START = (
    "curl -sX POST localhost:3006/api/tasks -H 'content-type: application/json'"
    """ -d '{"task":"test task without session"}'"""
)
LOOK = "curl -s localhost:3006/api/tasks/$TASK"


@pytest.fixture
async def site(serve: Serve) -> Site:
    async with serve(tasks.assistants(step_seconds=0.01), tasks.router) as site:
        yield site


@pytest.fixture
async def live(serve: Serve) -> Site:
    """A server whose tasks take long enough to be watched."""
    async with serve(tasks.assistants(step_seconds=LIVE_SECONDS), tasks.router) as site:
        yield site


async def test_a_task_is_pending_then_running_then_completed(live: Site) -> None:
    await check_task(live)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("no session", "the session does not exist before the task"),
        ("lost progress", "progress goes nowhere"),
        ("falling", "current_iteration falls"),
    ],
)
async def test_a_task_that_starts_before_its_session_is_caught(fault: Fault, why: str) -> None:
    async with naive(backend(fault)) as site:
        with pytest.raises(AssertionError, match=why):
            await check_task(site)


async def test_what_catches_it_has_nothing_against_the_same_backend_without_the_fault() -> None:
    async with naive(backend(None)) as site:
        await check_task(site)


async def test_by_curl_against_a_plain_server(plain: Site) -> None:
    status, first = await plain.curl(START)
    assert status == 202
    check_first(first)

    await ended(plain, first)
    status, last = await plain.curl(LOOK, TASK=first["task_id"])

    assert status == 200
    check_end(last)
    assert last["session_id"] == first["session_id"]


async def test_a_given_session_is_kept(site: Site) -> None:
    first = await started(site, "one")

    second = await started(site, "two", session_id=first["session_id"])

    check_first(second, session_id=first["session_id"])
    check_end((await ended(site, second))[-1])


async def test_a_foreign_session_is_not_found_like_one_that_does_not_exist(site: Site) -> None:
    theirs = await site.http.post(
        "/v1/sessions", json={}, headers={"Authorization": f"Bearer {site.admin}"}
    )
    foreign = theirs.json()["session_id"]
    bodies = []
    for session_id in (foreign, "ses_unknown", "", "\u00e9", "\ud83d"):
        # A half of a pair is written by its escape in JSON alone, and as it is nowhere.
        body = json.dumps({"task": "x", "session_id": session_id})
        session_id = session_id.encode(errors="backslashreplace").decode()
        replies = [
            await site.http.post("/api/tasks", content=body, headers=JSON),
            await site.http.get("/api/tasks", params={"session_id": session_id}),
            await site.http.get(f"/api/tasks/{session_id}.trn_1"),
            await site.http.post(f"/api/tasks/{session_id}.trn_1/cancel"),
            await site.http.get("/api/sse", params={"session_id": session_id}),
        ]
        assert [reply.status_code for reply in replies] == [404] * len(replies)
        bodies.append([{**reply.json(), "instance": None} for reply in replies])

    assert all(body == bodies[0] for body in bodies)
    assert await site.entries(foreign) == [(await site.entries(foreign))[0]]


async def test_the_end_of_the_request_does_not_cancel_the_task(live: Site) -> None:
    async with reaching(live.url) as other:
        first = await started(other, "left alone")
        async with streaming(other, first["session_id"]) as stream:
            async for frame in stream:
                if frame.entry["current_iteration"]:
                    break

    check_end((await ended(live, first))[-1])


async def test_a_reader_that_comes_late_or_comes_back_gets_all(live: Site) -> None:
    first = await started(live, "watched")
    async with streaming(live, first["session_id"]) as stream:
        early = []
        async for frame in stream:
            early.append(frame)
            if frame.entry["current_iteration"] >= 2:
                break
    async with streaming(live, first["session_id"], behind=early[-1].id) as stream:
        rest = await told(stream, 1, why="the task does not end")
    async with streaming(live, first["session_id"]) as stream:
        late = await told(stream, 1, why="the task does not end")

    assert [*early, *rest] == late
    check_events(late, first)
    assert late[-1].entry["result"]["answer"]


async def test_what_is_no_cursor_leaves_nothing_out(site: Site) -> None:
    first = await started(site, "long ago")
    await ended(site, first)
    async with streaming(site, first["session_id"]) as stream:
        whole = await told(stream, 1, why="the task is not told")
    async with streaming(site, first["session_id"], behind="x") as stream:
        again = await told(stream, 1, why="the task is not told")
    async with streaming(site, first["session_id"], behind="999") as stream:
        ahead = await anext(aiter(stream))

    assert again == whole
    assert (ahead.event, ahead.entry) == ("reset", {"session_id": first["session_id"]})
    assert int(ahead.id) >= int(whole[-1].id)


async def test_the_stream_of_a_closed_session_ends(site: Site) -> None:
    first = await started(site, "the last one")
    await ended(site, first)
    closed = await site.http.post(
        f"/v1/sessions/{first['session_id']}/close",
        headers={"Authorization": f"Bearer {site.admin}"},
    )
    async with streaming(site, first["session_id"]) as stream:
        frames = [frame async for frame in stream]
    refused = await site.http.post(
        "/api/tasks", json={"task": "one more", "session_id": first["session_id"]}
    )

    assert closed.status_code == 200
    check_events(frames[:-1], first)
    assert (frames[-1].event, frames[-1].entry) == ("end", {"reason": "closed"})
    assert refused.status_code == 409


async def test_the_tasks_of_a_session_are_listed_page_by_page(serve: Serve) -> None:
    async with serve(tasks.assistants(step_seconds=0.001), tasks.router, page_items_max=2) as site:
        first = await started(site, "number 0")
        home = {"session_id": first["session_id"]}
        others = [await started(site, f"number {n}", **home) for n in range(1, 5)]
        listed = []
        after: int | None = 0
        while after is not None:
            page = (await site.http.get("/api/tasks", params={**home, "after": after})).json()
            assert len(page["tasks"]) <= 2
            listed += page["tasks"]
            after = page["next"]

    assert [task["task_id"] for task in listed] == [t["task_id"] for t in (first, *others)]
    assert [task["task"] for task in listed] == [f"number {n}" for n in range(5)]
    assert all(type(task[name]) is int for task in listed for name in FIGURES)


async def test_a_hundred_tasks_at_once_over_ten_sessions(site: Site) -> None:
    await check_many(site, sessions=10, tasks=100)

    figures = await site.metrics()
    zeros = {name: value for name, value in figures.items() if "must_stay_zero_total" in name}
    assert len(zeros) >= 2
    assert set(zeros.values()) == {0.0}


async def test_a_cancelled_task_ends_with_what_it_had(live: Site) -> None:
    first = await started(live, "to be stopped")
    async with streaming(live, first["session_id"]) as stream:
        async for frame in stream:
            if frame.entry["current_iteration"]:
                break
    asked = await live.http.post(f"/api/tasks/{first['task_id']}/cancel")
    records = await ended(live, first)
    again = await live.http.post(f"/api/tasks/{first['task_id']}/cancel")
    second = (await ended(live, await started(live, "done", session_id=first["session_id"])))[-1]
    late = await live.http.post(f"/api/tasks/{second['task_id']}/cancel")

    assert asked.status_code == 202
    assert records[-1]["status"] == "cancelled"
    assert 0 < records[-1]["current_iteration"] < 5
    assert records[-1]["total_iterations"] == records[-1]["current_iteration"]
    check_figures([first, *records])
    assert (again.status_code, again.json()) == (200, records[-1])
    assert late.status_code == 409


async def test_presets_choose_the_assistant_and_its_tools(site: Site) -> None:
    written = await started(site, "a poem", agent_preset="writer", tool_preset="read_only")
    read = await started(site, "a book", session_id=written["session_id"])
    changed = await started(
        site, "a paper", session_id=written["session_id"], agent_preset="researcher"
    )
    unknown = await site.http.post("/api/tasks", json={"task": "x", "agent_preset": "poet"})

    first, second, third = [(await ended(site, task))[-1] for task in (written, read, changed)]
    kinds = Counter(entry["kind"] for entry in await site.entries(written["session_id"]))
    assert first["current_iteration"] == second["current_iteration"] == 3
    assert "no note" in first["result"]["answer"]
    assert third["current_iteration"] == 5
    assert "kept a note" in third["result"]["answer"]
    assert kinds["tool.refused"] == 2
    assert kinds["session.handed_off"] == 1
    assert unknown.status_code == 422


@pytest.mark.parametrize("assistant", ["nobody", 7])
async def test_a_task_for_nobody_is_told_as_such(site: Site, assistant: Any) -> None:
    """The task API refuses its preset; whoever says it over `/v1` is told by the turn."""
    session_id = (await started(site, "x"))["session_id"]
    given = {"type": "task", "text": "x", "metadata": {"assistant": assistant}}

    reply = await site.http.post(
        f"/v1/sessions/{session_id}/turns?wait=30",
        json={"input": given},
        headers={"Authorization": f"Bearer {site.admin}"},
    )

    assert reply.json()["error"]["code"] == "unknown_preset"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"task": " "}, "task"),
        ({"task": "x", "sessionId": "ses_1"}, "sessionId"),
        ({"task": "a\0"}, "input.text"),
        ({"task": "x" * 300_000}, "input.text"),
    ],
)
async def test_a_task_that_is_refused_leaves_no_session(
    site: Site, body: dict[str, str], field: str
) -> None:
    """A session that was named by another name is not replaced by a new one."""
    refused = await site.http.post("/api/tasks", json=body)
    sessions = await site.http.get(
        "/v1/sessions", headers={"Authorization": f"Bearer {site.admin}"}
    )

    assert refused.status_code == 422
    assert [fault["field"] for fault in refused.json()["errors"]] == [field]
    assert sessions.json()["items"] == []


async def test_a_repeated_request_is_the_same_task(site: Site) -> None:
    body, key = {"task": "once"}, {"Idempotency-Key": "key-1"}
    replies = [await site.http.post("/api/tasks", json=body, headers=key) for _ in range(3)]
    other = await site.http.post("/api/tasks", json={"task": "other"}, headers=key)

    assert len({reply.json()["task_id"] for reply in replies}) == 1
    assert other.status_code == 409


async def test_a_server_that_stops_does_not_wait_for_its_readers(tmp_path: Path) -> None:
    given = (str(APP), "--drain-seconds-max", str(4 * PATIENCE_SECONDS))
    with Process(tmp_path, *given, STEP_SECONDS=str(LIVE_SECONDS)) as process:
        await asyncio.to_thread(process.ready)
        async with reaching(process.url, process.token) as site:
            first = await started(site, "to its end")
            async with streaming(site, first["session_id"]) as stream:
                frames = [await anext(aiter(stream))]
                process.send(signal.SIGTERM)
                async with asyncio.timeout(PATIENCE_SECONDS):
                    frames += [frame async for frame in stream]
        assert await asyncio.to_thread(process.end) == 0

    # The turn was let come to its end, and its readers were told of it first.
    check_events(frames, first)
    check_end(frames[-1].entry)


async def test_a_restart_in_the_middle_of_a_task_resumes_it(tmp_path: Path) -> None:
    with Process(tmp_path, str(APP), STEP_SECONDS=str(LIVE_SECONDS)) as process:
        await asyncio.to_thread(process.ready)
        async with reaching(process.url, process.token) as site:
            first = await started(site, "through thick and thin")
            early = []
            async with streaming(site, first["session_id"]) as stream:
                async for frame in stream:
                    early.append(frame)
                    if frame.entry["current_iteration"] >= 2:
                        break
                process.process.kill()
                process.end()
    with Process(tmp_path, str(APP), STEP_SECONDS="0.01") as process:
        await asyncio.to_thread(process.ready)
        async with reaching(process.url, process.token) as site:
            async with streaming(site, first["session_id"], behind=early[-1].id) as stream:
                rest = await told(stream, 1, why="the task does not end after the restart")
            last = await looked(site, first["task_id"])
            entries = await site.entries(first["session_id"])

    check_events([*early, *rest], first)
    check_end(last)
    assert [rest[-1].entry[name] for name in FIGURES] == [last[name] for name in FIGURES]
    kinds = Counter(entry["kind"] for entry in entries)
    assert kinds["turn.completed"] == 1
    assert [e["body"]["attempt"] for e in entries if e["kind"] == "turn.started"] == [1, 2]
    pages = [
        entry["body"]["arguments"]["page"]
        for entry in entries
        if entry["kind"] == "tool.completed" and entry["body"]["name"] == "notes.read"
    ]
    assert pages == [1, 2, 3, 4, 5]
