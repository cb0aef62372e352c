"""G12: what a session may use is told, with the reasons. G13: how far a turn is, in full."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.guarantees.callers import (
    ENDS,
    FIGURES,
    Record,
    assert_whole,
    of_kind,
    told,
)
from tests.guarantees.conftest import Serve

from sessile import Assistant, History, Tools, TurnContext

NAMES = ("orders.find", "orders.cancel", "debug.info", "clock")
ALLOWED = ("orders.*", "clock")


def declare(assistant: Assistant) -> list[str]:
    """Four tools, which note that they ran."""
    ran: list[str] = []

    @assistant.tool("orders.find", idempotent=True)
    async def find(turn: TurnContext) -> str:
        """Find."""
        ran.append("orders.find")
        return "found"

    @assistant.tool("orders.cancel")
    def cancel(turn: TurnContext) -> str:
        """Cancel."""
        ran.append("orders.cancel")
        return "cancelled"

    @assistant.tool("debug.info")
    async def info(turn: TurnContext) -> str:
        """Tells what is not to be told."""
        ran.append("debug.info")
        return "secret"

    @assistant.tool("clock")
    async def clock(turn: TurnContext) -> str:
        """Tells the time."""
        ran.append("clock")
        return "noon"

    return ran


async def verdicts(caller: Any, session_id: str) -> dict[str, Record]:
    """Of the assistant's own tools; those that every assistant has want a grant, or are denied."""
    reply = told(await caller.get(f"/v1/sessions/{session_id}/tools"), 200)
    assert reply["next"] is None
    listed = {each["tool"]: each for each in reply["items"]}
    for name in ("context_status", "context_summarize"):
        assert listed.pop(name)["status"] in {"needs_grant", "denied"}
    return listed


async def test_g12_every_tool_is_listed_with_what_holds_of_it(serve: Serve) -> None:
    """And what the list says is what happens: to the agent that was offered the tools, and to one
    that calls what it was not."""
    assistant = Assistant("support", tools_allowed=ALLOWED)
    ran = declare(assistant)
    offered: list[str] = []

    @assistant.agent
    async def answer(_turn: TurnContext, _history: History, tools: Tools) -> str:
        offered.extend(tool.name for tool in tools.offered)
        results = [await tools.call(name) for name in (*NAMES, "no.such")]
        return ", ".join(f"{result.status} {result.reason or ''}" for result in results)

    async with serve(assistant) as world:
        mine = await world.ana.opened()
        listed = await verdicts(world.ana, mine)
        turn = await world.ana.said(mine, "try all")
        log = await world.ana.log(mine)

        assert listed.keys() == set(NAMES)
        assert {name: each["status"] for name, each in listed.items()} == {
            "orders.find": "allowed",
            "orders.cancel": "allowed",
            "debug.info": "denied",
            "clock": "allowed",
        }
        assert all(len(each["reason"]) > 10 for each in listed.values())
        assert offered == ran == ["orders.find", "orders.cancel", "clock"]
        refusals = {e["body"]["name"]: e["body"] for e in of_kind(log, "tool.refused")}
        assert refusals.keys() == {"debug.info", "no.such"}
        assert refusals["debug.info"]["verdict"] == listed["debug.info"]["status"]
        assert refusals["debug.info"]["reason"] == listed["debug.info"]["reason"]
        assert refusals["no.such"]["reason"] != refusals["debug.info"]["reason"]
        # The agent is told why, and so is who reads the history.
        assert listed["debug.info"]["reason"] in turn["output"]
        history = [m for m in await world.ana.messages(mine) if m["role"] == "tool"]
        assert [m["parts"][0]["status"] for m in history].count("refused") == 2
        assert_whole(log)


async def test_g12_a_model_is_offered_what_is_allowed_and_told_why_not(serve: Serve) -> None:
    """A model that calls a tool it was not offered: as it may remember it from before."""
    offered: list[str] = []
    answers: list[Any] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        offered[:] = [tool.name for tool in info.function_tools]
        last = [part for part in messages[-1].parts if part.part_kind != "user-prompt"]
        if not last:
            yield {0: DeltaToolCall("debug_info", "{}", tool_call_id="one")}
            yield {1: DeltaToolCall("clock", "{}", tool_call_id="two")}
        else:
            answers.extend(last)
            yield "so be it"

    assistant = Assistant(
        "support", model=FunctionModel(stream_function=stream), tools_allowed=ALLOWED
    )
    ran = declare(assistant)
    async with serve(assistant) as world:
        mine = await world.ana.opened()
        turn = await world.ana.said(mine, "tell me a secret")
        listed = await verdicts(world.ana, mine)
        log = await world.ana.log(mine)

        assert (turn["status"], turn["output"]) == ("completed", "so be it")
        assert sorted(offered) == ["clock", "orders_cancel", "orders_find"]
        assert ran == ["clock"]
        assert len(answers) == 2
        (refusal,) = of_kind(log, "tool.refused")
        assert refusal["body"]["name"] == "debug.info"
        assert refusal["body"]["verdict"] == listed["debug.info"]["status"]
        assert refusal["body"]["reason"] == listed["debug.info"]["reason"]
        assert_whole(log)


async def test_g12_the_list_is_that_of_the_sessions_own_assistant(serve: Serve) -> None:
    """Including a tool that was declared later, and where nothing is allowed at all."""
    plenty, none = Assistant("plenty"), Assistant("none", tools_allowed=())
    declare(plenty)
    declare(none)
    for assistant in (plenty, none):

        @assistant.agent
        async def answer(turn: TurnContext) -> str:
            return "done"

    async with serve(plenty, none) as world:
        first, second = await world.ana.opened(), await world.ana.opened(assistant="none")

        @none.tool("later")
        async def later(turn: TurnContext) -> str:
            """Came later."""
            return "late"

        of_first = await verdicts(world.ana, first)
        of_second = await verdicts(world.ana, second)
        assert [each["status"] for each in of_first.values()] == ["allowed"] * 4
        assert [each["status"] for each in of_second.values()] == ["denied"] * 5


def figures(record: Record) -> list[int]:
    """The four numbers, which are there, and are numbers."""
    found = [record[name] for name in FIGURES]
    assert all(type(figure) is int and figure >= 0 for figure in found), found
    return found


async def test_g13_the_numbers_are_in_every_record_and_never_fall(serve: Serve) -> None:
    """An agent that reports less than before, nothing at all, and a tool that reports beside it."""
    assistant = Assistant("working")
    steps = [asyncio.Event() for _ in range(4)]
    reached = [asyncio.Event() for _ in range(4)]

    @assistant.agent
    async def work(turn: TurnContext, _history: History, tools: Tools) -> str:
        reached[0].set()
        await steps[0].wait()
        await turn.progress(current_iteration=3, total_iterations=5, tokens_used=70)
        reached[1].set()
        await steps[1].wait()
        await turn.progress(current_iteration=1, total_iterations=2, tokens_used=10)
        await turn.progress(note="nothing new")
        await tools.call("measure")
        reached[2].set()
        await steps[2].wait()
        return "done"

    @assistant.tool("measure")
    async def measure(turn: TurnContext) -> None:
        """Reports on its own."""
        await turn.progress(current_iteration=4, tokens_used=60, total_tokens=90)

    async with serve(assistant) as world:
        ana = world.ana
        mine = await ana.opened()
        turn = await ana.accepted(mine, "work")
        waits = await ana.accepted(mine, "wait")
        path = f"/v1/sessions/{mine}/turns/{turn['turn_id']}"
        seen = [figures(turn)]
        assert figures(waits) == [0, 0, 0, 0]
        async with ana.follow(mine) as stream:
            for event, step in zip(reached, steps, strict=False):
                if step is not steps[3]:
                    await event.wait()
                seen.append(figures(told(await ana.get(path), 200)))
                seen.append(figures((await ana.turns(mine))[0]))
                step.set()
            entries = await stream.until(*ENDS)
        final = await ana.ended(turn)
        told(await ana.cancel(waits), 200, 202, 409)
        seen.append(figures(final))

        for earlier, later in pairwise(seen):
            assert all(map(int.__le__, earlier, later)), (earlier, later)
        assert seen[0] == [0, 0, 0, 0]
        assert seen[-1] == [4, 5, 70, 90]
        reports = [figures(entry["body"]) for entry in of_kind(entries, "turn.progress")]
        assert reports[0] == [3, 5, 70, 0]
        assert reports[-1] == [4, 5, 70, 90]
        for earlier, later in pairwise(reports):
            assert all(map(int.__le__, earlier, later)), (earlier, later)
        assert figures(entries[-1]["body"]) == seen[-1]
        assert all("note" in entry["body"] for entry in of_kind(entries, "turn.progress"))
        assert {entry["turn_id"] for entry in of_kind(entries, "turn.progress")} == {
            turn["turn_id"]
        }


async def test_g13_the_numbers_stand_over_a_restart(serve: Serve) -> None:
    """Handed back by a server that stops, taken up by the next, which begins to count anew."""
    began = asyncio.Event()

    def working(tokens: int, *, hold: bool) -> Assistant:
        assistant = Assistant("working")

        @assistant.agent
        async def work(turn: TurnContext) -> str:
            await turn.progress(current_iteration=turn.attempt, tokens_used=tokens)
            if hold:
                began.set()
                await asyncio.Event().wait()
            return "done"

        return assistant

    async with serve(working(70, hold=True), drain_seconds_max=0.01) as world:
        mine = await world.ana.opened()
        turn = await world.ana.accepted(mine, "work")
        await began.wait()
    async with serve(working(5, hold=False)) as world:
        final = await world.ana.ended(turn)
        log = await world.ana.log(mine)

    assert (final["status"], final["attempt"]) == ("completed", 2)
    assert figures(final) == [2, 2, 70, 70] or figures(final)[:3:2] == [2, 70], final
    assert_whole(log)


async def test_g13_a_models_tokens_are_counted_while_it_works(serve: Serve) -> None:
    """Each request of a model is an iteration; at the end the totals are what was used."""

    async def stream(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[Any]:
        answers = sum(part.part_kind == "tool-return" for each in messages for part in each.parts)
        if answers < 3:
            yield {0: DeltaToolCall("clock", "{}", tool_call_id=f"call-{answers}")}
        else:
            yield "it is noon"

    assistant = Assistant("counted", model=FunctionModel(stream_function=stream))
    declare(assistant)
    async with serve(assistant) as world:
        mine = await world.ana.opened()
        turn = await world.ana.said(mine, "what time is it?")
        log = await world.ana.log(mine)

        assert turn["status"] == "completed"
        final = figures(turn)
        assert final[0] == final[1] == 4
        assert final[2] == final[3] > 0
        reports = [figures(entry["body"]) for entry in of_kind(log, "turn.progress")]
        assert len(reports) >= 3
        for report, later in zip(reports, [*reports[1:], final], strict=True):
            assert all(map(int.__le__, report, later)), (report, later)
        assert reports[0][2] > 0
        assert_whole(log)


async def test_g13_turns_that_failed_or_were_cancelled_have_the_numbers_too(serve: Serve) -> None:
    assistant = Assistant("ending")
    began = asyncio.Event()

    @assistant.agent
    async def work(turn: TurnContext) -> str:
        await turn.progress(current_iteration=2, total_iterations=9, tokens_used=33)
        if turn.input["text"] == "fail":
            raise ValueError("no")
        began.set()
        await asyncio.Event().wait()
        return "never"

    async with serve(assistant) as world:
        mine = await world.ana.opened()
        failed = await world.ana.said(mine, "fail")
        turn = await world.ana.accepted(mine, "hold")
        await began.wait()
        reply = await world.ana.cancel(turn)
        figures(reply.json())
        cancelled = await world.ana.ended(turn)

        for record in (failed, cancelled):
            assert figures(record)[0] == 2
            assert figures(record)[1] in (2, 9)
            assert figures(record)[2] == 33
        ends = {e["turn_id"]: e["body"] for e in of_kind(await world.ana.log(mine), *ENDS)}
        assert figures(ends[failed["turn_id"]]) == figures(failed)
        assert figures(ends[turn["turn_id"]]) == figures(cancelled)
