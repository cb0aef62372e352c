"""G6: a session runs its turns one after another, and says what it does when it is busy."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from tests.guarantees.callers import (
    ENDS,
    Caller,
    Record,
    assert_whole,
    of_kind,
    refused,
)
from tests.guarantees.conftest import Serve

from sessile import Assistant, History, Tools, TurnContext

TRIALS = 20


class Holding:
    """An assistant whose turns begin, say so, and go on when they are told to."""

    def __init__(self) -> None:
        self.assistant = Assistant("holding")
        self.began: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.go: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.order: dict[str, list[str]] = defaultdict(list)
        self.inside: Counter[str] = Counter()
        self.steered: dict[str, list[str]] = defaultdict(list)

        @self.assistant.agent
        async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
            text = turn.input["text"]
            self.inside[turn.session_id] += 1
            try:
                assert self.inside[turn.session_id] == 1, "two turns at once"
                self.order[turn.session_id].append(text)
                if text.startswith("hold"):
                    self.began[turn.session_id].set()
                    await self.go[turn.session_id].wait()
                read = [] if "blind" in text else await tools.steered()
                self.steered[turn.turn_id] += [message.text for message in read]
                asked = [m.text for m in history.messages if m.role == "user"]
                return f"heard {text} after {len(asked) - 1}"
            finally:
                self.inside[turn.session_id] -= 1

    async def held(self, caller: Caller, text: str = "hold") -> Record:
        """A turn of a session of its own, that has begun and does not end."""
        session_id = await caller.opened()
        turn = await caller.accepted(session_id, text)
        await self.began[session_id].wait()
        return turn


def assert_in_turn(log: list[Record]) -> None:
    """One turn runs at a time, in the order in which they were accepted."""
    running: str | None = None
    started: list[str] = []
    for entry in log:
        if entry["kind"] == "turn.started":
            assert running is None, "two turns at once"
            running = entry["turn_id"]
            started.append(running)
        elif entry["kind"] in ENDS:
            assert running in (entry["turn_id"], None) or entry["turn_id"] not in started
            if running == entry["turn_id"]:
                running = None
        elif entry["kind"].startswith(("message.", "tool.", "turn.progress")):
            assert entry["turn_id"] == running, "a turn writes that does not run"
    accepted = [entry["turn_id"] for entry in of_kind(log, "turn.queued")]
    assert started == [turn_id for turn_id in accepted if turn_id in started]


async def test_g6_turns_of_a_session_never_overlap_and_keep_their_order(serve: Serve) -> None:
    holding = Holding()
    async with serve(holding.assistant) as world:
        ana = world.ana
        held = [await holding.held(ana) for _ in range(3)]
        session_ids = [turn["session_id"] for turn in held]
        turns = await asyncio.gather(
            *(ana.accepted(session_ids[i % 3], f"zq{i}") for i in range(45))
        )
        for session_id in session_ids:
            holding.go[session_id].set()
        ended = [await ana.ended(turn) for turn in turns]

        assert {turn["status"] for turn in ended} == {"completed"}
        for session_id in session_ids:
            log = await ana.log(session_id)
            assert_whole(log)
            assert_in_turn(log)
            inputs = [e["body"]["input"]["text"] for e in of_kind(log, "turn.queued")]
            assert holding.order[session_id] == inputs
            history = [m["text"] for m in await ana.messages(session_id)]
            # Of each turn, the message and then its reply; and its model saw what was before it.
            assert history == [
                text for n, each in enumerate(inputs) for text in (each, f"heard {each} after {n}")
            ]


async def test_g6_sessions_do_not_wait_for_each_other(serve: Serve) -> None:
    holding = Holding()
    async with serve(holding.assistant) as world:
        held = [await holding.held(world.ana) for _ in range(8)]
        other = await world.ana.opened()

        assert (await world.ana.said(other, "quick"))["status"] == "completed"
        for turn in held:
            holding.go[turn["session_id"]].set()
        assert {(await world.ana.ended(turn))["status"] for turn in held} == {"completed"}


async def test_g6_what_was_answered_first_runs_first(serve: Serve) -> None:
    holding = Holding()
    async with serve(holding.assistant) as world:
        held = await holding.held(world.ana)
        for n in range(10):
            await world.ana.accepted(held["session_id"], f"m{n}")
        holding.go[held["session_id"]].set()
        last = await world.ana.said(held["session_id"], "last")

        assert last["position"] == 12
        assert holding.order[held["session_id"]] == ["hold", *(f"m{n}" for n in range(10)), "last"]


async def enqueued(holding: Holding, ana: Caller, held: Record) -> Any:
    session_id = held["session_id"]
    reply = await ana.submit(session_id, "next", when_busy="enqueue")
    waits = reply.json()["status"]
    holding.go[session_id].set()
    first, second = await ana.ended(held), await ana.ended(reply.json())
    return reply.status_code, waits, first["status"], second["status"]


async def enqueued_by_default(holding: Holding, ana: Caller, held: Record) -> Any:
    session_id = held["session_id"]
    reply = await ana.submit(session_id, "next")
    waits = reply.json()["status"]
    holding.go[session_id].set()
    first, second = await ana.ended(held), await ana.ended(reply.json())
    return reply.status_code, waits, first["status"], second["status"]


async def rejected(holding: Holding, ana: Caller, held: Record) -> Any:
    session_id = held["session_id"]
    before = await ana.log(session_id)
    reply = await ana.submit(session_id, "next", when_busy="reject")
    assert await ana.log(session_id) == before
    assert len(await ana.turns(session_id)) == 1
    holding.go[session_id].set()
    return (*refused(reply), (await ana.ended(held))["status"])


async def interrupted(holding: Holding, ana: Caller, held: Record) -> Any:
    """The one that runs and the one that waits make room."""
    session_id = held["session_id"]
    waiting = await ana.accepted(session_id, "waiting")
    reply = await ana.submit(session_id, "next", when_busy="interrupt")
    statuses = [(await ana.ended(turn))["status"] for turn in (held, waiting, reply.json())]
    assert holding.order[session_id] == ["hold", "next"]
    ends = {e["turn_id"]: e["body"] for e in of_kind(await ana.log(session_id), *ENDS)}
    reasons = [ends[turn["turn_id"]]["reason"] for turn in (held, waiting)]
    return reply.status_code, *statuses, *reasons


async def steered(holding: Holding, ana: Caller, held: Record) -> Any:
    session_id = held["session_id"]
    reply = await ana.submit(session_id, "next", when_busy="steer")
    holding.go[session_id].set()
    ended = await ana.ended(held)
    assert holding.order[session_id] == ["hold"]
    log = await ana.log(session_id)
    said = [m["text"] for m in await ana.messages(session_id) if m["role"] == "user"]
    return (
        reply.status_code,
        reply.json()["turn_id"] == held["turn_id"],
        ended["status"],
        tuple(holding.steered[held["turn_id"]]),
        tuple(said),
        len(of_kind(log, "turn.steered")),
        len(of_kind(log, "turn.queued")),
    )


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (enqueued, (202, "queued", "completed", "completed")),
        (enqueued_by_default, (202, "queued", "completed", "completed")),
        (rejected, (409, "session_busy", "completed")),
        (interrupted, (202, "cancelled", "cancelled", "completed", "displaced", "displaced")),
        (steered, (202, True, "completed", ("next",), ("hold", "next"), 1, 1)),
    ],
)
async def test_g6_what_a_busy_session_does_is_always_the_same(
    serve: Serve, trial: Callable[..., Any], expected: tuple[Any, ...]
) -> None:
    holding = Holding()
    async with serve(holding.assistant) as world:

        async def once() -> Any:
            held = await holding.held(world.ana)
            outcome = await trial(holding, world.ana, held)
            log = await world.ana.log(held["session_id"])
            assert_whole(log)
            assert_in_turn(log)
            return outcome

        outcomes = await asyncio.gather(*(once() for _ in range(TRIALS)))

        assert set(outcomes) == {expected}


@pytest.mark.parametrize("when_busy", ["enqueue", "reject", "interrupt", "steer"])
async def test_g6_a_session_that_is_not_busy_takes_each(serve: Serve, when_busy: str) -> None:
    """At once after the last turn's end was seen, on the stream or in a reply: never refused as
    busy, never displacing, and no turn is left over."""
    holding = Holding()
    async with serve(holding.assistant) as world:

        async def once() -> None:
            session_id = await world.ana.opened()
            async with world.ana.follow(session_id) as stream:
                await world.ana.accepted(session_id, "first", when_busy=when_busy)
                await stream.until(*ENDS)
                second = await world.ana.said(session_id, "second", when_busy=when_busy)
                third = await world.ana.said(session_id, "third", when_busy=when_busy)
            assert (second["status"], third["status"]) == ("completed", "completed")
            log = await world.ana.log(session_id)
            assert {e["kind"] for e in of_kind(log, *ENDS)} == {"turn.completed"}
            assert_in_turn(log)

        await asyncio.gather(*(once() for _ in range(TRIALS)))


@pytest.mark.parametrize("end", ["completes", "fails", "is cancelled"])
async def test_g6_a_steer_that_was_not_read_is_not_lost(serve: Serve, end: str) -> None:
    """The agent never asks for it: the turn takes another step for it, or it becomes a turn."""
    assistant = Assistant("blind")
    began, go = asyncio.Event(), asyncio.Event()
    heard: list[list[str]] = []

    @assistant.agent
    async def answer(turn: TurnContext, history: History) -> str:
        heard.append([m.text for m in history.messages if m.role == "user"])
        began.set()
        if len(heard) == 1:
            await go.wait()
            if end == "fails":
                raise ValueError("no")
        return f"heard {heard[-1][-1]}"

    async with serve(assistant) as world:
        mine = await world.ana.opened()
        turn = await world.ana.accepted(mine, "zq1")
        await began.wait()
        steer = await world.ana.submit(mine, "zq2", when_busy="steer")
        assert steer.status_code == 202
        if end == "is cancelled":
            assert (await world.ana.cancel(turn)).status_code == 202
        go.set()
        ended = await world.ana.ended(turn)
        after = await world.ana.said(mine, "zq3")

        statuses = {"completes": "completed", "fails": "failed", "is cancelled": "cancelled"}
        assert ended["status"] == statuses[end]
        assert after["status"] == "completed"
        said = [m["text"] for m in await world.ana.messages(mine) if m["role"] == "user"]
        assert said == ["zq1", "zq2", "zq3"]
        assert "heard zq2" in [m["text"] for m in await world.ana.messages(mine)]
        assert_whole(await world.ana.log(mine))
