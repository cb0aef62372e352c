"""An assistant that another one asks: its tools, its bounds, and what a lost node leaves of it."""

import asyncio

import pytest
from tests.integrations.models import Script, call
from tests.runtime.rig import House, Rig, virtual

from sessile.core.codec import decode
from sessile.core.context import TurnContext
from sessile.core.errors import ContextExpired, ContextMismatch
from sessile.core.events import Progress, ToolStarted
from sessile.core.ids import SessionId
from sessile.core.session import Turn
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import MessageEnd, ToolError, Tools
from sessile.runtime.delegation import ASKED_DEPTH_MAX

LOOK_SECONDS = 5.0
"""Of virtual time."""


async def said_by(house: House, rig: Rig, session: SessionId, text: str = "hello") -> Turn:
    turn = (await house.submit(rig, session, text)).turn
    return await house.ended(session, turn.turn_id)


def started(house: House, session: SessionId) -> list[ToolStarted]:
    events = (decode(entry) for entry in house.log(session) if entry.kind == "tool.started")
    return [event for event in events if isinstance(event, ToolStarted)]


@virtual
async def test_a_tool_of_the_one_that_is_asked_calls_its_own_assistants_tools(
    house: House,
) -> None:
    async def front(turn: TurnContext) -> str:
        return await turn.ask("rates", "EUR?")

    async def rates(turn: TurnContext) -> str:
        result = await turn.call("rate")
        return f"{result.value} {(await turn.call('delete')).status}"

    asking, asked = (
        Assistant("front", agent=front, tools_allowed=("r*",)),
        Assistant("rates", agent=rates),
    )

    @asking.tool("rate")
    async def wrong(turn: TurnContext) -> str:
        raise AssertionError("the asking assistant's tool")

    @asking.tool
    async def delete(turn: TurnContext) -> str:
        raise AssertionError("the asking assistant's tool")

    @asked.tool
    async def rate(turn: TurnContext) -> str:
        return str((await turn.call("source")).value)

    @asked.tool
    async def source(turn: TurnContext) -> str:
        return turn.assistant

    node = await house.node(asking, asked)

    ended = await said_by(house, node, await house.open(node))

    assert ended.output == "rates refused"


@virtual
async def test_a_model_is_told_of_its_own_calls_and_not_of_those_within_them(
    house: House,
) -> None:
    """In a later turn: people see all of them, below the call that they belong to."""
    calls = [call("ask_rates", {"question": "EUR?"}, call_id="a"), call("plan", call_id="b")]
    script = Script(calls, "It is 3.", "As I said.")
    outputs: list[tuple[object, ...]] = []
    asking = Assistant("front", model=script.model())
    asked = Assistant("rates", model=Script([call("rate")], "3").model())
    asking.delegate(asked)

    @asking.tool
    async def plan(turn: TurnContext) -> str:
        return f"plan for {(await turn.call('day')).value}"

    @asking.tool
    async def day(turn: TurnContext) -> str:
        return "Monday"

    @asking.direct
    async def seen(turn: TurnContext) -> None:
        outputs.append((*turn.history.tool_outputs("day"), *turn.history.tool_outputs("rate")))

    @asked.tool
    async def rate(turn: TurnContext) -> int:
        return 3

    node = await house.node(asking, asked)
    session = await house.open(node)
    await said_by(house, node, session, "EUR?")

    await said_by(house, node, session, "again")

    assert [said for kind, said in script.asked[-1] if kind.startswith("tool-")] == [
        ("ask_rates", {"question": "EUR?"}, "a"),
        ("plan", {}, "b"),
        ("ask_rates", "a", "success", "3"),
        ("plan", "b", "success", "plan for Monday"),
    ]
    assert outputs == [(), ("Monday", 3)]
    parts = {
        part["name"]: part
        for message in house.messages(session)
        for part in message.parts
        if part["type"] == "tool_result"
    }
    for inner, outer in (("rate", "ask.rates"), ("day", "plan")):
        assert parts[inner]["parent_call_id"] == parts[outer]["call_id"]
        assert parts[outer]["parent_call_id"] is None


@virtual
async def test_who_is_asked_twice_makes_its_calls_twice(house: House) -> None:
    made: list[int] = []

    async def front(turn: TurnContext, history: History, tools: Tools) -> str:
        return str((await tools.call("both")).value)

    async def book(turn: TurnContext, history: History, tools: Tools) -> str:
        return str((await tools.call("book", {"room": 1})).value)

    asking, asked = Assistant("front", agent=front), Assistant("booking", agent=book)

    @asking.tool
    async def both(turn: TurnContext) -> list[str]:
        return [await turn.ask("booking", "one"), await turn.ask("booking", "another")]

    @asked.tool("book")
    async def book_room(turn: TurnContext, room: int) -> int:
        made.append(room)
        return len(made)

    node = await house.node(asking, asked)

    ended = await said_by(house, node, await house.open(node))

    assert ended.output == "['1', '2']"


@virtual
async def test_a_question_of_the_agents_own_is_answered_from_the_log_after_a_loss(
    house: House,
) -> None:
    booked: list[int] = []

    async def front(turn: TurnContext) -> str:
        answer = await turn.ask("booking", "a room")
        if turn.attempt == 1:
            await asyncio.Event().wait()
        return answer

    def assistants() -> tuple[Assistant, Assistant]:
        model = Script([call("book", {"room": 1})], "Booked.").model()
        asked = Assistant("booking", model=model)

        @asked.tool
        async def book(turn: TurnContext, room: int) -> int:
            booked.append(room)
            return room

        return Assistant("front", agent=front), asked

    first = await house.node(*assistants())
    session = await house.open(first)
    turn = (await house.submit(first, session)).turn
    await house.until(lambda: "tool.completed" in house.kinds(session))
    await house.later(1)
    house.kill(first)
    await house.node(*assistants())

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.output) == ("completed", "Booked.")
    assert booked == [1]
    asked, below = started(house, session)
    assert (asked.name, below.parent_call_id) == ("ask.booking", asked.call_id)


@virtual
async def test_assistants_ask_each_other_no_deeper_than_the_limit(house: House) -> None:
    async def pass_on(turn: TurnContext) -> str:
        other = {"ping": "pong", "pong": "ping"}[turn.assistant]
        try:
            return await turn.ask(other, "and you?")
        except ToolError as error:
            return str(error)

    node = await house.node(Assistant("ping", agent=pass_on), Assistant("pong", agent=pass_on))
    session = await house.open(node)

    ended = await said_by(house, node, session)

    assert ended.status == "completed"
    assert f"{ASKED_DEPTH_MAX} deep" in (ended.output or "")
    assert len(started(house, session)) <= ASKED_DEPTH_MAX


@virtual
async def test_who_is_asked_sees_its_question_alone_and_leaves_the_session_as_it_is(
    house: House,
) -> None:
    refused: list[str] = []

    async def front(turn: TurnContext) -> str:
        return await turn.ask("nosy", "what else was said?")

    async def nosy(turn: TurnContext, history: History) -> str:
        for act in (turn.hand_off("nosy"), turn.summarize("nothing")):
            try:
                await act
            except ToolError as error:
                refused.append(str(error))
        seen = [message.text for message in turn.history.messages]
        assert seen == [message.text for message in history.messages]
        return f"{seen}"

    node = await house.node(Assistant("front", agent=front), Assistant("nosy", agent=nosy))
    session = await house.open(node)

    ended = await said_by(house, node, session, "a secret")

    assert ended.output == "['what else was said?']"
    assert len(refused) == 2
    assert not {"session.handed_off", "session.summarized"} & set(house.kinds(session))


@virtual
async def test_the_answer_is_the_last_message_and_not_what_was_said_before_its_calls(
    house: House,
) -> None:
    async def front(turn: TurnContext) -> str:
        return f"{await turn.ask('model', 'EUR?')} {await turn.ask('function', 'EUR?')}"

    async def function(turn: TurnContext):  # type: ignore[no-untyped-def]
        yield "Wait."
        yield MessageEnd()
        yield "It is 4."

    script = Script(["I look it up.", call("rate")], "It is 3.")
    model = Assistant("model", model=script.model())

    @model.tool
    async def rate(turn: TurnContext) -> int:
        return 3

    node = await house.node(
        Assistant("front", agent=front), model, Assistant("function", agent=function)
    )

    ended = await said_by(house, node, await house.open(node))

    assert ended.output == "It is 3. It is 4."


@virtual
async def test_an_answer_without_end_fails_the_call_that_asked(house: House) -> None:
    async def front(turn: TurnContext) -> str:
        try:
            return await turn.ask("talker", "tell me all")
        except ToolError as error:
            return str(error)

    async def talker(turn: TurnContext):  # type: ignore[no-untyped-def]
        while True:
            yield "and " * 10

    node = await house.node(
        Assistant("front", agent=front), Assistant("talker", agent=talker), output_chars_max=1000
    )

    ended = await said_by(house, node, await house.open(node))

    assert "more than 1000" in (ended.output or "")


@virtual
async def test_tokens_of_who_is_asked_are_counted_once_beside_the_agents_own(
    house: House,
) -> None:
    async def front(turn: TurnContext):  # type: ignore[no-untyped-def]
        yield Progress(tokens_used=10)
        yield await turn.ask("counter", "one")
        yield Progress(tokens_used=30)

    async def counter(turn: TurnContext):  # type: ignore[no-untyped-def]
        for tokens_used in (3, 7):
            yield Progress(tokens_used=turn.reached.tokens_used + tokens_used)
        yield "counted"

    node = await house.node(Assistant("front", agent=front), Assistant("counter", agent=counter))

    ended = await said_by(house, node, await house.open(node))

    assert ended.progress.tokens_used == 37


@virtual
@pytest.mark.parametrize("thinks", [0, 5])
async def test_a_turn_does_not_wait_for_an_approval_while_another_assistant_is_at_work(
    house: House, thinks: int
) -> None:
    booked: list[str] = []

    async def front(turn: TurnContext, history: History, tools: Tools) -> str:
        answer, paid = await asyncio.gather(turn.ask("booking", "a room"), tools.call("pay"))
        return f"{answer} {paid.status}"

    async def book(turn: TurnContext, history: History, tools: Tools) -> str:
        await asyncio.sleep(thinks)
        return str((await tools.call("book")).value)

    asking, asked = Assistant("front", agent=front), Assistant("booking", agent=book)

    @asking.tool(approval=True)
    async def pay(turn: TurnContext) -> None: ...

    @asked.tool("book")
    async def book_room(turn: TurnContext) -> str:
        await asyncio.sleep(LOOK_SECONDS)
        booked.append("room")
        return "booked"

    node = await house.node(asking, asked, approval_seconds_max=1.0)

    ended = await said_by(house, node, await house.open(node))

    assert ended.output == "booked refused"
    assert booked == ["room"]


@virtual
@pytest.mark.parametrize("seconds", [30, 200])
async def test_an_agent_that_waits_for_another_is_not_silent(house: House, seconds: int) -> None:
    async def front(turn: TurnContext) -> str:
        return await turn.ask("slow", "well?")

    async def slow(turn: TurnContext, history: History, tools: Tools) -> str:
        return str((await tools.call("look")).value)

    asked = Assistant("slow", agent=slow)

    @asked.tool(timeout_seconds=300)
    async def look(turn: TurnContext) -> str:
        await asyncio.sleep(seconds)
        return "found"

    node = await house.node(
        Assistant("front", agent=front), asked, agent_first_seconds_max=20.0, tool_seconds_max=400
    )
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    ended = await house.ended(session, turn.turn_id, within=300)

    assert ended.output == "found"


@virtual
async def test_a_delegated_question_goes_on_after_a_loss_with_what_its_tools_answered(
    house: House,
) -> None:
    booked: list[int] = []
    stuck: list[str] = ["for ever"]

    def assistants() -> tuple[Assistant, Assistant]:
        script = Script([call("ask_booking", {"question": "a room"})], "so")
        front = Assistant("front", model=script.model())
        model = Script([call("book", {"room": 1})], [call("look")], "Booked.").model()
        asked = Assistant("booking", model=model)

        @asked.tool
        async def book(turn: TurnContext, room: int) -> int:
            booked.append(room)
            return room

        @asked.tool(idempotent=True)
        async def look(turn: TurnContext) -> str:
            if stuck:
                await asyncio.Event().wait()
            return "there"

        front.delegate(asked)
        return front, asked

    first = await house.node(*assistants())
    session = await house.open(first)
    turn = (await house.submit(first, session)).turn
    await house.until(lambda: [e.name for e in started(house, session)][-1:] == ["look"])
    house.kill(first)
    stuck.clear()
    await house.node(*assistants())

    assert (await house.ended(session, turn.turn_id)).output == "so"
    assert booked == [1]
    results = {m.parts[0]["name"]: m.parts[0] for m in house.messages(session) if m.role == "tool"}
    assert results["ask.booking"]["result"] == "Booked."
    assert results["look"]["result"] == "there"


@virtual
@pytest.mark.parametrize("what", ["call", "ask", "hand_off", "summarize"])
async def test_a_kept_context_does_nothing_in_another_turn_or_after_its_own(
    house: House, what: str
) -> None:
    kept: list[TurnContext] = []
    made: list[object] = []
    go_on = asyncio.Event()

    async def act(turn: TurnContext) -> str:
        if not kept:
            kept.append(turn)
            made.append(do(turn))
            await go_on.wait()
            return "kept"
        for attempt in (lambda: do(kept[0]), made.pop):
            try:
                await attempt()  # type: ignore[misc]
            except (ContextExpired, ContextMismatch) as error:
                raised.append(error.code)
        return "tried"

    def do(turn: TurnContext) -> object:
        return getattr(turn, what)(
            *{"call": ("noted",), "ask": ("keeper", "?")}.get(what, ("keeper",))
        )

    raised: list[str] = []
    keeper = Assistant("keeper", agent=act)

    @keeper.tool
    async def noted(turn: TurnContext) -> None:
        raise AssertionError("never")

    node = await house.node(keeper)
    session, other = await house.open(node), await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: kept)
    if what in {"call", "hand_off"}:
        assert (await said_by(house, node, other)).output == "tried"
        go_on.set()
    else:
        go_on.set()
        await house.ended(session, turn.turn_id)
        assert (await said_by(house, node, other)).output == "tried"

    expected = "context_mismatch" if what in {"call", "hand_off"} else "context_expired"
    assert raised == [expected] * 2
