"""The stages before an agent, as a running turn goes through them and is lost in their midst."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.integrations.models import Script, call, shape
from tests.runtime.rig import ANN, House, Rig, virtual

from sessile.core.codec import decode
from sessile.core.context import TurnContext
from sessile.core.errors import InvalidInput
from sessile.core.events import IntentDecided
from sessile.core.ids import SessionId
from sessile.core.session import Turn
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.kit.replies import Button, Intent, Reply
from sessile.ports.agent import Tools

Answer = Reply | str | None


def press(house: House, rig: Rig, session: SessionId, button: str, **payload: Any) -> Any:
    given = {"type": "button", "button": button, "payload": payload}
    return rig.do(rig.sessions.submit(ANN, session, given))


def decisions(house: House, session: SessionId) -> list[tuple[str, str | None]]:
    """Path and intent of each."""
    decided = [decode(e) for e in house.log(session) if e.kind == IntentDecided.kind]
    return [(e.path, e.intent) for e in decided if isinstance(e, IntentDecided)]


def tools_run(house: House, session: SessionId) -> list[str]:
    return [kind for kind in house.kinds(session) if kind.startswith("tool.")]


async def ended(house: House, session: SessionId, submitted: Any) -> Turn:
    return await house.ended(session, (await submitted).turn.turn_id)


@virtual
async def test_a_press_is_told_and_its_answer_offers_buttons(house: House) -> None:
    sites = Assistant("sites", model=Script("never asked").model())

    @sites.button("view", label="View sites")
    async def view(turn: TurnContext, payload: dict[str, int]) -> Answer:
        return Reply("Your sites", (Button("pick", "Maple", {"page": payload["page"] + 1}),))

    node = await house.node(sites)
    session = await house.open(node)
    turn = await ended(house, session, press(house, node, session, "view", page=1))

    assert (turn.status, turn.output) == ("completed", "Your sites")
    assert house.said(session) == [("user", "View sites"), ("assistant", "Your sites")]
    button = {"type": "button", "button": "pick", "label": "Maple", "payload": {"page": 2}}
    assert house.messages(session)[-1].parts[-1] == button
    kinds = house.kinds(session)
    assert kinds.count("button.pressed") == 1
    assert kinds.index("intent.decided") < kinds.index("turn.completed")
    assert decisions(house, session) == [("button", None)]


@virtual
async def test_an_agent_offers_buttons_under_what_it_says_and_once_after_a_loss(
    house: House,
) -> None:
    waiting = asyncio.Event()
    sites = Assistant("sites")
    sites.button("pick")(_picked)

    @sites.agent
    async def answer(turn: TurnContext) -> AsyncIterator[str | Button]:
        yield "One site"
        yield Button("pick", "Maple", {"page": 1})
        if turn.attempt == 1:
            waiting.set()
            await asyncio.Event().wait()
        yield " is yours."

    first = await house.node(sites)
    session = await house.open(first)
    submitted = await house.submit(first, session)
    await waiting.wait()
    await house.until(lambda: "button.offered" in house.kinds(session))
    house.kill(first)
    second = await house.node(sites)
    turn = await house.ended(session, submitted.turn.turn_id)
    reply = house.messages(session)[-1]
    pressed = press(house, second, session, "pick", page=1)

    assert turn.output == "One site is yours."
    button = {"type": "button", "button": "pick", "label": "Maple", "payload": {"page": 1}}
    assert reply.parts == ({"type": "text", "text": turn.output}, button)
    assert (await ended(house, session, pressed)).output == "picked 1"


async def _picked(turn: TurnContext, payload: dict[str, int]) -> str:
    return f"picked {payload['page']}"


@virtual
async def test_a_press_that_cannot_be_leaves_no_trace(house: House) -> None:
    sites = Assistant("sites", model=Script("never asked").model())

    @sites.button("view")
    async def view(turn: TurnContext, payload: dict[str, int]) -> Answer:
        return "never"

    node = await house.node(sites)
    session = await house.open(node)
    for button, payload in (("view", {"page": "one"}), ("none", {})):
        with pytest.raises(InvalidInput):
            await press(house, node, session, button, **payload)

    assert house.kinds(session) == ["session.opened"]


@virtual
async def test_the_agent_goes_on_from_what_the_stages_did(house: House) -> None:
    """A call that a stage made, and no message announced, is no call that a model cannot place."""
    script = Script("by the model")
    sites = Assistant("sites", model=script.model())

    @sites.tool(idempotent=True)
    async def list_sites(turn: TurnContext) -> list[str]:
        return ["Maple"]

    @sites.direct
    async def look(turn: TurnContext) -> Answer:
        await turn.call("list_sites")
        return None

    node = await house.node(sites)
    session = await house.open(node)
    for text in ("one", "two"):
        turn = await ended(house, session, house.submit(node, session, text))
        assert (turn.status, turn.output) == ("completed", "by the model")

    assert decisions(house, session) == [("agent", None)] * 2
    assert len(script.asked) == 2
    # The model is told of the first turn's call, with its result behind it.
    told = [said for kind, said in script.asked[1] if kind == "tool-return"]
    assert [name for name, *_ in told] == ["list_sites"]


@virtual
async def test_what_a_stage_called_is_not_called_again_after_a_loss(house: House) -> None:
    ran: list[int] = []
    waiting = asyncio.Event()
    sites = Assistant("sites", model=Script("never asked").model())

    @sites.tool
    async def order(turn: TurnContext, number: int) -> str:
        ran.append(number)
        return f"order {number}"

    @sites.direct
    async def look(turn: TurnContext) -> Answer:
        first = await turn.call("order", number=1)
        if turn.attempt == 1:
            waiting.set()
            await asyncio.Event().wait()
        second = await turn.call("order", number=2)
        return f"{first.value}, {second.value}"

    first = await house.node(sites)
    session = await house.open(first)
    submitted = await house.submit(first, session)
    await waiting.wait()
    house.kill(first)
    await house.node(sites)

    turn = await house.ended(session, submitted.turn.turn_id)
    assert turn.output == "order 1, order 2"
    assert ran == [1, 2]
    assert decisions(house, session) == [("direct", None)]


@virtual
@pytest.mark.parametrize("again", [1, 2])
async def test_an_agent_that_is_lost_is_gone_on_with_and_its_stages_are_not(
    house: House, again: int
) -> None:
    """What a stage had asked its tools is not taken for what the agent asks them."""
    ran: list[int] = []
    tried: list[int] = []
    waiting = asyncio.Event()
    sites = Assistant("sites")

    @sites.tool
    async def order(turn: TurnContext, number: int) -> str:
        ran.append(number)
        if len(ran) == 1:
            raise ConnectionError
        return f"order {number}"

    @sites.direct
    async def look(turn: TurnContext) -> Answer:
        tried.append(turn.attempt)
        await turn.call("order", number=1)
        return None

    @sites.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        if turn.attempt == 1 and again == 2:
            waiting.set()
            await asyncio.Event().wait()
        found = await tools.call("order", {"number": again})
        if turn.attempt == 1:
            waiting.set()
            await asyncio.Event().wait()
        return f"{found.status} {found.value}"

    first = await house.node(sites)
    session = await house.open(first)
    submitted = await house.submit(first, session)
    await waiting.wait()
    await house.later(1.0)
    house.kill(first)
    await house.node(sites)

    turn = await house.ended(session, submitted.turn.turn_id)
    assert (turn.status, turn.error, turn.output) == ("completed", None, f"completed order {again}")
    assert tried == [1]
    assert ran == [1, again]
    assert decisions(house, session) == [("agent", None)]


@virtual
async def test_a_model_that_is_lost_is_gone_on_with_and_its_stages_are_not(house: House) -> None:
    tried: list[int] = []
    waiting = asyncio.Event()
    script = Script([call("wait")], "by the model")
    sites = Assistant("sites", model=script.model())

    @sites.tool(idempotent=True)
    async def list_sites(turn: TurnContext) -> list[str]:
        return ["Maple"]

    @sites.tool(idempotent=True)
    async def wait(turn: TurnContext) -> int:
        waiting.set()
        if turn.attempt == 1:
            await asyncio.Event().wait()
        return turn.attempt

    @sites.intent("view", phrases=("hello",))
    async def view(turn: TurnContext, intent: Intent) -> Answer:
        tried.append(turn.attempt)
        await turn.call("list_sites")
        return None

    first = await house.node(sites)
    session = await house.open(first)
    submitted = await house.submit(first, session)
    await waiting.wait()
    house.kill(first)
    await house.node(sites)

    turn = await house.ended(session, submitted.turn.turn_id)
    assert (turn.status, turn.output) == ("completed", "by the model")
    assert decisions(house, session) == [("agent", "view")]
    assert tried == [1]
    assert tools_run(house, session).count("tool.completed") == 2


@virtual
async def test_a_stage_may_wait_for_an_approval(house: House) -> None:
    ran: list[int] = []
    desk = Assistant("desk", model=Script("never asked").model())

    @desk.tool(approval=True)
    async def refund(turn: TurnContext, number: int) -> str:
        ran.append(number)
        return f"refunded {number}"

    @desk.button("refund")
    async def press_refund(turn: TurnContext, payload: dict[str, int]) -> Answer:
        done = await turn.call("refund", number=payload["number"])
        return f"{done.value}"

    node = await house.node(desk)
    session = await house.open(node)
    turn = (await press(house, node, session, "refund", number=7)).turn
    await house.until(lambda: house.turn(session, turn.turn_id).status == "awaiting")
    awaited = house.turn(session, turn.turn_id).awaited
    assert awaited is not None
    assert decisions(house, session) == []
    await node.do(node.gates.answer(ANN, session, awaited.call_ids[0], granted=True))

    assert (await house.ended(session, turn.turn_id)).output == "refunded 7"
    assert ran == [7]
    assert decisions(house, session) == [("button", None)]
    assert house.kinds(session).count("button.pressed") == 1


@virtual
async def test_what_is_steered_in_while_a_stage_answers_is_the_agents(house: House) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    script = Script("never first", lambda said: "and by the model")
    sites = Assistant("sites", model=script.model())

    @sites.direct
    async def slow(turn: TurnContext) -> Answer:
        begun.set()
        await go_on.wait()
        return "by the stage"

    node = await house.node(sites)
    session = await house.open(node)
    submitted = await house.submit(node, session, "one")
    await begun.wait()
    steered = await house.submit(node, session, "two", when_busy="steer")
    go_on.set()
    turn = await house.ended(session, submitted.turn.turn_id)

    assert steered.turn.turn_id == turn.turn_id
    assert house.said(session) == [
        ("user", "one"),
        ("assistant", "by the stage"),
        ("user", "two"),
        ("assistant", "and by the model"),
    ]


def bank(*, model: str = "never asked") -> tuple[Assistant, Assistant]:
    """A front desk that hands every text on, and the cards desk, which has an intent too."""
    front = Assistant("front", model=Script(model).model())
    cards = Assistant("cards", model=Script("by the cards' model").model())

    @front.intent("cards", phrases=("* card",))
    async def to_cards(turn: TurnContext, intent: Intent) -> Answer:
        await turn.hand_off("cards", reason="about a card")
        return None

    @cards.intent("block", phrases=("block *",))
    async def block(turn: TurnContext, intent: Intent) -> Answer:
        return f"{turn.assistant}: blocked"

    return front, cards


@virtual
@pytest.mark.parametrize(
    ("text", "output", "second"),
    [
        ("block my card", "cards: blocked", ("intent", "block")),
        ("about my card", "by the cards' model", ("agent", None)),
    ],
)
async def test_who_is_handed_the_session_decides_for_itself(
    house: House, text: str, output: str, second: tuple[str, str | None]
) -> None:
    node = await house.node(*bank())
    session = await house.open(node)
    turn = await ended(house, session, house.submit(node, session, text))

    assert (turn.status, turn.output) == ("completed", output)
    assert decisions(house, session) == [("intent", "cards"), second]
    assert house.said(session) == [("user", text), ("assistant", output)]


@virtual
async def test_a_handed_off_turn_that_is_lost_is_decided_by_whom_it_went_to(house: House) -> None:
    """Also where both decide by the same path: the log says it of each."""
    front, cards = bank()
    begun = asyncio.Event()

    @cards.direct
    async def slow(turn: TurnContext) -> Answer:
        if turn.attempt == 1:
            begun.set()
            await asyncio.Event().wait()
        return None

    first = await house.node(front, cards)
    session = await house.open(first)
    submitted = await house.submit(first, session, "block my card")
    await begun.wait()
    await house.later(1.0)
    house.kill(first)
    await house.node(front, cards)

    turn = await house.ended(session, submitted.turn.turn_id)
    assert turn.output == "cards: blocked"
    assert decisions(house, session) == [("intent", "cards"), ("intent", "block")]


def desks(ran: list[tuple[SessionId, int]], *, model: bool) -> tuple[Assistant, Assistant]:
    """A press goes through every stage of the first and is handed on, through those of the second,
    to its agent; each of them calls a tool that may not be run twice."""
    desk, cards = Assistant("desk", model=Script("never asked").model()), Assistant("cards")
    if model:
        five = ("order", {"number": 5})

        def step(said: list[Any]) -> Any:
            made = [said[:2] for kind, said in shape(said) if kind == "tool-call"]
            return "cards: done" if five in made else [call(*five)]

        script = Script(step)
        cards = Assistant("cards", model=script.model())
    else:

        @cards.agent
        async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
            await tools.call("order", {"number": 5})
            return "cards: done"

    async def order(turn: TurnContext, number: int) -> str:
        ran.append((turn.session_id, number))
        return f"order {number}"

    desk.tool(order)
    cards.tool(order)

    @desk.button("view")
    async def view(turn: TurnContext, payload: dict[str, int]) -> Answer:
        await turn.call("order", number=1)
        return None

    @desk.direct
    async def fails(turn: TurnContext) -> Answer:
        await turn.call("order", number=2)
        raise ConnectionError

    @desk.intent("view", phrases=("view",))
    async def hands_on(turn: TurnContext, intent: Intent) -> Answer:
        await turn.call("order", number=3)
        await turn.hand_off("cards")
        return None

    @cards.direct
    async def none(turn: TurnContext) -> Answer:
        await turn.call("order", number=4)
        return None

    return desk, cards


@virtual
@pytest.mark.parametrize("model", [False, True])
@pytest.mark.parametrize("where", ["before", "after"])
async def test_wherever_a_passage_is_lost_each_of_its_calls_is_made_once(
    house: House, model: bool, where: Any
) -> None:
    """Its node is lost at the first append of the turn, at the second, and so on to its end."""
    ran: list[tuple[SessionId, int]] = []
    node = await house.node(*desks(ran, model=model))
    cuts = 0
    while True:
        session = await house.open(node)
        left = iter(range(cuts, -1, -1))
        hold = house.gate.hold(
            "append",
            where=where,
            matches=lambda holding, *_, mine=session, left=left: (
                holding.key.session_id == mine and next(left, None) == 0
            ),
        )
        submitted = await press(house, node, session, "view")
        turn_id = submitted.turn.turn_id
        await house.until(
            lambda hold=hold, session=session, turn_id=turn_id: (
                hold.arrived.is_set() or house.turn(session, turn_id).ended
            )
        )
        lost = hold.arrived.is_set()
        if lost:
            house.kill(node)
            hold.go()
            node = await house.node(*desks(ran, model=model))
        turn = await house.ended(session, turn_id)

        assert (turn.status, turn.output) == ("completed", "cards: done"), cuts
        # A call that may have run is not made again, and the log says that it is not known.
        made = [number for mine, number in ran if mine == session]
        outcomes = [
            part
            for message in house.messages(session)
            for part in message.parts
            if part["type"] == "tool_result"
        ]
        unsure = {
            part["arguments"]["number"] for part in outcomes if part["status"] == "interrupted"
        }
        assert made == sorted(set(made)), cuts
        assert {1, 2, 3, 4, 5} - set(made) <= unsure, cuts
        assert len(unsure) <= lost, cuts
        assert [part["arguments"]["number"] for part in outcomes] == [1, 2, 3, 4, 5], cuts
        assert decisions(house, session)[-1][0] == "agent", cuts
        if not lost:
            break
        cuts += 1
    assert cuts > 8
