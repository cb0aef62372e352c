"""What a turn is shown of its session, whichever agent answers it."""

import asyncio

import pytest
from tests.runtime.rig import ANN, House, virtual

from sessile.core.codec import decode
from sessile.core.context import TurnContext
from sessile.core.events import SessionForked
from sessile.core.ids import SessionId
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant


def folding(read: list[list[str]], go_on: asyncio.Event | None = None) -> Assistant:
    """Sums up what was said before it when asked to; and tells what it was given."""
    assistant = Assistant("folding")

    @assistant.agent
    async def answer(turn: TurnContext, history: History) -> str:
        read.append([message.text for message in history.messages])
        text = turn.input["text"]
        if text.startswith("fold"):
            await turn.summarize(f"summary of {text}")
        if go_on is not None and text in ("wait", "fold and wait"):
            await go_on.wait()
        return "ok"

    return assistant


def given(house: House, session: SessionId, text: str, *, most: int) -> list[str]:
    """What the log says that the turn of this text is to be given."""
    log = house.log(session)
    asked = next(m.seq for m in house.messages(session) if (m.role, m.text) == ("user", text))
    return [message.text for message in History(log[:asked]).bounded(most).messages]


@virtual
async def test_a_summary_is_read_however_far_back_and_whoever_runs_the_turn(house: House) -> None:
    """In turns that are begun by the end of the last, and in one that a new node begins."""
    read: list[list[str]] = []
    go_on = asyncio.Event()
    node = await house.node(folding(read, go_on), history_entries_max=4)
    session = await house.open(node)
    texts = ["one", "fold", "wait", *(f"{n}" for n in range(6))]
    for text in texts:
        last = (await house.submit(node, session, text)).turn
    await house.until(lambda: len(read) == 3)
    withdrawn = (await house.submit(node, session, "never mind")).turn
    await house.cancel(node, session, withdrawn.turn_id)
    go_on.set()
    await house.ended(session, last.turn_id)

    await node.stop()
    house.nodes.remove(node)
    other = await house.node(folding(read), history_entries_max=4)
    last = (await house.submit(other, session, "new")).turn
    await house.ended(session, last.turn_id)
    report = await other.do(other.reads.context(ANN, session))
    (summed_up,) = (e for e in house.log(session) if e.kind == "session.summarized")

    texts.append("new")
    assert read == [given(house, session, text, most=4) for text in texts]
    assert read[-1] == ["summary of fold", "ok", "5", "ok", "new"]
    assert (report.messages, report.last_summary_seq) == (5, summed_up.seq)


@virtual
@pytest.mark.parametrize("at", ["turn.completed", "turn.cancelled"])
async def test_a_fork_reads_a_summary_that_is_far_back_too(house: House, at: str) -> None:
    """Cut where a turn ended, or one that never began and was withdrawn meanwhile."""
    read: list[list[str]] = []
    go_on = asyncio.Event()
    node = await house.node(folding(read, go_on), history_entries_max=4)
    session = await house.open(node)
    for text in ("one", "fold", "two", "three", "four"):
        await house.ended(session, (await house.submit(node, session, text)).turn.turn_id)
    running = (await house.submit(node, session, "wait")).turn
    withdrawn = (await house.submit(node, session, "never mind")).turn
    await house.cancel(node, session, withdrawn.turn_id)
    go_on.set()
    await house.ended(session, running.turn_id)

    turn = running if at == "turn.completed" else withdrawn
    forked = await node.do(node.sessions.fork(ANN, session, turn.turn_id))
    copy = forked.found.head.key
    house.opened.append(copy)
    turn = (await house.submit(node, copy.session_id, "next")).turn
    await house.ended(copy.session_id, turn.turn_id)

    said = ["four", "ok", "wait", *["ok"] * (at == "turn.completed"), "next"]
    assert read[-1] == ["summary of fold", *said[-4:]]
    (_, cut, *_) = house.log(copy.session_id)
    event = decode(cut)
    assert isinstance(event, SessionForked)
    ended = house.log(session)[event.from_seq - 1]
    assert (ended.kind, ended.turn_id) == (at, event.from_turn_id)


@virtual
async def test_who_is_run_again_reads_what_it_did_though_it_has_summed_up_since(
    house: House,
) -> None:
    read: list[list[str]] = []
    node = await house.node(folding(read, asyncio.Event()), history_entries_max=3)
    session = await house.open(node)
    for text in ("fold", "one", "two", "three"):
        await house.ended(session, (await house.submit(node, session, text)).turn.turn_id)
    turn = (await house.submit(node, session, "fold and wait")).turn
    await house.until(lambda: house.kinds(session).count("session.summarized") == 2)

    house.kill(node)
    go_on = asyncio.Event()
    go_on.set()
    await house.node(folding(read, go_on), history_entries_max=3)
    await house.ended(session, turn.turn_id)

    assert read[-2] == ["summary of fold", "three", "ok", "fold and wait"]
    assert read[-1] == read[-2]


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


@virtual
@pytest.mark.parametrize("again", [False, True])
async def test_a_tool_sees_the_history_though_its_agent_takes_none(
    house: House, again: bool
) -> None:
    """Also where the agent is run again after a loss: what was said when the turn began."""
    begun = asyncio.Event()
    looks = Assistant("looks")

    @looks.tool(idempotent=True)
    async def look(turn: TurnContext) -> list[str]:
        return [message.text for message in turn.history.messages]

    @looks.agent
    async def answer(turn: TurnContext) -> str:
        if again and turn.attempt == 1 and turn.input["text"] == "two":
            await turn.emit("half of it")
            begun.set()
            await asyncio.Event().wait()
        seen = (await turn.call("look")).value
        return f"{seen} {len(turn.history.messages)}"

    node = await house.node(looks)
    session = await house.open(node)
    first = await house.submit(node, session, "one")
    await house.ended(session, first.turn.turn_id)
    second = await house.submit(node, session, "two")
    if again:
        await begun.wait()
        await house.later(1.0)
        house.kill(node)
        await house.node(looks)
    outputs = [(await house.ended(session, each.turn.turn_id)).output for each in (first, second)]

    said = ["one", outputs[0], "two"]
    before = [text for role, text in house.said(session) if role != "tool"]
    assert before[:3] == said
    assert outputs[0] == "['one'] 1"
    assert outputs[1] is not None
    assert outputs[1].startswith("['one', ")
    assert outputs[1].endswith("'two'] 4")


@virtual
async def test_a_history_that_was_not_read_is_not_an_empty_one(house: House) -> None:
    blind = Assistant("blind")
    raised: list[str] = []

    @blind.agent
    async def answer(turn: TurnContext) -> str:
        try:
            return f"{len(turn.history.messages)} messages"
        except AssertionError as error:
            raised.append(str(error))
            return "none"

    node = await house.node(blind)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn

    assert (await house.ended(session, turn.turn_id)).output == "none"
    assert "takes it: `turn, history`" in raised[0]
