"""Readers of event streams: how many are held and at what cost, how soon each is told, and what an
entry to many readers of one session costs beside a server that does nothing else."""

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from bench.crowd import allow_files
from bench.http import BODY, Measured, call, open_sessions
from bench.load import request
from bench.machine import ASKING, pinned
from bench.report import Report, at_most, percentile
from bench.servers import TOKEN, Server, floor, sessile
from bench.store import ENTRIES_A_TURN

SECTION = "readers"
WARM = 20
CALLERS = 50
QUIET_SECONDS = 0.5
ALL_SECONDS_MAX = 30.0
"""Until then every entry has to be with its reader: one that is lost is not late, but worse."""
TURNS = 10
AT_ONCE = 200
_AT = re.compile(rb'"at":"([^"]+)"')


async def measure(
    report: Report,
    *,
    held: int = 10_000,
    sessions: int = 1_000,
    seconds: float = 10.0,
    entries_a_second: float = 1_000.0,
    fan_out: int = 1_000,
    rounds: int = 3,
) -> None:
    allow_files(held + 500)
    with pinned(ASKING):
        with TemporaryDirectory(dir=report.directory) as name, _many(Path(name), held) as server:
            await _held(report, server, held)
        with TemporaryDirectory(dir=report.directory) as name, _many(Path(name), held) as server:
            await _told(report, server, sessions, seconds, entries_a_second)
        with (
            TemporaryDirectory(dir=report.directory) as name,
            _many(Path(name), held) as server,
            floor("events", Path(name)) as bare,
        ):
            await _fanned_out(report, server, bare, fan_out, rounds)


def _many(directory: Path, held: int) -> AbstractContextManager[Server]:
    most = str(held + 100)
    return sessile(
        directory / "data", "agents.py", "--streams-max", most, "--connections-max", most,
        "--connections-address-max", most, "--streams-user-max", most,
        "--streams-tenant-max", most,
    )  # fmt: skip


class _Reader(asyncio.Protocol):
    """Reads as little as it can: what is measured is the server. `late_ms`: for each entry, from
    the server's own time of it until it was here."""

    def __init__(self, *, times: bool = False) -> None:
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()
        self.late_ms: list[float] = []
        self.came = 0
        self._times = times
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()

    @property
    def gone(self) -> bool:
        return self._gone.is_set()

    async def leave(self) -> None:
        """Returns when the server can tell."""
        self.transport.abort()
        await self._gone.wait()

    def data_received(self, data: bytes) -> None:
        self.came += len(data)
        if not self.begun.done() and b"retry: " in data:
            self.begun.set_result(None)
        if not self._times:
            return
        now = time.time()
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if found := _AT.search(line):
                at = datetime.fromisoformat(found[1].decode().replace("Z", "+00:00")).timestamp()
                self.late_ms.append((now - at) * 1000)


async def _follow(server: Measured, paths: Sequence[str], *, times: bool = False) -> list[_Reader]:
    """Each has had its first frame; some hundreds come at once."""
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)

    async def come(path: str) -> _Reader:
        async with gate, asyncio.timeout(60):
            _, reader = await loop.create_connection(
                lambda: _Reader(times=times), "127.0.0.1", server.port
            )
            reader.transport.write(request("GET", path, token=TOKEN, accept="text/event-stream"))
            await reader.begun
            return reader

    return await asyncio.gather(*map(come, paths))


def _check_there(readers: Sequence[_Reader]) -> None:
    """Those whom the server has let go of cost nothing, and would prove nothing."""
    gone = sum(each.gone for each in readers)
    assert not gone, f"{gone} of {len(readers)} readers were let go of"


async def _leave(readers: Sequence[_Reader]) -> None:
    for each in readers:
        await each.leave()


async def _held(report: Report, server: Server, count: int) -> None:
    ids = open_sessions(server, min(count, 1_000), assistant="echo")
    paths = [f"/v1/sessions/{ids[n % len(ids)]}/events" for n in range(count)]
    # What is imported and cached for the first of them is no reader's.
    await _leave(await _follow(server, paths[:WARM]))
    before = server.rss_mib()
    readers = await _follow(server, paths)
    kib = (server.rss_mib() - before) * 1024 / count
    report.add(SECTION, f"{count:,} held: memory of each", kib, "KiB", at_most(40))
    spent, begun = server.cpu_seconds(), time.perf_counter()
    await asyncio.sleep(5 * QUIET_SECONDS)
    idle = (server.cpu_seconds() - spent) / (time.perf_counter() - begun) * 100
    report.add(SECTION, f"{count:,} held, nothing to tell: CPU", idle, "% of a core")
    _check_there(readers)
    await _leave(readers)


async def _told(
    report: Report, server: Server, count: int, seconds: float, entries_a_second: float
) -> None:
    """A reader of each session, and turns at an even pace, whoever is still waiting."""
    ids = open_sessions(server, count, assistant="echo")
    readers = await _follow(server, [f"/v1/sessions/{it}/events" for it in ids], times=True)
    await asyncio.sleep(QUIET_SECONDS)
    for each in readers:
        each.late_ms.clear()
    callers = min(CALLERS, count)
    pace = callers * ENTRIES_A_TURN / entries_a_second
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        said = [
            tasks.create_task(
                _say(server, ids[place::callers], begun + pace * place / callers, pace,
                     begun + seconds)
            )
            for place in range(callers)
        ]  # fmt: skip
    took = time.perf_counter() - begun
    wanted = sum(each.result() for each in said) * ENTRIES_A_TURN
    async with asyncio.timeout(ALL_SECONDS_MAX):
        while sum(len(reader.late_ms) for reader in readers) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(QUIET_SECONDS / 5)
    _check_there(readers)
    late = [each for reader in readers for each in reader.late_ms]
    about = f"{count:,} readers of a session each"
    report.add(SECTION, f"{about}: entries", len(late) / took, "/s")
    for share, aim in ((0.5, None), (0.99, at_most(10))):
        name = f"{about}: from an entry's time to its reader, p{share * 100:.0f}"
        report.add(SECTION, name, percentile(late, share), "ms", aim)
    await _leave(readers)


async def _say(server: Server, ids: Sequence[str], due: float, pace: float, until: float) -> int:
    """How many turns were begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    turn = 0
    while due < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        path = f"/v1/sessions/{ids[turn % len(ids)]}/turns"
        writer.write(request("POST", path, BODY, token=TOKEN))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 202 " in head.partition(b"\r\n")[0], head
        size = re.search(rb"content-length: (\d+)", head.lower())
        assert size is not None
        await reader.readexactly(int(size[1]))
        due, turn = due + pace, turn + 1
    writer.close()
    return turn


async def _fanned_out(
    report: Report, server: Server, bare: Server, count: int, rounds: int
) -> None:
    """Both tell the same bytes to as many readers, in turn."""
    (session_id,) = open_sessions(server, 1, assistant="echo")
    mine = await _follow(server, [f"/v1/sessions/{session_id}/events"] * count)
    theirs = await _follow(bare, ["/events"] * count)
    path = f"/v1/sessions/{session_id}/turns?wait=30"
    ratios: list[float] = []
    costs: list[float] = []
    for _ in range(rounds):
        came, spent = mine[0].came, server.cpu_seconds()
        for _ in range(TURNS):
            await asyncio.to_thread(call, server, "POST", path, BODY)
        await asyncio.sleep(QUIET_SECONDS)
        cost = (server.cpu_seconds() - spent) / (count * TURNS * ENTRIES_A_TURN) * 1e6
        size = (mine[0].came - came) // (TURNS * ENTRIES_A_TURN)
        spent = bare.cpu_seconds()
        for _ in range(TURNS * ENTRIES_A_TURN):
            await asyncio.to_thread(call, bare, "POST", "/tell", {"bytes": size})
        await asyncio.sleep(QUIET_SECONDS)
        floor_cost = (bare.cpu_seconds() - spent) / (count * TURNS * ENTRIES_A_TURN) * 1e6
        costs.append(cost)
        ratios.append(cost / floor_cost)
    _check_there([*mine, *theirs])
    least, most = (of(each.came for each in mine) for of in (min, max))
    assert least > 0.9 * most, f"one reader has had {least} bytes, another {most}"
    middle = rounds // 2
    about = f"an entry to {count:,} readers of one session"
    report.add(SECTION, f"{about}: CPU a reader", sorted(costs)[middle], "µs")
    report.add(
        SECTION, f"{about}: CPU, to a bare uvicorn's", sorted(ratios)[middle], "", at_most(1.6)
    )
    await _leave(mine)
    await _leave(theirs)
