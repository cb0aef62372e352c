"""Tools that block: they run in threads, on the real clock, and may outlive their turns."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.runtime.rig import ANN, BOB

from sessile.core.context import TurnContext
from sessile.core.errors import ContextExpired, ContextMismatch
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import MessageEnd, ToolResult, Tools
from sessile.runtime.feed import Grown
from sessile.settings import Settings
from sessile.wiring import Server

WAIT_SECONDS = 20.0


class Blocking:
    """An assistant with a tool that blocks until the test lets it go."""

    def __init__(self, **tool: Any) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.returned = threading.Event()
        self.ended = threading.Event()
        self.left: list[str] = []
        self.raised: list[type[Exception]] = []
        self.assistant = Assistant("blocking")

        @self.assistant.tool("block", **tool)
        def block(turn: TurnContext) -> str:
            self.begun.set()
            self.go.wait(WAIT_SECONDS)
            try:
                self.left.append(turn.session_id)
            except ContextExpired as error:
                self.raised.append(type(error))
            finally:
                self.ended.set()
            return "late"

        @self.assistant.agent
        async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
            if turn.input["text"] == "no tool":
                return "done"
            result: ToolResult = await tools.call("block")
            return f"{result.status}: {result.value or result.reason}"


@asynccontextmanager
async def serving(blocking: Blocking, **settings: Any) -> AsyncIterator[Server]:
    async with Server(
        blocking.assistant, settings=Settings(store_url="memory", **settings)
    ) as server:
        try:
            yield server
        finally:
            blocking.go.set()


async def until_set(event: threading.Event) -> None:
    assert await asyncio.get_running_loop().run_in_executor(None, event.wait, WAIT_SECONDS)


async def kinds(server: Server, session_id: Any) -> list[str]:
    async for item in server.follow(ANN, session_id):
        assert isinstance(item, Grown)
        return [entry.kind for entry in item.entries]
    raise AssertionError


async def test_a_tool_that_blocks_is_answered_and_knows_its_turn() -> None:
    blocking = Blocking()
    blocking.go.set()
    async with serving(blocking) as server:
        session = (await server.open(ANN)).found.head.key.session_id

        turn = (await server.submit(ANN, session, "hello", wait_seconds=WAIT_SECONDS)).turn

        assert turn.output == "completed: late"
        assert blocking.left == [session]


async def test_a_tool_that_outlives_its_cancelled_turn_is_closed_interrupted_and_dropped() -> None:
    blocking = Blocking()
    async with serving(blocking) as server:
        session = (await server.open(ANN)).found.head.key.session_id
        turn = (await server.submit(ANN, session, "hello")).turn
        await until_set(blocking.begun)

        await server.cancel(ANN, session, turn.turn_id)
        ended = await server.sessions.wait(ANN, session, turn.turn_id, seconds=WAIT_SECONDS)
        before = await kinds(server, session)
        blocking.go.set()
        next_one = await server.submit(ANN, session, "no tool", wait_seconds=WAIT_SECONDS)

        assert ended.status == "cancelled"
        assert before[-2:] == ["tool.interrupted", "turn.cancelled"]
        assert next_one.turn.status == "completed"
        assert (await kinds(server, session))[: len(before)] == before
        assert "tool.completed" not in await kinds(server, session)
    await until_set(blocking.ended)
    assert blocking.raised == [ContextExpired]


async def test_its_slot_is_held_and_a_node_without_slots_is_not_ready_and_takes_nothing() -> None:
    blocking = Blocking()
    async with serving(blocking, tool_threads_max=1) as server:
        session = (await server.open(ANN)).found.head.key.session_id
        turn = (await server.submit(ANN, session, "hello")).turn
        await until_set(blocking.begun)
        await server.cancel(ANN, session, turn.turn_id)
        await server.sessions.wait(ANN, session, turn.turn_id, seconds=WAIT_SECONDS)

        assert not server.workers.ready
        queued = (await server.submit(ANN, session, "no tool")).turn
        blocking.go.set()
        ended = await server.sessions.wait(ANN, session, queued.turn_id, seconds=WAIT_SECONDS)

        assert queued.status == "queued"
        assert ended.status == "completed"
        assert server.workers.ready


async def test_a_tool_that_blocks_past_its_deadline_fails_and_keeps_its_slot() -> None:
    blocking = Blocking(timeout_seconds=0.05)
    async with serving(blocking, tool_threads_max=2) as server:
        session = (await server.open(ANN)).found.head.key.session_id

        turn = (await server.submit(ANN, session, "hello", wait_seconds=WAIT_SECONDS)).turn

        assert turn.output == "failed: The tool did not answer within 0.05 seconds."
        assert server.workers.ready


async def test_more_calls_than_threads_wait_for_a_thread_and_none_is_lost() -> None:
    blocking = Blocking()
    async with serving(blocking, tool_threads_max=2) as server:
        sessions = [(await server.open(ANN)).found.head.key.session_id for _ in range(2)]
        first = [await server.submit(ANN, session, "hello") for session in sessions]
        await until_set(blocking.begun)
        later = [await server.submit(ANN, session, "hello") for session in sessions]

        blocking.go.set()

        for session, submitted in zip(sessions * 2, first + later, strict=True):
            turn_id = submitted.turn.turn_id
            turn = await server.sessions.wait(ANN, session, turn_id, seconds=WAIT_SECONDS)
            assert turn.output == "completed: late"
        assert sorted(blocking.left) == sorted(sessions * 2)


async def test_a_context_of_another_session_is_found_out_in_a_thread_too() -> None:
    kept: list[TurnContext] = []
    raised: list[type[Exception]] = []
    go = asyncio.Event()
    assistant = Assistant("twin")

    @assistant.tool("report")
    def report(turn: TurnContext) -> str:
        kept.append(turn)
        try:
            return kept[0].session_id
        except ContextMismatch as error:
            raised.append(type(error))
            raise

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        await tools.call("report")
        if turn.input["text"] == "stays":
            await go.wait()
        return "done"

    async with Server(assistant, settings=Settings(store_url="memory")) as server:
        one = (await server.open(ANN)).found.head.key.session_id
        two = (await server.open(BOB)).found.head.key.session_id
        async for item in server.follow(ANN, one):
            assert isinstance(item, Grown)
            if item.entries[0].kind == "session.opened":
                await server.submit(ANN, one, "stays")
            elif any(entry.kind == "tool.completed" for entry in item.entries):
                break

        await server.submit(BOB, two, "hello", wait_seconds=WAIT_SECONDS)
        go.set()

    assert raised == [ContextMismatch]


async def test_a_tool_that_blocks_reports_progress_and_adds_text_from_its_thread() -> None:
    assistant = Assistant("slow")

    @assistant.tool("count")
    def count(turn: TurnContext) -> str:
        turn.progress(current_iteration=3, note="counted")
        turn.emit("One, two, three. ")
        return "done"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[Any]:
        await tools.call("count")
        yield MessageEnd(({"type": "text", "text": "That was all."},))

    async with Server(assistant, settings=Settings(store_url="memory")) as server:
        opened = await server.open(ANN)
        session_id = opened.found.head.key.session_id
        turn = (await server.submit(ANN, session_id, "go", wait_seconds=WAIT_SECONDS)).turn

    assert turn.status == "completed"
    assert turn.progress.current_iteration == 3
    assert turn.output == "One, two, three. That was all."
