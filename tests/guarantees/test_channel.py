"""G4: all that a turn produces goes to its session's log, and readers are fed from that alone."""

import asyncio
import re

from tests.guarantees.callers import (
    ENDS,
    Caller,
    Frame,
    Record,
    assert_whole,
    of_kind,
    told,
)
from tests.guarantees.conftest import Serve

from sessile import Assistant, History, Tools, TurnContext

CANARY = re.compile(r"zq\d+-\w+-zq")


def canaries(together: int) -> Assistant:
    """An agent that says its input's canary in every way there is, while as many others do."""
    assistant = Assistant("canaries")
    inside = asyncio.Barrier(together)

    @assistant.agent
    async def answer(turn: TurnContext, _history: History, tools: Tools):  # type: ignore[no-untyped-def]
        mine = turn.input["text"]
        yield f"text {mine} "
        await inside.wait()
        await turn.progress(current_iteration=1, total_iterations=2, note=f"note {mine}")
        for tool in ("async", "sync", "failing", "missing"):
            await tools.call(f"canary.{tool}", {"word": mine})
        await inside.wait()
        await turn.emit(f"emitted {mine} ")
        yield f"last {mine}"

    @assistant.tool("canary.async")
    async def by_async(turn: TurnContext, word: str) -> str:
        """Says it."""
        await inside.wait()
        await turn.progress(current_iteration=2, note=f"tool note {word}")
        await turn.emit(f"tool emitted {word} ")
        return f"result {turn.input['text']}"

    @assistant.tool("canary.sync")
    def by_sync(turn: TurnContext, word: str) -> str:
        """Says it."""
        return f"result {turn.input['text']} {word}"

    @assistant.tool("canary.failing")
    async def failing(turn: TurnContext, word: str) -> str:
        """Says it and fails."""
        raise ValueError(f"error {word}")

    return assistant


async def followed(caller: Caller, session_id: str, ready: asyncio.Barrier) -> list[Frame]:
    """All that a reader is sent, up to the end of the session's second turn."""
    async with caller.follow(session_id) as stream:
        await ready.wait()
        frames, ends = [], 0
        async for frame in stream:
            frames.append(frame)
            ends += frame.event in ENDS
            if ends == 2:
                break
        return frames


async def test_g4_of_fifty_sessions_at_once_each_reader_sees_only_its_own(serve: Serve) -> None:
    n = 50
    async with serve(canaries(n), turns_concurrent_max=n, turns_concurrent_tenant_max=n) as world:
        owners = [(world.ana, world.ben, world.cleo)[i % 3] for i in range(n)]
        session_ids = [await owner.opened() for owner in owners]
        ready = asyncio.Barrier(2 * n + 1)

        async def asked(caller: Caller, i: int) -> list[Record]:
            return [await caller.said(session_ids[i], f"zq{i}-turn{k}-zq") for k in range(2)]

        async with asyncio.TaskGroup() as group:
            # Two readers each: of different tabs, one might say.
            reading = [
                [group.create_task(followed(owners[i], session_ids[i], ready)) for _ in range(2)]
                for i in range(n)
            ]
            await ready.wait()
            asking = [group.create_task(asked(owners[i], i)) for i in range(n)]

        for i in range(n):
            turns = asking[i].result()
            one, other = (task.result() for task in reading[i])
            assert one == other
            entries = [frame.entry for frame in one]
            assert_whole(entries)
            assert [int(frame.id) for frame in one] == [entry["seq"] for entry in entries]
            assert await owners[i].log(session_ids[i]) == entries
            assert {entry["turn_id"] for entry in entries[1:]} == {t["turn_id"] for t in turns}
            for turn in turns:
                of_turn = [entry for entry in entries if entry["turn_id"] == turn["turn_id"]]
                (canary,) = set(CANARY.findall(str(of_turn)))
                assert canary == turn["input"]["text"]
                assert turn["status"] == "completed"
                assert set(CANARY.findall(turn["output"])) == {canary}
                assert len(of_kind(of_turn, "tool.completed")) == 2
                assert len(of_kind(of_turn, "tool.failed", "tool.refused")) == 2
                (final,) = [
                    entry
                    for entry in of_kind(of_turn, "message.added")
                    if entry["body"]["role"] == "assistant"
                ][-1:]
                assert CANARY.findall(str(final["body"])).count(canary) >= 3


async def test_g4_every_way_to_read_a_session_tells_the_same(serve: Serve) -> None:
    """Stream, pages, export, history and turn records are one log, read in five ways."""
    async with serve(canaries(1)) as world:
        mine = await world.ana.opened()
        turns = [await world.ana.said(mine, f"zq{k}-same-zq") for k in range(3)]
        log = await world.ana.log(mine, limit=7)

        async with world.ana.follow(mine) as stream:
            streamed = await stream.until(*ENDS, turn=turns[-1]["turn_id"])
        exported = (await world.ana.get(f"/v1/sessions/{mine}/export")).text.splitlines()
        messages = await world.ana.messages(mine)

        assert streamed == log
        assert [told_entry(line) for line in exported] == log
        assert [message["message_id"] for message in messages] == whole_messages(log)
        # What was streamed piece by piece adds up to the message that replaces it.
        for message in messages:
            deltas = [
                entry["body"]["text"]
                for entry in of_kind(log, "message.delta")
                if entry["body"]["message_id"] == message["message_id"]
            ]
            assert message["text"].startswith("".join(deltas))
        for turn, end in zip(turns, of_kind(log, *ENDS), strict=True):
            record = told(await world.ana.get(f"/v1/sessions/{mine}/turns/{turn['turn_id']}"), 200)
            assert end["body"].items() <= {**record, "reason": None}.items()
            assert record == {key: turn[key] for key in record}


def told_entry(line: str) -> Record:
    return Frame("", "", line).entry


def whole_messages(log: list[Record]) -> list[str]:
    kinds = ("message.added", "tool.completed", "tool.failed", "tool.interrupted", "tool.refused")
    return [entry["body"]["message_id"] for entry in of_kind(log, *kinds)]


async def test_g4_a_reader_that_was_there_before_sees_what_others_begin(serve: Serve) -> None:
    """One is attached while nothing happens; the admin writes to the session; so does its owner
    from another connection. And a reader of another session hears nothing of it."""
    async with serve(canaries(1)) as world:
        mine, other = await world.ana.opened(), await world.ana.opened()
        async with world.ana.follow(mine) as stream, world.ana.follow(other) as quiet:
            by_admin = await world.root.said(mine, "zq1-admin-zq")
            by_owner = await world.ana.said(mine, "zq2-owner-zq")
            seen = await stream.until(*ENDS, turn=by_owner["turn_id"])
            await world.ana.said(other, "zq3-other-zq")
            heard = await quiet.until(*ENDS)

        assert {"zq1-admin-zq", "zq2-owner-zq"} == set(CANARY.findall(str(seen)))
        assert by_admin["turn_id"] in {entry["turn_id"] for entry in seen}
        assert set(CANARY.findall(str(heard))) == {"zq3-other-zq"}


async def test_g4_a_reader_loses_the_stream_with_the_session(serve: Serve) -> None:
    """Deleted, it ends for those who read; nothing of it can be asked for any more."""
    async with serve(canaries(1)) as world:
        mine = await world.ana.opened()
        await world.ana.said(mine, "zq1-gone-zq")
        async with world.ana.follow(mine) as stream:
            frames = aiter(stream)
            assert (await anext(frames)).event == "session.opened"
            assert (await world.root.delete(f"/v1/sessions/{mine}")).status_code == 204
            rest = [frame async for frame in frames]

        assert set(CANARY.findall(str(rest))) <= {"zq1-gone-zq"}
        assert (await world.ana.submit(mine, "zq2-again-zq")).status_code == 404
        assert (await world.ana.get(f"/v1/sessions/{mine}/events")).status_code == 404
        assert (await world.ana.get(f"/v1/sessions/{mine}")).status_code == 404
        assert await world.ana.sessions() == []
