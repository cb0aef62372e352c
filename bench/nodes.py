"""Many nodes on one PostgreSQL: how soon one wakes another, and what a second and third add."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.nats import Nats
from tests.servers.postgres import Postgres

from bench.http import BODY, call, open_sessions
from bench.load import request
from bench.report import Report, at_most, percentile
from bench.servers import TOKEN, Server, sessile

SECTION = "nodes"
ALL = frozenset(range(os.cpu_count() or 1))
POSTGRES = {"shared_buffers": "256MB", "max_connections": "100"}


async def measure(
    report: Report,
    *,
    turns: int = 300,
    sessions: int = 1_000,
    events: int = 500,
    callers: int = 64,
    seconds: float = 6.0,
    nodes: Sequence[int] = (1, 2, 3),
) -> None:
    with TemporaryDirectory(dir=report.directory) as name:
        data = Path(name) / "data"
        with Postgres(POSTGRES) as database:
            await _starts(report, data, database.dsn, turns)
        with Postgres(POSTGRES) as database:
            await _told(report, data, database.dsn, "", sessions, events)
        with Postgres(POSTGRES) as database, Nats() as bus:
            await _told(report, data, database.dsn, bus.url, sessions, events)
        for count in nodes:
            with Postgres(POSTGRES) as database:
                await _turns(report, data, database.dsn, count, callers, seconds)


@contextlib.contextmanager
def _node(data: Path, dsn: str, *settings: str, command: str = "serve") -> Iterator[Server]:
    store = ("--store-url", dsn)
    with sessile(data, "agents.py", *store, *settings, command=command, processors=ALL) as server:
        yield server


async def _starts(report: Report, data: Path, dsn: str, turns: int) -> None:
    """From `turn.queued`, which one node writes, to `turn.started`, which another does, by the
    database's clock."""
    with _node(data, dsn, "--no-run") as surfaces, _node(data, dsn, command="work"):
        (session,) = open_sessions(surfaces, 1, assistant="echo")
        took: list[float] = []
        for _ in range(turns):
            begun = time.perf_counter()
            call(surfaces, "POST", f"/v1/sessions/{session}/turns?wait=10", BODY)
            took.append((time.perf_counter() - begun) * 1000)
        queued: dict[str, int] = {}
        starts: list[float] = []
        for entry in _log(surfaces, session):
            if entry["kind"] == "turn.queued":
                queued[entry["turn_id"]] = _ms(entry["at"])
            elif entry["kind"] == "turn.started":
                starts.append(_ms(entry["at"]) - queued[entry["turn_id"]])
    assert len(starts) == turns
    report.add(SECTION, "queued on one node, started on another: p50", percentile(starts, 0.5),
               "ms", at_most(5))  # fmt: skip
    report.add(SECTION, "queued on one node, started on another: p99", percentile(starts, 0.99),
               "ms", at_most(20))  # fmt: skip
    report.add(SECTION, "the whole turn, asked of one and run by another: p50",
               percentile(took, 0.5), "ms")  # fmt: skip


async def _told(report: Report, data: Path, dsn: str, bus: str, sessions: int, events: int) -> None:
    """From a request to one node to the event at a reader of the other, and of the same one."""
    settings = ("--notifier-url", bus) if bus else ()
    name = "NATS" if bus else "NOTIFY"
    with _node(data, dsn, *settings) as here, _node(data, dsn, *settings) as there:
        ids = open_sessions(here, sessions, assistant="echo")
        for where, server in (("another", there), ("the same", here)):
            readers = await asyncio.gather(*(_reader(server, each) for each in ids))
            took: list[float] = []
            reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
            for number in range(events):
                place = random.Random(number).randrange(sessions)
                title = f"{name} {where} {number}"
                path, body = f"/v1/sessions/{ids[place]}", {"title": title}
                begun = time.perf_counter()
                writer.write(request("PATCH", path, body, token=TOKEN))
                await asyncio.wait_for(readers[place][0].readuntil(f'"{title}"'.encode()), 30)
                took.append((time.perf_counter() - begun) * 1000)
                await reader.readuntil(b'"updated_at"')
            for _, stream in readers:
                stream.close()
            writer.close()
            about = f"request to one node, event on {where}, {sessions:,} sessions, {name}"
            report.add(SECTION, f"{about}: p50", percentile(took, 0.5), "ms")
            report.add(SECTION, f"{about}: p99", percentile(took, 0.99), "ms")


async def _reader(
    server: Server, session_id: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    path = f"/v1/sessions/{session_id}/events"
    writer.write(request("GET", path, token=TOKEN, accept="text/event-stream"))
    await reader.readuntil(b"session.opened")
    return reader, writer


async def _turns(
    report: Report, data: Path, dsn: str, count: int, callers: int, seconds: float
) -> None:
    """Callers spread over the nodes, each with a session of its own."""
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(_node(data, dsn)) for _ in range(count)]
        ids = open_sessions(nodes[0], callers, assistant="echo")
        end = time.perf_counter() + seconds
        answered = await asyncio.gather(
            *(_ask(nodes[place % count], each, end) for place, each in enumerate(ids))
        )
    who = f"{count} node{'s' * (count > 1)}, {callers} callers: turns"
    report.add(SECTION, who, sum(answered) / seconds, "/s")


async def _ask(server: Server, session_id: str, end: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    path, answered = f"/v1/sessions/{session_id}/turns?wait=30", 0
    asked = request("POST", path, BODY, token=TOKEN)
    while time.perf_counter() < end:
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head[9:12] == b"200", head
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        answered += 1
    writer.close()
    return answered


def _log(server: Server, session_id: str) -> Iterator[dict[str, str]]:
    after = 0
    while True:
        path = f"/v1/sessions/{session_id}/events?after={after}"
        items = call(server, "GET", path, accept="application/json")["items"]
        yield from items
        if not items:
            return
        after = items[-1]["seq"]


def _ms(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)
