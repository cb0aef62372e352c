"""G10: the same idempotency key is the same turn; with another body it is refused."""

import asyncio
from collections import Counter

from tests.guarantees.callers import assert_whole, of_kind, refused, told
from tests.guarantees.conftest import Serve
from tests.guarantees.servers import Process, asking

from sessile import Assistant, TurnContext


def counting() -> tuple[Assistant, Counter[str]]:
    assistant = Assistant("counting")
    ran: Counter[str] = Counter()

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        ran[turn.input["text"]] += 1
        return f"heard {turn.input['text']}"

    return assistant, ran


async def test_g10_twenty_at_once_with_one_key_are_one_turn(serve: Serve) -> None:
    assistant, ran = counting()
    async with serve(assistant) as world:
        mine = await world.ana.opened()
        turns = await asyncio.gather(
            *(world.ana.said(mine, "zq1", key="k") for _ in range(20)),
            *(world.ana.said(mine, f"other {n}", key=f"k{n}") for n in range(5)),
            *(world.ana.said(mine, "no key") for _ in range(3)),
        )
        again = await world.ana.said(mine, "zq1", key="k")

        assert len({turn["turn_id"] for turn in turns[:20]}) == 1
        assert len({turn["turn_id"] for turn in turns}) == 9
        assert again == turns[0]
        assert ran["zq1"] == 1
        said = Counter(message["text"] for message in await world.ana.messages(mine))
        assert (said["zq1"], said["heard zq1"]) == (1, 1)
        assert said["no key"] == 3
        log = await world.ana.log(mine)
        assert len(of_kind(log, "turn.queued")) == 9
        assert_whole(log)


async def test_g10_another_body_under_the_key_is_refused(serve: Serve) -> None:
    assistant, ran = counting()
    async with serve(assistant) as world:
        mine = await world.ana.opened()
        first = await world.ana.said(mine, "zq1", key="k")
        before = await world.ana.log(mine)

        conflict = (409, "idempotency_conflict")
        assert refused(await world.ana.submit(mine, "zq2", key="k")) == conflict
        reply = await world.ana.submit(mine, "zq1", key="k", when_busy="interrupt")
        assert refused(reply) == conflict

        assert await world.ana.log(mine) == before
        assert (await world.ana.said(mine, "zq1", key="k"))["turn_id"] == first["turn_id"]
        assert ran == {"zq1": 1}


async def test_g10_of_two_bodies_at_once_one_wins(serve: Serve) -> None:
    assistant, _ = counting()
    async with serve(assistant) as world:
        for n in range(10):
            mine = await world.ana.opened()
            replies = await asyncio.gather(
                *(world.ana.submit(mine, f"body {i % 2}", key=f"k{n}") for i in range(10))
            )
            taken = [reply.json() for reply in replies if reply.status_code == 202]
            left = [refused(reply) for reply in replies if reply.status_code != 202]
            assert len({(t["turn_id"], t["input"]["text"]) for t in taken}) == 1
            assert (len(taken), len(left)) == (5, 5)
            assert set(left) == {(409, "idempotency_conflict")}


async def test_g10_a_key_is_its_callers_and_its_sessions(serve: Serve) -> None:
    """What one user sent says nothing about another's request of the same key."""
    assistant, _ = counting()
    async with serve(assistant) as world:
        callers = (world.ana, world.ben, world.cleo)
        opened = [(caller, await caller.opened()) for caller in (*callers, world.ana)]
        turns = [
            await caller.said(each, f"zq {n}", key="k") for n, (caller, each) in enumerate(opened)
        ]

        assert [turn["output"] for turn in turns] == [f"heard zq {n}" for n in range(4)]
        shared = opened[0][1]
        by_admin = await world.root.said(shared, "zq admin", key="k")
        assert by_admin["output"] == "heard zq admin"


async def test_g10_an_open_and_a_first_turn_are_once_too(serve: Serve) -> None:
    assistant, ran = counting()
    key = {"Idempotency-Key": "k"}
    first = {"input": {"type": "message", "text": "zq1"}}
    async with serve(assistant) as world:
        opens = await asyncio.gather(
            *(world.ana.post("/v1/sessions", json={"title": "t"}, headers=key) for _ in range(20))
        )
        (mine,) = {told(reply, 200, 201)["session_id"] for reply in opens}
        other = await world.ana.post("/v1/sessions", json={"title": "u"}, headers=key)
        assert refused(other) == (409, "idempotency_conflict")

        replies = await asyncio.gather(
            *(world.ben.post("/v1/turns", json=first, headers=key) for _ in range(20))
        )
        assert len({told(reply, 202)["turn_id"] for reply in replies}) == 1
        await world.ben.ended(replies[0].json())
        other = await world.ben.post(
            "/v1/turns", json={"input": {"type": "message", "text": "zq2"}}, headers=key
        )
        assert refused(other) == (409, "idempotency_conflict")

        assert [each["session_id"] for each in await world.ana.sessions()] == [mine]
        assert len(await world.ben.sessions()) == 1
        assert ran == {"zq1": 1}


async def test_g10_a_refused_request_does_not_use_up_its_key(serve: Serve) -> None:
    go, began = asyncio.Event(), asyncio.Event()
    assistant = Assistant("slow")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        began.set()
        await go.wait()
        return "done"

    async with serve(assistant) as world:
        mine = await world.ana.opened()
        held = await world.ana.accepted(mine, "hold")
        await began.wait()
        reply = await world.ana.submit(mine, "zq1", key="k", when_busy="reject")
        assert refused(reply) == (409, "session_busy")
        go.set()
        await world.ana.ended(held)

        turn = await world.ana.said(mine, "zq1", key="k", when_busy="reject")
        assert turn["status"] == "completed"


async def test_g10_a_press_is_once_though_the_session_was_handed_on(serve: Serve) -> None:
    """Whoever has the session now may not have such a button."""
    front, cards = Assistant("front"), Assistant("cards")

    @front.button("to_cards")
    async def to_cards(turn: TurnContext, payload: dict[str, int]) -> None:
        await turn.hand_off("cards")

    @cards.agent
    async def answer(turn: TurnContext) -> str:
        return f"cards: {turn.input['text']}"

    async with serve(front, cards) as world:
        mine = await world.ana.opened()
        press = {"type": "button", "button": "to_cards", "payload": {"n": 1}}
        first = told(await world.ana.submit(mine, "", key="k", wait=30, input=press), 200)
        assert first["output"] == "cards: To cards"

        again = told(await world.ana.submit(mine, "", key="k", wait=30, input=press), 200)
        assert again == first
        unlike = {**press, "payload": {"n": 2}}
        reply = await world.ana.submit(mine, "", key="k", input=unlike)
        assert refused(reply) == (409, "idempotency_conflict")
        assert refused(await world.ana.submit(mine, "", input=press)) == (422, "invalid_input")
        assert len(of_kind(await world.ana.log(mine), "turn.queued")) == 1


async def test_g10_a_key_outlives_a_kill(process: Process) -> None:
    """The reply was lost with the server: the retry is the same turn."""
    await process.start()
    async with asking(process.url) as world:
        mine = await world.ana.opened()
        turns = [await world.ana.accepted(mine, f"say zq{n}", key=f"k{n}") for n in range(5)]
        held = await world.ana.accepted(mine, "hold", key="held")
        process.send(process.KILL)
    await process.gone()

    process.let_go()
    await process.start()
    async with asking(process.url) as world:
        again = [await world.ana.said(mine, f"say zq{n}", key=f"k{n}") for n in range(5)]
        assert [turn["turn_id"] for turn in again] == [turn["turn_id"] for turn in turns]
        assert (await world.ana.said(mine, "hold", key="held"))["turn_id"] == held["turn_id"]
        reply = await world.ana.submit(mine, "another", key="held")
        assert refused(reply) == (409, "idempotency_conflict")
        assert len(of_kind(await world.ana.log(mine), "turn.queued")) == 6
