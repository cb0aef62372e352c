"""A session opened with its first turn: both are there, or neither."""

import asyncio
from typing import Any

import pytest
from tests.runtime.rig import ANN, House, Rig, virtual

from sessile.core.context import TurnContext
from sessile.core.errors import IdempotencyConflict, InvalidInput, SessionBusy
from sessile.core.ids import SessionKey
from sessile.kit.assistant import Assistant
from sessile.runtime.answers import Submitted

GIVEN = {"type": "message", "text": "a"}


def only(until: asyncio.Event) -> Assistant:
    assistant = Assistant("only", exclusive=True)

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        await until.wait()
        return f"re: {turn.input['text']}"

    return assistant


async def open_with(house: House, rig: Rig, text: str, **more: Any) -> Submitted:
    given = {"type": "message", "text": text}
    submitted = await rig.do(rig.sessions.open_with(ANN, given, **more))
    key = SessionKey(ANN.tenant_id, submitted.turn.session_id)
    if key not in house.opened:
        house.opened.append(key)
    return submitted


@virtual
async def test_the_first_turn_runs_at_once_and_may_be_waited_for(house: House) -> None:
    until = asyncio.Event()
    until.set()
    node = await house.node(only(until))

    submitted = await open_with(house, node, "a", wait_seconds=30)

    assert (submitted.turn.status, submitted.turn.output) == ("completed", "re: a")
    assert house.log(submitted.turn.session_id)[submitted.seq - 1].kind == "turn.queued"
    assert house.gate.count("transact") == 2, "the open with its turn, and the turn's end"


@virtual
async def test_a_refused_first_turn_leaves_no_trace_and_no_slot_taken(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(only(until), turns_concurrent_max=2)
    first = await open_with(house, node, "a")
    before = house.log(first.turn.session_id)
    opening = {"when_busy": "reject", "idempotency_key": "k"}

    for _ in range(3):
        with pytest.raises(SessionBusy):
            await open_with(house, node, "b", **opening)
    assert house.log(first.turn.session_id) == before
    until.set()
    await house.ended(first.turn.session_id, first.turn.turn_id)
    other = await open_with(house, node, "c", idempotency_key="k", wait_seconds=30)

    assert not other.repeated
    assert node.workers.running == 0


@virtual
async def test_an_open_with_a_turn_is_repeated_whole(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(only(until))
    first = await open_with(house, node, "a", idempotency_key="k")

    waits = asyncio.gather(
        *(open_with(house, node, "a", idempotency_key="k", wait_seconds=30) for _ in range(3))
    )
    with pytest.raises(IdempotencyConflict):
        await open_with(house, node, "b", idempotency_key="k")
    await house.later(1)
    until.set()
    again = await waits

    assert {it.turn.turn_id for it in again} == {first.turn.turn_id}
    assert {(it.turn.status, it.repeated, it.seq) for it in again} == {("completed", True, 2)}
    assert len(house.turns(first.turn.session_id)) == 1


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", "é", "x" * 201, "x" * 100_000, "a\n"])
@virtual
async def test_a_key_that_no_surface_takes_is_refused_by_whatever_way_it_came(
    house: House, key: str
) -> None:
    node = await house.node(only(asyncio.Event()))
    session = await house.open(node)

    for asked in (
        house.submit(node, session, idempotency_key=key),
        node.do(node.sessions.open(ANN, idempotency_key=key)),
        node.do(node.sessions.open_with(ANN, GIVEN, idempotency_key=key)),
    ):
        with pytest.raises(InvalidInput) as refused:
            await asked
        assert refused.value.details == {"field": "idempotency_key"}
