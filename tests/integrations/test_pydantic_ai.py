"""The loop over a model: what the log is told, in which order, and what is told the model."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import pytest
from pydantic_ai import exceptions
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from tests.integrations.journal import Desk, Journal, context
from tests.integrations.models import Script, call, thinking

from sessile.core.context import TurnContext
from sessile.core.events import (
    MessageAdded,
    Progress,
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
    ToolStarted,
)
from sessile.core.transcript import History
from sessile.integrations import pydantic_ai as adapter
from sessile.integrations.pydantic_ai import PydanticLoop
from sessile.kit import Assistant
from sessile.ports.agent import AgentFailed, MessageEnd, TextDelta, ThinkingDelta


def assistant(script: Script, **declared: Any) -> Assistant:
    return Assistant("support", model=script.model(), **declared)


async def test_a_reply_is_streamed_and_left_open() -> None:
    script = Script(["Hel", "lo ", "Ana"])
    journal = Journal().asked("hi")

    assert await journal.run(PydanticLoop(assistant(script))) == "Hello Ana"

    assert [e for e in journal.yielded if not isinstance(e, Progress)] == [
        TextDelta("Hel"),
        TextDelta("lo "),
        TextDelta("Ana"),
    ]
    assert script.asked == [[("user-prompt", "hi")]]


async def test_a_response_is_in_the_log_before_its_calls_run() -> None:
    script = Script(["Let me see.", call("orders_lookup", {"number": 7})], "It is there.")
    support = assistant(script)
    journal = Journal(tools=support.tools)

    @support.tool("orders.lookup")
    async def lookup(turn: TurnContext, number: int) -> str:
        assert journal.kinds() == ["message.added", "message.added", "tool.started"]
        return f"order {number}"

    journal.tools = support.tools
    journal.asked("where?")

    assert await journal.run(PydanticLoop(support)) == "It is there."

    announced = journal.of(MessageAdded)[1].parts
    assert announced[0] == {"type": "text", "text": "Let me see."}
    assert announced[1] == {
        "type": "tool_call",
        "call_id": "call_2",
        "name": "orders.lookup",
        "arguments": {"number": 7},
        "provider": {"tool_name": "orders_lookup", "tool_call_id": "same"},
    }
    (completed,) = journal.of(ToolCompleted)
    assert (completed.call_id, completed.name) == ("call_2", "orders.lookup")
    assert script.offered == [["orders_lookup"]] * 2
    assert script.asked[1][1:] == [
        ("text", "Let me see."),
        ("tool-call", ("orders_lookup", {"number": 7}, "same")),
        ("tool-return", ("orders_lookup", "same", "success", "order 7")),
    ]


async def test_the_calls_of_one_response_run_side_by_side() -> None:
    both = asyncio.Barrier(2)
    support = assistant(
        Script([call("wait", {"n": 1}, call_id="a"), call("wait", {"n": 2}, call_id="b")], "done")
    )

    @support.tool
    async def wait(turn: TurnContext, n: int) -> int:
        async with asyncio.timeout(5):
            await both.wait()
        return n

    journal = Journal(tools=support.tools).asked("go")

    assert await journal.run(PydanticLoop(support)) == "done"
    assert {e.arguments["n"]: e.result for e in journal.of(ToolCompleted)} == {1: 1, 2: 2}


async def test_the_same_id_of_a_provider_is_another_call_in_each_step() -> None:
    support = assistant(Script([call("count")], [call("count")], [call("count")], "done"))
    counted: list[int] = []

    @support.tool
    async def count(turn: TurnContext) -> int:
        counted.append(len(counted))
        return counted[-1]

    journal = Journal(tools=support.tools).asked("go")
    await journal.run(PydanticLoop(support))

    assert counted == [0, 1, 2]
    assert len({e.call_id for e in journal.of(ToolCompleted)}) == 3


async def test_no_session_meets_another_ones_context() -> None:
    script = Script([call("whose")], [call("whose")], "done")
    support = assistant(script, instructions="Be brief.")
    everyone = asyncio.Barrier(200)

    @support.tool
    async def whose(turn: TurnContext) -> str:
        async with asyncio.timeout(60):
            await everyone.wait()
        return turn.session_id

    loop = PydanticLoop(support)
    journals = [
        Journal(session_id=f"ses_{n}", tools=support.tools).asked(f"canary {n}") for n in range(200)
    ]

    async with asyncio.TaskGroup() as group:
        for journal in journals:
            group.create_task(journal.run(loop))

    for n, journal in enumerate(journals):
        assert [e.result for e in journal.of(ToolCompleted)] == [f"ses_{n}"] * 2
    for asked in script.asked:
        canary = asked[0][1].removeprefix("canary ")
        returned = {said[3] for kind, said in asked if kind == "tool-return"}
        assert returned <= {f"ses_{canary}"}


async def test_instructions_are_sent_with_every_request() -> None:
    script = Script([call("ping")], "done")
    support = assistant(script, instructions="Be brief.")

    @support.tool
    async def ping(turn: TurnContext) -> None: ...

    journal = Journal(tools=support.tools).asked("go")
    await journal.run(PydanticLoop(support))

    assert script.instructions == ["Be brief."] * 2


async def test_a_failing_tool_is_told_and_the_turn_goes_on() -> None:
    script = Script(
        [call("fail", call_id="a"), call("typed", {"n": "x"}, call_id="b")], "So it failed."
    )
    support = assistant(script)

    @support.tool
    async def fail(turn: TurnContext) -> None:
        raise RuntimeError("the disk is full")

    @support.tool
    async def typed(turn: TurnContext, n: int) -> None: ...

    journal = Journal(tools=support.tools).asked("go")

    assert await journal.run(PydanticLoop(support)) == "So it failed."
    returns = {said[0]: said[2:] for kind, said in script.asked[1] if kind == "tool-return"}
    assert returns["fail"] == ("failed", "RuntimeError: the disk is full")
    assert returns["typed"][0] == "failed"
    assert "Invalid arguments for typed: n: Input should be a valid integer" in returns["typed"][1]
    assert len(journal.of(ToolFailed)) == 2


async def test_a_tool_that_there_is_not_is_refused_in_the_log_and_told() -> None:
    script = Script([call("nowhere", {"a": 1})], [call("nowhere")], "I cannot.")
    support = assistant(script)

    @support.tool
    async def ping(turn: TurnContext) -> None: ...

    journal = Journal(tools=support.tools).asked("go")

    assert await journal.run(PydanticLoop(support)) == "I cannot."
    refused = journal.of(ToolRefused)
    assert [(e.name, e.arguments) for e in refused] == [("nowhere", {"a": 1}), ("nowhere", {})]
    assert "Unknown tool name: 'nowhere'" in str(script.asked[1][-1])


async def test_arguments_that_are_no_json_object_fail_in_the_log_and_are_told() -> None:
    ran: list[str] = []
    script = Script([call("ping", '{"a": ')], [call("ping", "[1]")], "I cannot.")
    support = assistant(script)

    @support.tool
    async def ping(turn: TurnContext) -> None:
        ran.append("ping")

    journal = Journal(tools=support.tools).asked("go")

    assert await journal.run(PydanticLoop(support)) == "I cannot."
    assert len(journal.of(ToolFailed)) == 2
    assert ran == []
    announced = journal.of(MessageAdded)[1].parts[0]
    assert announced["arguments"] == {}
    assert announced["provider"]["args"] == '{"a": '


async def test_what_is_steered_in_joins_the_next_request() -> None:
    script = Script([call("ping")], "Both done.")
    support = assistant(script)
    journal = Journal()

    @support.tool
    async def ping(turn: TurnContext) -> str:
        journal.to_steer.append("and another thing")
        return "pong"

    journal.tools = support.tools
    journal.asked("one thing")
    await journal.run(PydanticLoop(support))

    assert script.asked[1][-2:] == [
        ("tool-return", ("ping", "same", "success", "pong")),
        ("user-prompt", "and another thing"),
    ]
    assert [text for _, text in journal.transcript()] == [
        "one thing",
        "",
        "pong",
        "and another thing",
        "Both done.",
    ]
    script.asked.clear()
    resumed = journal.cut(len(journal.events) - 1)
    await resumed.run(PydanticLoop(support))
    assert script.asked[0][-1] == ("user-prompt", "and another thing")
    assert resumed.transcript() == journal.transcript()


async def test_an_answered_turn_is_not_answered_again() -> None:
    script = Script("once", "twice")
    loop = PydanticLoop(assistant(script, instructions="Be brief."))
    journal = Journal().asked("hi")

    await journal.run(loop)
    await journal.run(loop)

    assert journal.transcript() == [("user", "hi"), ("assistant", "once")]
    assert len(script.asked) == 1


async def test_the_next_turn_is_asked_with_all_that_was_said() -> None:
    script = Script([call("ping")], "pong then", "and again")
    support = assistant(script)

    @support.tool
    async def ping(turn: TurnContext) -> dict[str, int]:
        return {"n": 1}

    journal = Journal(tools=support.tools).asked("one")
    await journal.run(PydanticLoop(support))
    journal.asked("two", turn_id="trn_2")

    assert await journal.run(PydanticLoop(support)) == "and again"
    assert script.asked[2] == [
        ("user-prompt", "one"),
        ("tool-call", ("ping", {}, "same")),
        ("tool-return", ("ping", "same", "success", {"n": 1})),
        ("text", "pong then"),
        ("user-prompt", "two"),
    ]


async def test_a_turn_cut_anywhere_goes_on_as_if_nothing_had_happened() -> None:
    ran: list[str] = []
    script = Script(
        ["First.", call("once", {"n": 1}, call_id="a"), call("again", {"n": 2}, call_id="b")],
        [thinking("Hm."), call("once", {"n": 3}, call_id="a")],
        "All done.",
    )
    support = assistant(script, instructions="Be brief.")

    @support.tool
    async def once(turn: TurnContext, n: int) -> int:
        ran.append(f"once {n}")
        return n

    @support.tool(idempotent=True)
    async def again(turn: TurnContext, n: int) -> int:
        ran.append(f"again {n}")
        return n

    loop = PydanticLoop(support)
    whole = Journal(tools=support.tools).asked("go")
    await whole.run(loop)
    shown_whole = list(script.asked)
    assert len(whole.events) == 1 + 5 + 3 + 1
    assert sorted(ran) == ["again 2", "once 1", "once 3"]

    for length in range(1, len(whole.events) + 1):
        ran.clear()
        script.asked.clear()
        journal = whole.cut(length)
        done = {e.call_id for e in journal.of(ToolCompleted)}
        lost = {
            e.call_id for e in journal.of(ToolStarted) if e.call_id not in done and not e.idempotent
        }

        assert await journal.run(loop) == "All done.", f"cut at {length}"

        outcomes = journal.of(ToolCompleted, ToolInterrupted)
        assert len(outcomes) == len({e.call_id for e in outcomes}) == 3, f"cut at {length}"
        assert len(ran) == 3 - len(done) - len(lost), f"cut at {length}"
        assert {e.call_id for e in journal.of(ToolInterrupted)} == lost, f"cut at {length}"
        assert len(journal.of(MessageAdded)) == 4, f"cut at {length}"
        if not lost:
            # The model is shown what it would have been shown without the loss.
            most = len(script.asked)
            assert script.asked == shown_whole[3 - most :], f"cut at {length}"
        else:
            assert "may or may not have taken effect" in str(script.asked[0]), f"cut at {length}"


async def test_a_second_loss_in_recovery_is_survived_too() -> None:
    script = Script(
        [call("once", {"n": 1}, call_id="a"), call("once", {"n": 2}, call_id="b")], "ok"
    )
    support = assistant(script)
    ran: list[int] = []

    @support.tool
    async def once(turn: TurnContext, n: int) -> int:
        ran.append(n)
        return n

    loop = PydanticLoop(support)
    whole = Journal(tools=support.tools).asked("go")
    await whole.run(loop)

    for first in range(1, len(whole.events) + 1):
        second = whole.cut(first)
        await second.run(loop)
        for length in range(first, len(second.events) + 1):
            ran.clear()
            third = second.cut(length)
            done = {e.arguments["n"] for e in third.of(ToolCompleted, ToolInterrupted)}

            assert await third.run(loop) == "ok"

            assert not done & set(ran)
            assert len(third.of(ToolCompleted, ToolInterrupted)) == 2
            assert len(third.of(MessageAdded)) == 3


async def test_what_a_model_thinks_makes_the_round_trip() -> None:
    script = Script(
        [thinking("Hm", signature="sig"), call("ping")],
        [thinking("Ah", signature="sig2"), "done"],
        "later",
    )
    support = assistant(script)

    @support.tool
    async def ping(turn: TurnContext) -> None: ...

    journal = Journal(tools=support.tools).asked("go")
    await journal.run(PydanticLoop(support))

    assert ThinkingDelta("Hm") in journal.yielded
    assert journal.of(MessageAdded)[1].parts[0] == {
        "type": "thinking",
        "text": "Hm",
        "provider": {"signature": "sig", "provider_name": "function"},
    }
    last = journal.of(MessageAdded)[-1].parts
    assert last[1:] == ({"type": "text", "text": "done"},)
    assert last[0]["provider"]["signature"] == "sig2"
    assert [type(e) for e in journal.yielded].count(MessageEnd) == 2
    journal.asked("two", turn_id="trn_2")
    seen: list[Any] = []

    def remember(messages: list[ModelMessage]) -> str:
        seen.extend(part for message in messages for part in message.parts)
        return "later"

    await journal.run(PydanticLoop(assistant(Script(remember))))
    thought = [part for part in seen if part.part_kind == "thinking"]
    assert [(part.content, part.signature) for part in thought] == [("Hm", "sig"), ("Ah", "sig2")]


async def test_progress_counts_responses_and_tokens_and_is_not_told_too_often() -> None:
    script = Script([call("ping")], ["word "] * 500)
    support = assistant(script)

    @support.tool
    async def ping(turn: TurnContext) -> None: ...

    journal = Journal(tools=support.tools).asked("go")
    await journal.run(PydanticLoop(support))
    told = [e for e in journal.yielded if isinstance(e, Progress)]

    assert [p.current_iteration for p in told] == sorted(p.current_iteration for p in told)
    assert [p.tokens_used for p in told] == sorted(p.tokens_used for p in told)
    assert told[-1].current_iteration == 2
    assert told[-1].tokens_used > 500
    assert len(told) < 100
    resumed = journal.cut(len(journal.events) - 1)
    await resumed.run(PydanticLoop(support))
    assert {e.current_iteration for e in resumed.yielded if isinstance(e, Progress)} == {2}


async def test_tokens_are_counted_while_a_response_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PROGRESS_SECONDS", 0.0)
    journal = Journal().asked("go")

    await journal.run(PydanticLoop(assistant(Script(["one ", "two ", "three"]))))

    told = [e.tokens_used for e in journal.yielded if isinstance(e, Progress)]
    assert len(set(told)) >= 3
    assert told == sorted(told)


async def test_cancelling_ends_the_run_at_once() -> None:
    waiting = asyncio.Event()
    closed = asyncio.Event()

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        try:
            yield "Hello"
            waiting.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    support = Assistant("support", model=FunctionModel(stream_function=stream))
    journal = Journal().asked("go")

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(journal.run(PydanticLoop(support)))
        await waiting.wait()
        task.cancel()

    assert task.cancelled()
    assert closed.is_set()
    assert TextDelta("Hello") in journal.yielded


async def test_cancelling_reaches_the_tools_that_run() -> None:
    stopped: list[int] = []
    both = asyncio.Barrier(3)
    support = assistant(
        Script([call("wait", {"n": 1}, call_id="a"), call("wait", {"n": 2}, call_id="b")])
    )

    @support.tool
    async def wait(turn: TurnContext, n: int) -> None:
        await both.wait()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(n)

    journal = Journal(tools=support.tools).asked("go")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(journal.run(PydanticLoop(support)))
        await both.wait()
        task.cancel()

    assert sorted(stopped) == [1, 2]
    assert len(journal.of(ToolStarted)) == 2
    assert journal.of(ToolCompleted, ToolFailed) == []


@pytest.mark.skipif(
    version("pydantic-ai-slim") < "2.68", reason="its FunctionModel leaves its stream to chance"
)
async def test_a_run_that_its_reader_leaves_is_closed() -> None:
    closed = asyncio.Event()

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        try:
            while True:
                yield "word "
        finally:
            closed.set()

    loop = PydanticLoop(Assistant("support", model=FunctionModel(stream_function=stream)))
    journal = Journal().asked("go")
    events: Any = loop.run(context(), journal.history(), Desk(journal, context()))

    async for event in events:
        if isinstance(event, TextDelta):
            break
    await events.aclose()

    assert closed.is_set()


def http(status: int) -> exceptions.ModelHTTPError:
    return exceptions.ModelHTTPError(status, "m", body={"secret": "org-42"})


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (http(429), "model_rate_limited", True),
        (http(503), "model_unavailable", True),
        (http(529), "model_unavailable", True),
        (http(401), "model_refused", False),
        (http(400), "model_refused", False),
        (exceptions.ModelAPIError("m", "connection refused"), "model_unreachable", True),
        (exceptions.UsageLimitExceeded("too many"), "usage_limit", False),
        (exceptions.ContentFilterError("bad words"), "content_filtered", False),
        (exceptions.UnexpectedModelBehavior("odd", "org-42"), "model_misbehaved", True),
        (exceptions.UserError("no key"), "agent_misconfigured", False),
        (exceptions.AgentRunError("stopped"), "agent_stopped", False),
        (
            exceptions.FallbackExceptionGroup("all failed", [http(400), http(500)]),
            "model_unavailable",
            True,
        ),
    ],
)
async def test_what_goes_wrong_with_a_model_ends_the_turn_in_plain_words(
    error: Exception, code: str, retry: bool
) -> None:
    def fail(messages: list[ModelMessage]) -> str:
        raise error

    with pytest.raises(AgentFailed) as caught:
        await Journal().asked("go").run(PydanticLoop(assistant(Script(fail))))

    assert (caught.value.code, caught.value.retry) == (code, retry)
    assert "org-42" not in caught.value.message
    assert caught.value.__cause__ is error


async def test_a_bug_is_not_taken_for_a_models_failure() -> None:
    def fail(messages: list[ModelMessage]) -> str:
        raise ExceptionGroup("bugs", [KeyError("x")])

    with pytest.raises(ExceptionGroup):
        await Journal().asked("go").run(PydanticLoop(assistant(Script(fail))))


async def test_a_model_that_never_comes_to_an_end_is_stopped() -> None:
    support = assistant(Script([call("ping")]))

    @support.tool
    async def ping(turn: TurnContext) -> None: ...

    journal = Journal(tools=support.tools).asked("go")

    with pytest.raises(AgentFailed) as caught:
        await journal.run(PydanticLoop(support))

    assert caught.value.code == "usage_limit"
    assert len(journal.of(ToolStarted)) == len(journal.of(ToolCompleted)) <= 50


async def test_a_model_of_another_kind_is_driven_too() -> None:
    support = Assistant("support", model=TestModel())

    @support.tool
    async def ping(turn: TurnContext, word: str) -> str:
        return word

    journal = Journal(tools=support.tools).asked("go")

    assert await journal.run(PydanticLoop(support)) == '{"ping":"a"}'


def test_pydantic_ai_is_imported_only_where_it_is_used() -> None:
    program = (
        "import sys, sessile\n"
        "from sessile import Assistant, TurnContext, Server\n"
        "import sessile.kit, sessile.integrations.functions\n"
        "assert not any(name.startswith('pydantic_ai') for name in sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_loop_goes_on_from_the_history() -> None:
    loop = PydanticLoop(assistant(Script("")))

    assert loop.reads_history
    assert not loop.restarts
    assert History(()).messages == ()
