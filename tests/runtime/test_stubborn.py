"""Agents and tools that do not let themselves be cancelled: their turns end in time, their slots
are held until they return, and what they still do reaches nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from tests.runtime.rig import House, virtual

from sessile.core.context import TurnContext
from sessile.core.errors import ContextExpired
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import MessageEnd, TextDelta, Tools
from sessile.runtime.guests import GRACE_SECONDS


class Stubborn:
    """An assistant whose agent, or whose tool, ignores its cancellations until it is let go."""

    def __init__(self, *, in_tool: bool = False) -> None:
        self.let_go = asyncio.Event()
        self.cancels = 0
        self.late: list[type[Exception]] = []
        self.returned = 0
        self.assistant = assistant = Assistant("stubborn")

        @assistant.tool("hang")
        async def hang(turn: TurnContext) -> str:
            await self._stay()
            return "late"

        @assistant.agent
        async def answer(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
            if turn.input["text"] != "stays":
                yield "done"
                return
            yield TextDelta("so far")
            if in_tool:
                with suppress(asyncio.CancelledError):  # told when the tool has returned
                    await tools.call("hang")
            else:
                await self._stay()
            await self._write(lambda: turn.emit("late"))
            await self._write(lambda: tools.call("hang"))
            await self._write(tools.steered)
            self.returned += 1
            yield TextDelta("late")
            yield MessageEnd()

    async def _stay(self) -> None:
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cancels += 1

    async def _write(self, write: Callable[[], Awaitable[object]]) -> None:
        try:
            await write()
        except ContextExpired as error:
            self.late.append(type(error))


@pytest.mark.parametrize("in_tool", [False, True], ids=["agent", "tool"])
@virtual
async def test_a_guest_that_ignores_its_cancel_is_left_behind_and_writes_nothing_more(
    house: House, in_tool: bool
) -> None:
    stubborn = Stubborn(in_tool=in_tool)
    node = await house.node(stubborn.assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session, "stays")).turn
    await house.later(1)

    asked_at = house.now
    await house.cancel(node, session, turn.turn_id)
    ended = await house.ended(session, turn.turn_id)
    assert house.now - asked_at < GRACE_SECONDS + 0.1
    next_one = (await house.submit(node, session, "next")).turn
    await house.ended(session, next_one.turn_id)
    before = house.log(session)
    stubborn.let_go.set()
    await house.until(lambda: stubborn.returned)
    await house.later(1)

    assert (ended.status, ended.output) == ("cancelled", "so far")
    assert house.turn(session, next_one.turn_id).output == "done"
    assert house.log(session) == before
    assert stubborn.late == [ContextExpired] * 3
    assert house.kinds(session).count("tool.interrupted") == in_tool
    assert stubborn.cancels == 1


@pytest.mark.parametrize("in_tool", [False, True], ids=["agent", "tool"])
@virtual
async def test_a_guest_that_ignores_its_turns_deadline_is_left_behind(
    house: House, in_tool: bool
) -> None:
    stubborn = Stubborn(in_tool=in_tool)
    node = await house.node(stubborn.assistant, turn_seconds_max=5)
    session = await house.open(node)
    began = house.now
    turn = (await house.submit(node, session, "stays")).turn

    ended = await house.ended(session, turn.turn_id)

    assert ended.error is not None
    assert (ended.status, ended.error["code"]) == ("failed", "turn_deadline")
    assert house.now - began < 5 + GRACE_SECONDS + 0.1
    assert stubborn.cancels == 1
    stubborn.let_go.set()


@virtual
async def test_its_slot_is_held_and_a_node_full_of_such_guests_takes_no_turn(
    house: House,
) -> None:
    stubborn = Stubborn()
    node = await house.node(stubborn.assistant, turns_concurrent_max=2)
    sessions = [await house.open(node) for _ in range(4)]
    turns = []
    for session in sessions[:2]:
        turns.append((await house.submit(node, session, "stays")).turn)
    await house.cancel(node, sessions[0], turns[0].turn_id)
    await house.ended(sessions[0], turns[0].turn_id)
    with_one = node.workers.ready
    behind = (await house.submit(node, sessions[1], "behind")).turn
    await house.cancel(node, sessions[1], turns[1].turn_id)
    await house.ended(sessions[1], turns[1].turn_id)

    waits = (await house.submit(node, sessions[2])).turn
    await house.later(5)

    assert with_one
    assert not node.workers.ready
    assert (waits.status, house.turn(sessions[2], waits.turn_id).status) == ("queued", "queued")
    assert house.turn(sessions[1], behind.turn_id).status == "queued"

    stubborn.let_go.set()
    await house.ended(sessions[2], waits.turn_id, within=2)
    await house.ended(sessions[1], behind.turn_id, within=2)

    assert node.workers.ready


@virtual
async def test_a_node_drains_though_a_guest_never_lets_go_and_another_takes_its_turn(
    house: House,
) -> None:
    stubborn, willing = Stubborn(), Stubborn()
    willing.let_go.set()
    node = await house.node(stubborn.assistant, drain_seconds_max=3)
    session = await house.open(node)
    turn = (await house.submit(node, session, "stays")).turn
    await house.later(1)

    began = house.now
    await node.stop()
    house.nodes.remove(node)
    assert house.now - began < 3 + GRACE_SECONDS + 0.1
    await house.node(willing.assistant)
    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.attempt, ended.output) == ("completed", 2, "so farlatelate")
    assert stubborn.cancels == 1
    stubborn.let_go.set()


@virtual
async def test_a_turn_whose_agent_fails_at_being_stopped_is_still_handed_back(
    house: House,
) -> None:
    untidy = Assistant("untidy")

    @untidy.agent
    async def answer(turn: TurnContext) -> str:
        if turn.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                raise LookupError("in its cleanup")
        return "done"

    node = await house.node(untidy, drain_seconds_max=1)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    await node.stop()
    house.nodes.remove(node)
    await house.node(untidy)

    assert (await house.ended(session, turn.turn_id)).output == "done"


@pytest.mark.parametrize("raised", [asyncio.CancelledError, SystemExit])
@virtual
async def test_a_guest_that_cancels_itself_or_exits_ends_its_call_and_its_turn_alone(
    house: House, raised: type[BaseException]
) -> None:
    told: list[str] = []
    assistant = Assistant("leaves")

    @assistant.tool("leave")
    async def leave(turn: TurnContext) -> None:
        raise raised

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        told.append((await tools.call("leave")).status)
        raise raised

    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    ended = await house.ended(session, turn.turn_id, within=0.1)

    assert ended.error is not None
    assert (ended.status, ended.error["code"], ended.attempt) == ("failed", "agent_error", 1)
    assert told == ["failed"]
