"""Presses of buttons that are late, or that come while another turn runs or waits."""

import asyncio
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator
from tests.runtime.rig import ANN, BOB, House, Rig, virtual

from sessile.core.codec import decode
from sessile.core.commands import Press, SubmitTurn
from sessile.core.context import TurnContext
from sessile.core.errors import InvalidInput, SessionClosed, SessionNotFound
from sessile.core.events import IntentDecided, WhenBusy
from sessile.core.ids import SessionId
from sessile.core.session import Turn
from sessile.kit.assistant import Assistant
from sessile.kit.replies import Button, Reply


def sites(go_on: asyncio.Event | None = None, *, form: Any = dict[str, int]) -> Assistant:
    """Offers a site to every message; a press of it says which it is."""
    assistant = Assistant("sites")

    @assistant.direct
    async def offer(turn: TurnContext) -> Reply | None:
        if turn.input["type"] == "button":
            return None
        return Reply("One site.", (Button("view", "View", {"site": 7}),))

    async def view(turn: TurnContext, payload: Any) -> str:
        return f"site {payload['site']}"

    view.__annotations__["payload"] = form
    assistant.button("view")(view)

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        if go_on is not None:
            await go_on.wait()
        return f"agent: {turn.input['text']}"

    return assistant


async def pressed(
    rig: Rig, session: SessionId, *, when_busy: WhenBusy = "enqueue", **more: Any
) -> Turn:
    given = {"type": "button", "button": "view", "payload": {"site": 7}, **more}
    return (await rig.do(rig.sessions.submit(ANN, session, given, when_busy=when_busy))).turn


def decisions(house: House, session: SessionId) -> list[IntentDecided]:
    decoded = (decode(each) for each in house.log(session) if each.kind == "intent.decided")
    return [event for event in decoded if isinstance(event, IntentDecided)]


@virtual
async def test_a_press_of_a_message_that_does_not_offer_it_is_told_so(house: House) -> None:
    node = await house.node(sites())
    session = await house.open(node)
    offered = (await house.submit(node, session)).turn
    await house.ended(session, offered.turn_id)
    user, reply = (message.message_id for message in house.messages(session))

    outputs = []
    for named, site in ((reply, 7), (reply, 8), (user, 7), ("msg_nobodys", 7), (None, 8)):
        turn = await pressed(node, session, message_id=named, payload={"site": site})
        outputs.append((await house.ended(session, turn.turn_id)).output)

    stale = "This button is no longer offered."
    assert outputs == ["site 7", stale, stale, stale, "site 8"]
    assert [(each.path, each.reason) for each in decisions(house, session)[1:]] == [
        ("button", "button view answered"),
        ("button", "stale"),
        ("button", "stale"),
        ("button", "stale"),
        ("button", "button view answered"),
    ]


@virtual
async def test_a_press_is_not_steered_into_a_turn_but_has_one_of_its_own(house: House) -> None:
    go_on = asyncio.Event()
    node = await house.node(sites(go_on))
    session = await house.open(node)
    given = {"type": "task", "text": "work"}
    running = (await node.do(node.sessions.submit(ANN, session, given))).turn

    turn = await pressed(node, session, when_busy="steer")
    assert turn.turn_id != running.turn_id
    go_on.set()

    assert (await house.ended(session, turn.turn_id)).output == "site 7"


@virtual
async def test_a_press_that_was_queued_for_an_older_form_is_the_agents(house: House) -> None:
    old = await house.node(sites(asyncio.Event()), turns_concurrent_max=1)
    session, other = await house.open(old), await house.open(old)
    given = {"type": "task", "text": "work"}
    await old.do(old.sessions.submit(ANN, other, given))
    turn = await pressed(old, session)
    assert turn.status == "queued"

    house.kill(old)
    await house.node(sites(form=dict[str, list[int]]))

    ended = await house.ended(session, turn.turn_id)
    assert (ended.status, ended.output) == ("completed", "agent: View")
    assert "button view failed: InvalidInput" in decisions(house, session)[0].reason


@virtual
@pytest.mark.parametrize(
    "wrong", [{"button": "unknown"}, {"payload": {"site": "x"}}, {"payload": None}, {"button": 7}]
)
async def test_a_press_that_cannot_be_one_is_refused_and_leaves_no_trace(
    house: House, wrong: dict[str, Any]
) -> None:
    node = await house.node(sites())
    session = await house.open(node)

    with pytest.raises(InvalidInput):
        await pressed(node, session, **wrong)

    assert house.kinds(session) == ["session.opened"]


WRONG = (
    {},
    {"button": "unknown"},
    {"payload": {"site": "x"}},
    {"payload": None},
    {"button": 7},
    {"text": 7},
)


@virtual
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_press_on_a_closed_session_is_told_so_whatever_it_looks_like(
    house: House, wrong: dict[str, Any]
) -> None:
    node = await house.node(sites())
    session = await house.open(node)
    await house.close(node, session)

    with pytest.raises(SessionClosed):
        await pressed(node, session, **wrong)


@virtual
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_press_on_anothers_session_is_not_judged(
    house: House, wrong: dict[str, Any]
) -> None:
    node = await house.node(sites())
    session = await house.open(node, BOB)

    with pytest.raises(SessionNotFound):
        await pressed(node, session, **wrong)


@virtual
async def test_a_press_is_judged_in_the_sessions_lock(house: House) -> None:
    """And the session is not read before: whose it is may change meanwhile."""
    front = Assistant("front")

    @front.agent
    async def on(turn: TurnContext) -> None:
        await turn.hand_off("sites")

    node = await house.node(front, sites())
    session = await house.open(node)
    with pytest.raises(InvalidInput, match="no button 'view'"):
        await pressed(node, session)

    before = house.gate.count("find")
    hold = house.gate.hold("transact", SubmitTurn, matches=is_press)
    press = node.do(pressed(node, session))
    await hold.reached()
    assert house.gate.count("find") == before
    passing = (await house.submit(node, session)).turn
    await house.ended(session, passing.turn_id)
    hold.go()

    assert (await house.ended(session, (await press).turn_id)).output == "site 7"


def is_press(_key: Any, command: SubmitTurn) -> bool:
    return isinstance(command.input, Press)


@virtual
async def test_a_form_that_fails_takes_no_press_and_keeps_no_others_from_theirs(
    house: House,
) -> None:
    def fails(_given: Any) -> Any:
        raise KeyError("a bug")

    broken = sites(form=Annotated[dict[str, int], BeforeValidator(fails)])
    broken.name = "broken"
    node = await house.node(sites(), broken)
    session, other = await house.open(node), await house.open(node, assistant="broken")

    turn = await pressed(node, session)
    with pytest.raises(InvalidInput, match="could not be read"):
        await pressed(node, other)

    assert (await house.ended(session, turn.turn_id)).output == "site 7"
    assert house.troubles.told("a press could not be read")


@virtual
async def test_a_press_that_is_not_json_is_refused_under_a_key_too(house: House) -> None:
    node = await house.node(sites())
    session = await house.open(node)
    given = {"type": "button", "button": "view", "payload": {"site": {7}}}

    with pytest.raises(InvalidInput, match="not JSON"):
        await node.do(node.sessions.submit(ANN, session, given, idempotency_key="k"))


@virtual
async def test_a_queued_press_is_edited_to_what_can_be_pressed(house: House) -> None:
    go_on = asyncio.Event()
    node = await house.node(sites(go_on))
    session = await house.open(node)
    await node.do(node.sessions.submit(ANN, session, {"type": "task", "text": "work"}))
    turn = await pressed(node, session)

    async def edit(given: dict[str, Any]) -> None:
        await node.do(node.sessions.edit(ANN, session, turn.turn_id, given))

    with pytest.raises(InvalidInput):
        await edit({"type": "button", "button": "view", "payload": {"site": "x"}})
    await edit({"type": "button", "button": "view", "payload": {"site": 8}})
    go_on.set()

    assert (await house.ended(session, turn.turn_id)).output == "site 8"
