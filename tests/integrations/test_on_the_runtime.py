"""The loop over a model on the real runtime: what the small journal of these tests promises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.integrations.models import Script, call

from sessile import Assistant, History, Principal, Server, Settings, TurnContext
from sessile.adapters.memory import MemoryStore
from sessile.adapters.system import SystemClock
from sessile.core.ids import SessionId, SessionKey, TenantId, UserId
from sessile.integrations.demo_model import demo_model
from sessile.runtime.steps import Steps

ANA = Principal(tenant_id=TenantId("acme"), user_id=UserId("ana"))


async def opened(server: Server) -> SessionId:
    return (await server.open(ANA)).found.head.key.session_id


async def transcript(server: Server, session_id: SessionId) -> list[tuple[str, str]]:
    return [(m.role, m.text) for m in await server.history(ANA, session_id)]


@pytest.fixture
def settings() -> Settings:
    return Settings(store_url="memory")


async def test_a_turn_with_tools_is_run_and_journalled(settings: Settings) -> None:
    script = Script([call("look", call_id="a"), call("nowhere", call_id="b")], "There it is.")
    support = Assistant("support", model=script.model(), instructions="Be brief.")

    @support.tool
    def look(turn: TurnContext) -> str:
        return turn.session_id

    async with Server(support, settings=settings) as server:
        session_id = await opened(server)
        done = await server.submit(ANA, session_id, "where?", wait_seconds=10)

        assert (done.turn.status, done.turn.output) == ("completed", "There it is.")
        assert done.turn.progress.current_iteration == 2
        assert done.turn.progress.tokens_used > 0
        said = await transcript(server, session_id)
        assert said[0] == ("user", "where?")
        assert set(said[2:4]) == {("tool", session_id), ("tool", "The assistant has no such tool.")}
        assert said[4:] == [("assistant", "There it is.")]


async def test_tokens_are_counted_on_from_what_a_lost_attempt_had_reached(
    settings: Settings,
) -> None:
    held = MemoryStore(clock=SystemClock())
    asked = asyncio.Event()
    said = ["word "] * 500

    def model(*, hangs: bool) -> FunctionModel:
        async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
            if len(messages) == 1:
                for word in said:
                    yield word
                yield {1: call("ping")}
            elif hangs:
                asked.set()
                await asyncio.Event().wait()
            else:
                yield "done"

        return FunctionModel(stream_function=stream)

    def serving(*, hangs: bool) -> Server:
        support = Assistant("support", model=model(hangs=hangs))

        @support.tool
        async def ping(turn: TurnContext) -> None: ...

        return Server(
            support,
            settings=replace(settings, drain_seconds_max=0.01),
            store=lambda _settings, _clock: nullcontext(held),
        )

    async with serving(hangs=True) as server:
        session_id = await opened(server)
        turn_id = (await server.submit(ANA, session_id, "go")).turn.turn_id
        await asked.wait()
    handed_back = await held.find(SessionKey(ANA.tenant_id, session_id), turn_id)
    async with serving(hangs=False) as server:
        ended = await server.sessions.wait(ANA, session_id, turn_id, seconds=10)

    assert handed_back is not None
    assert handed_back.turn is not None
    reached = handed_back.turn.progress.tokens_used
    assert reached > len(said)
    assert (ended.status, ended.attempt) == ("completed", 2)
    assert ended.progress.tokens_used > reached
    assert ended.progress.current_iteration == 2


async def test_what_is_steered_in_is_read_or_answered_by_another_run(settings: Settings) -> None:
    asked = asyncio.Event()
    steered = asyncio.Event()

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        last: Any = messages[-1].parts[-1]
        yield f"You said {last.content}."
        asked.set()
        await steered.wait()

    support = Assistant("support", model=FunctionModel(stream_function=stream))
    async with Server(support, settings=settings) as server:
        session_id = await opened(server)
        first = await server.submit(ANA, session_id, "one")
        await asked.wait()
        await server.submit(ANA, session_id, "two", when_busy="steer")
        steered.set()
        done = await server.submit(ANA, session_id, "three", wait_seconds=10)

        assert done.turn.status == "completed"
        assert await transcript(server, session_id) == [
            ("user", "one"),
            ("assistant", "You said one."),
            ("user", "two"),
            ("assistant", "You said two."),
            ("user", "three"),
            ("assistant", "You said three."),
        ]
        assert first.turn.turn_id != done.turn.turn_id


async def test_a_reply_that_was_cancelled_is_told_the_model_as_cut_off(settings: Settings) -> None:
    asked = asyncio.Event()
    prompts: list[str] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        prompts.append(str(messages))
        yield "So far"
        if len(prompts) == 1:
            asked.set()
            await asyncio.Event().wait()

    support = Assistant("support", model=FunctionModel(stream_function=stream))
    async with Server(support, settings=settings) as server:
        session_id = await opened(server)
        first = await server.submit(ANA, session_id, "one")
        await asked.wait()
        await server.cancel(ANA, session_id, first.turn.turn_id)
        done = await server.submit(ANA, session_id, "two", wait_seconds=10)

        assert done.turn.status == "completed"
        assert "[cut off]" in prompts[1]


async def test_what_a_model_fails_of_is_in_the_turn(settings: Settings) -> None:
    support = Assistant("support", model=Script([call("ping")]).model())

    @support.tool
    async def ping(turn: TurnContext) -> None: ...

    async with Server(support, settings=settings) as server:
        session_id = await opened(server)
        done = await server.submit(ANA, session_id, "go", wait_seconds=20)

    assert done.turn.status == "failed"
    assert done.turn.error is not None
    assert (done.turn.error["code"], done.turn.error["retry"]) == ("usage_limit", False)


async def test_a_session_remembers_and_another_does_not(settings: Settings) -> None:
    demo = Assistant("demo", model=demo_model(word_seconds=0))
    async with Server(demo, settings=settings) as server:
        here, there = await opened(server), await opened(server)
        await server.submit(ANA, here, "my name is Ana", wait_seconds=10)
        known = await server.submit(ANA, here, "what is my name?", wait_seconds=10)
        unknown = await server.submit(ANA, there, "what is my name?", wait_seconds=10)

    assert known.turn.output == "Your name is Ana."
    assert unknown.turn.output == "You have not told me your name in this session."


async def test_a_turn_that_leaves_a_call_without_its_outcome_rings_the_alarm(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never should: the fault is planted."""
    begun = asyncio.Event()
    slow = Assistant("slow", model=Script([call("wait")], "done").model())

    @slow.tool
    async def wait(turn: TurnContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def cancelled(server: Server) -> float:
        session_id = await opened(server)
        begun.clear()
        turn = (await server.submit(ANA, session_id, "go")).turn
        await begun.wait()
        await server.cancel(ANA, session_id, turn.turn_id)
        ended = await server.sessions.wait(ANA, session_id, turn.turn_id, seconds=10)
        assert ended.status == "cancelled"
        orphans = server.telemetry.registry.get_sample_value(
            "sessile_orphaned_calls_must_stay_zero_total"
        )
        assert orphans is not None
        return orphans

    async with Server(slow, settings=settings) as server:
        assert await cancelled(server) == 0
        monkeypatch.setattr(Steps, "open_calls", lambda _: ())
        assert await cancelled(server) == 1


async def test_the_context_counts_what_the_next_turn_is_given(settings: Settings) -> None:
    """Behind a summary, that is what its own turn said too."""
    given: list[int] = []

    async def answer(turn: TurnContext) -> str:
        given.append(len(turn.history.messages))
        if turn.input["text"] == "fold":
            await turn.summarize("all so far")
        return "ok"

    async def read(turn: TurnContext, history: History) -> str:
        return await answer(turn)

    async with Server(Assistant("folder", agent=read), settings=settings) as server:
        session_id = await opened(server)
        for text in ("one", "fold"):
            await server.submit(ANA, session_id, text, wait_seconds=10)
        report = await server.reads.context(ANA, session_id)
        await server.submit(ANA, session_id, "two", wait_seconds=10)

    assert report.messages + 1 == given[-1], "and the message that it is asked with"
