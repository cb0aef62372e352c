"""Functions that are run again from the top: what they asked before is answered from the log."""

import asyncio

from tests.runtime.rig import House, virtual

from sessile.core.codec import decode
from sessile.core.commands import FinishTurn
from sessile.core.context import TurnContext
from sessile.core.events import MessageAdded
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import MessageEnd, Tools


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


@virtual
async def test_a_function_that_charged_and_read_a_steer_is_run_again_with_both_and_charges_once(
    house: House,
) -> None:
    charger = Charger()
    node = await house.node(charger.assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session, "first")).turn
    await house.until(lambda: charger.charged)
    await house.submit(node, session, "express", when_busy="steer")
    charger.charged_until.set()
    await house.until(lambda: "notified express" in charger.done)
    house.kill(node)
    charger.ends.set()
    await house.node(charger.assistant)

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.attempt, ended.output) == ("completed", 2, "paid; express; ")
    assert charger.done == ["charged", "notified express"]
    assert charger.heard == [[("user", "first")]] * 2
    assert charger.read == [["express"], ["express"]]


@virtual
async def test_what_is_steered_in_between_two_runs_comes_behind_what_the_first_did(
    house: House,
) -> None:
    charger = Charger()
    node = await house.node(charger.assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session, "first")).turn
    await house.until(lambda: charger.charged)
    await house.submit(node, session, "express", when_busy="steer")
    charger.charged_until.set()
    await house.until(lambda: "notified express" in charger.done)
    house.kill(node)
    charger.ends.set()
    other = await house.node(charger.assistant, name="other")
    folding = house.gate.hold("read")
    await folding.reached()
    await house.submit(other, session, "gift", when_busy="steer")
    folding.go()

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.output) == ("completed", "paid; express; gift")
    assert charger.done == ["charged", "notified express"]


@virtual
async def test_a_steer_that_came_too_late_begins_a_new_run_and_says_so(house: House) -> None:
    charger = Charger()
    charger.charged_until.set()
    charger.ends.set()
    node = await house.node(charger.assistant)
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    turn = (await house.submit(node, session, "first")).turn
    await finish.reached()
    await house.submit(node, session, "again", when_busy="steer")
    charger.ends.clear()
    finish.go()
    await house.until(lambda: charger.done.count("charged") == 2)
    await house.later(0.1)
    house.kill(node)
    charger.ends.set()
    await house.node(charger.assistant)

    ended = await house.ended(session, turn.turn_id)

    begun = [("user", "first"), ("tool", "charged"), ("tool", "notified "),
             ("assistant", "paid; ; "), ("user", "again")]  # fmt: skip
    assert (ended.status, ended.attempt) == ("completed", 2)
    assert charger.done.count("charged") == 2
    assert charger.heard[1:] == [begun, begun]
    added = [decode(e) for e in house.log(session) if e.kind == "message.added"]
    assert [e.asked_again for e in added if isinstance(e, MessageAdded)] == [
        False, False, True, False
    ]  # fmt: skip


@virtual
async def test_what_was_read_behind_a_message_is_read_behind_it_again(house: House) -> None:
    reads: list[list[str]] = []
    until = asyncio.Event()
    assistant = Assistant("talker")

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        reads.append([])
        for n in range(3):
            reads[-1].append(" ".join(m.text for m in await tools.steered()))
            await turn.emit(f"{turn.attempt}: ")
            yield f"{n} {reads[-1][-1]}"
            yield MessageEnd()
            if turn.attempt == 1 and n < 2:
                await house.submit(house.nodes[0], turn.session_id, f"s{n}", when_busy="steer")
        await until.wait()

    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: reads == [["", "s0", "s1"]])
    await house.later(0.1)
    house.kill(node)
    until.set()
    await house.node(assistant)

    ended = await house.ended(session, turn.turn_id)

    assert reads == [["", "s0", "s1"]] * 2
    assert ended.output == "1: 2 s1"
    assert [text for role, text in house.said(session) if role == "assistant"] == [
        "1: 0 ", "1: 1 s0", "1: 2 s1"
    ]  # fmt: skip


@virtual
async def test_the_turn_behind_a_function_that_was_run_again_reads_all_that_was_said(
    house: House,
) -> None:
    charger = Charger()
    charger.charged_until.set()
    node = await house.node(charger.assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session, "first")).turn
    await house.until(lambda: "notified " in charger.done)
    await house.later(0.1)
    house.kill(node)
    other = await house.node(charger.assistant)
    behind = (await house.submit(other, session, "second")).turn
    charger.ends.set()
    await house.ended(session, turn.turn_id)
    await house.ended(session, behind.turn_id)

    assert charger.heard[-1] == [
        ("user", "first"), ("tool", "charged"), ("tool", "notified "),
        ("assistant", "paid; ; "), ("user", "second"),
    ]  # fmt: skip


@virtual
async def test_a_call_that_a_function_announced_itself_is_answered_from_the_log(
    house: House,
) -> None:
    sent: list[str] = []
    until = asyncio.Event()
    assistant = Assistant("announcer")

    @assistant.tool("send")
    async def send(turn: TurnContext) -> str:
        sent.append(turn.turn_id)
        return "sent"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools):  # type: ignore[no-untyped-def]
        call_id = tools.new_call_id()
        call = {"type": "tool_call", "call_id": call_id, "name": "send", "arguments": {}}
        yield MessageEnd((call,))
        result = await tools.call("send", call_id=call_id)
        await until.wait()
        yield f"{result.status} {result.value}"

    node = await house.node(assistant)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: "tool.completed" in house.kinds(session))
    house.kill(node)
    until.set()
    await house.node(assistant)

    ended = await house.ended(session, turn.turn_id)

    assert (ended.output, len(sent)) == ("completed sent", 1)


class Charger:
    """Charges, reads what was steered in, tells it on, and reads again before it answers."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.heard: list[list[tuple[str, str]]] = []
        self.read: list[list[str]] = []
        self.charged = False
        self.charged_until = asyncio.Event()
        self.ends = asyncio.Event()
        self.assistant = assistant = Assistant("charger")

        @assistant.tool("charge")
        async def charge(turn: TurnContext) -> str:
            return self._did("charged")

        @assistant.tool("notify")
        async def notify(turn: TurnContext, text: str) -> str:
            return self._did(f"notified {text}")

        @assistant.agent
        async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
            self.heard.append([(message.role, message.text) for message in history.messages])
            await tools.call("charge")
            self.charged = True
            await self.charged_until.wait()
            first = [message.text for message in await tools.steered()]
            self.read.append(first)
            await tools.call("notify", {"text": " ".join(first)})
            await self.ends.wait()
            then = [message.text for message in await tools.steered()]
            return f"paid; {' '.join(first)}; {' '.join(then)}"

    def _did(self, what: str) -> str:
        self.done.append(what)
        return what


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
