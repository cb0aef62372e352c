"""Whatever an agent or a tool does, the turn has one end, and its log is one that any database
and browser reads."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from decimal import Decimal
from typing import Any

import pytest
from tests.runtime.rig import House, virtual

from sessile.core.context import TurnContext
from sessile.core.events import Progress
from sessile.core.session import Turn
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import AgentEvent, AgentFailed, MessageEnd, TextDelta, ToolResult, Tools

Talk = Callable[[TurnContext, History, Tools], AsyncIterator[AgentEvent | str]]


async def outcome(house: House, talk: Talk, **settings: Any) -> Turn:
    """The turn of an assistant that talks like this, when it has ended."""
    node = await house.node(Assistant("guest", agent=talk), **settings)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    return await house.ended(session, turn.turn_id)


@virtual
async def test_an_agent_that_raises_fails_its_turn_and_keeps_its_partial_text(
    house: House,
) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        yield "so far"
        raise LookupError("a secret of the operator's")

    turn = await outcome(house, talk)

    assert (turn.status, turn.output) == ("failed", "so far")
    assert turn.error == {
        "code": "agent_error",
        "message": "The agent raised LookupError; the server's log has the rest.",
        "retry": False,
    }
    assert house.messages(turn.session_id)[-1].state == "partial"


@virtual
async def test_an_agent_that_gives_up_says_why_and_whether_to_retry(house: House) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        raise AgentFailed("model_busy", "The model is busy.", retry=True)
        yield ""

    turn = await outcome(house, talk)

    assert turn.error == {"code": "model_busy", "message": "The model is busy.", "retry": True}


@virtual
async def test_an_agent_that_yields_nothing_completes_with_no_message(house: House) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        return
        yield ""

    turn = await outcome(house, talk)

    assert (turn.status, turn.output) == ("completed", "")
    assert house.said(turn.session_id) == [("user", "hello")]


@virtual
async def test_an_agent_that_yields_what_is_no_event_fails_its_turn(house: House) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        yield 42

    assert (await outcome(house, talk)).status == "failed"


@pytest.mark.parametrize(
    "parts",
    [
        ({"type": "text", "text": "x", "provider": object()},),
        ({"type": "text"},),
        ({"type": "tool_call", "call_id": "call_x", "name": "n", "arguments": {"a": object()}},),
        "text",
    ],
    ids=["no JSON", "no text", "no JSON arguments", "no parts"],
)
@virtual
async def test_a_message_that_no_log_can_hold_fails_its_turn_at_once(
    house: House, parts: Any
) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        yield MessageEnd(parts)

    turn = await outcome(house, talk)

    assert (turn.status, turn.attempt) == ("failed", 1)


@pytest.mark.parametrize("piecewise", [True, False])
@virtual
async def test_output_that_is_too_large_fails_the_turn(house: House, piecewise: bool) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        if piecewise:
            for _ in range(11):
                yield "0123456789"
        else:
            yield MessageEnd(({"type": "text", "text": "0123456789" * 11},))

    turn = await outcome(house, talk, output_chars_max=100)

    assert turn.error is not None
    assert (turn.status, turn.error["code"]) == ("failed", "output_too_large")
    assert all(len(entry.body) < 1000 for entry in house.log(turn.session_id))


@pytest.mark.parametrize("whole", [True, False])
@virtual
async def test_nul_and_lone_surrogates_of_a_model_are_replaced(house: House, whole: bool) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        text = "a\0b\ud800c"
        yield MessageEnd(({"type": "text", "text": text},)) if whole else TextDelta(text)

    turn = await outcome(house, talk)

    assert turn.output == "a\ufffdb\ufffdc"
    assert house.said(turn.session_id)[-1] == ("assistant", "a\ufffdb\ufffdc")
    for entry in house.log(turn.session_id):
        assert "\0" not in entry.body
        entry.body.encode()


@virtual
async def test_a_silent_agent_is_stopped_before_its_first_word_and_between_words(
    house: House,
) -> None:
    async def mute(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        if turn.input["text"] == "then":
            yield "word"
        await asyncio.Event().wait()
        yield "never"

    node = await house.node(
        Assistant("mute", agent=mute), agent_first_seconds_max=5, agent_idle_seconds_max=2
    )
    for text, seconds in (("first", 5), ("then", 2)):
        session = await house.open(node)
        turn = (await house.submit(node, session, text)).turn
        began = house.now
        ended = await house.ended(session, turn.turn_id)

        assert ended.error is not None
        assert (ended.status, ended.error["code"]) == ("failed", "agent_silent")
        assert abs(house.now - began - seconds) < 0.1


@virtual
async def test_an_agent_is_not_silent_while_its_tool_runs(house: House) -> None:
    assistant = Assistant("patient")

    @assistant.tool("slow")
    async def slow(turn: TurnContext) -> str:
        await house.later(20)
        return "done"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        result: ToolResult = await tools.call("slow")
        return result.value

    node = await house.node(assistant, agent_first_seconds_max=5, agent_idle_seconds_max=2)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    assert (await house.ended(session, turn.turn_id)).output == "done"


@virtual
async def test_a_turn_past_its_deadline_fails_and_may_be_retried(house: House) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        while True:
            yield "word "
            await house.later(1)

    began = house.now
    turn = await outcome(house, talk, turn_seconds_max=10)

    assert turn.status == "failed"
    assert turn.error == {
        "code": "turn_deadline",
        "message": "Not done within 10 seconds.",
        "retry": True,
    }
    assert house.now - began < 10.2
    assert (turn.output or "").startswith("word word")


async def told(house: House, assistant: Assistant, name: str, **settings: Any) -> ToolResult:
    """What the caller of this tool is told."""
    results: list[ToolResult] = []

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        results.append(await tools.call(name))
        return "done"

    node = await house.node(assistant, **settings)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    ended = await house.ended(session, turn.turn_id)
    assert ended.status == "completed"
    for entry in house.log(session):
        json.loads(entry.body, parse_constant=_refuse)
    return results[0]


@virtual
async def test_a_tool_past_its_deadline_fails_and_the_turn_goes_on(house: House) -> None:
    assistant = Assistant("patient")

    @assistant.tool("slow", timeout_seconds=3)
    async def slow(turn: TurnContext) -> str:
        await asyncio.Event().wait()
        return "never"

    began = house.now
    result = await told(house, assistant, "slow")

    assert (result.status, result.reason) == (
        "failed",
        "The tool did not answer within 3 seconds.",
    )
    assert house.now - began < 3.1


@virtual
async def test_a_tool_that_times_out_by_itself_is_not_said_to_be_past_its_deadline(
    house: House,
) -> None:
    assistant = Assistant("hasty")

    @assistant.tool("times_out")
    async def times_out(turn: TurnContext) -> None:
        raise TimeoutError

    assert (await told(house, assistant, "times_out")).reason == "TimeoutError"


def _nested() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


def _circle() -> Any:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


class Raw:
    """A tool that was made elsewhere, and whose answer nobody has made JSON of."""

    name, description, idempotent, timeout_seconds, blocking = "raw", "", False, None, False
    grant, approval = None, False
    parameters: Mapping[str, Any] = {"type": "object", "properties": {}}

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def check(self, arguments: Mapping[str, Any]) -> None:
        pass

    async def invoke(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        return self._answer()

    def call_blocking(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("answer", [object, _nested, _circle, lambda: {1, 2}, lambda: b"bytes"])
@virtual
async def test_a_tools_answer_that_is_no_json_fails_the_call(
    house: House, answer: Callable[[], Any]
) -> None:
    assistant = Assistant("raw_tools")
    assistant.add(Raw(answer))

    result = await told(house, assistant, "raw")

    assert result.status == "failed"
    assert (result.reason or "").startswith("The tool's answer is not JSON")


@virtual
async def test_numbers_that_json_has_not_are_null(house: House) -> None:
    assistant = Assistant("raw_tools")
    assistant.add(Raw(lambda: {"a": [float("nan"), float("inf"), 1.5]}))

    result = await told(house, assistant, "raw")

    assert (result.status, result.value) == ("completed", {"a": [None, None, 1.5]})


@virtual
async def test_a_tools_answer_that_is_too_large_fails_the_call(house: House) -> None:
    assistant = Assistant("raw_tools")
    assistant.add(Raw(lambda: "x" * 1001))

    result = await told(house, assistant, "raw", result_bytes_max=1000)

    assert (result.status, result.reason) == (
        "failed",
        "The tool's answer is larger than 1000 bytes.",
    )


@virtual
async def test_a_tools_error_is_told_to_the_model_and_is_bounded(house: House) -> None:
    assistant = Assistant("raw_tools")

    def answer() -> Any:
        raise ValueError("x" * 10_000)

    assistant.add(Raw(answer))

    result = await told(house, assistant, "raw", result_bytes_max=1000)

    assert result.status == "failed"
    assert (result.reason or "").startswith("ValueError: xxx")
    assert len(result.reason or "") <= 1000


@virtual
async def test_nul_and_lone_surrogates_of_a_tool_are_replaced(house: House) -> None:
    assistant = Assistant("raw_tools")
    assistant.add(Raw(lambda: "a\0b\ud800c"))

    result = await told(house, assistant, "raw")

    assert (result.status, result.value) == ("completed", "a\ufffdb\ufffdc")


@virtual
async def test_a_tool_that_is_not_there_or_not_allowed_is_refused_with_the_reason(
    house: House,
) -> None:
    assistant = Assistant("strict", tools_allowed=("open.*",))

    @assistant.tool("secret")
    async def secret(turn: TurnContext) -> str:
        return "never"

    result = await told(house, assistant, "secret")

    assert (result.status, result.reason) == ("refused", "Not in the assistant's allow-list.")


@virtual
async def test_progress_that_no_log_can_hold_fails_its_turn_at_once(house: House) -> None:
    """Written, it would be sent again and again, and all that comes behind it."""

    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        yield Progress(tokens_used=Decimal(3))  # type: ignore[arg-type]
        yield "not said"

    turn = await outcome(house, talk)

    assert turn.error is not None
    assert (turn.status, turn.error["code"], turn.attempt) == ("failed", "agent_error", 1)


@virtual
async def test_no_number_of_the_progress_ever_falls_and_totals_are_settled_at_the_end(
    house: House,
) -> None:
    async def talk(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        await turn.progress(current_iteration=3, total_iterations=4, tokens_used=100)
        await house.later(0.1)
        await turn.progress(current_iteration=2, tokens_used=150)
        yield "done"

    turn = await outcome(house, talk)

    assert (turn.progress.current_iteration, turn.progress.tokens_used) == (3, 150)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
