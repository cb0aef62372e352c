"""Memory: of a server that idles, of many idle sessions, of many readers."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.http import BODY, call, open_sessions
from bench.load import Load, request
from bench.machine import ASKING, pinned
from bench.report import Report, at_most
from bench.servers import TOKEN, Server, sessile
from bench.store import ENTRIES_A_TURN

SECTION = "memory"
OPENERS = 64
TURNS = 10


async def measure(
    report: Report,
    *,
    sessions: int = 100_000,
    readers: int = 1_000,
    idle_seconds: float = 5.0,
    warm_seconds: float = 2.0,
) -> None:
    with TemporaryDirectory(dir=report.directory) as name, ExitStack() as stack:
        stack.enter_context(pinned(ASKING))
        load = stack.enter_context(Load(processor=ASKING))
        server = stack.enter_context(sessile(Path(name) / "data"))
        _warm(server, load, warm_seconds)
        report.add(SECTION, "idle", server.rss_mib(), "MiB")
        report.add(SECTION, "idle: CPU", _idle(server, idle_seconds), "% of a core")
        before = server.rss_mib()
        opened = _open(server, load, sessions)
        grown = server.rss_mib() - before
        report.add(SECTION, f"grown by {opened:,} idle sessions", grown, "MiB", at_most(8))
        report.add(SECTION, "idle with them: CPU", _idle(server, idle_seconds), "% of a core")
    for shared in (True, False):
        with (
            pinned(ASKING),
            TemporaryDirectory(dir=report.directory) as name,
            sessile(Path(name) / "data") as server,
        ):
            await _readers(report, server, readers, shared=shared)


def _warm(server: Server, load: Load, seconds: float) -> None:
    """What is imported and cached at the first requests is not theirs."""
    ids = open_sessions(server, OPENERS, assistant="echo")
    path = "/v1/sessions/{}/turns?wait=30"
    requests = [request("POST", path.format(each), BODY, token=TOKEN) for each in ids]
    load.run(server.port, requests, seconds=seconds, expect="completed")
    opening = [request("POST", "/v1/sessions", {}, token=TOKEN)] * OPENERS
    load.run(server.port, opening, seconds=seconds)


def _open(server: Server, load: Load, count: int) -> int:
    opening = [request("POST", "/v1/sessions", {}, token=TOKEN)] * OPENERS
    opened = 0
    while opened < count:
        seconds = 2.0 if count > 10_000 else 0.5
        opened += load.run(server.port, opening, seconds=seconds).answered
    return opened


def _idle(server: Server, seconds: float) -> float:
    before, begun = server.cpu_seconds(), time.perf_counter()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / (time.perf_counter() - begun) * 100


async def _readers(report: Report, server: Server, count: int, *, shared: bool) -> None:
    ids = open_sessions(server, 1 if shared else count, assistant="echo")
    # A few come and go first: what is imported and cached for them is no reader's.
    for writer in await _read(server, ids[:1] * 20):
        writer.close()
    before, begun = server.rss_mib(), server.cpu_seconds()
    writers = await _read(server, ids * count if shared else ids)
    opening = (server.cpu_seconds() - begun) / count * 1000
    kib = (server.rss_mib() - before) * 1024 / count
    about = f"{count:,} of one session" if shared else f"{count:,} of a session each"
    report.add(SECTION, f"an open reader, {about}", kib, "KiB")
    report.add(SECTION, f"opening one, {about}: CPU", opening, "ms")
    if shared:
        begun = server.cpu_seconds()
        for _ in range(TURNS):
            call(server, "POST", f"/v1/sessions/{ids[0]}/turns?wait=30", BODY)
        await asyncio.sleep(0.5)
        fan_out = (server.cpu_seconds() - begun) / count / TURNS / ENTRIES_A_TURN * 1e6
        report.add(SECTION, "an entry to one reader: CPU", fan_out, "µs")
    for writer in writers:
        writer.close()


async def _read(server: Server, ids: Sequence[str]) -> list[asyncio.StreamWriter]:
    """Open streams, each of which has had its first frame."""
    writers: list[asyncio.StreamWriter] = []
    for session_id in ids:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        path = f"/v1/sessions/{session_id}/events"
        writer.write(request("GET", path, token=TOKEN, accept="text/event-stream"))
        await asyncio.wait_for(reader.readuntil(b"retry: "), 10)
        writers.append(writer)
    return writers
