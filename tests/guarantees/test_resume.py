"""G9: who comes back with a cursor gets what it missed; a lost connection cancels nothing."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx2
from tests.guarantees.callers import (
    ENDS,
    Caller,
    Frame,
    Record,
    assert_whole,
    frames_of,
    of_kind,
    refused,
)
from tests.guarantees.conftest import Serve
from tests.guarantees.servers import Process, asking

from sessile import Assistant, History, Tools, TurnContext

CUTS = 25


class Writer:
    """An assistant that writes much, in pieces and in many scripts, and stops when told to."""

    def __init__(self) -> None:
        self.assistant = Assistant("writer")
        self.began, self.go, self.over = (asyncio.Event() for _ in range(3))

        @self.assistant.agent
        async def write(turn: TurnContext, _history: History, tools: Tools) -> AsyncIterator[str]:
            verb, _, _ = turn.input["text"].partition(" ")
            try:
                if verb == "fail":
                    yield "some of it"
                    raise ValueError("no")
                for n in range(12):
                    yield f"wörd {n} 字\n\n🙂 data: {n}\r\n"
                    # A call makes what was written before it durable.
                    await tools.call("look", {"n": n})
                    if n == 5 and verb == "hold":
                        self.began.set()
                        await self.go.wait()
            finally:
                self.over.set()

        @self.assistant.tool("look", idempotent=True)
        async def look(turn: TurnContext, n: int) -> str:
            """Looks."""
            await turn.progress(current_iteration=n + 1, total_iterations=12)
            return "line one\n\nevent: fake\nid: 1\n\n"


async def cut(
    caller: Caller, session_id: str, cursor: str | None, after_bytes: int, end: str = ENDS[0]
) -> list[Frame]:
    """Reads so many bytes, or up to a turn's end, and hangs up. Answers what came whole."""
    data = b""
    async with caller.follow(session_id, last_event_id=cursor) as stream:
        assert stream.reply.status_code == 200
        async for chunk in stream.reply.aiter_raw():
            data += chunk
            if len(data) >= after_bytes:
                return frames_of(data[:after_bytes])
            if any(frame.event == end for frame in frames_of(data)):
                break
    return frames_of(data)


async def rest(caller: Caller, session_id: str, cursor: str | None, turn: Record) -> list[Frame]:
    frames = []
    async with caller.follow(session_id, last_event_id=cursor) as stream:
        async for frame in stream:
            frames.append(frame)
            if frame.event in ENDS and frame.entry["turn_id"] == turn["turn_id"]:
                break
    return frames


async def test_g9_a_stream_that_is_cut_anywhere_goes_on_where_it_was(serve: Serve) -> None:
    """A session with a failed turn before it, too: its replay goes past that."""
    chance = random.Random(9)
    writer = Writer()
    async with serve(writer.assistant) as world:
        ana = world.ana
        mine = await ana.opened()
        assert (await ana.said(mine, "fail at first"))["status"] == "failed"
        turn = await ana.said(mine, "write much")
        uncut = await rest(ana, mine, None, turn)
        size = len((await ana.get(f"/v1/sessions/{mine}/export")).content)

        for _ in range(CUTS):
            first = await cut(ana, mine, None, chance.randrange(1, size))
            cursor = first[-1].id if first else None
            second = await cut(ana, mine, cursor, chance.randrange(1, 2000))
            cursor = second[-1].id if second else cursor
            assert first + second + await rest(ana, mine, cursor, turn) == uncut

        assert [frame.entry for frame in uncut] == await ana.log(mine)
        assert_whole([frame.entry for frame in uncut])

    async with serve(writer.assistant) as world:
        for frame in (uncut[0], uncut[len(uncut) // 2], uncut[-2]):
            after = await rest(world.ana, mine, frame.id, turn)
            assert uncut[: uncut.index(frame) + 1] + after == uncut


async def test_g9_a_stream_that_is_cut_while_it_is_written_misses_nothing(serve: Serve) -> None:
    """Ten readers follow a turn that runs, each cut again and again; all end up with the same."""
    writer = Writer()
    async with serve(writer.assistant, delta_milliseconds=1) as world:
        ana = world.ana
        mine = await ana.opened()

        async def reader(seed: int) -> list[Frame]:
            chance = random.Random(seed)
            frames: list[Frame] = []
            while not any(frame.event in ENDS for frame in frames):
                cursor = frames[-1].id if frames else None
                frames += await cut(ana, mine, cursor, chance.randrange(30, 1500))
            return frames

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(reader(seed)) for seed in range(10)]
            turn = await ana.accepted(mine, "hold in the middle")
            await writer.began.wait()
            writer.go.set()
        await ana.ended(turn)

        log = await ana.log(mine)
        for task in readers:
            frames = task.result()
            # The last cut may have been in the end itself, or behind it.
            assert [frame.entry for frame in frames] == log[: len(frames)]
            assert frames[-1].event in ENDS


async def test_g9_a_connection_that_is_lost_cancels_nothing(serve: Serve) -> None:
    """The one who asked, who waits, and all who read hang up in the middle of the turn."""
    writer = Writer()
    async with serve(writer.assistant) as world:
        ana = world.ana
        mine = await ana.opened()
        waiting = asyncio.get_running_loop().create_task(ana.said(mine, "hold please"))
        async with ana.follow(mine) as stream, ana.follow(mine) as other:
            await stream.until("message.delta")
            await other.until("turn.started")
            await writer.began.wait()
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        (running,) = await ana.turns(mine)
        assert running["status"] == "running"
        writer.go.set()
        ended = await ana.ended(running)

        assert ended["status"] == "completed", ended
        assert ended["output"].count("字") == 12
        log = await ana.log(mine)
        assert_whole(log)
        assert of_kind(log, "turn.cancel_requested", "turn.cancelled") == []
        assert len(of_kind(log, "turn.started")) == 1


async def test_g9_a_client_that_never_reads_its_reply_has_still_asked(serve: Serve) -> None:
    """The request arrives whole and the connection is gone at once: it is taken, or it is not,
    and a retry with its key finds out which; there is never a half."""
    writer = Writer()
    async with serve(writer.assistant) as world:
        mine = await world.ana.opened()
        url = httpx2.URL(world.url)
        body = b'{"input": {"type": "message", "text": "write on"}}'
        for n in range(10):
            _, to = await asyncio.open_connection(url.host, url.port)
            head = (
                f"POST /v1/sessions/{mine}/turns?wait=30 HTTP/1.1\r\nHost: {url.host}\r\n"
                f"Authorization: Bearer {world.ana.login.token}\r\nIdempotency-Key: key-{n}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            to.write(head.encode() + body)
            await to.drain()
            to.transport.abort()
        for n in range(10):
            turn = await world.ana.said(mine, "write on", key=f"key-{n}")
            assert turn["status"] == "completed"

        log = await world.ana.log(mine)
        assert_whole(log)
        assert len(of_kind(log, "turn.queued")) == 10


async def test_g9_cancelling_is_a_request_and_keeps_what_was_written(serve: Serve) -> None:
    writer = Writer()
    async with serve(writer.assistant) as world:
        ana = world.ana
        mine = await ana.opened()
        turn = await ana.accepted(mine, "hold it")
        async with ana.follow(mine) as stream:
            await writer.began.wait()
            reply = await ana.cancel(turn)
            assert reply.status_code == 202, reply.text
            seen = await stream.until(*ENDS)
        await writer.over.wait()
        writer.go.set()
        after = await ana.said(mine, "write again")

        assert seen[-1]["kind"] == "turn.cancelled"
        record = await ana.ended(turn)
        assert record["status"] == "cancelled"
        delivered = "".join(
            entry["body"]["text"]
            for entry in of_kind(seen, "message.delta")
            if entry["turn_id"] == turn["turn_id"]
        )
        (kept,) = [
            message
            for message in await ana.messages(mine)
            if message["turn_id"] == turn["turn_id"] and message["role"] == "assistant"
        ]
        assert kept["state"] == "partial"
        assert kept["text"] == record["output"] == delivered
        assert delivered.count("字") == 6
        log = await ana.log(mine)
        assert log[: len(seen)] == seen
        assert {entry["turn_id"] for entry in log[len(seen) :]} == {after["turn_id"]}
        # Asked again, it is the same answer; and what has completed stays so.
        assert (await ana.cancel(turn)).json()["ended_at"] == record["ended_at"]
        assert refused(await ana.cancel(after)) == (409, "turn_ended")
        assert await ana.log(mine) == log


async def test_g9_a_cursor_ahead_is_answered_openly(serve: Serve) -> None:
    """As after a database was restored, or with the cursor of another session."""
    writer = Writer()
    async with serve(writer.assistant) as world:
        ana = world.ana
        long, short = await ana.opened(), await ana.opened()
        await ana.said(long, "write much")
        foreign = (await ana.log(long))[-1]["seq"]

        async with ana.follow(short, last_event_id=str(foreign)) as stream:
            assert stream.reply.status_code == 200
            reset = await anext(aiter(stream))
            turn = await ana.said(short, "fail now")
            goes_on = await stream.until(*ENDS)
        page = await ana.get(
            f"/v1/sessions/{short}/events",
            params={"after": foreign + 1000},
            headers={"Accept": "application/json"},
        )

        assert (reset.event, reset.id) == ("reset", "1")
        assert long not in reset.data
        assert [entry["seq"] for entry in goes_on] == list(range(2, len(goes_on) + 2))
        assert {entry["turn_id"] for entry in goes_on} == {turn["turn_id"]}
        assert refused(page) == (400, "cursor_ahead")


async def test_g9_a_cursor_of_another_session_yields_nothing_of_it(serve: Serve) -> None:
    writer = Writer()
    async with serve(writer.assistant) as world:
        ana = world.ana
        one, other = await ana.opened(), await ana.opened()
        first, second = await ana.said(one, "write much"), await ana.said(other, "write much")
        middle = str((await ana.log(one))[20]["seq"])

        frames = await rest(ana, other, middle, second)

        assert [frame.entry for frame in frames] == (await ana.log(other))[int(middle) :]
        assert first["turn_id"] not in str(frames)


async def test_g9_who_comes_late_or_after_the_end_learns_the_end(serve: Serve) -> None:
    """The end of a turn can be had from the stream and by one GET; of a closed session's stream
    nothing more comes, and the browser is told not to come back."""
    writer = Writer()
    async with serve(writer.assistant) as world:
        ana = world.ana
        mine = await ana.opened()
        turn = await ana.said(mine, "write much")
        late = await rest(ana, mine, None, turn)
        assert late[-1].event == "turn.completed"
        assert (await ana.ended(turn))["status"] == "completed"
        assert (await ana.post(f"/v1/sessions/{mine}/close")).status_code == 200

        async with ana.follow(mine, last_event_id=late[-1].id) as stream:
            last = [frame async for frame in stream]
        assert [frame.event for frame in last if frame.id][-1] == "session.closed"
        head = str((await ana.session(mine))["head"])
        async with ana.follow(mine, last_event_id=head) as stream:
            assert stream.reply.status_code == 204


async def test_g9_a_cursor_outlives_the_server_that_gave_it(process: Process) -> None:
    """Killed in the middle of a turn that is being read: the reader comes back to the next server
    and has one log, in which the lost attempt's text is void and the turn ends."""
    await process.start()
    seen: list[Frame] = []
    async with asking(process.url) as world:
        mine = await world.ana.opened()
        turn = await world.ana.accepted(mine, "hold on")
        with suppress(httpx2.TransportError):
            async with world.ana.follow(mine) as stream:
                async for frame in stream:
                    seen.append(frame)
                    if frame.event == "turn.progress":
                        process.send(process.KILL)
    await process.gone()

    process.let_go()
    await process.start()
    async with asking(process.url) as world:
        seen += await rest(world.ana, mine, seen[-1].id, turn)
        entries = [frame.entry for frame in seen]
        assert entries == await world.ana.log(mine)
        assert_whole(entries)
        assert (await world.ana.ended(turn))["attempt"] == 2
        texts = folded(entries)
        replies = [m for m in await world.ana.messages(mine) if m["role"] == "assistant"]
        assert [(m["message_id"], m["text"]) for m in replies] == list(texts.items())


def folded(entries: list[Record]) -> dict[str, str]:
    """The agent's messages as a client adds them up, by nothing but the page on events."""
    texts: dict[str, str] = {}
    for entry in entries:
        body = entry["body"]
        match entry["kind"]:
            case "message.delta":
                text = texts.get(body["message_id"], "")
                assert len(text) == body["offset"], "a gap in the text"
                texts[body["message_id"]] = text + body["text"]
            case "message.reset":
                texts.pop(body["message_id"], None)
            case "message.added" if body["role"] == "assistant":
                texts[body["message_id"]] = "".join(
                    part["text"] for part in body["parts"] if part["type"] == "text"
                )
    return texts
