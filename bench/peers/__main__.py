"""`python -m bench.peers`: install each peer, measure it beside Sessile, print one table.

`--verify` holds each against `sessile verify` instead; `--serve NAME` starts one, and prints its
address and how it is restarted.
"""

import argparse
import contextlib
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop

from bench.machine import describe, disk_directory
from bench.peers.measure import measure
from bench.peers.peer import Peer
from bench.peers.serving import NotThere, installed
from bench.peers.table import as_markdown
from bench.peers.verifying import restartable, rows, started
from bench.report import Report

NAMES = ("langgraph", "adk", "agno", "agui", "aegra")
QUICK: dict[str, Any] = {
    "rounds": 1, "seconds": 1.5, "places": (10, 30), "nth_seconds": 5.0, "held_connections": 50,
}  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute or two, less exact")
    parser.add_argument("--only", help=f"some of: {','.join(NAMES)}")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--verify", action="store_true", help="hold each against the checker")
    parser.add_argument("--keep", type=Path, help="keep the checker's pages and histories there")
    parser.add_argument("--serve", choices=NAMES, help="start this one, until this is interrupted")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else list(NAMES)
    if unknown := set(names) - set(NAMES):
        parser.error(f"no peer {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    with TemporaryDirectory(prefix="sessile-peers-", dir=disk_directory()) as name:
        if given.serve:
            _serve(named(given.serve), Path(name))
            return 0
        if given.verify:
            for row in rows([named(each) for each in names], Path(name), given.keep):
                print(row, flush=True)
            return 0
        command = " ".join(["python -m bench.peers", *arguments])
        report = Report(Path(name), describe(Path(name)), command, say=_say)
        for each in map(named, names):
            with report.section(each.name):
                try:
                    quick = QUICK if given.quick else {}
                    uvloop.run(measure(report, each, installed(each), **quick))
                except (NotThere, RuntimeError, OSError) as error:
                    report.absent[each.name] = str(error)
                    _say(f"  {error}")
        report.machine["load_after"] = round(os.getloadavg()[0], 1)
    print(report.table())
    print(f"\n{as_markdown(report, [named(each) for each in names])}")
    if given.json:
        report.write_json(given.json)
    return 0


def named(name: str) -> Peer:
    peer: Peer = import_module(f"bench.peers.{name}").peer
    return peer


def _serve(peer: Peer, directory: Path) -> None:
    file = directory / "server.pid"
    with (
        contextlib.suppress(KeyboardInterrupt),
        started(peer, directory) as server,
        restartable(server, file),
    ):
        print(f"http://127.0.0.1:{server.port}")
        print(f"to kill it with -9 and start it again: python -m bench.peers.restart {file}")
        sys.stdout.flush()
        signal.pause()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
