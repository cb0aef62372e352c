"""Steering: what is said into a running turn is read by it, or becomes a turn of its own."""

import asyncio

from tests.runtime.rig import House, virtual

from sessile.core.commands import FinishTurn
from sessile.core.context import TurnContext
from sessile.core.errors import StorageBusy
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import AgentFailed, MessageEnd, TextDelta, Tools

Heard = list[list[tuple[str, str]]]


def listener(heard: Heard, until: asyncio.Event | None = None) -> Assistant:
    """Waits for the event when it is first asked, and replies to what was last said."""
    assistant = Assistant("listener")

    @assistant.agent
    async def answer(turn: TurnContext, history: History) -> str:
        heard.append([(message.role, message.text) for message in history.messages])
        if until is not None and len(heard) == 1:
            await until.wait()
        return f"re: {history.messages[-1].text}"

    return assistant


@virtual
async def test_a_steer_that_the_agent_has_not_read_forces_another_step_that_reads_it(
    house: House,
) -> None:
    heard: Heard = []
    until = asyncio.Event()
    node = await house.node(listener(heard, until))
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn

    steered = await house.submit(node, session, "b", when_busy="steer")
    until.set()
    ended = await house.ended(session, turn.turn_id)

    assert steered.turn.turn_id == turn.turn_id
    assert heard == [
        [("user", "a")],
        [("user", "a"), ("assistant", "re: a"), ("user", "b")],
    ]
    assert (ended.status, ended.output) == ("completed", "re: b")
    assert len(house.turns(session)) == 1


@virtual
async def test_a_steer_while_the_finish_is_on_its_way_forces_another_step(house: House) -> None:
    heard: Heard = []
    node, other = await house.node(listener(heard)), await house.node(listener(heard))
    session = await house.open(node)
    house.wire.lost = True
    finish = house.gate.hold("transact", FinishTurn)
    turn = (await house.submit(node, session, "a")).turn
    await finish.reached()

    await house.submit(other, session, "b", when_busy="steer")
    finish.go()
    ended = await house.ended(session, turn.turn_id)

    assert heard[-1][-1] == ("user", "b")
    assert (ended.status, ended.output) == ("completed", "re: b")


@virtual
async def test_a_steer_after_the_finish_is_a_turn_of_its_own(house: House) -> None:
    heard: Heard = []
    node = await house.node(listener(heard))
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn, where="after")
    first = (await house.submit(node, session, "a")).turn
    await finish.reached()

    second = (await house.submit(node, session, "b", when_busy="steer")).turn
    finish.go()
    await house.quiet()

    assert first.turn_id != second.turn_id
    assert heard[-1] == [("user", "a"), ("assistant", "re: a"), ("user", "b")]


@virtual
async def test_an_unread_steer_of_a_turn_that_fails_becomes_a_turn_that_runs(house: House) -> None:
    until = asyncio.Event()
    assistant = Assistant("moody")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        if turn.input["text"] == "a":
            await until.wait()
            raise AgentFailed("no_mood", "Not now.")
        return f"re: {turn.input['text']}"

    node = await house.node(assistant)
    session = await house.open(node)
    first = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    until.set()
    await house.ended(session, first.turn_id)
    await house.quiet()

    assert [(t.input["text"], t.status) for t in house.turns(session)] == [
        ("a", "failed"),
        ("b", "completed"),
    ]
    assert house.said(session) == [("user", "a"), ("user", "b"), ("assistant", "re: b")]


@virtual
async def test_an_unread_steer_of_a_turn_that_is_cancelled_becomes_a_turn_that_runs(
    house: House,
) -> None:
    heard: Heard = []
    node = await house.node(listener(heard, asyncio.Event()))
    session = await house.open(node)
    first = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    await house.submit(node, session, "c", when_busy="steer")

    await house.cancel(node, session, first.turn_id)
    await house.ended(session, first.turn_id)
    await house.quiet()

    assert [(t.input["text"], t.status) for t in house.turns(session)] == [
        ("a", "cancelled"),
        ("b", "completed"),
        ("c", "completed"),
    ]


@virtual
async def test_a_cancel_while_a_failed_turns_steers_are_looked_up_ends_the_turn(
    house: House,
) -> None:
    until = asyncio.Event()
    assistant = Assistant("moody")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        if turn.input["text"] == "a":
            await until.wait()
            raise AgentFailed("no_mood", "Not now.")
        return "done"

    node = await house.node(assistant)
    session = await house.open(node)
    first = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    folding = house.gate.hold("read")
    until.set()
    await folding.reached()

    await house.cancel(node, session, first.turn_id)
    await house.later(0.01)
    folding.go()
    ended = await house.ended(session, first.turn_id, within=1)

    assert ended.status == "cancelled"


@virtual
async def test_an_agent_that_asks_reads_what_was_steered_in_its_own_step(house: House) -> None:
    got: list[str] = []
    until = asyncio.Event()
    node = await house.node(asker(got, until))
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    until.set()
    ended = await house.ended(session, turn.turn_id)

    assert got == ["b"]
    assert ended.output == "read"
    assert house.said(session)[1:] == [("assistant", "one"), ("user", "b"), ("assistant", "read")]


@virtual
async def test_what_was_steered_is_read_though_the_answer_to_its_append_was_lost(
    house: House,
) -> None:
    got: list[str] = []
    until = asyncio.Event()
    node = await house.node(asker(got, until), store=house.twice("message.added"))
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    until.set()
    await house.ended(session, turn.turn_id)

    assert got == ["b"]


@virtual
async def test_the_second_step_knows_the_first_though_the_answer_to_its_append_was_lost(
    house: House,
) -> None:
    heard: Heard = []
    until = asyncio.Event()
    node = await house.node(listener(heard, until), store=house.twice("message.added"))
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    until.set()
    await house.ended(session, turn.turn_id)

    assert heard[-1] == [("user", "a"), ("assistant", "re: a"), ("user", "b")]


@virtual
async def test_a_steer_whose_hint_was_lost_is_read_in_the_step_that_is_running(
    house: House,
) -> None:
    got: list[str] = []
    until = asyncio.Event()
    node, other = await house.node(asker(got, until)), await house.node(asker(got, until))
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn
    house.wire.lost = True
    await house.submit(other, session, "b", when_busy="steer")
    await house.later(1.1)  # the sweep
    until.set()
    await house.ended(session, turn.turn_id)

    assert got == ["b"]


@virtual
async def test_a_steer_that_was_accepted_before_a_crash_is_read_in_the_next_attempt(
    house: House,
) -> None:
    got: list[str] = []
    node = await house.node(asker(got, asyncio.Event()))
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    house.kill(node)
    until = asyncio.Event()
    until.set()
    await house.node(asker(got, until))

    ended = await house.ended(session, turn.turn_id)

    assert (got, ended.attempt) == (["b"], 2)


@virtual
async def test_a_steer_into_a_turn_that_is_being_cancelled_is_a_turn_of_its_own(
    house: House,
) -> None:
    heard: Heard = []
    node, other = (
        await house.node(listener(heard, asyncio.Event())),
        await house.node(listener(heard)),
    )
    session = await house.open(node)
    first = (await house.submit(node, session, "a")).turn
    house.wire.lost = True
    await house.cancel(other, session, first.turn_id)

    second = (await house.submit(other, session, "b", when_busy="steer")).turn
    await house.quiet()

    assert second.turn_id != first.turn_id
    assert house.turn(session, second.turn_id).status == "completed"


@virtual
async def test_a_busy_store_delays_a_steer_and_loses_nothing(house: House) -> None:
    heard: Heard = []
    until = asyncio.Event()
    node = await house.node(listener(heard, until))
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    for _ in range(2):
        house.gate.appending("message.added").fail(StorageBusy())
    until.set()
    ended = await house.ended(session, turn.turn_id)

    assert ended.output == "re: b"


@virtual
async def test_a_closed_session_cancels_the_steers_that_nobody_read(house: House) -> None:
    heard: Heard = []
    node = await house.node(listener(heard, asyncio.Event()))
    session = await house.open(node)
    await house.submit(node, session, "a")
    await house.submit(node, session, "b", when_busy="steer")

    await house.close(node, session)
    await house.quiet()

    assert [(t.input["text"], t.status) for t in house.turns(session)] == [
        ("a", "cancelled"),
        ("b", "cancelled"),
    ]
    assert len(heard) == 1


def asker(got: list[str], until: asyncio.Event) -> Assistant:
    """Says a word, waits, and asks what was steered in."""
    assistant = Assistant("asker")

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        yield TextDelta("one")
        yield MessageEnd()
        await until.wait()
        got.extend(message.text for message in await tools.steered())
        yield "read"

    return assistant


@virtual
async def test_a_steer_that_was_on_its_way_to_the_agent_when_the_session_closed_is_in_one_place(
    house: House,
) -> None:
    got: list[str] = []
    until = asyncio.Event()
    node, other = await house.node(asker(got, until)), await house.node(asker(got, until))
    session = await house.open(node)
    first = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    house.wire.lost = True
    delivery = house.gate.hold(
        "append", matches=lambda _h, _s, events: any(e.kind == "message.added" for e in events)
    )
    until.set()
    await delivery.reached()

    await house.close(other, session)
    delivery.go()
    await house.ended(session, first.turn_id)

    assert [turn.status for turn in house.turns(session)] == ["cancelled", "cancelled"]
    assert "b" not in [text for _, text in house.said(session)]
    assert got == []


@virtual
async def test_branches_that_ask_side_by_side_are_given_each_steer_once(house: House) -> None:
    got: list[str] = []
    go, then = asyncio.Event(), asyncio.Event()
    assistant = Assistant("branches")

    async def ask(tools: Tools, when: asyncio.Event) -> None:
        await when.wait()
        got.extend(message.text for message in await tools.steered())

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        await asyncio.gather(ask(tools, go), ask(tools, then))
        return "read"

    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    delivery = house.gate.appending("message.added")
    go.set()
    await delivery.reached()
    await house.submit(node, session, "c", when_busy="steer")
    then.set()
    await house.later(0.1)
    delivery.go()
    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, got) == ("completed", ["b", "c"])
    assert house.said(session) == [
        ("user", "a"), ("user", "b"), ("user", "c"), ("assistant", "read")
    ]  # fmt: skip


@virtual
async def test_an_agent_that_gives_up_asking_is_given_the_steer_when_it_asks_again(
    house: House,
) -> None:
    got: list[str] = []
    go, then = asyncio.Event(), asyncio.Event()
    assistant = Assistant("hasty")

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        await go.wait()
        try:
            async with asyncio.timeout(1):
                await tools.steered()
        except TimeoutError:
            await then.wait()
        got.extend(message.text for message in await tools.steered())
        return "read"

    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session, "a")).turn
    await house.submit(node, session, "b", when_busy="steer")
    house.gate.appending("message.added", late=True)
    go.set()
    await house.later(2)
    await house.submit(node, session, "c", when_busy="steer")
    then.set()
    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, got) == ("completed", ["b", "c"])
    assert house.said(session)[1:3] == [("user", "b"), ("user", "c")]
