"""Memory: of a server that idles, and of many idle sessions."""

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.http import BODY, open_sessions
from bench.load import Load, request
from bench.machine import ASKING, pinned
from bench.report import Report, at_most
from bench.servers import TOKEN, Server, sessile

SECTION = "memory"
OPENERS = 64


async def measure(
    report: Report,
    *,
    sessions: int = 100_000,
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
