"""The n-th turn of a session, for an agent that looks back and for one that does not."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.agents import echo, reads
from bench.machine import MEASURED, pinned
from bench.report import Report, at_most, percentile
from bench.store import TEXT
from sessile.core.context import Principal
from sessile.core.ids import SessionId, TenantId, UserId
from sessile.settings import Settings
from sessile.wiring import Server

SECTION = "n-th turn"
PLACES = (10, 100, 1_000, 10_000)
SPREAD = 5
"""A turn counts as the n-th if it is at most so many before or behind."""

_principal = Principal(tenant_id=TenantId("default"), user_id=UserId("user"))


async def measure(report: Report, *, places: Sequence[int] = PLACES, samples: int = 200) -> None:
    with pinned(MEASURED), TemporaryDirectory(dir=report.directory) as name:
        settings = replace(Settings(), data_dir=Path(name))
        async with Server(echo, reads, settings=settings) as server:
            for assistant, about in (("echo", "echo agent"), ("reads", "agent that reads")):
                await _compare(report, server, assistant, about, places, samples)


async def _compare(
    report: Report,
    server: Server,
    assistant: str,
    about: str,
    places: Sequence[int],
    samples: int,
) -> None:
    """Each place has as many sessions as it takes to have all samples near it. The samples of
    the places are taken in turn, so that what else the machine does meets them all."""
    sessions = max(samples // (2 * SPREAD), 1)
    grown: dict[int, list[SessionId]] = {}
    for place in places:
        # A long log is grown once: ten turns more or less do not matter there.
        grown[place] = []
        for _ in range(sessions if place < 100 else 1):
            opened = await server.open(_principal, assistant=assistant)
            session_id = opened.found.head.key.session_id
            for _ in range(place - SPREAD):
                await _turn(server, session_id)
            grown[place].append(session_id)
        report.say(f"  {about}: grown to {place:,}")
    took: dict[int, list[float]] = {place: [] for place in places}
    for sample in range(samples):
        for place, ids in grown.items():
            session_id = ids[sample % len(ids)]
            begun = time.perf_counter()
            await _turn(server, session_id)
            took[place].append((time.perf_counter() - begun) * 1000)
    p50 = {place: percentile(values, 0.5) for place, values in took.items()}
    for place, value in p50.items():
        report.add(SECTION, f"{about}: p50 at n = {place:,}", value, "ms")
    aim = at_most(0.05) if assistant == "echo" else None
    report.add(SECTION, f"{about}: exponent of n", slope(p50), "", aim)
    if assistant != "echo" and len(places) > 2:
        # It looks back over 200 entries at most: from there on its cost has to be flat too.
        far = {place: p50[place] for place in places[1:]}
        name = f"{about}: exponent from n = {places[1]:,} on"
        report.add(SECTION, name, slope(far), "", at_most(0.05))


async def _turn(server: Server, session_id: SessionId) -> None:
    submitted = await server.submit(_principal, session_id, TEXT, wait_seconds=30)
    assert submitted.turn.status == "completed", submitted.turn


def slope(p50: dict[int, float]) -> float:
    """Of log time over log n, by least squares: 0 is flat, 1 grows as n does."""
    points = [(math.log(place), math.log(value)) for place, value in p50.items()]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    over = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return over / sum((x - mean_x) ** 2 for x, _ in points)
