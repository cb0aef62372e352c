"""G8: every turn ends once, every call has one outcome, and no session is left unusable."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import httpx2
import pytest
from tests.guarantees.callers import ENDS, OUTCOMES, Caller, Record, assert_whole, of_kind
from tests.guarantees.conftest import Serve
from tests.guarantees.servers import Process, asking

from sessile import AgentFailed, Assistant, History, ToolError, Tools, TurnContext

T = TypeVar("T")


class Ends:
    """An assistant whose turns end in every way there is."""

    def __init__(self) -> None:
        self.assistant = Assistant(
            "ends", tools_allowed=("ok", "fails", "crashes", "hangs", "late")
        )
        self.began: dict[str, asyncio.Event] = {}
        self.go = asyncio.Event()

        @self.assistant.agent
        async def answer(turn: TurnContext, _history: History, tools: Tools):  # type: ignore[no-untyped-def]
            verb, _, name = turn.input["text"].partition(" ")
            yield f"begun {verb} "
            match verb:
                case "fail":
                    raise AgentFailed("gave_up", "No more.", retry=True)
                case "crash":
                    raise ZeroDivisionError
                case "cancel-itself":
                    raise asyncio.CancelledError
                case "hold":
                    self.reached(turn.turn_id).set()
                    await self.go.wait()
                case "stubborn":
                    self.reached(turn.turn_id).set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        yield "still writing "
                case "call":
                    self.reached(turn.turn_id)
                    results = [await tools.call(each) for each in name.split(",")]
                    yield ", ".join(result.status for result in results)
                case _:
                    yield "done"

        @self.assistant.tool("ok")
        async def ok(turn: TurnContext) -> str:
            """Works."""
            return "fine"

        @self.assistant.tool("fails")
        async def fails(turn: TurnContext) -> str:
            """Fails."""
            raise ToolError("not today")

        @self.assistant.tool("crashes")
        def crashes(turn: TurnContext) -> str:
            """Crashes, in a thread."""
            raise ZeroDivisionError

        @self.assistant.tool("hangs", timeout_seconds=0.2)
        async def hangs(turn: TurnContext) -> str:
            """Never answers."""
            await asyncio.Event().wait()
            return "never"

        @self.assistant.tool("late")
        async def late(turn: TurnContext) -> str:
            """Answers when it is let go."""
            self.reached(turn.turn_id).set()
            await self.go.wait()
            return "late"

        @self.assistant.tool("forbidden")
        async def forbidden(turn: TurnContext) -> str:
            """Is not in the allow-list."""
            return "never"

    def reached(self, turn_id: str) -> asyncio.Event:
        return self.began.setdefault(turn_id, asyncio.Event())

    async def running(self, caller: Caller, session_id: str, text: str) -> Record:
        turn = await caller.accepted(session_id, text)
        if turn["status"] == "running":
            await self.reached(turn["turn_id"]).wait()
        return turn


async def test_g8_each_turn_has_one_end_however_it_comes(serve: Serve) -> None:
    ends = Ends()
    async with serve(ends.assistant, turn_seconds_max=1.0) as world:
        ana = world.ana
        mine, other = await ana.opened(), await ana.opened()
        statuses: dict[str, str] = {}

        for text, status in (
            ("say", "completed"),
            ("fail", "failed"),
            ("crash", "failed"),
            ("call ok,fails,crashes,hangs,forbidden,missing,ok", "completed"),
        ):
            turn = await ana.said(mine, text)
            assert turn["status"] == status, turn
            statuses[turn["turn_id"]] = status

        # Both ends at once: cancelled as it completes, twenty times over.
        for _ in range(20):
            turn = await ana.accepted(mine, "say")
            await asyncio.gather(*(ana.cancel(turn) for _ in range(3)))
            statuses[turn["turn_id"]] = (await ana.ended(turn))["status"]
            assert statuses[turn["turn_id"]] in ("completed", "cancelled")

        for text in ("hold", "stubborn", "call late"):
            running = await ends.running(ana, mine, text)
            waiting = await ana.accepted(mine, "say")
            assert (await ana.cancel(waiting)).status_code == 200
            assert (await ana.cancel(running)).status_code == 202
            for turn in (running, waiting):
                statuses[turn["turn_id"]] = (await ana.ended(turn))["status"]
                assert statuses[turn["turn_id"]] == "cancelled"

        # A deadline, and a session that is closed over a turn that runs and one that waits.
        late = await ana.said(mine, "hold")
        assert late["status"] == "failed", late
        assert late["error"].keys() == {"code", "message", "retry"}
        statuses[late["turn_id"]] = "failed"
        last = await ends.running(ana, other, "hold")
        queued = await ana.accepted(other, "say")
        assert (await ana.post(f"/v1/sessions/{other}/close")).status_code == 200
        assert (await ana.ended(last))["status"] == "cancelled"
        assert (await ana.ended(queued))["status"] == "cancelled"

        log = await ana.log(mine)
        assert_whole(log)
        assert_whole(await ana.log(other))
        kinds = {entry["turn_id"]: entry["kind"] for entry in of_kind(log, *ENDS)}
        assert kinds == {turn_id: f"turn.{status}" for turn_id, status in statuses.items()}
        for turn_id in statuses:
            of_turn = [entry["kind"] for entry in log if entry["turn_id"] == turn_id]
            assert of_turn[-1] in ENDS, "a turn writes after its end"
        outcomes = Counter(entry["kind"] for entry in of_kind(log, *OUTCOMES))
        assert outcomes["tool.completed"] == 2
        assert outcomes["tool.failed"] == 3
        assert outcomes["tool.refused"] == 2
        session = await ana.session(mine)
        assert (session["queued"], session["running_turn_id"]) == (0, None)


async def test_g8_a_call_that_is_cancelled_has_its_outcome(serve: Serve) -> None:
    """And what the tool still does changes nothing more in the log."""
    ends = Ends()
    async with serve(ends.assistant) as world:
        mine = await world.ana.opened()
        turn = await ends.running(world.ana, mine, "call late")
        async with world.ana.follow(mine) as stream:
            assert (await world.ana.cancel(turn)).status_code == 202
            seen = await stream.until(*ENDS)
        ends.go.set()
        after = await world.ana.said(mine, "call ok")

        assert after["output"] == "begun call completed"
        log = await world.ana.log(mine)
        assert log[: len(seen)] == seen
        assert_whole(log)
        of_turn = [entry for entry in log if entry["turn_id"] == turn["turn_id"]]
        assert [entry["kind"] for entry in of_kind(of_turn, *OUTCOMES)] == ["tool.interrupted"]


async def test_g8_an_ordinary_end_is_no_fault_in_the_servers_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred turns that end just as what they wrote is due to be sent on."""
    assistant = Assistant("brief")

    @assistant.agent
    async def answer(turn: TurnContext, _history: History, tools: Tools) -> AsyncIterator[str]:
        yield "a"
        await tools.call("look")
        await turn.progress(current_iteration=1)
        yield "b"

    @assistant.tool("look")
    async def look(turn: TurnContext) -> str:
        """Looks."""
        return "seen"

    async with serve(assistant, delta_milliseconds=3) as world:

        async def ten() -> list[str]:
            session_id = await world.ana.opened()
            return [(await world.ana.said(session_id, "go"))["output"] for _ in range(10)]

        outputs = await asyncio.gather(*(ten() for _ in range(10)))

    assert outputs == [["ab"] * 10] * 10
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    "process", [pytest.param({"probe": "probe_model.py"}, id="model")], indirect=True
)
async def test_g8_a_kill_leaves_no_session_busy_and_no_history_that_is_refused(
    process: Process,
) -> None:
    """Sessions that failed, were cancelled and were killed, in every state of a turn. The model
    refuses a history as a provider does: see `probe_model`."""
    await process.start()
    killed: dict[str, list[Record]] = {}
    async with asking(process.url) as world:
        ana = world.ana

        async def running(assistant: str, text: str, *until: str) -> None:
            """A turn that has come as far as these entries, each after the other."""
            session_id = await ana.opened(assistant=assistant)
            if text.startswith("fail "):
                assert (await ana.said(session_id, text))["status"] == "failed"
                text = text.removeprefix("fail ")
            if text.startswith("cancel "):
                text = text.removeprefix("cancel ")
                turn = await ana.accepted(session_id, text)
                async with ana.follow(session_id) as stream:
                    await stream.until("tool.started")
                    assert (await ana.cancel(turn)).status_code == 202
                    await stream.until("turn.cancelled")
            turn = await ana.accepted(session_id, text)
            async with ana.follow(session_id, after=turn["seq"]) as stream:
                for kind in until:
                    await stream.until(kind)
            waits = await ana.accepted(session_id, "say waited")
            killed[session_id] = [turn, waits]

        await asyncio.gather(
            *(
                running(assistant, f"call {tool}", "tool.started")
                for assistant in ("worker", "thinker")
                for tool in ("once", "again", "thread")
            ),
            running("worker", "hold", "turn.progress"),
            running("thinker", "hold", "message.delta"),
            running("thinker", "call quick,once,again", "tool.completed"),
            running("thinker", "fail call again", "tool.started"),
            running("thinker", "cancel call once", "tool.started"),
            running("worker", "cancel call again", "tool.started"),
        )
        await process.kill()
    before = {name: Counter(process.noted(name)) for name in ("once", "again", "thread", "quick")}

    process.let_go()
    await process.start()
    async with asking(process.url) as world:
        ana = world.ana
        for session_id, turns in killed.items():
            for turn in turns:
                ended = await ana.ended(turn)
                assert ended["status"] == "completed", (turn["input"], ended)
            for n in range(3):
                fresh = await ana.said(session_id, f"say fresh {n}")
                assert fresh["output"].strip() == f"heard fresh {n}", fresh
            again = await ana.said(session_id, "call quick")
            assert "quick done" in (again["output"] or ""), (turns[0]["input"], again)

            log = await ana.log(session_id)
            assert_whole(log)
            session = await ana.session(session_id)
            assert (session["queued"], session["running_turn_id"]) == (0, None)
            started = [e["body"]["call_id"] for e in of_kind(log, "tool.started")]
            outcomes = {
                (entry["body"]["name"], entry["kind"])
                for entry in of_kind(log, *OUTCOMES)
                if entry["turn_id"] == turns[0]["turn_id"]
            }
            assert outcomes <= {
                ("once", "tool.interrupted"),
                ("thread", "tool.interrupted"),
                ("again", "tool.completed"),
                ("quick", "tool.completed"),
            }, outcomes
            assert len(started) >= len(set(started))
    assert process.noted("refused") == []

    # Once is once; what may run again did, in the same call; what was done was not done again.
    after = {name: Counter(process.noted(name)) for name in before}
    assert after["once"] == before["once"]
    assert after["thread"] == before["thread"]
    assert after["again"] - before["again"] == Counter(
        {
            session_id: 1
            for session_id, (turn, _) in killed.items()
            if "again" in turn["input"]["text"]
        }
    )
    assert after["quick"] - before["quick"] == Counter(dict.fromkeys(killed, 1))


async def test_g8_an_input_that_kills_its_server_ends_and_takes_nobody_with_it(
    process: Process,
) -> None:
    await process.start()
    async with asking(process.url) as world:
        poisoned, neighbour = await world.ana.opened(), await world.ana.opened()
        healthy = await world.ana.accepted(neighbour, "hold")
        async with world.ana.follow(neighbour) as stream:
            await stream.until("turn.progress")
        await lost(world.ana.submit(poisoned, "die now"))
        await process.gone()

    process.let_go()
    ended: Record | None = None
    for _ in range(4):
        await process.start()
        async with asking(process.url) as world:
            turns = await lost(world.ana.turns(poisoned))
            ended = await lost(world.ana.ended(turns[0])) if turns else None
        if ended is not None:
            break
        await process.gone()

    assert ended is not None, "it dies for ever"
    assert ended["status"] == "interrupted", ended
    assert len(process.noted("died")) == 3
    async with asking(process.url) as world:
        assert (await world.ana.ended(healthy))["status"] == "completed"
        for n in range(3):
            assert (await world.ana.said(poisoned, f"say {n}"))["output"] == f"heard {n}"
        assert_whole(await world.ana.log(poisoned))


async def lost(asked: Awaitable[T]) -> T | None:
    """The answer, or None where the server was lost before it came."""
    try:
        return await asked
    except httpx2.TransportError:
        return None
