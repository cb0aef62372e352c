"""G3: a tool sees the identity of the turn that calls it, and can use no other."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.guarantees.callers import Caller, of_kind
from tests.guarantees.conftest import Serve

from sessile import Assistant, History, Tools, TurnContext


def identity(turn: TurnContext) -> dict[str, str]:
    return {
        "tenant_id": turn.tenant_id,
        "user_id": turn.user_id,
        "session_id": turn.session_id,
        "turn_id": turn.turn_id,
        "asked": turn.input["text"],
    }


def asks_both(name: str) -> Assistant:
    """A function that calls an async tool and a blocking one."""
    assistant = Assistant(name)

    @assistant.agent
    async def answer(turn: TurnContext, _history: History, tools: Tools) -> str:
        for tool in ("who.async", "who.sync"):
            await tools.call(tool)
        return str(identity(turn))

    return assistant


def asks_both_by_a_model(name: str) -> Assistant:
    """A model that calls both tools at once."""

    async def stream(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[Any]:
        if any(part.part_kind == "tool-return" for part in messages[-1].parts):
            yield "both have answered"
        else:
            yield {0: DeltaToolCall("who_async", "{}", tool_call_id="same")}
            yield {1: DeltaToolCall("who_sync", "{}", tool_call_id="same-2")}

    return Assistant(name, model=FunctionModel(stream_function=stream))


@pytest.mark.parametrize("kind", [asks_both, asks_both_by_a_model])
async def test_g3_a_tool_sees_its_own_turn_each_time(serve: Serve, kind: Any) -> None:
    """Four sessions of three users run in step, three turns each, on one assistant: inside each
    tool all of them are present at once."""
    assistant: Assistant = kind("one")
    inside = asyncio.Barrier(4)
    inside_threads = threading.Barrier(4, timeout=15)

    @assistant.tool("who.async")
    async def who_async(turn: TurnContext) -> dict[str, str]:
        """Who asks?"""
        before = identity(turn)
        await inside.wait()
        assert identity(turn) == before
        return before

    @assistant.tool("who.sync")
    def who_sync(turn: TurnContext) -> dict[str, str]:
        """Who asks?"""
        before = identity(turn)
        inside_threads.wait()
        assert identity(turn) == before
        return before

    async with serve(assistant) as world:
        owners: list[Caller] = [world.ana, world.ana, world.ben, world.cleo]
        session_ids = [await owner.opened() for owner in owners]
        expected = defaultdict(list)
        for n in range(3):
            turns = await asyncio.gather(
                *(
                    owner.said(each, f"turn {n} of {each}")
                    for owner, each in zip(owners, session_ids, strict=True)
                )
            )
            for owner, turn in zip(owners, turns, strict=True):
                assert turn["status"] == "completed", turn
                expected[turn["session_id"]] += [
                    {
                        "tenant_id": owner.login.tenant,
                        "user_id": owner.login.user,
                        "session_id": turn["session_id"],
                        "turn_id": turn["turn_id"],
                        "asked": turn["input"]["text"],
                    }
                ] * 2

        for owner, session_id in zip(owners, session_ids, strict=True):
            told = of_kind(await owner.log(session_id), "tool.completed")
            assert [entry["body"]["result"] for entry in told] == expected[session_id]
            assert [entry["turn_id"] for entry in told] == [
                each["turn_id"] for each in expected[session_id]
            ]


def misuses(turn: TurnContext) -> dict[str, Any]:
    return {
        "session_id": lambda: turn.session_id,
        "turn_id": lambda: turn.turn_id,
        "user_id": lambda: turn.user_id,
        "history": lambda: turn.history,
        "progress": lambda: turn.progress(current_iteration=99, note="stolen"),
        "emit": lambda: turn.emit("stolen"),
    }


async def codes(turn: TurnContext) -> dict[str, str]:
    """What each use of this context raises, by its code."""
    found: dict[str, str] = {}
    for name, use in misuses(turn).items():
        try:
            used = use()
            if name in ("progress", "emit"):
                await used
        except Exception as error:  # noqa: BLE001
            found[name] = getattr(error, "code", repr(error))
        else:
            found[name] = "nothing"
    return found


def codes_in_a_thread(turn: TurnContext) -> dict[str, str]:
    """The same where nothing can be awaited: these raise when they are called."""
    found: dict[str, str] = {}
    for name, use in misuses(turn).items():
        try:
            use()
        except Exception as error:  # noqa: BLE001
            found[name] = getattr(error, "code", repr(error))
        else:
            found[name] = "nothing"
    return found


async def test_g3_a_context_that_was_kept_is_of_no_use_to_a_later_turn(serve: Serve) -> None:
    """The fault that founded the project: a tool object that remembers whom it served first."""
    kept: list[TurnContext] = []
    seen: list[dict[str, str]] = []
    assistant = Assistant("cached")

    @assistant.agent
    async def answer(_turn: TurnContext, _history: History, tools: Tools) -> str:
        for tool in ("cached.async", "cached.sync"):
            assert (await tools.call(tool)).status == "completed"
        return "done"

    @assistant.tool("cached.async")
    async def cached(turn: TurnContext) -> None:
        """Uses the first turn that it ever saw."""
        kept.append(turn)
        if kept[0] is not turn:
            seen.append(await codes(kept[0]))

    @assistant.tool("cached.sync")
    def cached_sync(turn: TurnContext) -> None:
        """The same, in a thread."""
        if len(kept) > 1:
            seen.append(codes_in_a_thread(kept[0]))

    async with serve(assistant) as world:
        mine, bens = await world.ana.opened(), await world.ben.opened()
        first = await world.ana.said(mine, "first")
        assert first["status"] == "completed", first
        before = await world.ana.log(mine)
        assert (await world.ben.said(bens, "other"))["status"] == "completed"
        assert await world.ana.log(mine) == before
        assert (await world.ana.said(mine, "again"))["status"] == "completed"

        assert len(seen) == 4
        for each in seen:
            assert set(each.values()) <= {"context_expired", "context_mismatch"}, each
        assert "stolen" not in str([await world.ana.log(mine), await world.ben.log(bens)])


async def test_g3_a_context_that_outlives_its_turn_has_expired(serve: Serve) -> None:
    left: list[TurnContext] = []
    outlives: list[asyncio.Task[dict[str, str]]] = []
    over = asyncio.Event()
    assistant = Assistant("leaves")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        async def later() -> dict[str, str]:
            await over.wait()
            return await codes(turn)

        left.append(turn)
        outlives.append(asyncio.get_running_loop().create_task(later()))
        return "done"

    async with serve(assistant) as world:
        mine = await world.ana.opened()
        await world.ana.said(mine, "leave something behind")
        before = await world.ana.log(mine)
        over.set()

        inside_its_task = await outlives[0]
        outside = await codes(left[0])
        in_a_thread = await asyncio.to_thread(codes_in_a_thread, left[0])

        for each in (inside_its_task, outside, in_a_thread):
            assert set(each.values()) == {"context_expired"}, each
        assert await world.ana.log(mine) == before


async def test_g3_a_context_of_a_turn_that_runs_is_refused_inside_another(serve: Serve) -> None:
    lent: dict[str, TurnContext] = {}
    both = asyncio.Barrier(2)
    seen: list[dict[str, str]] = []
    assistant = Assistant("lends")

    @assistant.agent
    async def answer(turn: TurnContext, _history: History, tools: Tools) -> str:
        for tool in ("swap.async", "swap.sync"):
            assert (await tools.call(tool)).status == "completed"
            await both.wait()
        return turn.input["text"]

    def other(turn: TurnContext) -> TurnContext:
        return lent["b" if turn.input["text"] == "a" else "a"]

    @assistant.tool("swap.async")
    async def swap(turn: TurnContext) -> None:
        """Uses the other's."""
        lent[turn.input["text"]] = turn
        await both.wait()
        seen.append(await codes(other(turn)))

    @assistant.tool("swap.sync")
    def swap_sync(turn: TurnContext) -> None:
        """Uses the other's, in a thread."""
        seen.append(codes_in_a_thread(other(turn)))

    async with serve(assistant) as world:
        mine, cleos = await world.ana.opened(), await world.cleo.opened()
        turns = await asyncio.gather(world.ana.said(mine, "a"), world.cleo.said(cleos, "b"))

        assert [turn["status"] for turn in turns] == ["completed", "completed"], turns
        assert len(seen) == 4
        for each in seen:
            assert set(each.values()) == {"context_mismatch"}, each
        assert "stolen" not in str([await world.ana.log(mine), await world.cleo.log(cleos)])
        assert [turn["output"] for turn in turns] == ["a", "b"]


async def test_g3_a_tool_that_captures_a_context_cannot_be_declared(serve: Serve) -> None:
    refusals: list[str] = []
    assistant = Assistant("captures")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        async def by_closure(turn_now: TurnContext) -> str:
            return turn.session_id

        async def by_default(turn_now: TurnContext, kept: Any = turn) -> str:
            return str(kept.session_id)

        class Holder:
            def __init__(self) -> None:
                self.kept = turn

            async def tool(self, turn_now: TurnContext) -> str:
                return self.kept.session_id

        for tool in (by_closure, by_default, Holder().tool):
            try:
                assistant.tool(tool)
            except Exception as error:  # noqa: BLE001
                refusals.append(getattr(error, "code", repr(error)))
            else:
                refusals.append("nothing")
        return "done"

    async with serve(assistant) as world:
        mine = await world.ana.opened()
        assert (await world.ana.said(mine, "go"))["status"] == "completed"

        assert refusals == ["captured_context"] * 3
        reply = await world.ana.get(f"/v1/sessions/{mine}/tools")
        listed = {each["tool"] for each in reply.json()["items"]}
        assert listed == {"context_status", "context_summarize"}


async def test_g3_a_model_cannot_fill_in_an_identity() -> None:
    assistant = Assistant("naming")

    async def named(turn: TurnContext, session_id: str) -> None:
        """Takes a session id from the model."""

    async def turned(turn: TurnContext, turn_id: str) -> None:
        """Takes a turn id from the model."""

    for tool in (named, turned):
        with pytest.raises(TypeError, match="cannot be an argument"):
            assistant.tool(tool)
    assert assistant.tools == ()
