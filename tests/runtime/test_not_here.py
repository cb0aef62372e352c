"""A node that does not have a session's assistant says so, whatever asks for it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.runtime.agents import echo, waits
from tests.runtime.rig import ANN, House, Rig, virtual

from sessile.core.errors import AssistantNotHere, UnknownAssistant
from sessile.core.ids import SessionId

OPERATOR = replace(ANN, roles=frozenset({"operator"}))
PRESS = {"type": "button", "button": "view", "payload": {}}
Asks = Callable[[Rig, SessionId], Coroutine[Any, Any, Any]]
ASKS: dict[str, Asks] = {
    "tools": lambda rig, session: rig.reads.tools(ANN, session),
    "context": lambda rig, session: rig.reads.context(ANN, session),
    "grants": lambda rig, session: rig.gates.grant(OPERATOR, session, ["deploy"]),
    "an owner's grants": lambda rig, session: rig.gates.grant(ANN, session, []),
    "a press": lambda rig, session: rig.sessions.submit(ANN, session, PRESS),
}


async def without_the_assistant(house: House) -> tuple[Rig, SessionId]:
    """A node, and a session of an assistant that only another node has."""
    node = await house.node(waits())
    session = await house.open(await house.node(echo()), assistant="echo")
    return node, session


@pytest.mark.parametrize("what", ASKS)
@virtual
async def test_a_node_without_the_assistant_leaves_it_to_another(house: House, what: str) -> None:
    node, session = await without_the_assistant(house)

    with pytest.raises(AssistantNotHere) as refused:
        await node.do(ASKS[what](node, session))

    assert refused.value.details == {"assistant": "echo"}
    assert house.kinds(session) == ["session.opened"]


@virtual
async def test_a_queued_input_is_not_edited_to_a_press_that_nobody_here_can_read(
    house: House,
) -> None:
    node = await house.node(waits())
    asleep = await house.node(waits(until := asyncio.Event()), echo(), turns_concurrent_max=1)
    await house.submit(asleep, await house.open(asleep))
    session = await house.open(asleep, assistant="echo")
    turn = (await house.submit(node, session)).turn

    with pytest.raises(AssistantNotHere):
        await node.do(node.sessions.edit(ANN, session, turn.turn_id, PRESS))

    assert house.turn(session, turn.turn_id).input["text"] == "hello"
    until.set()
    assert (await house.ended(session, turn.turn_id)).output == "re: hello"


@pytest.mark.parametrize(
    "opens",
    [
        lambda rig: rig.sessions.open(ANN, assistant="echo"),
        lambda rig: rig.sessions.open_with(
            ANN, {"type": "message", "text": "hi"}, assistant="echo"
        ),
    ],
)
@virtual
async def test_an_open_names_its_assistant_and_is_told_which_there_are(
    house: House, opens: Callable[[Rig], Coroutine[Any, Any, Awaitable[Any]]]
) -> None:
    node = await house.node(waits())

    with pytest.raises(UnknownAssistant) as refused:
        await node.do(opens(node))

    assert refused.value.details == {"assistant": "echo", "known": ["waits"]}
