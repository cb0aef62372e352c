"""How soon a reader sees what an agent writes: from the request to the first delta."""

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.http import BODY, open_sessions
from bench.load import request
from bench.machine import ASKING, pinned
from bench.report import Report, at_most, percentile
from bench.servers import TOKEN, Server, sessile

SECTION = "first delta"
AIM = at_most(100)


async def measure(
    report: Report, *, turns: int = 100, sessions: int = 16, at_once_turns: int = 10
) -> None:
    with (
        pinned(ASKING),
        TemporaryDirectory(dir=report.directory) as name,
        sessile(Path(name) / "data") as server,
    ):
        ids = open_sessions(server, sessions, assistant="streams")
        alone = await _follow(server, ids[0], turns)
        several = await asyncio.gather(*(_follow(server, each, at_once_turns) for each in ids))
    together = [each for one in several for each in one]
    for about, took in (("one session", alone), (f"{sessions} at once", together)):
        report.add(SECTION, f"{about}: p50", percentile(took, 0.5), "ms", AIM)
        report.add(SECTION, f"{about}: p99", percentile(took, 0.99), "ms", AIM)


async def _follow(server: Server, session_id: str, turns: int) -> list[float]:
    """A reader that stays, and a caller on a connection of its own. Answers milliseconds."""
    reader, stream = await asyncio.open_connection("127.0.0.1", server.port)
    events = request(
        "GET", f"/v1/sessions/{session_id}/events", token=TOKEN, accept="text/event-stream"
    )
    stream.write(events)
    await reader.readuntil(b"retry: ")
    answers, caller = await asyncio.open_connection("127.0.0.1", server.port)
    asked = request("POST", f"/v1/sessions/{session_id}/turns", BODY, token=TOKEN)
    took: list[float] = []
    for _ in range(turns):
        begun = time.perf_counter()
        caller.write(asked)
        await asyncio.wait_for(reader.readuntil(b"event: message.delta"), 30)
        took.append((time.perf_counter() - begun) * 1000)
        await asyncio.wait_for(reader.readuntil(b"event: turn.completed"), 30)
        # The reply came long ago, and is whole in the buffer.
        await answers.readuntil(b'"seq":')
    stream.close()
    caller.close()
    return took
