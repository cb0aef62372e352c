"""Functions that are run again from the top: what they asked before is answered from the log."""

import asyncio

from tests.runtime.rig import House, virtual

from sessile.core.context import TurnContext
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import Tools


@virtual
async def test_calls_side_by_side_may_come_in_another_order_when_run_again(house: House) -> None:
    runs: list[str] = []
    node = await house.node(branches(runs, {"a": asyncio.Event()}, order=("a", "b")))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: len(runs) == 3)
    await house.later(0.1)
    house.kill(node)
    await house.node(branches(runs, {}, order=("b", "a")))

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.output) == ("completed", "a1 a2 b1 b2")
    assert sorted(runs) == ["a1", "a1", "a2", "b1", "b2"]


@virtual
async def test_equal_calls_are_told_apart_by_their_order(house: House) -> None:
    numbers: list[int] = []
    node = await house.node(counter(numbers, asyncio.Event()))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: numbers == [0, 1])
    await house.later(0.1)
    house.kill(node)
    until = asyncio.Event()
    until.set()
    await house.node(counter(numbers, until))

    ended = await house.ended(session, turn.turn_id)

    assert (ended.output, numbers) == ("0 1 2", [0, 1, 2])


@virtual
async def test_a_call_with_other_arguments_than_before_ends_the_turn_and_is_not_run(
    house: House,
) -> None:
    sent: list[float] = []
    node = await house.node(dated(house, sent, asyncio.Event()))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: sent)
    await house.later(0.1)
    house.kill(node)
    await house.node(dated(house, sent, asyncio.Event()))

    ended = await house.ended(session, turn.turn_id)

    assert ended.error is not None
    assert (ended.error["code"], len(sent)) == ("replay_mismatch", 1)


def branches(
    runs: list[str], held: dict[str, asyncio.Event], *, order: tuple[str, str]
) -> Assistant:
    """Two branches side by side, each of two calls in a row."""
    assistant = Assistant("branches")

    @assistant.tool("step", idempotent=True)
    async def step(turn: TurnContext, name: str) -> str:
        runs.append(name)
        if (until := held.get(name[0])) is not None:
            await until.wait()
        return name

    async def branch(tools: Tools, name: str) -> list[str]:
        return [(await tools.call("step", {"name": f"{name}{n}"})).value for n in (1, 2)]

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        told = await asyncio.gather(*(branch(tools, name) for name in order))
        return " ".join(sorted(word for words in told for word in words))

    return assistant


def counter(numbers: list[int], until: asyncio.Event) -> Assistant:
    assistant = Assistant("counter")

    @assistant.tool("next")
    async def following(turn: TurnContext) -> int:
        numbers.append(len(numbers))
        return numbers[-1]

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        first = [(await tools.call("next")).value for _ in range(2)]
        await until.wait()
        return " ".join(map(str, [*first, (await tools.call("next")).value]))

    return assistant


def dated(house: House, sent: list[float], until: asyncio.Event) -> Assistant:
    assistant = Assistant("dated")

    @assistant.tool("send")
    async def send(turn: TurnContext, at: float) -> None:
        sent.append(at)

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        await tools.call("send", {"at": house.now})
        await until.wait()
        return "sent"

    return assistant
