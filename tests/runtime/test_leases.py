"""Nodes that are killed, stand still or stop: another goes on from the log, and only one."""

import asyncio
import logging

import pytest
from tests.runtime.agents import Heard, echo, waits
from tests.runtime.gate import Fills
from tests.runtime.rig import House, Rig, virtual

from sessile.core.commands import FinishTurn, StartTurn
from sessile.core.context import TurnContext
from sessile.core.errors import StorageBusy, StorageFull
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import MessageEnd, TextDelta, ToolResult, Tools

TTL_SECONDS = 12.0
SWEEP_SECONDS = 1.0


@virtual
async def test_a_node_that_lost_its_lease_writes_nothing_more_and_the_next_goes_on(
    house: House,
) -> None:
    node = await house.node(counts_aloud(house))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(1)
    node.process.pause(TTL_SECONDS * 2)
    other = await house.node(counts_aloud(house))

    ended = await house.ended(session, turn.turn_id)
    await house.later(TTL_SECONDS)

    assert (ended.status, ended.attempt) == ("completed", 2)
    assert node.telemetry.fence_refusals._value.get() + other.workers.running <= 1
    assert house.lease(session).owner is None


@virtual
async def test_the_partial_text_of_a_lost_attempt_is_void(house: House) -> None:
    node = await house.node(counts_aloud(house))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: "message.delta" in house.kinds(session))
    house.kill(node)
    before = len(house.log(session))
    await house.node(counts_aloud(house))

    ended = await house.ended(session, turn.turn_id)

    assert house.kinds(session, after=before)[:2] == ["turn.started", "message.reset"]
    assert ended.output == "one two three"
    assert house.said(session) == [("user", "hello"), ("assistant", "one two three")]


@virtual
async def test_a_node_whose_store_fails_at_a_renewal_stops_its_turns(house: House) -> None:
    store, until = Fills(house.gate), asyncio.Event()
    node = await house.node(waits(until), store=store)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: node.workers.running == 1)

    store.error, store.full = ConnectionError, True
    await house.until(lambda: house.troubles.told("leases not renewed"))
    store.full = False
    until.set()
    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, ended.attempt) == ("completed", 2)


@virtual
async def test_completed_tools_are_not_run_again_and_what_was_in_flight_is(house: House) -> None:
    """Idempotent: under the same call id. Not idempotent: `interrupted`, and the agent is told."""
    runs: list[str] = []
    told: list[ToolResult] = []
    node = await house.node(three_calls(runs, told, until=asyncio.Event()))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: sorted(runs) == ["done", "look", "send"])
    await house.until(lambda: house.kinds(session).count("tool.started") == 3)
    house.kill(node)
    until = asyncio.Event()
    until.set()
    await house.node(three_calls(runs, told, until=until))

    ended = await house.ended(session, turn.turn_id)

    assert sorted(runs) == ["done", "look", "look", "send"]
    assert runs[-1] == "look"
    assert [(result.name, result.status) for result in told] == [
        ("done", "completed"),
        ("send", "interrupted"),
        ("look", "completed"),
    ]
    assert (ended.status, ended.attempt) == ("completed", 2)
    assert house.kinds(session).count("tool.started") == 3


@virtual
async def test_a_tool_whose_outcome_was_written_just_before_the_crash_is_not_run_again(
    house: House,
) -> None:
    runs: list[str] = []
    until = asyncio.Event()
    until.set()
    node = await house.node(three_calls(runs, [], until=until))
    session = await house.open(node)
    last = house.gate.hold(
        "append",
        where="after",
        matches=lambda _h, _s, events: any(
            event.kind == "tool.completed" and event.name == "look" for event in events
        ),
    )
    turn = (await house.submit(node, session)).turn
    await last.reached()
    house.kill(node)
    await house.node(three_calls(runs, [], until=until))

    ended = await house.ended(session, turn.turn_id)

    assert sorted(runs) == ["done", "look", "send"]
    assert ended.status == "completed"


@virtual
async def test_a_lost_turn_is_ended_by_its_deadline_with_an_outcome_for_each_call(
    house: House,
) -> None:
    runs: list[str] = []
    node = await house.node(three_calls(runs, [], until=asyncio.Event()), turn_seconds_max=5)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: house.kinds(session).count("tool.started") == 3)
    house.kill(node)
    await house.node(three_calls(runs, [], until=asyncio.Event()), turn_seconds_max=5)

    ended = await house.ended(session, turn.turn_id)

    assert ended.error is not None
    assert (ended.status, ended.error["code"]) == ("failed", "turn_deadline")


@virtual
@pytest.mark.parametrize("ahead_ms", [-3_600_000, 3_600_000])
async def test_a_deadline_is_the_same_on_a_node_whose_clock_is_wrong(
    house: House, ahead_ms: int
) -> None:
    node = await house.node(waits(), turn_seconds_max=30, clock_ahead_ms=ahead_ms)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(5)
    house.kill(node)
    await house.node(waits(), turn_seconds_max=30, clock_ahead_ms=ahead_ms)

    ended = await house.ended(session, turn.turn_id)

    assert ended.attempt == 2
    assert ended.error is not None
    assert ended.error["code"] == "turn_deadline"
    assert (ended.ended_at_ms or 0) - (ended.started_at_ms or 0) == pytest.approx(30_000, abs=100)


@virtual
async def test_a_poisonous_input_is_given_up_after_three_attempts(house: House) -> None:
    attempts: list[int] = []
    node = await house.node(deadly(house, attempts))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    for _ in range(2):
        await house.until(lambda: not house.nodes)
        await house.node(deadly(house, attempts))
    await house.until(lambda: not house.nodes)
    await house.node(deadly(house, attempts))

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, attempts) == ("interrupted", [1, 2, 3])
    assert ended.error is not None
    assert ended.error["message"] == "3 attempts in a row were lost without a step."


@virtual
async def test_attempts_that_made_a_step_are_no_strikes(house: House) -> None:
    attempts: list[int] = []
    node = await house.node(deadly(house, attempts, steps=True, survives=6))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    for _ in range(5):
        await house.until(lambda: not house.nodes)
        await house.node(deadly(house, attempts, steps=True, survives=6))

    ended = await house.ended(session, turn.turn_id)

    assert (ended.status, attempts) == ("completed", [1, 2, 3, 4, 5, 6])


@virtual
async def test_turns_that_are_handed_back_are_not_struck(house: House) -> None:
    asked: list[int] = []
    session = None
    for _ in range(5):
        node = await house.node(waits(asked=asked), drain_seconds_max=1)
        if session is None:
            session = await house.open(node)
            await house.submit(node, session)
        await house.until(lambda node=node: node.workers.running)
        await node.stop()
        house.nodes.remove(node)
    until = asyncio.Event()
    until.set()
    await house.node(waits(until, asked=asked))
    assert session is not None
    ended = await house.ended(session, house.turns(session)[0].turn_id)

    assert (ended.status, ended.strikes, asked) == ("completed", 0, [1, 2, 3, 4, 5, 6])


@virtual
async def test_turns_that_were_lost_once_are_all_begun_again_at_once(house: House) -> None:
    node = await house.node(poisoned(house, []))
    sessions = [await house.open(node) for _ in range(20)]
    for session in sessions:
        await house.submit(node, session)
    await house.node(poisoned(house, []))

    house.kill(node)
    await house.later(TTL_SECONDS + SWEEP_SECONDS + 0.1)

    assert [house.turns(session)[0].attempt for session in sessions] == [2] * 20


@virtual
async def test_a_poisonous_input_takes_none_of_its_neighbours_along(house: House) -> None:
    attempts: list[int] = []
    node = await house.node(poisoned(house, attempts))
    poison, *early = [await house.open(node) for _ in range(7)]
    await house.submit(node, poison, "poison")
    for session in early:
        await house.submit(node, session)
    for _ in range(2):
        await house.until(lambda: not house.nodes)
        node = await house.node(poisoned(house, attempts))
    await house.until(lambda: attempts == [1, 2, 3])
    late = [await house.open(node) for _ in range(2)]
    for session in late:
        await house.submit(node, session)
    await house.until(lambda: not house.nodes)
    await house.node(poisoned(house, attempts))
    await house.quiet()

    turns = [house.turns(session)[0] for session in (poison, *early, *late)]
    ends = [(turn.status, turn.strikes) for turn in turns]
    assert ends == [("interrupted", 3), *[("completed", 2)] * 6, *[("completed", 1)] * 2]
    assert attempts == [1, 2, 3]


@virtual
async def test_one_suspect_runs_at_a_time_while_innocent_sessions_go_on(house: House) -> None:
    running: set[str] = set()
    most: list[int] = []
    node = await house.node(suspected(running, most, asyncio.Event()))
    sessions = [await house.open(node) for _ in range(5)]
    for session in sessions:
        await house.submit(node, session, "suspect")
    await lost_twice(house, node, suspected(running, [], asyncio.Event()))
    running.clear()
    most.clear()
    until = asyncio.Event()
    other = await house.node(suspected(running, most, until))
    await house.until(lambda: running)
    await house.later(2)

    innocent = await house.open(other)
    turn = (await house.submit(other, innocent, "innocent")).turn
    assert (await house.ended(innocent, turn.turn_id, within=0.1)).status == "completed"
    until.set()
    await house.quiet()

    assert max(most) == 1
    assert [house.turns(session)[0].status for session in sessions] == ["completed"] * 5


@virtual
async def test_a_turn_that_was_lost_once_keeps_no_suspect_waiting(house: House) -> None:
    running: set[str] = set()
    node = await house.node(suspected(set(), [], asyncio.Event()))
    twice, once = [await house.open(node) for _ in range(2)]
    await house.submit(node, twice, "suspect")
    house.kill(node)
    node = await house.node(suspected(set(), [], asyncio.Event()))
    await house.submit(node, once, "suspect")
    await house.until(lambda: house.turns(twice)[0].attempt == 2)
    house.kill(node)
    until = asyncio.Event()
    await house.node(suspected(running, [], until))

    await house.until(lambda: running == {twice, once})

    until.set()


@virtual
async def test_an_innocent_session_behind_many_suspects_is_found_by_the_sweep(
    house: House,
) -> None:
    running: set[str] = set()
    until = asyncio.Event()
    node = await house.node(suspected(running, [], asyncio.Event()))
    for _ in range(6):
        await house.submit(node, await house.open(node), "suspect")
    await lost_twice(house, node, suspected(running, [], asyncio.Event()))
    quiet = await house.node(suspected(running, [], until), turns_concurrent_max=2)
    await house.later(TTL_SECONDS + 1)
    house.wire.lost = True
    idle = await house.node(suspected(running, [], until), turns_concurrent_max=0)
    innocent = await house.open(quiet)
    turn = (await house.submit(idle, innocent, "innocent")).turn

    ended = await house.ended(innocent, turn.turn_id, within=3.5)

    assert ended.status == "completed"
    until.set()


@virtual
async def test_a_suspect_that_was_handed_back_is_not_asked_for_in_a_loop(house: House) -> None:
    running: set[str] = set()
    until = asyncio.Event()
    node = await house.node(suspected(running, [], asyncio.Event()))
    for _ in range(2):
        await house.submit(node, await house.open(node), "suspect")
    await lost_twice(house, node, suspected(running, [], asyncio.Event()))
    second = await house.node(suspected(running, [], asyncio.Event()), drain_seconds_max=0.1)
    await house.later(TTL_SECONDS + 1)
    await house.node(suspected(running, [], until))
    await house.later(1)
    await second.stop()
    house.nodes.remove(second)
    before = house.gate.count("transact", StartTurn)

    await house.later(5)

    assert house.gate.count("transact", StartTurn) - before < 20
    until.set()


@virtual
async def test_a_drain_hands_its_leases_back_and_a_second_node_finishes_at_once(
    house: House,
) -> None:
    asked: list[int] = []
    node = await house.node(waits(asked=asked), drain_seconds_max=1)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    until = asyncio.Event()
    until.set()
    await house.node(waits(until, asked=asked))

    await node.stop()
    house.nodes.remove(node)
    ended = await house.ended(session, turn.turn_id, within=0.1)

    assert (ended.status, ended.attempt, asked) == ("completed", 2, [1, 2])


@virtual
async def test_a_drain_lets_turns_that_end_in_time_end(house: House) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    queued = (await house.submit(node, session, "waits")).turn
    stopping = house.sim.node("operator").spawn(node.stop())
    await house.later(1)

    until.set()
    await stopping
    house.nodes.remove(node)

    assert house.turn(session, turn.turn_id).status == "completed"
    assert house.turn(session, queued.turn_id).status == "queued"
    house.unfinished = True


@virtual
async def test_a_turn_whose_start_is_on_its_way_when_the_drain_is_over_is_handed_back(
    house: House,
) -> None:
    asked: list[int] = []
    node = await house.node(waits(asked=asked), drain_seconds_max=0.1)
    session = await house.open(node)
    start = house.gate.hold("transact", where="after")
    submitting = house.submit(node, session)
    await start.reached()
    stopping = house.sim.node("operator").spawn(node.stop())
    await house.later(1)

    start.go()
    await submitting
    await asyncio.wait_for(stopping, timeout=1)
    house.nodes.remove(node)

    assert house.lease(session).owner is None
    house.unfinished = True


@virtual
async def test_a_tool_that_ended_while_the_turn_was_handed_back_keeps_its_outcome(
    house: House,
) -> None:
    runs: list[str] = []
    told: list[ToolResult] = []
    until = asyncio.Event()
    node = await house.node(three_calls(runs, told, until=until), drain_seconds_max=0.1)
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.until(lambda: len(runs) == 3)
    await house.later(0.1)
    outcome = house.gate.hold("append")
    until.set()
    await outcome.reached()
    stopping = house.sim.node("operator").spawn(node.stop())
    await house.later(0.5)
    outcome.go()
    await stopping
    house.nodes.remove(node)
    await house.node(three_calls(runs, told, until=until))

    await house.ended(session, turn.turn_id)

    assert sorted(runs) == ["done", "look", "send"]
    assert [result.status for result in told] == ["completed"] * 3


@virtual
async def test_renewals_late_by_six_tenths_of_the_lease_stop_the_turn_locally(
    house: House,
) -> None:
    stopped_at: list[float] = []
    node = await house.node(notes_its_end(house, stopped_at))
    session = await house.open(node)
    began = house.now
    await house.submit(node, session)
    renewal = house.gate.hold("renew")
    await renewal.reached()

    await house.until(lambda: stopped_at, within=TTL_SECONDS)

    assert stopped_at[0] - began <= TTL_SECONDS * 0.6 + 0.1
    until = asyncio.Event()
    renewal.go()
    until.set()
    house.unfinished = True


@pytest.mark.parametrize("error", [StorageBusy, StorageFull])
@virtual
async def test_a_store_that_refuses_renewals_for_a_while_loses_no_turn(
    house: House, error: type[Exception]
) -> None:
    until = asyncio.Event()
    node = await house.node(waits(until))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    for _ in range(3):
        house.gate.hold("renew").fail(error())
    await house.later(TTL_SECONDS)
    until.set()

    ended = await house.ended(session, turn.turn_id, within=0.1)

    assert (ended.status, ended.attempt) == ("completed", 1)


@virtual
async def test_a_lease_that_is_renewed_is_not_lost_however_long_the_turn(house: House) -> None:
    asked: list[int] = []
    until = asyncio.Event()
    nodes = [await house.node(waits(until, asked=asked)) for _ in range(2)]
    session = await house.open(nodes[0])
    turn = (await house.submit(nodes[0], session)).turn

    await house.later(TTL_SECONDS * 5)
    until.set()

    assert (await house.ended(session, turn.turn_id)).attempt == 1
    assert asked == [1]


@virtual
async def test_a_turn_that_a_node_gave_up_is_taken_by_the_same_node_later(house: House) -> None:
    asked: list[int] = []
    node = await house.node(waits(asked=asked))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    renewal = house.gate.hold("renew")
    await renewal.reached()
    await house.later(TTL_SECONDS)
    renewal.go()

    await house.until(lambda: asked == [1, 2])

    await house.cancel(node, session, turn.turn_id)


@virtual
async def test_three_nodes_that_take_up_what_a_crash_left_run_each_turn_once(
    house: House,
) -> None:
    heard: Heard = []
    node = await house.node(waits())
    sessions = [await house.open(node) for _ in range(12)]
    for session in sessions:
        await house.submit(node, session)
    await house.later(0.1)
    house.kill(node)
    for _ in range(3):
        await house.node(renamed(echo(heard), "waits"))
    await house.later(TTL_SECONDS)

    await house.quiet()

    assert len(heard) == len(sessions)
    assert [house.turns(session)[0].attempt for session in sessions] == [2] * len(sessions)


@virtual
async def test_a_turn_that_cannot_be_handed_back_because_its_session_was_closed_is_ended(
    house: House,
) -> None:
    node = await house.node(counts_aloud(house), drain_seconds_max=0.2)
    other = await house.node(counts_aloud(house))
    session = await house.open(node)
    turn = (await house.submit(node, session)).turn
    await house.later(0.02)
    house.wire.lost = True
    first_words = house.gate.hold("append")
    stopping = house.sim.node("operator").spawn(node.stop())
    await first_words.reached()
    await house.later(0.5)
    await house.close(other, session)
    first_words.fail(StorageBusy())
    await stopping
    house.nodes.remove(node)

    ended = await house.ended(session, turn.turn_id, within=0.1)

    assert (ended.status, ended.attempt, ended.output) == ("cancelled", 1, "one ")


@virtual
async def test_a_finish_after_the_lease_was_lost_changes_nothing(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    turn = (await house.submit(node, session)).turn
    await finish.reached()
    node.process.pause(TTL_SECONDS * 1.5)
    other = await house.node(renamed(waits(), "echo"))
    await house.until(lambda: other.workers.running)

    finish.go()
    await house.later(TTL_SECONDS)

    assert house.turn(session, turn.turn_id).status == "running"
    assert node.telemetry.fence_refusals._value.get() == 1
    await house.cancel(other, session, turn.turn_id)


def counts_aloud(house: House) -> Assistant:
    assistant = Assistant("counts")

    @assistant.agent
    async def answer(turn: TurnContext):  # type: ignore[no-untyped-def]
        for word in ("one ", "two ", "three"):
            yield TextDelta(word)
            await house.later(0.8)

    return assistant


def three_calls(
    runs: list[str],
    told: list[ToolResult],
    *,
    until: asyncio.Event,
    shown: list[list[str]] | None = None,
) -> Assistant:
    """One that ends, one that is not idempotent and one that is, the two side by side."""
    assistant = Assistant("caller")

    @assistant.tool("done")
    async def done(turn: TurnContext) -> str:
        runs.append("done")
        return "done"

    @assistant.tool("send")
    async def send(turn: TurnContext) -> str:
        runs.append("send")
        await until.wait()
        return "sent"

    @assistant.tool("look", idempotent=True)
    async def look(turn: TurnContext) -> str:
        runs.append("look")
        await until.wait()
        return "seen"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        if shown is not None:
            shown.append([message.message_id for message in history.messages])
        first = await tools.call("done")
        rest = await asyncio.gather(tools.call("send"), tools.call("look"))
        told.clear()
        told.extend((first, *rest))
        return "done"

    return assistant


def deadly(
    house: House, attempts: list[int], *, steps: bool = False, survives: int = 100
) -> Assistant:
    """Takes its node down, before `survives` attempts; after a durable step where it `steps`."""
    assistant = Assistant("deadly")

    @assistant.agent
    async def answer(turn: TurnContext):  # type: ignore[no-untyped-def]
        attempts.append(turn.attempt)
        if len(attempts) >= survives:
            return
        await house.later(0.01)
        if steps:
            for number in range(len(attempts)):
                yield f"step {number}"
                yield MessageEnd()
            await house.later(0.2)
        (node,) = house.nodes
        house.kill(node)
        await asyncio.Event().wait()
        yield "never"

    return assistant


async def lost_twice(house: House, node: Rig, assistant: Assistant) -> None:
    """What runs on this node is lost with it, and with the next."""
    await house.later(0.1)
    house.kill(node)
    other = await house.node(assistant)
    await house.later(TTL_SECONDS + SWEEP_SECONDS)
    assert other.workers.running, "they were not taken over"
    house.kill(other)


def poisoned(house: House, attempts: list[int]) -> Assistant:
    """Takes its node down where it is told `poison`, before its neighbours have answered."""
    assistant = Assistant("poisoned")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        if turn.input["text"] == "poison":
            attempts.append(turn.attempt)
            await house.later(1)
            (node,) = house.nodes
            house.kill(node)
        await house.later(1.2)
        return "done"

    return assistant


def suspected(running: set[str], most: list[int], until: asyncio.Event) -> Assistant:
    assistant = Assistant("suspected")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        if turn.input["text"] == "suspect":
            running.add(turn.session_id)
            most.append(len(running))
            await until.wait()
            running.discard(turn.session_id)
        return "done"

    return assistant


def notes_its_end(house: House, stopped_at: list[float]) -> Assistant:
    assistant = Assistant("notes")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped_at.append(house.now)
        return "never"

    return assistant


def renamed(assistant: Assistant, name: str) -> Assistant:
    assistant.name = name
    return assistant


@virtual
async def test_a_turn_chained_to_a_recovered_one_is_shown_each_message_once(house: House) -> None:
    runs: list[str] = []
    shown: list[list[str]] = []
    until = asyncio.Event()
    node = await house.node(three_calls(runs, [], until=asyncio.Event()))
    session = await house.open(node)
    await house.submit(node, session)
    await house.until(lambda: len(runs) == 3)
    await house.later(0.1)
    house.kill(node)
    until.set()
    other = await house.node(three_calls(runs, [], until=until, shown=shown))
    await house.submit(other, session, "next")
    await house.quiet()

    ids = shown[-1]
    assert len(ids) == len(set(ids)) == 6


@virtual
async def test_a_turn_that_has_answered_but_not_a_steer_is_handed_back_with_its_answer(
    house: House,
) -> None:
    node = await house.node(echo(), drain_seconds_max=0.1)
    other = await house.node(echo())
    session = await house.open(node)
    finish = house.gate.hold("transact", FinishTurn)
    turn = (await house.submit(node, session, "a")).turn
    await finish.reached()
    await house.submit(other, session, "b", when_busy="steer")
    stopping = house.sim.node("operator").spawn(node.stop())
    await house.later(0.5)

    finish.go()
    await stopping
    house.nodes.remove(node)
    ended = await house.ended(session, turn.turn_id, within=0.2)

    assert (ended.status, ended.attempt) == ("completed", 2)
    assert house.said(session)[:3] == [("user", "a"), ("assistant", "re: a"), ("user", "b")]
    kinds = house.kinds(session)
    assert kinds.index("message.added", 4) < kinds.index("turn.started", 4)


@virtual
async def test_a_take_over_is_told_to_the_operator_and_a_hand_back_is_not(house: House) -> None:
    told: list[logging.LogRecord] = []
    logger = logging.getLogger("sessile.runtime.telemetry")
    logger.setLevel(logging.INFO)
    logger.addFilter(lambda record: told.append(record) is None)
    try:
        lost = await house.node(waits(), name="lost")
        session = await house.open(lost)
        turn = (await house.submit(lost, session)).turn
        until = house.lease(session).until_ms
        house.kill(lost)
        second = await house.node(waits(), drain_seconds_max=0.1)
        await house.until(lambda: house.turn(session, turn.turn_id).attempt == 2)
        at = house.log(session)[-1].at_ms
        await second.stop()
        house.nodes.remove(second)
        done = asyncio.Event()
        done.set()
        third = await house.node(waits(done))
        assert (await house.ended(session, turn.turn_id)).attempt == 3
    finally:
        logger.filters.clear()
        logger.setLevel(logging.NOTSET)

    assert second.telemetry.turns_taken_over._value.get() == 1
    assert third.telemetry.turns_taken_over._value.get() == 0

    (line,) = [each for each in told if each.getMessage() == "a turn is taken over"]
    fields = vars(line)
    assert line.levelname == "INFO"
    assert (fields["session_id"], fields["turn_id"]) == (session, turn.turn_id)
    assert (fields["attempt"], fields["lost_node"]) == (2, "lost")
    assert fields["late_ms"] == at - until
    assert 0 <= fields["late_ms"] <= 1100
