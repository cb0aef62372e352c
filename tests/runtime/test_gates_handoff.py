"""Hand-offs and summaries, where something else happens beside them."""

import asyncio

import pytest
from tests.integrations.models import Script, call
from tests.runtime.rig import ANN, House, Rig, virtual

from sessile.core.context import TurnContext
from sessile.core.ids import SessionId
from sessile.core.session import Turn
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.kit.replies import Reply
from sessile.ports.agent import MessageEnd, ToolError, Tools

WORK_SECONDS = 1.0
"""Of virtual time."""


async def said_by(house: House, rig: Rig, session: SessionId, text: str = "hello") -> Turn:
    turn = (await house.submit(rig, session, text)).turn
    return await house.ended(session, turn.turn_id)


def reader(read: list[list[str]], name: str = "cards") -> Assistant:
    async def answer(turn: TurnContext, history: History) -> str:
        read.append([message.text for message in history.messages if message.role != "tool"])
        return f"{name} here"

    return Assistant(name, agent=answer)


@virtual
async def test_words_beside_the_call_that_hands_off_are_no_answer(house: House) -> None:
    script = Script(["I put you through.", call("to_cards")], "never said")
    front = Assistant("front", model=script.model())

    @front.tool
    async def to_cards(turn: TurnContext) -> None:
        await turn.hand_off("cards")

    node = await house.node(front, reader([]))
    session = await house.open(node)

    ended = await said_by(house, node, session)

    assert ended.output == "cards here"
    assert ("assistant", "I put you through.") in house.said(session)


@virtual
async def test_what_is_steered_in_behind_a_hand_off_with_an_answer_is_the_new_assistants(
    house: House,
) -> None:
    go_on = asyncio.Event()

    async def front(turn: TurnContext) -> str:
        await turn.hand_off("cards")
        await go_on.wait()
        return "I put you through."

    read: list[list[str]] = []
    node = await house.node(Assistant("front", agent=front), reader(read))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: "session.handed_off" in house.kinds(session))
    await house.submit(node, session, "and hurry", when_busy="steer")
    go_on.set()

    ended = await house.ended(session, turn.turn_id)

    assert ended.output == "cards here"
    assert read == [["hello", "I put you through.", "and hurry"]]


@virtual
async def test_an_assistant_that_answered_may_hand_off_what_is_steered_in_then(
    house: House,
) -> None:
    go_on = asyncio.Event()

    async def front(turn: TurnContext, history: History) -> str:
        if history.messages[-1].text == "a card":
            await turn.hand_off("cards")
            return ""
        await go_on.wait()
        return "What about?"

    read: list[list[str]] = []
    node = await house.node(Assistant("front", agent=front), reader(read))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(0.1)
    await house.submit(node, session, "a card", when_busy="steer")
    go_on.set()

    ended = await house.ended(session, turn.turn_id)

    assert ended.output == "cards here"
    assert read == [["hello", "What about?", "a card"]]


@virtual
async def test_a_chained_turn_of_the_new_assistant_reads_what_the_old_one_never_did(
    house: House,
) -> None:
    go_on = asyncio.Event()

    async def front(turn: TurnContext) -> str:
        if turn.input["text"] == "two":
            await go_on.wait()
            await turn.hand_off("cards")
        return "ok"

    read: list[list[str]] = []
    node = await house.node(Assistant("front", agent=front), reader(read))
    session = await house.open(node)
    await said_by(house, node, session, "one")
    await house.submit(node, session, "two")
    last = (await house.submit(node, session, "three")).turn
    go_on.set()

    await house.ended(session, last.turn_id)

    assert read == [["one", "ok", "two", "ok", "three"]]


@virtual
async def test_who_hands_off_to_itself_goes_on(house: House) -> None:
    async def front(turn: TurnContext) -> str:
        await turn.hand_off("front")
        return ""

    node = await house.node(Assistant("front", agent=front))
    session = await house.open(node)

    ended = await said_by(house, node, session)

    assert ended.status == "completed"
    assert "session.handed_off" not in house.kinds(session)


@virtual
async def test_assistants_that_hand_a_turn_to_each_other_give_up(house: House) -> None:
    async def pass_on(turn: TurnContext) -> str:
        await turn.hand_off({"ping": "pong", "pong": "ping"}[turn.assistant])
        return ""

    node = await house.node(Assistant("ping", agent=pass_on), Assistant("pong", agent=pass_on))

    ended = await said_by(house, node, await house.open(node))

    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error["code"] == "handed_off_too_often"


@virtual
@pytest.mark.parametrize("again", [False, True])
async def test_a_hand_off_outlives_the_node_right_behind_it(house: House, again: bool) -> None:
    read: list[list[str]] = []
    made: list[str] = []

    def assistants() -> tuple[Assistant, Assistant]:
        async def front(turn: TurnContext, history: History, tools: Tools) -> str:
            await tools.call("note", {"text": "seen"})
            await turn.hand_off("cards")
            return ""

        async def cards(turn: TurnContext, history: History, tools: Tools) -> str:
            read.append([m.text for m in history.messages if m.role != "tool"])
            await tools.call("note", {"text": "done"})
            if turn.attempt == 1:
                await asyncio.Event().wait()
            return "cards here"

        both = Assistant("front", agent=front), Assistant("cards", agent=cards)
        for each in both:

            @each.tool
            async def note(turn: TurnContext, text: str) -> None:
                made.append(text)

        return both

    first = await house.node(*assistants())
    session = await house.open(first)
    if again:
        turn = (await house.submit(first, session)).turn
        await house.until(lambda: made == ["seen", "done"])
        await house.later(1)
    else:
        hold = house.gate.appending("session.handed_off", "after")
        turn = (await house.submit(first, session)).turn
        await hold.reached()
    house.kill(first)
    await house.node(*assistants())

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.output) == ("completed", "cards here")
    assert made == ["seen", "done"]
    assert read == [["hello"]] * (1 + again)


@virtual
@pytest.mark.parametrize("how", ["beside", "within", "below", "too late", "left", "lost"])
async def test_who_is_handed_the_session_is_run_again_with_the_outcomes_that_it_had(
    house: House, how: str
) -> None:
    read: list[list[tuple[str, str]]] = []

    def assistants() -> tuple[Assistant, Assistant]:
        async def front(turn: TurnContext, history: History, tools: Tools) -> str:
            called = asyncio.gather(tools.call("pass_on" if how == "within" else "look"))
            await asyncio.sleep(WORK_SECONDS / 2)
            if how != "within":
                await turn.hand_off("cards")
            if how != "left":
                await called
            if how == "too late":
                await tools.call("look")
            return ""

        async def cards(turn: TurnContext, history: History, tools: Tools) -> str:
            results = (m.parts[0] for m in history.messages if m.role == "tool")
            read.append([(part["name"], part["status"]) for part in results])
            await tools.call("note")
            if turn.attempt < 3:
                await asyncio.Event().wait()
            return "cards here"

        both = Assistant("front", agent=front), Assistant("cards", agent=cards)

        @both[0].tool
        async def pass_on(turn: TurnContext) -> None:
            await turn.hand_off("cards")

        @both[0].tool
        async def look(turn: TurnContext) -> None:
            await asyncio.sleep(WORK_SECONDS)
            if how == "below":
                await turn.call("note")

        for each in both:

            @each.tool
            async def note(turn: TurnContext) -> None:
                pass

        return both

    node = await house.node(*assistants())
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    for attempt in (1, 2):
        if (how, attempt) == ("lost", 1):
            await house.until(lambda: "session.handed_off" in house.kinds(session))
        else:
            runs = attempt - (how == "lost")
            await house.until(lambda runs=runs: len(read) == runs)
            await house.later(1)
        house.kill(node)
        node = await house.node(*assistants())

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.attempt) == ("completed", 3)
    assert (read[0] == []) == (how in ("left", "lost")), "it was given the outcomes"
    assert read == [read[0]] * len(read)


@virtual
async def test_an_agents_calls_are_not_answered_by_those_that_a_stage_made_before_a_loss(
    house: House,
) -> None:
    made: list[int] = []

    def desk() -> Assistant:
        async def act(turn: TurnContext, history: History, tools: Tools) -> str:
            if turn.attempt == 1:
                await asyncio.Event().wait()
            return str((await tools.call("count", {"by": 2})).value)

        assistant = Assistant("desk", agent=act)

        @assistant.tool
        async def count(turn: TurnContext, by: int) -> int:
            made.append(by)
            return sum(made)

        @assistant.direct
        async def counted(turn: TurnContext) -> Reply | None:
            await turn.call("count", by=1)
            return None

        return assistant

    first = await house.node(desk())
    session = await house.open(first)
    turn = (await house.submit(first, session)).turn
    await house.until(lambda: "intent.decided" in house.kinds(session))
    house.kill(first)
    await house.node(desk())

    ended = await house.ended(session, turn.turn_id)

    assert (ended.output, made) == ("3", [1, 2])


@virtual
async def test_a_summary_that_is_made_after_an_approval_leaves_its_own_turn_out(
    house: House,
) -> None:
    read: list[list[str]] = []

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        read.append([m.text for m in history.messages if m.role != "tool"])
        if turn.input["text"] == "fold":
            await tools.call("check")
            await turn.summarize("all so far")
        return "ok"

    folder = Assistant("folder", agent=act)

    @folder.tool(approval=True)
    async def check(turn: TurnContext) -> None: ...

    node = await house.node(folder)
    session = await house.open(node)
    await said_by(house, node, session, "one")
    turn = (await house.submit(node, session, "fold")).turn
    await house.until(lambda: house.turn(session, turn.turn_id).status == "awaiting")
    awaited = house.turn(session, turn.turn_id).awaited
    assert awaited is not None
    await node.do(node.gates.answer(ANN, session, awaited.call_ids[0], granted=True))
    await house.ended(session, turn.turn_id)
    await said_by(house, node, session, "two")

    assert read[-1] == ["all so far", "fold", "ok", "two"]


@virtual
async def test_a_fork_reads_behind_its_summary_what_its_source_does(house: House) -> None:
    read: list[list[str]] = []

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        read.append([m.text for m in history.messages if m.role != "tool"])
        if turn.input["text"].startswith("fold"):
            await tools.call("look")
            await turn.summarize(f"summary of {turn.input['text']}")
        return "ok"

    folder = Assistant("folder", agent=act)

    @folder.tool
    async def look(turn: TurnContext) -> None: ...

    node = await house.node(folder)
    session = await house.open(node)
    for text in ("one", "fold 1", "fold 2"):
        turn = await said_by(house, node, session, text)
    forked = await node.do(node.sessions.fork(ANN, session, turn.turn_id))

    await said_by(house, node, session, "next")
    await said_by(house, node, forked.found.head.key.session_id, "next")

    assert read[-2] == ["summary of fold 2", "fold 2", "ok", "next"]
    assert read[-1] == read[-2]


@virtual
async def test_no_call_is_made_behind_ones_own_hand_off(house: House) -> None:
    told: list[str | None] = []

    async def act(turn: TurnContext) -> str:
        await turn.hand_off("cards")
        told.append((await turn.call("look")).reason)
        told.append((await turn.call("pay")).reason)
        with pytest.raises(ToolError) as refused:
            await turn.ask("cards", "and now?")
        told.append(str(refused.value))
        return "Good bye."

    front = Assistant("front", agent=act)

    @front.tool
    async def look(turn: TurnContext) -> None:
        raise AssertionError("never")

    @front.tool(approval=True)
    async def pay(turn: TurnContext) -> None:
        raise AssertionError("never")

    node = await house.node(front, reader([]))

    ended = await said_by(house, node, await house.open(node))

    assert ended.output == "Good bye."
    assert house.messages(ended.session_id)[-1].state == "complete"
    assert told == ["The session is another assistant's by now."] * 3


@virtual
@pytest.mark.parametrize("text", ["bye", "hello"])
async def test_what_was_called_behind_a_hand_off_is_no_call_of_the_next_assistant(
    house: House, text: str
) -> None:
    """Which is run after a loss, and is neither answered by it nor taken to ask otherwise."""
    made: list[str] = []

    def assistants() -> tuple[Assistant, Assistant]:
        async def front(turn: TurnContext) -> str:
            await turn.hand_off("cards")
            await turn.call("note", text="bye")
            await asyncio.Event().wait()
            return "never"

        async def cards(turn: TurnContext) -> str:
            return f"{(await turn.call('note', text=text)).status} by cards"

        both = Assistant("front", agent=front), Assistant("cards", agent=cards)
        for each in both:

            @each.tool
            async def note(turn: TurnContext, text: str) -> None:
                made.append(f"{text} of {turn.assistant}")

        return both

    first = await house.node(*assistants())
    session = await house.open(first)
    turn = (await house.submit(first, session)).turn
    await house.until(lambda: "session.handed_off" in house.kinds(session))
    await house.later(1)
    house.kill(first)
    await house.node(*assistants())

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.output) == ("completed", "completed by cards")
    assert made == [f"{text} of cards"]


@virtual
async def test_a_tool_that_hands_off_calls_on(house: House) -> None:
    """Below its own call, which no other assistant takes for its own."""
    made: list[str] = []

    def assistants() -> tuple[Assistant, Assistant]:
        front = Assistant("front", model=Script([call("to_cards")], "never said").model())

        @front.tool(idempotent=True)
        async def to_cards(turn: TurnContext) -> None:
            await turn.hand_off("cards")
            await turn.call("note", text="bye")
            await asyncio.Event().wait()

        async def act(turn: TurnContext) -> str:
            return (await turn.call("note", text="hello")).status

        cards = Assistant("cards", agent=act)
        for each in (front, cards):

            @each.tool
            async def note(turn: TurnContext, text: str) -> None:
                made.append(text)

        return front, cards

    first = await house.node(*assistants())
    session = await house.open(first)
    turn = (await house.submit(first, session)).turn
    await house.until(lambda: made == ["bye"])
    await house.later(1)
    house.kill(first)
    await house.node(*assistants())

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.output) == ("completed", "completed")
    assert made == ["bye", "hello"]


@virtual
async def test_what_is_steered_in_behind_a_hand_off_waits_for_the_next_assistant(
    house: House,
) -> None:
    steered = asyncio.Event()
    read: list[list[str]] = []

    async def poll(turn: TurnContext, history: History, tools: Tools) -> str:
        if turn.assistant == "front":
            await turn.hand_off("cards")
            await steered.wait()
        read.append([message.text for message in await tools.steered()])
        return "" if turn.assistant == "front" else "cards here"

    node = await house.node(Assistant("front", agent=poll), Assistant("cards", agent=poll))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: "session.handed_off" in house.kinds(session))
    await house.submit(node, session, "and hurry", when_busy="steer")
    await house.later(0.1)
    steered.set()

    ended = await house.ended(session, turn.turn_id)

    assert ended.output == "cards here"
    assert read == [[], ["and hurry"]]


@virtual
async def test_last_words_behind_a_hand_off_are_void_with_the_node_that_wrote_them(
    house: House,
) -> None:
    """The next assistant answers then, and its own messages are all there."""

    async def front(turn: TurnContext):  # type: ignore[no-untyped-def]
        await turn.hand_off("cards")
        yield "Good bye."
        yield MessageEnd()
        await asyncio.Event().wait()

    async def cards(turn: TurnContext):  # type: ignore[no-untyped-def]
        yield "Cards"
        yield MessageEnd()
        yield "here."

    both = Assistant("front", agent=front), Assistant("cards", agent=cards)
    first = await house.node(*both)
    session = await house.open(first)
    turn = (await house.submit(first, session)).turn
    await house.until(lambda: "message.delta" in house.kinds(session))
    await house.later(1)
    house.kill(first)
    await house.node(*both)

    await house.ended(session, turn.turn_id)

    assert house.said(session) == [
        ("user", "hello"),
        ("assistant", "Cards"),
        ("assistant", "here."),
    ]


@virtual
async def test_a_session_is_not_handed_off_while_a_call_waits(house: House) -> None:
    calls = [call("pay", call_id="a"), call("to_cards", call_id="b")]
    script = Script(calls, "Paid, and still here.")
    front = Assistant("front", model=script.model())
    paid: list[int] = []

    @front.tool
    async def to_cards(turn: TurnContext) -> None:
        await asyncio.sleep(WORK_SECONDS)
        await turn.hand_off("cards")

    @front.tool(approval=True)
    async def pay(turn: TurnContext) -> None:
        paid.append(1)

    node = await house.node(front, reader([]))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: house.turn(session, turn.turn_id).status == "awaiting")
    awaited = house.turn(session, turn.turn_id).awaited
    assert awaited is not None
    await node.do(node.gates.answer(ANN, session, awaited.call_ids[0], granted=True))

    ended = await house.ended(session, turn.turn_id)

    assert (ended.output, paid) == ("Paid, and still here.", [1])
    assert "session.handed_off" not in house.kinds(session)


@virtual
async def test_a_session_that_is_one_a_user_stays_it_when_it_is_handed_off(house: House) -> None:
    async def act(turn: TurnContext) -> str:
        await turn.hand_off("cards")
        return ""

    node = await house.node(Assistant("front", agent=act, exclusive=True), reader([]))
    session = await house.open(node)
    await said_by(house, node, session)

    assert await house.open(node) == session
    assert (await said_by(house, node, session)).output == "cards here"


@virtual
async def test_the_last_of_two_summaries_holds_for_what_is_steered_in_behind_them(
    house: House,
) -> None:
    read: list[list[str]] = []
    go_on = asyncio.Event()

    async def act(turn: TurnContext, history: History) -> str:
        read.append([m.text for m in history.messages])
        if history.messages[-1].text == "fold":
            await turn.summarize("first try")
            await turn.summarize("all so far")
            await go_on.wait()
        return "ok"

    node = await house.node(Assistant("folder", agent=act))
    session = await house.open(node)
    await said_by(house, node, session, "one")
    turn = (await house.submit(node, session, "fold")).turn
    await house.until(lambda: house.kinds(session).count("session.summarized") == 2)
    await house.submit(node, session, "and now?", when_busy="steer")
    go_on.set()
    await house.ended(session, turn.turn_id)
    await said_by(house, node, session, "two")

    assert read[2:] == [
        ["all so far", "fold", "ok", "and now?"],
        ["all so far", "fold", "ok", "and now?", "ok", "two"],
    ]
