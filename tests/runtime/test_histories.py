"""What a turn is shown of its session, whichever agent answers it."""

import asyncio

from tests.runtime.rig import House, virtual

from sessile.core.context import TurnContext
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant


@virtual
async def test_who_is_handed_a_session_reads_all_of_it(house: House) -> None:
    """Also where the one before read none of it, had the last word, and the node still holds it."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    front, cards = Assistant("front"), Assistant("cards")
    read: list[list[str]] = []

    @front.agent
    async def answer(turn: TurnContext) -> str:
        if turn.input["text"] == "cards":
            begun.set()
            await go_on.wait()
            await turn.hand_off("cards")
        return f"front: {turn.input['text']}"

    @cards.agent
    async def reads(turn: TurnContext, history: History) -> str:
        read.append([message.text for message in history.messages])
        return "cards"

    node = await house.node(front, cards)
    session = await house.open(node)
    first = await house.submit(node, session, "one")
    await house.ended(session, first.turn.turn_id)
    second = await house.submit(node, session, "cards")
    await begun.wait()
    third = await house.submit(node, session, "three")
    go_on.set()
    await house.ended(session, second.turn.turn_id)
    await house.ended(session, third.turn.turn_id)

    assert read == [["one", "front: one", "cards", "front: cards", "three"]]
