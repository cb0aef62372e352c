"""The support assistant: an action is shown in the session that asked for it, and in no other."""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.guarantees.callers import Caller, assert_whole, of_kind, told
from tests.guarantees.servers import World, asking, write_logins
from tests.incidents.conftest import naive, port, served, url_of
from tests.incidents.support_naive import Fault, backend
from tests.incidents.support_walk import LogFront, NaiveFront, PusherFront, cards, walk
from tests.pusher.browser import browsing

from sessile import Assistant, Server, Settings, TurnContext
from sessile.demo import support
from sessile.http.listener import Listener
from sessile.wiring import pusher_keys

SESSIONS = 50


def hops(assistant: Assistant) -> None:
    """Actions that go through threads and tasks on their way to the identity that they tell."""

    def told_by(turn: TurnContext) -> dict[str, Any]:
        return {
            "session_id": turn.session_id,
            "company": turn.tenant_id,
            "thread": threading.current_thread() is not threading.main_thread(),
        }

    @assistant.tool("hops.blocking", idempotent=True)
    def blocking(turn: TurnContext) -> dict[str, Any]:
        turn.progress(note="in a thread")
        return told_by(turn)

    @assistant.tool("hops.thread", idempotent=True)
    async def thread(turn: TurnContext) -> dict[str, Any]:
        return await asyncio.to_thread(told_by, turn)

    @assistant.tool("hops.tasks", idempotent=True)
    async def tasks(turn: TurnContext) -> dict[str, Any]:
        async def hop() -> dict[str, Any]:
            return (await turn.call("hops.blocking")).value

        async with asyncio.TaskGroup() as group:
            hopped = [group.create_task(hop()) for _ in range(3)]
        first, *others = (each.result() for each in hopped)
        assert all(each == first for each in others)
        return first


@asynccontextmanager
async def supporting(directory: Path, *assistants: Assistant) -> AsyncIterator[World]:
    write_logins(directory)
    server = Server(*assistants, settings=Settings(data_dir=directory, drain_seconds_max=2.0))
    for each in assistants:
        server.project(support.shown, assistant=each.name)
    with port() as listening:
        async with server:
            listener = Listener(server.app(), server.settings)
            async with served(listener, listening), asking(url_of(listening)) as world:
                yield world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    desk, reader = support.assistants(step_seconds=0)
    hops(desk)
    async with supporting(tmp_path, desk, reader) as world:
        yield world


def fronts(world: World) -> list[LogFront]:
    """Of two companies; one user has the same name in both."""
    return [LogFront(each) for each in (world.ana, world.cleo, world.ben, world.namesake)]


async def test_fifty_sessions_of_two_companies_run_one_action_each_in_its_own(
    world: World,
) -> None:
    assert await walk(fronts(world), sessions=SESSIONS) == []

    metrics = (await world.http.get("/metrics")).text.splitlines()
    zeros = [line.split() for line in metrics if "must_stay_zero_total " in line and line[0] != "#"]
    assert {float(value) for _, value in zeros} == {0.0}


async def test_pusher_js_is_shown_each_session_its_own_actions(tmp_path: Path) -> None:
    async with supporting(tmp_path, *support.assistants()) as world, browsing() as browser:
        key = pusher_keys(Settings(data_dir=tmp_path)).key
        listening = [PusherFront(each, browser, key, world.url) for each in fronts(world)]

        assert await walk(listening, sessions=SESSIONS) == []


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (
            "kept session",
            {
                "an action is not shown on the channel of the session that asked, in 9 of 10"
                " sessions",
                "another session's action is shown on a channel, in 1 of 10 sessions",
                "a reply tells of another session, in 9 of 10 sessions",
            },
        ),
        (
            "second card",
            {"an action's end does not update the message of its start, in 10 of 10 sessions"},
        ),
    ],
)
async def test_a_backend_whose_actions_keep_a_session_is_caught(
    fault: Fault, why: set[str]
) -> None:
    async with naive(backend(fault)) as site:
        found = await walk([NaiveFront(site, "acme"), NaiveFront(site, "globex")], sessions=10)

    assert set(found) == why


async def test_what_catches_it_has_nothing_against_the_same_backend_without_the_fault() -> None:
    async with naive(backend(None)) as site:
        assert await walk([NaiveFront(site, "acme"), NaiveFront(site, "globex")], sessions=10) == []


@pytest.mark.parametrize("action", ["hops.blocking", "hops.thread", "hops.tasks"])
async def test_threads_and_tasks_on_the_way_keep_the_session(world: World, action: str) -> None:
    asked = [(front, await front.opened()) for front in fronts(world) * 5]

    await asyncio.gather(*(front.asks(session_id, f"run {action}") for front, session_id in asked))

    for front, session_id in asked:
        for event in await front.shown(session_id):
            if event["status"] == "completed":
                assert event["result"] == {
                    "session_id": session_id,
                    "company": front.company,
                    "thread": True,
                }
        assert_whole(await front.caller.log(session_id))


@pytest.mark.parametrize("assistant", ["support", "support.reader"])
async def test_debug_info_is_of_the_asking_session(world: World, assistant: str) -> None:
    session_id = await world.cleo.opened(assistant=assistant)
    turn = await world.cleo.said(session_id, "Show debug info")

    (started, completed) = await LogFront(world.cleo).shown(session_id)
    assert completed["result"] == {
        "session_id": session_id,
        "turn_id": turn["turn_id"],
        "company": "globex",
        "user_id": "cleo",
        "assistant": assistant,
        "attempt": 1,
    }
    assert {**completed, "status": "started", "result": None} == started
    assert started["messageId"].startswith("msg_")


async def test_an_action_that_fails_ends_the_card_that_it_began(world: World) -> None:
    front = LogFront(world.ana)
    session_id = await front.opened()

    reply = await front.asks(session_id, "try the failing tool")

    (started, failed) = await front.shown(session_id)
    assert (started["status"], failed["status"]) == ("started", "failed")
    assert started["messageId"] == failed["messageId"]
    assert failed["reason"] in reply


async def test_a_slow_action_is_shown_when_it_begins(world: World) -> None:
    front = LogFront(world.ana)
    session_id = await front.opened()

    reply = await front.asks(session_id, "run the slow report")

    assert "done, in 10 steps" in reply
    assert list(cards(await front.shown(session_id)).values()) == [["started", "completed"]]
    notes = [e["body"]["note"] for e in of_kind(await world.ana.log(session_id), "turn.progress")]
    assert notes[-1] == "Step 10 of 10"


@pytest.mark.parametrize("text", ["refund order 7", "run orders.refund 7"])
async def test_an_action_that_is_not_allowed_is_refused_with_its_reason(
    world: World, text: str
) -> None:
    front = LogFront(world.ana, "support.reader")
    session_id = await front.opened()

    reply = await front.asks(session_id, text)

    (refused,) = of_kind(await world.ana.log(session_id), "tool.refused")
    assert refused["body"]["verdict"] == "denied"
    assert refused["body"]["reason"] == "Not in the assistant's allow-list."
    assert reply == "orders.refund was refused: Not in the assistant's allow-list."
    (shown,) = await front.shown(session_id)
    assert (shown["status"], shown["reason"]) == ("failed", refused["body"]["reason"])
    listed = told(await world.ana.get(f"/v1/sessions/{session_id}/tools"), 200)["items"]
    verdicts = {each["tool"]: (each["status"], each["reason"]) for each in listed}
    assert verdicts["orders.refund"] == ("denied", "Not in the assistant's allow-list.")
    assert verdicts["orders.lookup"][0] == "allowed"


async def test_an_action_that_there_is_not_is_refused_too(world: World) -> None:
    session_id = await world.ana.opened(assistant="support")

    turn = await world.ana.said(session_id, "run orders.burn")

    assert turn["output"] == "orders.burn was refused: The assistant has no such tool."


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("Refund my order", support.WHICH),
        ("look up order " + 16 * "9", support.WHICH),
        ("look up order " + 15 * "9", f"orders.lookup was failed: There is no order {15 * '9'}."),
    ],
)
async def test_an_order_is_named_by_a_whole_number_or_asked_for(
    world: World, text: str, reply: str
) -> None:
    """A refund of who knows what would wait for a yes, and everything behind it too."""
    session_id = await world.ana.opened(assistant="support")

    turn = await world.ana.said(session_id, text)

    assert (turn["status"], turn["output"]) == ("completed", reply)


async def awaiting(caller: Caller, session_id: str, text: str) -> tuple[str, str]:
    """The call that waits, and its card."""
    async with caller.follow(session_id) as stream:
        await caller.accepted(session_id, text)
        asked = (await stream.until("approval.requested", "turn.completed"))[-1]
    assert asked["kind"] == "approval.requested", asked
    return asked["body"]["call_id"], asked["body"]["message_id"]


async def test_a_refund_waits_for_a_yes_and_is_one_card(world: World) -> None:
    front = LogFront(world.ana)
    session_id = await front.opened()
    call_id, card = await awaiting(world.ana, session_id, "refund order 7")
    assert await front.shown(session_id) == []

    turn = told(await world.ana.post(f"/v1/sessions/{session_id}/calls/{call_id}/approve"), 200)
    turn = await world.ana.ended(turn)

    assert turn["output"] == 'orders.refund: {"number": 7, "total": 55.3}'
    assert cards(await front.shown(session_id)) == {card: ["started", "completed"]}
    assert_whole(await world.ana.log(session_id))


async def test_a_refund_that_is_denied_says_why(world: World) -> None:
    front = LogFront(world.ana)
    session_id = await front.opened()
    call_id, card = await awaiting(world.ana, session_id, "refund order 7")

    denied = await world.ana.post(
        f"/v1/sessions/{session_id}/calls/{call_id}/deny", json={"reason": "Too late."}
    )
    turn = await world.ana.ended(told(denied, 200))

    assert turn["output"] == "orders.refund was refused: The user did not approve it: Too late."
    assert cards(await front.shown(session_id)) == {card: ["failed"]}


async def test_the_log_lines_of_a_turn_name_one_session_from_request_to_publish(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sessile")

    async with supporting(tmp_path, *support.assistants()) as world, browsing() as browser:
        key = pusher_keys(Settings(data_dir=tmp_path)).key
        listening = [PusherFront(each, browser, key, world.url) for each in fronts(world)]
        assert await walk(listening, sessions=12) == []

    lines: dict[str, list[str]] = defaultdict(list)
    of_turn: dict[str, set[str]] = defaultdict(set)
    for record in caplog.records:
        session_id = getattr(record, "session_id", None)
        if session_id is not None:
            route = getattr(record, "route", "")
            lines[session_id].append(f"{record.getMessage()} {route}".strip())
        if (turn_id := getattr(record, "turn_id", None)) is not None:
            of_turn[turn_id].add(str(session_id))
    for said in lines.values():
        assert said.count("request /v1/sessions/{session_id}/turns") == 2
        assert said.count("an action is asked for") == said.count("an action has ended") == 2
        assert said.count("an action is shown") == 4
    assert len(lines) == 12
    assert len(of_turn) == 24
    assert {len(sessions) for sessions in of_turn.values()} == {1}
