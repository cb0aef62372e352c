"""A normal user's turn beside a crowd: thousands of streams that are silent, and hundreds whose
readers take nothing. And what the server's memory is before, meanwhile and after."""

import asyncio
import resource
import socket
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.http import call, open_sessions, turn_requests
from bench.load import Load, request
from bench.machine import ASKING, pinned
from bench.report import Report, at_most, percentile
from bench.servers import TOKEN, Server, sessile

SECTION = "crowd"
STALLED_SESSIONS = 10
"""Those whose readers take nothing share so many."""
FILL_TURNS = 6
FILL_CHARS = 100_000
"""More of them than the buffers of a socket and of its stream hold."""
RECEIVE_BYTES = 4_096
FURTHER_CROWDS = 3

Crowd = list[socket.socket]


async def measure(
    report: Report,
    *,
    idle: int = 2_000,
    stalled: int = 500,
    seconds: float = 4.0,
    rest_seconds: float = 3.0,
) -> None:
    """`rest_seconds`: after each crowd, until memory counts as given back."""
    allow_files(idle + stalled + 200)
    with TemporaryDirectory(dir=report.directory) as name, ExitStack() as stack:
        stack.enter_context(pinned(ASKING))
        load = stack.enter_context(Load(processor=ASKING))
        server = stack.enter_context(sessile(Path(name) / "data"))
        users = turn_requests(open_sessions(server, 1, assistant="echo"))

        def turns() -> list[float]:
            return load.run(
                server.port, users, seconds=seconds, expect='"status":"completed"'
            ).latencies_ms

        # What the first crowd has imported and allocated is kept for the next.
        _leave(await _come(server, idle=min(idle, 50), stalled=min(stalled, 10)))
        turns()
        alone, before = turns(), server.rss_mib()
        crowd = await _come(server, idle=idle, stalled=stalled)
        _check_there(server, len(crowd))
        beside, meanwhile = turns(), server.rss_mib()
        _check_there(server, len(crowd))
        _leave(crowd)
        await asyncio.sleep(rest_seconds)
        alone += turns()
        left = [server.rss_mib()]
        for _ in range(FURTHER_CROWDS):
            _leave(await _come(server, idle=idle, stalled=stalled))
            await asyncio.sleep(rest_seconds)
            left.append(server.rss_mib())

    about = f"{idle:,} silent and {stalled:,} stalled readers"
    for place in (0.5, 0.99):
        named, without = f"p{place * 100:.0f}", percentile(alone, place)
        within = percentile(beside, place)
        report.add(SECTION, f"alone: {named}", without, "ms")
        report.add(SECTION, f"beside {about}: {named}", within, "ms")
        aim = at_most(2) if place == 0.99 else None
        report.add(SECTION, f"{named}, beside them to alone", within / without, "", aim)
    report.add(SECTION, "memory before", before, "MiB")
    report.add(SECTION, "memory beside them", meanwhile, "MiB")
    report.add(SECTION, "memory after them", left[0], "MiB")
    # The allocator keeps what it had at most: a leak is what each further crowd adds to that.
    report.add(SECTION, f"memory after {FURTHER_CROWDS} more such crowds", left[-1], "MiB")
    report.add(SECTION, "of that, left by the last", left[-1] - left[-2], "MiB", at_most(8))


def allow_files(count: int) -> None:
    """For this process, and for the servers that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _come(server: Server, *, idle: int, stalled: int) -> Crowd:
    """Each has had the first frame of its stream. The stalled have more to read than they take."""
    silent = open_sessions(server, idle, assistant="echo")
    busy = open_sessions(server, min(STALLED_SESSIONS, stalled), assistant="echo")
    crowd = [await _reader(server, each) for each in silent]
    crowd += [await _reader(server, busy[place % len(busy)]) for place in range(stalled)]
    said = {"input": {"type": "message", "text": "x" * FILL_CHARS}}
    for _ in range(FILL_TURNS):
        for each in busy:
            await asyncio.to_thread(
                call, server, "POST", f"/v1/sessions/{each}/turns?wait=30", said
            )
    return crowd


async def _reader(server: Server, session_id: str) -> socket.socket:
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    asking.setblocking(False)
    running = asyncio.get_running_loop()
    await running.sock_connect(asking, ("127.0.0.1", server.port))
    path = f"/v1/sessions/{session_id}/events"
    await running.sock_sendall(
        asking, request("GET", path, token=TOKEN, accept="text/event-stream")
    )
    async with asyncio.timeout(10):
        heard = b""
        while b"retry: " not in heard:
            heard += await running.sock_recv(asking, 256)
    return asking


def _check_there(server: Server, count: int) -> None:
    """A crowd that a limit has turned away would prove nothing."""
    url = f"http://127.0.0.1:{server.port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as reply:
        figures = reply.read().decode()
    there = int(float(figures.partition("\nsessile_streams_open ")[2].partition("\n")[0]))
    assert there == count, f"{count} readers came, and {there} are there"


def _leave(crowd: Crowd) -> None:
    for each in crowd:
        each.close()
