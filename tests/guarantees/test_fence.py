"""G7: who lost a session writes nothing more of its turn. G6 and G9 on two nodes of one store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.guarantees.callers import ENDS, assert_whole, of_kind
from tests.guarantees.servers import Process, World, asking, serving

from sessile import Assistant, History, Settings, Tools, TurnContext
from sessile.wiring import open_store

LATER_MS = 60_000


class Clock:
    """Of the store, and so of all leases. A test turns it on."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms


class Node:
    """An assistant that says on which node it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.assistant = Assistant("worker")
        self.began, self.go, self.over = (asyncio.Event() for _ in range(3))
        self.calls: list[str] = []
        self.errors: list[BaseException] = []

        @self.assistant.agent
        async def work(turn: TurnContext, _history: History, tools: Tools) -> AsyncIterator[str]:
            verb, _, _ = turn.input["text"].partition(" ")
            try:
                yield f"begun on {self.name} "
                if verb == "hold":
                    await self.held()
                elif verb == "call":
                    await tools.call("slow")
                await turn.progress(current_iteration=5, note=f"on {self.name}")
                await turn.emit(f"emitted on {self.name} ")
                await tools.call("quick")
                yield f"ended on {self.name}"
            except BaseException as error:
                self.errors.append(error)
                raise
            finally:
                self.over.set()

        @self.assistant.tool("slow")
        async def slow(turn: TurnContext) -> str:
            """Takes its time, whatever one does to it."""
            self.calls.append("slow")
            await self.held()
            return f"slow on {self.name}"

        @self.assistant.tool("quick")
        async def quick(turn: TurnContext) -> str:
            """Is done at once."""
            self.calls.append("quick")
            return f"quick on {self.name}"

    async def held(self) -> None:
        """Deaf to being cancelled, like a thread, or a process that is paused."""
        self.began.set()
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue


class Two:
    def __init__(self, a: Node, b: Node, worlds: list[World], clock: Clock) -> None:
        self.a, self.b, self.clock = a, b, clock
        self.at_a, self.at_b = worlds


@asynccontextmanager
async def two_nodes(directory: Path, *, a_looks_each_seconds: float = 0.05) -> AsyncIterator[Two]:
    """Two servers that share a database, as two machines would. That they look often for what is
    due stands for the notice that machines give each other."""
    clock = Clock()
    async with AsyncExitStack() as stack:
        settings = Settings(data_dir=directory)
        store = await stack.enter_async_context(open_store(settings, clock))

        @asynccontextmanager
        async def shared(*_: Any) -> AsyncIterator[Any]:
            yield store

        a, b = Node("a"), Node("b")
        worlds = [
            await stack.enter_async_context(
                serving(
                    directory / node.name,
                    node.assistant,
                    given={"store": shared, "clock": clock},
                    sweep_seconds=sweep_seconds,
                )
            )
            for node, sweep_seconds in ((a, a_looks_each_seconds), (b, 0.05))
        ]
        try:
            yield Two(a, b, worlds, clock)
        finally:
            a.go.set()
            b.go.set()


@pytest.mark.parametrize("verb", ["hold", "call"])
async def test_g7_a_node_that_lost_its_lease_writes_nothing_more(tmp_path: Path, verb: str) -> None:
    async with two_nodes(tmp_path / "data", a_looks_each_seconds=600.0) as two:
        mine = await two.at_a.ana.opened()
        turn = await two.at_a.ana.accepted(mine, f"{verb} on")
        await two.a.began.wait()
        async with two.at_b.ana.follow(mine) as stream:
            two.b.go.set()
            two.clock.ms += LATER_MS
            await stream.until(*ENDS)
        settled = await two.at_b.ana.log(mine)
        two.a.go.set()
        await two.a.over.wait()
        after = await two.at_b.ana.said(mine, "say after")

        record = await two.at_b.ana.ended(turn)
        assert (record["status"], record["attempt"]) == ("completed", 2), record
        assert after["status"] == "completed"
        log = await two.at_b.ana.log(mine)
        assert log[: len(settled)] == settled
        assert_whole(log)
        starts = [
            e["body"] for e in of_kind(log, "turn.started") if e["turn_id"] == turn["turn_id"]
        ]
        assert [start["attempt"] for start in starts] == [1, 2]
        assert starts[0]["fence"] < starts[1]["fence"]
        assert starts[0]["node"] != starts[1]["node"]
        (taken,) = [e["seq"] for e in of_kind(log, "turn.started") if e["body"]["attempt"] == 2]
        assert "on a" not in str(log[taken - 1 :])
        # What was in flight is closed, not repeated; and nothing ran on a after the loss.
        assert two.a.calls == (["slow"] if verb == "call" else [])
        assert "slow" not in two.b.calls
        assert two.a.errors
        if verb == "call":
            (closed,) = of_kind(log, "tool.interrupted")
            assert closed["seq"] > taken


async def test_g6_two_nodes_run_a_session_one_turn_at_a_time(tmp_path: Path) -> None:
    async with two_nodes(tmp_path / "data") as two:
        both = (two.at_a.ana, two.at_b.ana)
        mine = await both[0].opened()
        turns = await asyncio.gather(*(both[n % 2].accepted(mine, f"say zq{n}") for n in range(24)))
        for n, turn in enumerate(turns):
            assert (await both[(n + 1) % 2].ended(turn))["status"] == "completed"

        log = await both[1].log(mine)
        assert await both[0].log(mine) == log
        assert_whole(log)
        running = None
        for entry in log:
            if entry["kind"] == "turn.started":
                assert running is None
                running = entry["turn_id"]
            elif entry["kind"] in ENDS:
                assert entry["turn_id"] == running
                running = None
        started = [entry["turn_id"] for entry in of_kind(log, "turn.started")]
        assert started == [entry["turn_id"] for entry in of_kind(log, "turn.queued")]


async def test_g9_a_reader_may_come_back_to_another_node(tmp_path: Path) -> None:
    """It reads a while here and a while there, while turns are asked for at both."""
    async with two_nodes(tmp_path / "data") as two:
        both = (two.at_a.ana, two.at_b.ana)
        mine = await both[0].opened()
        seen, cursor = [], None
        for n in range(6):
            turn = await both[n // 2 % 2].accepted(mine, f"say zq{n}")
            async with both[n % 2].follow(mine, last_event_id=cursor) as stream:
                seen += await stream.until(*ENDS, turn=turn["turn_id"])
            cursor = str(seen[-1]["seq"])

        assert seen == await both[0].log(mine)
        assert_whole(seen)


async def test_g2_two_nodes_open_one_exclusive_session(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        clock = Clock()
        settings = Settings(data_dir=tmp_path / "data")
        store = await stack.enter_async_context(open_store(settings, clock))

        @asynccontextmanager
        async def shared(*_: Any) -> AsyncIterator[Any]:
            yield store

        callers = []
        for name in ("a", "b"):
            assistant = Assistant("only", exclusive=True)
            given = {"store": shared, "clock": clock}
            world = await stack.enter_async_context(
                serving(tmp_path / name, assistant, given=given)
            )
            callers.append(world.ana)
        replies = await asyncio.gather(
            *(callers[n % 2].post("/v1/sessions", json={}) for n in range(30))
        )

        assert sorted(reply.status_code for reply in replies) == [200] * 29 + [201]
        assert len({reply.json()["session_id"] for reply in replies}) == 1


async def test_g7_a_second_server_of_the_same_data_is_refused(process: Process) -> None:
    await process.start()
    second = Process(process.directory)

    said = await second.refused()

    assert "another server uses the data directory" in said
    async with asking(process.url) as world:
        mine = await world.ana.opened()
        assert (await world.ana.said(mine, "say still here"))["output"] == "heard still here"
