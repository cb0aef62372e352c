"""Agents that a user brings: their own tools, their outputs, and what ends a run of theirs."""

import json
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    ApprovalRequired,
    DeferredToolRequests,
    ModelRetry,
    NativeOutput,
    RunContext,
    ToolFailed,
    ToolOutput,
    ToolReturn,
)
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.toolsets import FunctionToolset
from tests.integrations.journal import Journal
from tests.integrations.models import Script, call

from sessile.core.context import TurnContext
from sessile.core.events import (
    MessageAdded,
    ToolCompleted,
    ToolInterrupted,
    ToolStarted,
)
from sessile.core.events import (
    ToolFailed as ToolFailedEvent,
)
from sessile.integrations.pydantic_ai import PydanticLoop
from sessile.kit import Assistant
from sessile.ports.agent import AgentFailed

Context = RunContext[TurnContext]


class Weather(BaseModel):
    city: str
    degrees: float


def brought(script: Script, **declared: Any) -> Agent[TurnContext, Any]:
    agent: Agent[TurnContext, Any] = Agent(script.model(), deps_type=TurnContext, **declared)
    return agent


def loop_of(agent: Any) -> PydanticLoop:
    return PydanticLoop(Assistant("support", agent=agent))


async def test_its_own_tools_are_journalled() -> None:
    script = Script([call("weather", {"city": "Nantes"})], "Mild.")
    agent = brought(script)

    @agent.tool
    async def weather(ctx: Context, city: str) -> dict[str, Any]:
        assert ctx.deps.session_id == ctx.conversation_id == "ses_1"
        return {"city": Weather(city=city, degrees=20), "low": float("nan")}

    journal = Journal().asked("how is it?")

    assert await journal.run(loop_of(agent)) == "Mild."
    (completed,) = journal.of(ToolCompleted)
    assert completed.arguments == {"city": "Nantes"}
    assert completed.result == {"city": {"city": "Nantes", "degrees": 20}, "low": None}
    assert completed.call_id == journal.of(MessageAdded)[1].parts[0]["call_id"]
    assert script.asked[1][-1] == (
        "tool-return",
        ("weather", "same", "success", completed.result),
    )


async def test_the_assistants_tools_are_offered_beside_its_own() -> None:
    script = Script(
        [call("mine", call_id="a"), call("debug_info", call_id="b"), call("set", call_id="c")],
        "done",
    )
    toolset: FunctionToolset[TurnContext] = FunctionToolset()
    agent = brought(script, toolsets=[toolset])

    @agent.tool_plain
    def mine() -> str:
        return "from the agent"

    @toolset.tool
    def set(ctx: Context) -> str:
        return "from a toolset"

    support = Assistant("support", agent=agent)

    @support.tool("debug.info")
    async def info(turn: TurnContext) -> str:
        return "from the assistant"

    journal = Journal(tools=support.tools).asked("go")

    assert await journal.run(PydanticLoop(support)) == "done"
    assert {e.name: e.result for e in journal.of(ToolCompleted)} == {
        "mine": "from the agent",
        "set": "from a toolset",
        "debug.info": "from the assistant",
    }


async def test_a_run_cut_anywhere_repeats_none_of_its_tools_but_those_that_may_be() -> None:
    ran: list[str] = []
    script = Script([call("once", call_id="a"), call("again", call_id="b")], "ok")
    agent = brought(script, instructions="Be brief.")

    @agent.tool_plain
    def once() -> str:
        ran.append("once")
        return "one"

    @agent.tool_plain(metadata={"idempotent": True})
    def again() -> str:
        ran.append("again")
        return "two"

    loop = loop_of(agent)
    whole = Journal().asked("go")
    await whole.run(loop)

    for length in range(1, len(whole.events) + 1):
        ran.clear()
        journal = whole.cut(length)
        started = {e.name for e in journal.of(ToolStarted)}
        done = {e.name for e in journal.of(ToolCompleted)}

        assert await journal.run(loop) == "ok", f"cut at {length}"

        expected = {"once", "again"} - done - ({"once"} & started)
        assert set(ran) == expected, f"cut at {length}"
        lost = {e.name for e in journal.of(ToolInterrupted)}
        assert lost == {"once"} & started - done, f"cut at {length}"


async def test_what_its_tools_ask_the_model_to_do_again_is_a_failure_in_the_log() -> None:
    tries: list[int] = []
    script = Script([call("guess", {"n": 1})], [call("guess", {"n": 2})], [call("give_up")], "ok")
    agent = brought(script)

    @agent.tool_plain
    def guess(n: int) -> str:
        tries.append(n)
        if n == 1:
            raise ModelRetry("a larger one")
        return "right"

    @agent.tool_plain
    def give_up() -> None:
        raise ToolFailed("not today")

    journal = Journal().asked("go")

    assert await journal.run(loop_of(agent)) == "ok"
    assert tries == [1, 2]
    assert [e.error for e in journal.of(ToolFailedEvent)] == ["a larger one", "not today"]
    assert script.asked[1][-1][1][2:] == ("retried", "a larger one")
    assert script.asked[3][-1][1][2:] == ("failed", "not today")


async def test_too_many_tries_end_the_turn_as_the_agent_declared() -> None:
    script = Script([call("guess")])
    agent = brought(script, retries=1)

    @agent.tool_plain
    def guess() -> str:
        raise ModelRetry("again")

    journal = Journal().asked("go")

    with pytest.raises(AgentFailed, match="exceeded max retries count of 1") as caught:
        await journal.run(loop_of(agent))

    assert caught.value.code == "model_misbehaved"
    assert len(journal.of(ToolStarted)) == len(journal.of(ToolFailedEvent)) == 2


async def test_an_error_in_its_tool_is_told_to_the_model() -> None:
    script = Script([call("break_it")], "It broke.")
    agent = brought(script)

    @agent.tool_plain
    def break_it() -> None:
        raise OSError("no such disk")

    journal = Journal().asked("go")

    assert await journal.run(loop_of(agent)) == "It broke."
    assert [e.error for e in journal.of(ToolFailedEvent)] == ["OSError: no such disk"]
    assert "no such disk" in script.asked[1][-1][1][3]


async def test_arguments_that_do_not_fit_its_tool_fail_in_the_log() -> None:
    script = Script([call("guess", {"n": "x"})], "I cannot.")
    agent = brought(script)

    @agent.tool_plain
    def guess(n: int) -> None: ...

    journal = Journal().asked("go")

    assert await journal.run(loop_of(agent)) == "I cannot."
    (failed,) = journal.of(ToolFailedEvent)
    assert "valid integer" in failed.error


async def test_of_a_rich_return_the_value_is_in_the_log() -> None:
    script = Script([call("look")], "Seen.")
    agent = brought(script)

    @agent.tool_plain
    def look() -> ToolReturn[dict[str, int]]:
        return ToolReturn(return_value={"n": 1}, content="and a picture")

    journal = Journal().asked("go")
    await journal.run(loop_of(agent))

    assert [e.result for e in journal.of(ToolCompleted)] == [{"n": 1}]
    assert ("tool-return", ("look", "same", "success", {"n": 1})) in script.asked[1]
    assert ("user-prompt", "and a picture") in script.asked[1]


async def test_what_another_agent_does_within_a_tool_is_part_of_that_call() -> None:
    inner = brought(Script([call("step")], "inner done"))

    @inner.tool_plain
    def step() -> str:
        return "stepped"

    agent = brought(Script([call("delegate")], "outer done"))

    @agent.tool
    async def delegate(ctx: Context) -> str:
        result = await inner.run("go", deps=ctx.deps)
        return str(result.output)

    journal = Journal().asked("go")

    assert await journal.run(loop_of(agent)) == "outer done"
    assert [(e.name, e.result) for e in journal.of(ToolCompleted)] == [("delegate", "inner done")]


async def test_a_tool_that_calls_its_own_agent_is_one_call() -> None:
    script = Script([call("delegate")], "done")
    agent = brought(script)
    depth: list[int] = []

    @agent.tool
    async def delegate(ctx: Context) -> str:
        depth.append(1)
        if len(depth) > 1:
            return "deep"
        return str((await agent.run("again", deps=ctx.deps)).output)

    journal = Journal().asked("go")

    assert await journal.run(loop_of(agent)) == "done"
    assert len(depth) == 2
    assert len(journal.of(ToolStarted)) == 1


async def test_its_capabilities_stand_within_the_journal() -> None:
    class Twice(AbstractCapability[Any]):
        async def wrap_tool_execute(self, ctx: Any, *, handler: Any, args: Any, **_: Any) -> Any:
            await handler(args)
            return await handler(args)

    ran: list[int] = []
    agent = brought(Script([call("ping")], "ok"), capabilities=[Twice()])

    @agent.tool_plain
    def ping() -> int:
        ran.append(1)
        return len(ran)

    journal = Journal().asked("go")
    await journal.run(loop_of(agent))

    assert [e.result for e in journal.of(ToolCompleted)] == [2]


@pytest.mark.parametrize(
    ("output", "step"),
    [
        (ToolOutput(Weather), [call("final_result", {"city": "Nantes", "degrees": 20})]),
        (NativeOutput(Weather), '{"degrees": 20, "city": "Nantes"}'),
    ],
)
async def test_an_output_that_is_no_text_is_json(output: Any, step: Any) -> None:
    script = Script(step, "next")
    journal = Journal().asked("go")

    reply = await journal.run(loop_of(brought(script, output_type=output)))

    assert json.loads(reply) == {"city": "Nantes", "degrees": 20.0}
    assert len(journal.of(MessageAdded)) == 2
    assert journal.of(ToolStarted) == []
    journal.asked("two", turn_id="trn_2")
    await journal.run(loop_of(brought(script)))
    assert script.asked[1][1] == ("text", reply)


async def test_tools_beside_the_final_output_have_an_outcome() -> None:
    final = call("final_result", {"city": "Nantes", "degrees": 20}, call_id="b")
    script = Script(["Here.", call("ping", call_id="a"), final])
    agent = brought(script, output_type=ToolOutput(Weather), end_strategy="early")

    @agent.tool_plain
    def ping() -> None:
        raise AssertionError("it is not to run")

    journal = Journal().asked("go")

    assert json.loads(await journal.run(loop_of(agent)))["city"] == "Nantes"
    assert journal.kinds() == [
        "message.added",
        "message.added",
        "tool.started",
        "tool.failed",
        "message.added",
    ]
    assert "final result was already processed" in journal.of(ToolFailedEvent)[0].error


async def test_an_output_that_is_not_taken_is_told_again_after_a_loss() -> None:
    script = Script("too short", "long enough now", "third")
    agent = brought(script)

    @agent.output_validator
    def long_enough(output: str) -> str:
        if len(output) < 12:
            raise ModelRetry("Say more.")
        return output

    journal = Journal().asked("go")

    assert await journal.run(loop_of(agent)) == "long enough now"
    assert [text for _, text in journal.transcript()] == ["go", "too short", "long enough now"]
    shown = script.asked[1]
    cut = journal.cut(2)
    assert await cut.run(loop_of(agent)) == "long enough now"
    assert len(script.asked) == 3
    assert [text for _, text in script.asked[2]] == [text for _, text in shown]


async def test_what_is_wrong_with_an_output_is_told_again_after_a_loss() -> None:
    script = Script('{"city": 1}', '{"city": "Nantes", "degrees": 20}')
    agent = brought(script, output_type=NativeOutput(Weather))
    journal = Journal().asked("go")
    await journal.run(loop_of(agent))

    await journal.cut(2).run(loop_of(agent))

    assert script.asked[2] == script.asked[1]
    assert "degrees" in str(script.asked[1])


async def test_an_output_may_be_changed_before_it_is_said() -> None:
    agent = brought(Script("abc"))

    @agent.output_validator
    def louder(output: str) -> str:
        return output.upper()

    journal = Journal().asked("go")

    assert await journal.run(loop_of(agent)) == "ABC"
    assert len(journal.of(MessageAdded)) == 2


async def test_an_approval_of_its_own_making_is_refused_in_plain_words() -> None:
    agent = brought(Script([call("pay")], "ok"))

    @agent.tool_plain
    def pay() -> None:
        raise ApprovalRequired

    journal = Journal().asked("go")

    assert await journal.run(loop_of(agent)) == "ok"
    assert "asks for an approval" in journal.of(ToolFailedEvent)[0].error


async def test_a_deferred_output_fails_the_turn() -> None:
    agent = brought(Script([call("pay")]), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def pay() -> None: ...

    journal = Journal().asked("go")

    with pytest.raises(AgentFailed) as caught:
        await journal.run(loop_of(agent))

    assert caught.value.code == "approval_unsupported"
    assert len(journal.of(ToolFailedEvent)) == 1
