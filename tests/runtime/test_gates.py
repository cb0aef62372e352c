"""Approvals, grants, hand-offs and questions to other assistants, as a running turn meets them."""

import asyncio
from typing import Any

import pytest
from tests.integrations.models import Script, call
from tests.runtime.rig import ANN, BOB, House, Rig, virtual

from sessile.core.codec import decode
from sessile.core.context import TurnContext
from sessile.core.errors import ApprovalAnswered, CallNotFound, Forbidden, SessionNotFound
from sessile.core.ids import CallId, SessionId
from sessile.core.session import Turn
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import Tools

LOOKUP_SECONDS = 1.0
"""Of virtual time."""


def refunds(ran: list[int], *, model: bool) -> Assistant:
    """Looks an order up and refunds it, side by side; a refund waits for an approval."""

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        found, refunded = await asyncio.gather(
            tools.call("lookup", {"number": 7}), tools.call("refund", {"number": 7})
        )
        return f"{found.value}, {refunded.value or refunded.reason}"

    script = Script(
        [call("lookup", {"number": 7}, call_id="a"), call("refund", {"number": 7}, call_id="b")],
        "done",
    )
    desk = Assistant("desk", model=script.model()) if model else Assistant("desk", agent=act)

    @desk.tool
    async def lookup(turn: TurnContext, number: int) -> str:
        await asyncio.sleep(LOOKUP_SECONDS)
        ran.append(-number)
        return f"order {number}"

    @desk.tool(approval=True)
    async def refund(turn: TurnContext, number: int) -> str:
        ran.append(number)
        return f"refunded {number}"

    return desk


async def awaiting(house: House, rig: Rig, session: SessionId) -> tuple[Turn, CallId]:
    """The turn, once it waits, and the one call that it waits for."""
    turn = (await house.submit(rig, session)).turn
    await house.until(lambda: house.turn(session, turn.turn_id).status == "awaiting")
    turn = house.turn(session, turn.turn_id)
    assert turn.awaited is not None
    (call_id,) = turn.awaited.call_ids
    return turn, call_id


def answered(rig: Rig, session: SessionId, call_id: CallId, **how: Any) -> asyncio.Task[Turn]:
    return rig.do(rig.gates.answer(ANN, session, call_id, **how))


@virtual
@pytest.mark.parametrize("model", [False, True])
@pytest.mark.parametrize("granted", [True, False])
async def test_a_turn_waits_for_an_approval_with_no_lease_and_goes_on_where_it_was(
    house: House, model: bool, granted: bool
) -> None:
    ran: list[int] = []
    node = await house.node(refunds(ran, model=model))
    session = await house.open(node)

    turn, call_id = await awaiting(house, node, session)
    assert node.workers.running == 0
    assert house.lease(session).owner is None
    assert ran == [-7], "what needs no approval was done"
    await house.later(3_600)  # longer than any turn may run
    await answered(node, session, call_id, granted=granted, reason="" if granted else "too much")
    ended = await house.ended(session, turn.turn_id)

    assert ended.status == "completed"
    assert ran == ([-7, 7] if granted else [-7])
    results = {m.parts[0]["name"]: m.parts[0] for m in house.messages(session) if m.role == "tool"}
    assert results["lookup"]["status"] == "completed"
    if granted:
        assert results["refund"]["result"] == "refunded 7"
    else:
        assert results["refund"]["status"] == "refused"
        assert "too much" in results["refund"]["reason"]


@virtual
@pytest.mark.parametrize("model", [False, True])
async def test_an_approval_outlives_the_node_that_asked_for_it(house: House, model: bool) -> None:
    ran: list[int] = []
    first = await house.node(refunds(ran, model=model))
    session = await house.open(first)
    turn, call_id = await awaiting(house, first, session)

    house.kill(first)
    second = await house.node(refunds(ran, model=model))
    await answered(second, session, call_id, granted=True)

    assert (await house.ended(session, turn.turn_id)).status == "completed"
    assert ran == [-7, 7]


@virtual
@pytest.mark.parametrize("model", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"number": "seven"}, {"order": 7}])
async def test_nobody_is_asked_to_approve_a_call_that_cannot_work(
    house: House, model: bool, arguments: dict[str, Any]
) -> None:
    ran: list[int] = []
    script = Script([call("refund", arguments, call_id="a")], "done")

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        return (await tools.call("refund", arguments)).reason

    desk = Assistant("desk", model=script.model()) if model else Assistant("desk", agent=act)

    @desk.tool(approval=True)
    async def refund(turn: TurnContext, number: int) -> str:
        ran.append(number)
        return "refunded"

    node = await house.node(desk)
    session = await house.open(node)

    turn = (await house.submit(node, session)).turn

    ended = await house.ended(session, turn.turn_id)
    assert (ended.status, ran) == ("completed", [])
    kinds = house.kinds(session)
    assert "turn.awaiting" not in kinds
    assert (kinds.count("tool.started"), kinds.count("tool.failed")) == (1, 1)
    (result,) = [m.parts[0] for m in house.messages(session) if m.role == "tool"]
    assert result["reason"].startswith("Invalid arguments for refund:")


@virtual
async def test_an_answer_is_given_once_and_only_by_who_may_reach_the_session(house: House) -> None:
    node = await house.node(refunds([], model=False))
    session = await house.open(node)
    turn, call_id = await awaiting(house, node, session)

    with pytest.raises(SessionNotFound):
        await node.do(node.gates.answer(BOB, session, call_id, granted=True))
    with pytest.raises(CallNotFound):
        await answered(node, session, CallId("call_nobodys"), granted=True)
    results = await asyncio.gather(
        *(answered(node, session, call_id, granted=yes) for yes in (True, True, False)),
        return_exceptions=True,
    )
    ended = await house.ended(session, turn.turn_id)

    refused = [each for each in results if isinstance(each, ApprovalAnswered)]
    assert len(refused) in {1, 2}
    assert ended.status == "completed"
    kinds = house.kinds(session)
    assert kinds.count("approval.granted") + kinds.count("approval.denied") == 1


@virtual
async def test_nobody_answers_and_the_model_is_told(house: House) -> None:
    script = Script([call("refund", {"number": 7})], lambda said: said[-1].parts[0].content)
    desk = Assistant("desk", model=script.model())

    @desk.tool(approval=True)
    async def refund(turn: TurnContext, number: int) -> str:
        raise AssertionError("never")

    node = await house.node(desk, approval_seconds_max=60.0)
    session = await house.open(node)
    turn, _ = await awaiting(house, node, session)
    behind = (await house.submit(node, session, "and then?")).turn

    await house.later(61)

    assert "Nobody answered in time" in ((await house.ended(session, turn.turn_id)).output or "")
    assert (await house.ended(session, behind.turn_id)).status == "completed"


@virtual
@pytest.mark.parametrize("how", ["cancel", "interrupt", "close"])
async def test_a_turn_that_waits_is_ended_at_once(house: House, how: str) -> None:
    node = await house.node(refunds([], model=True))
    session = await house.open(node)
    turn, call_id = await awaiting(house, node, session)

    if how == "cancel":
        assert (await house.cancel(node, session, turn.turn_id)).status == "cancelled"
    elif how == "interrupt":
        after = (await house.submit(node, session, "never mind", when_busy="interrupt")).turn
        assert (await house.ended(session, after.turn_id)).status == "completed"
    else:
        await house.close(node, session)

    assert (await house.ended(session, turn.turn_id)).status == "cancelled"
    with pytest.raises(CallNotFound):
        await answered(node, session, call_id, granted=True)


@pytest.mark.parametrize("lost", [False, True])
@virtual
async def test_a_revoked_grant_stops_the_next_call_and_a_new_one_waits_for_the_next_turn(
    house: House, lost: bool
) -> None:
    """Also where the answer to a call's start is lost: then the log says that it was refused."""
    at_first, go_on = asyncio.Event(), asyncio.Event()

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        offered = [tool.name for tool in tools.offered]
        first = await tools.call("secret", {"n": 1})
        at_first.set()
        await go_on.wait()
        second = await tools.call("secret", {"n": 2})
        return f"{offered} {first.status} {second.status}"

    vault = Assistant("vault", agent=act, owner_grants=("read",))

    @vault.tool(grant="read", idempotent=True)
    async def secret(turn: TurnContext, n: int) -> int:
        return n

    node = await house.node(vault, store=house.twice("tool.started") if lost else None)
    session = await house.open(node)

    async def grants(*names: str) -> None:
        await node.do(node.gates.grant(ANN, session, names))

    async def said() -> str | None:
        turn = (await house.submit(node, session)).turn
        await at_first.wait()
        return turn.turn_id

    first = await said()
    await grants("read")
    go_on.set()
    assert (await house.ended(session, first)).output == "[] refused refused"  # type: ignore[arg-type]

    at_first.clear()
    go_on.clear()
    second = await said()
    await grants()
    go_on.set()
    ended = await house.ended(session, second)  # type: ignore[arg-type]
    assert ended.output == "['secret'] completed refused"
    with pytest.raises(Forbidden):
        await grants("manage_sessions")


@virtual
async def test_an_assistant_hands_off_and_the_next_one_answers_this_turn_and_the_next(
    house: House,
) -> None:
    front = Assistant("front", model=Script([call("to_cards")], "never said").model())
    cards = Assistant("cards", model=Script("Cards here.").model())

    @front.tool
    async def to_cards(turn: TurnContext) -> None:
        await turn.hand_off("cards", reason="about a card")

    node = await house.node(front, cards)
    session = await house.open(node)

    outputs = []
    for text in ("my card", "and now?"):
        turn = (await house.submit(node, session, text)).turn
        outputs.append((await house.ended(session, turn.turn_id)).output)

    assert outputs == ["Cards here.", "Cards here."]
    handed = [decode(e) for e in house.log(session) if e.kind == "session.handed_off"]
    assert [event.assistant for event in handed] == ["cards"]  # type: ignore[union-attr]


@virtual
async def test_an_assistant_asks_another_whose_calls_are_below_its_own(house: House) -> None:
    front = Assistant(
        "front", model=Script([call("ask_rates", {"question": "EUR?"})], "so").model()
    )
    rates = Assistant("rates", model=Script([call("rate", {"of": "EUR"})], "It is 3.").model())
    seen: list[str | None] = []

    @rates.tool
    async def rate(turn: TurnContext, of: str) -> int:
        seen.append(turn.assistant)
        return 3

    front.delegate(rates, description="Knows rates.")
    node = await house.node(front, rates)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    assert (await house.ended(session, turn.turn_id)).output == "so"
    started = [decode(e) for e in house.log(session) if e.kind == "tool.started"]
    asked, below = started
    assert (asked.name, below.name) == ("ask.rates", "rate")  # type: ignore[union-attr]
    assert below.parent_call_id == asked.call_id  # type: ignore[union-attr]
    assert seen == ["rates"]
    tools = [m for m in house.messages(session) if m.role == "tool"]
    assert tools[-1].parts[0]["result"] == "It is 3."


@virtual
async def test_a_summary_is_what_the_next_turn_reads_in_place_of_what_was_said(
    house: House,
) -> None:
    read: list[list[str]] = []

    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        read.append([m.text for m in history.messages])
        if turn.input["text"] == "fold":
            await turn.summarize("all so far")
        return "ok"

    node = await house.node(Assistant("folder", agent=act))
    session = await house.open(node)
    for text in ("one", "fold", "two"):
        turn = (await house.submit(node, session, text)).turn
        await house.ended(session, turn.turn_id)

    assert read == [["one"], ["one", "ok", "fold"], ["all so far", "fold", "ok", "two"]]
