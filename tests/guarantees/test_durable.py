"""G5: what was accepted is there, whatever happens then; and what was read stays as it was."""

import asyncio
import random
from itertools import pairwise

from tests.guarantees.callers import ENDS, Record, assert_whole, of_kind, refused, told
from tests.guarantees.conftest import Serve
from tests.guarantees.servers import Process, asking

from sessile import Assistant, TurnContext


def echo() -> Assistant:
    assistant = Assistant("echo")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        return f"heard {turn.input['text']}"

    return assistant


async def test_g5_every_202_outlives_a_kill_at_once(process: Process) -> None:
    """Sixty messages to twelve sessions, and the process is killed the moment the last reply is
    here, while turns run and wait."""
    await process.start()
    async with asking(process.url) as world:
        session_ids = [await world.ana.opened() for _ in range(12)]
        held = [await world.ana.accepted(each, "hold first") for each in session_ids]
        accepted = await asyncio.gather(
            *(
                world.ana.accepted(session_ids[i % 12], f"say zq{i}-{random.getrandbits(64):x}")
                for i in range(48)
            )
        )
        process.send(process.KILL)
    await process.gone()

    process.let_go()
    await process.start()
    async with asking(process.url) as world:
        everything = [*held, *accepted]
        for turn in everything:
            now = await world.ana.ended(turn)
            assert now["status"] == "completed", now
            assert (now["input"], now["position"]) == (turn["input"], turn["position"])
            assert now["created_at"] == turn["created_at"]
        for session_id in session_ids:
            mine = [turn for turn in everything if turn["session_id"] == session_id]
            mine.sort(key=lambda turn: turn["position"])
            log = await world.ana.log(session_id)
            assert_whole(log)
            assert [entry["seq"] for entry in of_kind(log, "turn.queued")] == [
                turn["seq"] for turn in mine
            ]
            said = [m["text"] for m in await world.ana.messages(session_id) if m["role"] == "user"]
            assert said == [turn["input"]["text"] for turn in mine]


async def test_g5_other_acknowledged_writes_outlive_a_kill(process: Process) -> None:
    """A title, a withdrawn and an edited turn, a closed, a deleted and a forked session: what was
    answered with 200 is so after the kill."""
    await process.start()
    async with asking(process.url) as world:
        ana = world.ana
        renamed, closed, deleted, edited = [await ana.opened() for _ in range(4)]
        told(await ana.patch(f"/v1/sessions/{renamed}", json={"metadata": {"a": 1}}), 200)
        first = await ana.said(renamed, "say remember")
        fork = told(
            await ana.post(f"/v1/sessions/{renamed}/fork", json={"turn_id": first["turn_id"]}), 201
        )
        await ana.accepted(edited, "hold")
        withdrawn = await ana.accepted(edited, "say withdrawn")
        waiting = await ana.accepted(edited, "say before")
        told(await ana.cancel(withdrawn), 200)
        new = {"input": {"type": "message", "text": "say after"}}
        path = f"/v1/sessions/{edited}/turns/{waiting['turn_id']}"
        told(await ana.patch(path, json=new), 200)
        await ana.delete(f"/v1/sessions/{deleted}")
        told(await ana.post(f"/v1/sessions/{closed}/close"), 200)
        told(await ana.patch(f"/v1/sessions/{renamed}", json={"title": "named"}), 200)
        before = [await ana.session(each) for each in (renamed, closed, fork["session_id"])]
        logs = [await ana.log(each) for each in (renamed, closed, fork["session_id"])]
        process.send(process.KILL)
    await process.gone()

    process.let_go()
    await process.start()
    async with asking(process.url) as world:
        ana = world.ana
        after = [await ana.session(each) for each in (renamed, closed, fork["session_id"])]
        assert after == before
        assert (after[0]["title"], after[0]["metadata"]) == ("named", {"a": 1})
        assert after[1]["status"] == "closed"
        assert [await ana.log(each["session_id"]) for each in after] == logs
        assert (await ana.get(f"/v1/sessions/{deleted}")).status_code == 404
        assert (await ana.ended(withdrawn))["status"] == "cancelled"
        assert (await ana.ended(waiting))["output"] == "heard after"
        assert "before" not in str(await ana.messages(edited))


async def test_g5_an_earlier_read_is_a_prefix_of_a_later_one(serve: Serve) -> None:
    """Twenty writers, and writers of titles and metadata beside them, while three readers read."""
    async with serve(echo()) as world:
        mine = await world.ana.opened()
        logs: list[list[Record]] = []
        histories: list[list[Record]] = []

        async def writer(i: int) -> list[Record]:
            turns = []
            for k in range(3):
                turns.append(await world.ana.accepted(mine, f"zq{i}-{k}"))
                told(
                    await world.root.patch(
                        f"/v1/sessions/{mine}",
                        json={"title": f"by {i}", "metadata": {f"w{i}": k}},
                    ),
                    200,
                )
            return turns

        async def read_log() -> None:
            while not writing.done():
                logs.append(await world.ana.log(mine, limit=50))

        async def read_history() -> None:
            while not writing.done():
                histories.append(await world.ana.messages(mine))

        writing = asyncio.gather(*(writer(i) for i in range(20)))
        await asyncio.gather(read_log(), read_history(), read_history())
        turns = [turn for each in await writing for turn in each]
        for turn in turns:
            assert (await world.ana.ended(turn))["status"] == "completed"
        logs.append(await world.ana.log(mine))
        histories.append(await world.ana.messages(mine))

        assert len(logs) > 2
        for reads in (logs, histories):
            for earlier, later in pairwise(reads):
                if len(earlier) <= len(later):
                    assert later[: len(earlier)] == earlier
            for read in reads:
                assert reads[-1][: len(read)] == read
        assert_whole(logs[-1])
        # Nothing lost, nothing twice, each reply behind its own message, all metadata kept.
        user = [m["text"] for m in histories[-1] if m["role"] == "user"]
        assert sorted(user) == sorted(f"zq{i}-{k}" for i in range(20) for k in range(3))
        replies = [m["text"] for m in histories[-1] if m["role"] == "assistant"]
        assert replies == [f"heard {text}" for text in user]
        for i in range(20):
            own = [text for text in user if text.startswith(f"zq{i}-")]
            assert own == [f"zq{i}-{k}" for k in range(3)]
        assert (await world.ana.session(mine))["metadata"] == {f"w{i}": 2 for i in range(20)}


async def test_g5_what_is_refused_leaves_no_trace_and_what_is_taken_stays(serve: Serve) -> None:
    """A full queue refuses; those that got 202 are exactly those that are there."""
    go = asyncio.Event()
    assistant = Assistant("slow")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        await go.wait()
        return turn.input["text"]

    async with serve(assistant, queue_turns_max=5) as world:
        mine = await world.ana.opened()
        replies = await asyncio.gather(*(world.ana.submit(mine, f"zq{i}") for i in range(20)))
        taken = [reply.json() for reply in replies if reply.status_code == 202]
        left = [reply for reply in replies if reply.status_code != 202]
        assert {refused(reply) for reply in left} == {(429, "queue_full")}
        assert len(taken) == 6
        go.set()
        for turn in taken:
            await world.ana.ended(turn)

        log = await world.ana.log(mine)
        assert_whole(log)
        assert {entry["turn_id"] for entry in of_kind(log, "turn.queued")} == {
            turn["turn_id"] for turn in taken
        }
        said = [m["text"] for m in await world.ana.messages(mine) if m["role"] == "user"]
        assert sorted(said) == sorted(turn["input"]["text"] for turn in taken)


async def test_g5_a_restart_neither_renumbers_nor_rewrites(serve: Serve) -> None:
    async with serve(echo()) as world:
        mine = await world.ana.opened()
        for text in ("one", "two"):
            await world.ana.said(mine, text)
        log, messages = await world.ana.log(mine), await world.ana.messages(mine)
    async with serve(echo()) as world:
        assert await world.ana.log(mine) == log
        assert await world.ana.messages(mine) == messages
        three = await world.ana.said(mine, "three")
        after = await world.ana.log(mine)
        assert after[: len(log)] == log
        assert three["seq"] == len(log) + 1
        assert after[-1]["kind"] in ENDS
