"""A turn context names its own turn, while it runs, and nothing else: no context crosses."""

import asyncio
from functools import partial

import pytest
from tests.runtime.rig import House, virtual

from sessile.core.context import TurnContext
from sessile.core.errors import CapturedContext, ContextExpired, ContextMismatch
from sessile.core.ids import CallId
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import ToolResult, Tools

SESSIONS = 500


@virtual
async def test_a_tool_that_keeps_the_first_context_is_found_out_at_once(house: House) -> None:
    """The fault that founded the project: updates of all sessions go to the first one's channel."""
    kept: list[TurnContext] = []
    raised: list[type[Exception]] = []
    until = asyncio.Event()
    assistant = Assistant("twin")

    @assistant.tool("report")
    async def report(turn: TurnContext) -> str:
        kept.append(turn)
        first = kept[0]
        try:
            await first.progress(current_iteration=1, note=first.session_id)
        except (ContextExpired, ContextMismatch) as error:
            raised.append(type(error))
            raise
        return first.session_id

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        result = await tools.call("report")
        if turn.input["text"] == "stays":
            await until.wait()
        return f"{result.status}: {result.value or result.reason}"

    node = await house.node(assistant)
    one, two = await house.open(node), await house.open(node)
    first = (await house.submit(node, one, "stays")).turn
    await house.until(lambda: kept)

    beside = (await house.submit(node, two)).turn
    mismatched = await house.ended(two, beside.turn_id)
    until.set()
    await house.ended(one, first.turn_id)
    after = (await house.submit(node, one)).turn
    expired = await house.ended(one, after.turn_id)

    assert raised == [ContextMismatch, ContextExpired]
    assert (mismatched.output or "").startswith("failed: This turn context belongs to another")
    assert (expired.output or "").startswith("failed: This turn context outlived its turn")
    assert all(one not in entry.body for entry in house.log(two))
    assert node.telemetry.mismatches._value.get() == 1


@pytest.mark.parametrize(
    "name", ["session_id", "turn_id", "tenant_id", "user_id", "grants", "input", "history"]
)
@virtual
async def test_even_reading_an_id_of_an_expired_context_raises(house: House, name: str) -> None:
    kept: list[TurnContext] = []
    assistant = Assistant("keeps")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        kept.append(turn)
        return "done"

    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.ended(session, turn.turn_id)

    with pytest.raises(ContextExpired):
        getattr(kept[0], name)
    with pytest.raises(ContextExpired):
        kept[0].emit("late")
    assert "ses_" in repr(kept[0])


@virtual
async def test_the_context_of_a_lost_attempt_is_expired_though_its_turn_goes_on(
    house: House,
) -> None:
    kept: list[TurnContext] = []
    assistant = Assistant("keeps")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        kept.append(turn)
        await asyncio.Event().wait()
        return "never"

    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: kept)
    node.process.pause(20)
    other = await house.node(assistant)
    await house.until(lambda: len(kept) == 2)
    await house.later(20)

    with pytest.raises(ContextExpired):
        _ = kept[0].session_id
    assert kept[1].attempt == 2

    await house.cancel(other, session, turn.turn_id)


def test_a_tool_that_holds_a_context_cannot_be_declared() -> None:
    class NoDoor:
        def check(self) -> None:
            raise NotImplementedError

    held = TurnContext(None, NoDoor(), History(()))  # type: ignore[arg-type]

    async def by_closure(turn: TurnContext) -> object:
        return held

    async def by_argument(turn: TurnContext, first: object) -> object:
        return first

    for function in (by_closure, partial(by_argument, first=held)):
        with pytest.raises(CapturedContext):
            Assistant("captured").tool("tool")(function)


@virtual
async def test_500_sessions_at_once_share_one_assistant_its_tool_and_their_call_ids(
    house: House,
) -> None:
    """No context crosses, whatever the sessions have in common."""
    wrong: list[str] = []
    assistant = Assistant("shared")

    @assistant.tool("who")
    async def who(turn: TurnContext, session: str) -> str:
        await asyncio.sleep(house.sim.random.random() / 10)
        if turn.session_id != session:
            wrong.append(session)
        await turn.emit(f"{turn.session_id} ")
        return turn.session_id

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        asked = {"session": turn.input["text"]}
        results: list[ToolResult] = await asyncio.gather(
            *(tools.call("who", asked, call_id=CallId(f"call_{n}")) for n in range(2))
        )
        if {result.value for result in results} != {turn.session_id}:
            wrong.append(turn.session_id)
        return turn.session_id

    node = await house.node(assistant, turns_concurrent_max=SESSIONS)
    sessions = [await house.open(node) for _ in range(SESSIONS)]
    for session in sessions:
        await house.submit(node, session, session)
    await house.quiet()

    assert not wrong
    for session in sessions:
        assert house.turns(session)[0].output == f"{session} {session} {session}"
        named = {word for e in house.log(session) for word in e.body.split('"') if "ses_" in word}
        assert {part for word in named for part in word.split()} == {session}


@virtual
async def test_a_tool_may_submit_to_another_session_without_taking_its_context_along(
    house: House,
) -> None:
    assistant = Assistant("forwards")
    seen: list[tuple[str, str]] = []

    @assistant.tool("forward")
    async def forward(turn: TurnContext, to: str) -> str:
        await house.submit(node, to, "forwarded")  # type: ignore[arg-type]
        return turn.session_id

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        if turn.input["text"] != "forwarded":
            await tools.call("forward", {"to": turn.input["text"]})
        seen.append((turn.session_id, turn.input["text"]))
        return "done"

    node = await house.node(assistant)
    one, two = await house.open(node), await house.open(node)
    await house.submit(node, one, two)
    await house.quiet()
    await house.until(lambda: len(seen) == 2)

    assert sorted(seen) == [(one, two), (two, "forwarded")]
    assert node.telemetry.mismatches._value.get() == 0
