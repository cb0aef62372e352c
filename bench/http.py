"""Full turns over HTTP: a message in, the final reply out, beside two floors in the same run."""

import json
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from bench.load import Answered, Load, request
from bench.machine import ASKING
from bench.report import Aim, Report, at_least, at_most, middle, percentile
from bench.servers import TOKEN, floor, sessile
from bench.store import TEXT

SECTION = "http"
CALLERS = (1, 16, 64)
AIMS: dict[tuple[int, str], Aim] = {
    (1, "p50"): at_most(3),
    (64, "turns"): at_least(800),
    (64, "share"): at_least(0.35),
}
BODY = {"input": {"type": "message", "text": TEXT}}


class Measured(Protocol):
    """What is asked, and what that costs it."""

    @property
    def port(self) -> int: ...

    def cpu_seconds(self) -> float: ...

    def rss_mib(self) -> float: ...


def call(server: Measured, method: str, path: str, body: Any = None, *, accept: str = "*/*") -> Any:
    """One request of whoever measures, outside what is measured."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Accept": accept,
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(asked, timeout=30) as reply:
        return json.loads(reply.read())


def open_sessions(server: Measured, count: int, *, assistant: str) -> list[str]:
    body = {"assistant": assistant}
    return [call(server, "POST", "/v1/sessions", body)["session_id"] for _ in range(count)]


def turn_requests(sessions: Sequence[str]) -> list[bytes]:
    return [
        request("POST", f"/v1/sessions/{each}/turns?wait=30", BODY, token=TOKEN)
        for each in sessions
    ]


class Contestant:
    """A server and what it is asked; it adds up what came of it."""

    def __init__(
        self, server: Measured, requests: list[bytes], expect: str, *, forgives: bool = False
    ) -> None:
        self.server = server
        self._requests = requests
        self._expect = expect
        self._forgives = forgives
        self.refused = 0
        self.said = ""
        self.rates: list[float] = []
        self.latencies_ms: list[float] = []
        self.load_shares: list[float] = []
        self.all_answered = 0
        self._answered = 0
        self._cpu_seconds = 0.0

    def warm(self, load: Load, seconds: float) -> None:
        self.all_answered += self._ask(load, seconds).answered

    def run(self, load: Load, seconds: float) -> None:
        before = self.server.cpu_seconds()
        came = self._ask(load, seconds)
        self.refused += came.refused
        self.said = self.said or came.said
        self._cpu_seconds += self.server.cpu_seconds() - before
        self._answered += came.answered
        self.all_answered += came.answered
        self.rates.append(came.rate)
        self.latencies_ms.extend(came.latencies_ms)
        self.load_shares.append(came.cpu_seconds / came.seconds)

    def _ask(self, load: Load, seconds: float) -> Answered:
        return load.run(
            self.server.port,
            self._requests,
            seconds=seconds,
            expect=self._expect,
            forgives=self._forgives,
        )

    @property
    def rate(self) -> float:
        return middle(self.rates)

    @property
    def cpu_ms(self) -> float:
        """Of the server, for each answer."""
        return self._cpu_seconds / self._answered * 1000


def compete(contestants: Sequence[Contestant], load: Load, *, rounds: int, seconds: float) -> None:
    """In turn, so that what else the machine does meets them all."""
    for each in contestants:
        each.warm(load, seconds / 2)
    for _ in range(rounds):
        for each in contestants:
            each.run(load, seconds)


async def measure(
    report: Report,
    *,
    callers: Sequence[int] = CALLERS,
    rounds: int = 5,
    seconds: float = 2.0,
) -> None:
    with TemporaryDirectory(dir=report.directory) as name, ExitStack() as stack:
        directory = Path(name)
        load = stack.enter_context(Load(processor=ASKING))
        echo = stack.enter_context(sessile(directory / "data"))
        floors = [stack.enter_context(floor(kind, directory)) for kind in ("json", "commit")]
        sessions = open_sessions(echo, max(callers), assistant="echo")
        idle_mib = echo.rss_mib()
        turns = 0
        for count in callers:
            turn = Contestant(echo, turn_requests(sessions[:count]), '"status":"completed"')
            asked = [request("POST", "/", BODY)] * count
            others = [Contestant(each, asked, "completed") for each in floors]
            contestants = [turn, *others]
            compete(contestants, load, rounds=rounds, seconds=seconds)
            turns += turn.all_answered
            _report(report, count, turn, *others)
        stored = sum(call(echo, "GET", f"/v1/sessions/{each}")["head"] - 1 for each in sessions)
        assert stored == 5 * turns, f"{turns} turns answered, and {stored} entries in the log"
        report.add(SECTION, "memory before", idle_mib, "MiB")
        report.add(SECTION, f"memory after {turns:,} turns", echo.rss_mib(), "MiB")


def _report(
    report: Report, count: int, turn: Contestant, plain: Contestant, commit: Contestant
) -> None:
    who = f"{count} caller{'s' * (count > 1)}"

    def add(name: str, value: float, unit: str, aim: str = "") -> None:
        report.add(SECTION, f"{who}: {name}", value, unit, AIMS.get((count, aim)))

    add("turns", turn.rate, "/s", "turns")
    add("p50", percentile(turn.latencies_ms, 0.5), "ms", "p50")
    add("p99", percentile(turn.latencies_ms, 0.99), "ms")
    add("server CPU a turn", turn.cpu_ms, "ms")
    add("floor, a commit a request", commit.rate, "/s")
    add("floor's CPU a request", commit.cpu_ms, "ms")
    add("floor, JSON", plain.rate, "/s")
    shares = [a / b for a, b in zip(turn.rates, commit.rates, strict=True)]
    add("share of the commit floor", middle(shares), "", "share")
    add("the load's own CPU, JSON floor", middle(plain.load_shares) * 100, "%")
