"""The same turn with pydantic-ai between: what an agent framework adds."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.http import Contestant, compete, open_sessions, turn_requests
from bench.load import Load
from bench.machine import ASKING
from bench.report import Report, percentile
from bench.servers import sessile

SECTION = "pydantic-ai"


async def measure(
    report: Report, *, callers: Sequence[int] = (1, 16), rounds: int = 5, seconds: float = 2.0
) -> None:
    with TemporaryDirectory(dir=report.directory) as name, ExitStack() as stack:
        directory = Path(name)
        load = stack.enter_context(Load(processor=ASKING))
        plain = stack.enter_context(sessile(directory / "echo"))
        model = stack.enter_context(sessile(directory / "model", "models.py"))
        for count in callers:
            ids = {
                "echo agent": (plain, open_sessions(plain, count, assistant="echo")),
                "pydantic-ai, a function as its model": (
                    model,
                    open_sessions(model, count, assistant="model"),
                ),
            }
            contestants = {
                about: Contestant(server, turn_requests(sessions), '"status":"completed"')
                for about, (server, sessions) in ids.items()
            }
            compete(list(contestants.values()), load, rounds=rounds, seconds=seconds)
            who = f"{count} caller{'s' * (count > 1)}"
            for about, each in contestants.items():
                report.add(SECTION, f"{who}, {about}: turns", each.rate, "/s")
                report.add(
                    SECTION, f"{who}, {about}: p50", percentile(each.latencies_ms, 0.5), "ms"
                )
                report.add(SECTION, f"{who}, {about}: server CPU a turn", each.cpu_ms, "ms")
        report.add(SECTION, "memory", model.rss_mib(), "MiB")
