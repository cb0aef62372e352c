"""Approvals over HTTP: side by side, through a kill, answered at once by many, by nobody."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from tests.guarantees.callers import Caller, Record, assert_whole, of_kind, refused, told
from tests.guarantees.conftest import Serve
from tests.guarantees.servers import Process, asking

from sessile import Assistant, History, Tools, TurnContext

ANSWERS = 20


@pytest.fixture
async def lost(tmp_path: Path) -> Process:
    process = Process(tmp_path / "data", probe="probe_approvals.py")
    try:
        yield process
    finally:
        await process.end()


def desk(ran: list[str]) -> Assistant:
    assistant = Assistant("desk")

    @assistant.tool("pay", approval=True)
    async def pay(turn: TurnContext) -> str:
        ran.append(turn.session_id)
        return "paid"

    @assistant.agent
    async def answer(turn: TurnContext, _history: History, tools: Tools) -> str:
        if turn.input["text"] != "pay":
            return f"heard {turn.input['text']}"
        result = await tools.call("pay")
        return str(result.value or result.reason)

    return assistant


async def awaiting(caller: Caller, session_id: str, text: str) -> tuple[Record, list[str]]:
    """The turn that waits, and its calls."""
    turn = await caller.accepted(session_id, text)
    async with caller.follow(session_id) as stream:
        entries = await stream.until("turn.awaiting", turn=turn["turn_id"])
    return turn, entries[-1]["body"]["call_ids"]


async def test_two_calls_side_by_side_wait_each_for_its_own_answer_through_a_kill(
    lost: Process,
) -> None:
    await lost.start()
    async with asking(lost.url) as world:
        mine = await world.ana.opened()
        turn, (seven, eight) = await awaiting(world.ana, mine, "refund both")
        behind = await world.ana.accepted(mine, "and now?")
        at = f"/v1/sessions/{mine}/calls"
        first = told(await world.ana.post(f"{at}/{seven}/approve"), 200)
        before = await world.ana.session(mine)
    await lost.kill()

    await lost.start()
    async with asking(lost.url) as world:
        after = await world.ana.session(mine)
        again = told(await world.ana.post(f"{at}/{seven}/approve"), 200)
        otherwise = await world.ana.post(f"{at}/{seven}/deny")
        waiting = told(await world.ana.get(f"/v1/sessions/{mine}/turns/{turn['turn_id']}"), 200)
        told(await world.ana.post(f"{at}/{eight}/deny", json={"reason": "not this one"}), 200)
        ended, next_ended = await world.ana.ended(turn), await world.ana.ended(behind)
        log = await world.ana.log(mine)
        last = await world.ana.session(mine)

    # The first of two answers lets nothing go on, neither before the kill nor after it.
    assert [each["status"] for each in (first, again, waiting)] == ["awaiting"] * 3
    assert refused(otherwise) == (409, "approval_answered")
    assert before["blocked_by"]["turn_id"] == turn["turn_id"]
    assert after["blocked_by"] == before["blocked_by"]
    assert (after["running_turn_id"], after["queued"]) == (turn["turn_id"], 1)
    assert ended["output"].startswith("refunded 7, ")
    assert "not this one" in ended["output"]
    assert next_ended["output"] == "heard and now?"
    assert lost.noted("refunded") == ["7"]
    unanswered = [
        (entry["kind"], entry["body"]["call_id"], entry["body"]["unanswered"])
        for entry in of_kind(log, "approval.granted", "approval.denied")
    ]
    assert unanswered == [("approval.granted", seven, 1), ("approval.denied", eight, 0)]
    assert (last["blocked_by"], last["queued"]) == (None, 0)
    assert_whole(log)


async def test_of_many_answers_at_once_one_counts(serve: Serve) -> None:
    ran: list[str] = []
    async with serve(desk(ran)) as world:
        mine = await world.ana.opened()
        turn, (call,) = await awaiting(world.ana, mine, "pay")
        at = f"/v1/sessions/{mine}/calls/{call}"
        replies = await asyncio.gather(
            *(world.ana.post(f"{at}/{verb}") for verb in ("approve", "deny") * (ANSWERS // 2))
        )
        ended = await world.ana.ended(turn)
        log = await world.ana.log(mine)

    (answer,) = of_kind(log, "approval.granted", "approval.denied")
    granted = answer["kind"] == "approval.granted"
    same, other = (replies[::2], replies[1::2]) if granted else (replies[1::2], replies[::2])
    assert 200 in {reply.status_code for reply in same}
    assert 200 not in {reply.status_code for reply in other}
    assert {refused(reply) for reply in replies if reply.status_code != 200} <= {
        (409, "approval_answered"),
        (404, "call_not_found"),  # by then its turn had ended
    }
    assert ran == ([mine] if granted else [])
    assert (ended["output"] == "paid") == granted
    assert_whole(log)


async def test_an_interrupt_denies_what_waits_and_says_so(serve: Serve) -> None:
    ran: list[str] = []
    async with serve(desk(ran)) as world:
        mine, other = await world.ana.opened(), await world.ben.opened()
        turn, (call,) = await awaiting(world.ana, mine, "pay")
        others, (theirs,) = await awaiting(world.ben, other, "pay")

        after = await world.ana.said(mine, "never mind", when_busy="interrupt")

        late = await world.ana.post(f"/v1/sessions/{mine}/calls/{call}/approve")
        ended = await world.ana.ended(turn)
        log = await world.ana.log(mine)
        # What waits in another session goes on waiting, and can be answered.
        assert (await world.ben.session(other))["blocked_by"]["turn_id"] == others["turn_id"]
        told(await world.ben.post(f"/v1/sessions/{other}/calls/{theirs}/approve"), 200)
        assert (await world.ben.ended(others))["output"] == "paid"

    assert after["output"] == "heard never mind"
    assert ended["status"] == "cancelled"
    assert refused(late) == (404, "call_not_found")
    (denied,) = of_kind(log, "approval.denied")
    assert (denied["body"]["call_id"], denied["body"]["by"]) == (call, "ana")
    assert denied["body"]["reason"]
    (outcome,) = of_kind(log, "tool.refused")
    assert outcome["body"]["call_id"] == call
    assert ran == [other]
    assert_whole(log)


async def test_what_nobody_answers_in_time_is_denied_by_nobody(serve: Serve) -> None:
    ran: list[str] = []
    async with serve(desk(ran), approval_seconds_max=0.3, sweep_seconds=0.05) as world:
        mine = await world.ana.opened()
        turn, (call,) = await awaiting(world.ana, mine, "pay")
        ended = await world.ana.ended(turn)
        late = await world.ana.post(f"/v1/sessions/{mine}/calls/{call}/approve")
        log = await world.ana.log(mine)
        session = await world.ana.session(mine)

    assert ended["status"] == "completed"
    assert "Nobody answered in time" in ended["output"]
    (denied,) = of_kind(log, "approval.denied")
    assert (denied["body"]["call_id"], denied["body"]["by"]) == (call, None)
    assert Counter(entry["kind"] for entry in log)["tool.refused"] == 1
    assert refused(late) in {(404, "call_not_found"), (409, "approval_answered")}
    assert session["blocked_by"] is None
    assert ran == []
    assert_whole(log)
