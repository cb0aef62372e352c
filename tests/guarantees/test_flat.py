"""G14: the n-th turn costs what the first did, and an idle session nothing. Nothing is timed here:
what is counted are steps of the database's virtual machine, calls of functions, and memory blocks.
What they cost in milliseconds is measured in bench/."""

import asyncio
import gc
import itertools
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.guarantees.callers import ENDS, Caller, of_kind
from tests.guarantees.conftest import Serve

from sessile import Assistant, History, Tools, TurnContext

STEPS_A_TICK = 5


class Work:
    """Counts what is done between two moments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ticks, self._calls = itertools.count(), itertools.count()
        connect = sqlite3.connect

        def connected(*given: Any, **named: Any) -> sqlite3.Connection:
            connection = connect(*given, **named)
            connection.set_progress_handler(self._tick, STEPS_A_TICK)
            return connection

        monkeypatch.setattr(sqlite3, "connect", connected)

    def _tick(self) -> int:
        next(self._ticks)
        return 0

    def _called(self, _frame: Any, event: str, _argument: Any) -> None:
        if event in ("call", "c_call"):
            next(self._calls)

    @contextmanager
    def counted(self, done: dict[str, int]) -> Iterator[None]:
        ticks, calls = next(self._ticks), next(self._calls)
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(None)
        done["steps"] = (next(self._ticks) - ticks) * STEPS_A_TICK
        done["calls"] = next(self._calls) - calls


def working() -> tuple[Assistant, list[int]]:
    """An agent that reads its history and calls a tool."""
    assistant = Assistant("working")
    given: list[int] = []

    @assistant.agent
    async def work(_turn: TurnContext, history: History, tools: Tools) -> str:
        given.append(len(history.messages))
        await tools.call("look")
        return "done"

    @assistant.tool("look")
    async def look(turn: TurnContext) -> str:
        """Looks."""
        return "seen"

    return assistant, given


async def cost(work: Work, caller: Caller, session_id: str, n: int = 5) -> dict[str, int]:
    """Of a turn, its message, its stream and the pages that a client shows then; the least of n."""
    costs: list[dict[str, int]] = []
    head = (await caller.session(session_id))["head"]
    for k in range(n):
        gc.collect()
        done: dict[str, int] = {}
        with work.counted(done):
            turn = await caller.said(session_id, f"look {k}")
            async with caller.follow(session_id, after=head) as stream:
                seen = await stream.until(*ENDS)
            await caller.get(f"/v1/sessions/{session_id}/messages", params={"limit": 10})
            await caller.get(f"/v1/sessions/{session_id}/turns/{turn['turn_id']}")
        head = seen[-1]["seq"]
        costs.append(done)
    return {name: min(each[name] for each in costs) for name in costs[0]}


async def test_g14_the_nth_turn_costs_what_the_first_did(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(monkeypatch)
    assistant, given = working()
    settings = {"history_entries_max": 40, "sweep_seconds": 600.0}
    async with serve(assistant, **settings) as world:
        mine = await world.ana.opened()

        async def asked_for(n: int) -> None:
            """Turns that wait for each other, so that each is begun by the end of the last."""
            texts = [f"one of many {k}" for k in range(n)]
            await asyncio.gather(*(world.ana.accepted(mine, text) for text in texts))
            await world.ana.said(mine, "the last of them")

        await asked_for(20)
        early = await cost(work, world.ana, mine)
        for _ in range(8):
            await asked_for(20)
        late = await cost(work, world.ana, mine)

        assert (await world.ana.session(mine))["head"] > 1200
        assert early["steps"] > 100
        assert early["calls"] > 1000
        assert max(given[-5:]) <= max(given[:60]), "the agent is given ever more"
        for name, before in early.items():
            assert late[name] < before * 1.25, (name, early, late)


async def test_g14_a_restart_into_a_long_session_costs_no_more_than_into_a_short(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first turn after a start, when nothing of the session is in memory."""
    work = Work(monkeypatch)
    costs: dict[str, dict[str, int]] = {}
    settings = {"history_entries_max": 40, "sweep_seconds": 600.0}
    async with serve(working()[0], **settings) as world:
        short, long = await world.ana.opened(), await world.ana.opened()
        for session_id, n in ((short, 15), (long, 120)):
            turns = [await world.ana.accepted(session_id, f"{k}") for k in range(n)]
            await world.ana.ended(turns[-1])
    async with serve(working()[0], **settings) as world:
        warm = await world.ana.opened()
        await world.ana.said(warm, "warm")
        for name, session_id in (("short", short), ("long", long)):
            costs[name] = {}
            gc.collect()
            with work.counted(costs[name]):
                await world.ana.said(session_id, "again")

    for name, before in costs["short"].items():
        assert costs["long"][name] < before * 1.4, (name, costs)


async def test_g14_an_idle_session_costs_no_memory(serve: Serve) -> None:
    """Four thousand are opened; of some, turns were run, read and streamed. What the server keeps
    of the last that were used has its bound, and is full before it is counted."""
    assistant, _ = working()
    n, used = 4000, 60

    async def opened(world: Any, count: int) -> None:
        left = iter(range(count))

        async def one_after_another() -> None:
            for _ in left:
                await world.ana.opened()

        await asyncio.gather(*(one_after_another() for _ in range(20)))

    async def made_use_of(world: Any, count: int) -> None:
        left = iter(range(count))

        async def one_after_another() -> None:
            for _ in left:
                session_id = await world.ana.opened()
                async with world.ana.follow(session_id) as stream:
                    await world.ana.accepted(session_id, "hello")
                    await stream.until(*ENDS)
                assert of_kind(await world.ana.log(session_id), "turn.completed")

        await asyncio.gather(*(one_after_another() for _ in range(10)))

    async def settled(world: Any) -> tuple[int, int, int]:
        """Blocks, objects and tasks, when all that was asked has been answered."""
        await world.ana.get("/readyz")
        for _ in range(3):
            gc.collect()
        return sys.getallocatedblocks(), len(gc.get_objects()), len(asyncio.all_tasks())

    async with serve(assistant) as world:
        await opened(world, 600)
        await made_use_of(world, 160)
        before = await settled(world)
        await opened(world, n)
        await made_use_of(world, used)
        after = await settled(world)

        blocks, objects, tasks = (late - early for late, early in zip(after, before, strict=True))
        # One kept object a session would be n of them; what else a process does moves it by less.
        assert blocks < n * 3 // 4, f"{blocks / (n + used):.1f} blocks a session"
        assert objects < n // 2, f"{objects / (n + used):.1f} objects a session"
        assert tasks <= 5
