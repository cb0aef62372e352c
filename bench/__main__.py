"""`python -m bench`: measure, print a table, and write JSON where asked."""

import argparse
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop

from bench import crowd, delta, http, memory, modelled, nodes, nth, postgres, pusher, readers, store
from bench.machine import describe, disk_directory
from bench.report import Report

Measure = Callable[..., Awaitable[None]]

SECTIONS: dict[str, tuple[Measure, dict[str, Any]]] = {
    "store": (store.measure, {"callers": (1, 64), "rounds": 3, "turns": 2_000}),
    "postgres": (postgres.measure, {"callers": (1, 64), "rounds": 3, "turns": 1_000}),
    "nodes": (
        nodes.measure,
        {"turns": 50, "sessions": 100, "events": 50, "seconds": 1.0, "nodes": (1, 2)},
    ),
    "http": (http.measure, {"callers": (1, 64), "rounds": 2, "seconds": 0.7}),
    "nth": (nth.measure, {"places": (10, 100, 500), "samples": 50}),
    "memory": (memory.measure, {"sessions": 2_000, "idle_seconds": 2.0}),
    "crowd": (crowd.measure, {"idle": 200, "stalled": 50, "seconds": 1.0}),
    "readers": (
        readers.measure,
        {"held": 500, "sessions": 100, "seconds": 1.0, "fan_out": 100, "rounds": 1},
    ),
    "pusher": (pusher.measure, {"subscribers": 200, "turns": 5}),
    "delta": (delta.measure, {"turns": 5, "sessions": 4, "at_once_turns": 2}),
    "model": (modelled.measure, {"callers": (16,), "rounds": 1, "seconds": 1.0}),
}
"""By name: what measures it, and with what when it is to be quick."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="well under a minute, less exact")
    parser.add_argument("--only", help=f"some of: {','.join(SECTIONS)}")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else list(SECTIONS)
    if unknown := set(names) - SECTIONS.keys():
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    command = " ".join(["python -m bench", *arguments])
    with TemporaryDirectory(prefix="sessile-bench-", dir=disk_directory()) as name:
        report = Report(Path(name), describe(Path(name)), command, say=_say)
        for section in names:
            measure, quick = SECTIONS[section]
            with report.section(section):
                uvloop.run(_run(measure(report, **(quick if given.quick else {}))))
    report.machine["load_after"] = round(os.getloadavg()[0], 1)
    print(report.table())
    if given.json:
        report.write_json(given.json)
    return 0


async def _run(measured: Awaitable[None]) -> None:
    await measured


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
