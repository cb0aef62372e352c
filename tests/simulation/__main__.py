"""`python -m tests.simulation --seed 7`: one world, told as it happens, and its logs."""

import argparse
import os
import sys
import time
from dataclasses import replace

from tests.simulation.mutants import MUTANTS
from tests.simulation.search import crashes, find, say, search, soak
from tests.simulation.world import Plant, Story, live


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell this world")
    parser.add_argument("--from", type=int, dest="first", help="else: worlds from here on")
    parser.add_argument("--count", type=int, default=1000, help="this many worlds")
    parser.add_argument("--fault", choices=sorted(MUTANTS), help="with this fault planted")
    parser.add_argument(
        "--protocol", choices=("memory", "sqlite", "postgres"), help="else the seed's"
    )
    parser.add_argument("--crash-at", type=int, help="a node dies at this call, and nothing else")
    parser.add_argument("--crash-sent", action="store_true", help="when the call is sent")
    parser.add_argument("--crashes", action="store_true", help="--seed, and a death at every call")
    parser.add_argument("--find", metavar="K/N", help="the K-th of N parts of the planted faults")
    parser.add_argument("--soak", type=float, metavar="HOURS", help="worlds, until one has a fault")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes, of --soak"
    )
    given = parser.parse_args()
    plant = MUTANTS[given.fault] if given.fault else Plant()
    plant = replace(
        plant,
        protocol=given.protocol or plant.protocol,
        crash_at=given.crash_at,
        crash_sent=given.crash_sent,
    )
    if given.soak is not None:
        first = int(time.time()) if given.first is None else given.first
        return soak(first, hours=given.soak, workers=given.workers)
    if given.find is not None:
        part, parts = map(int, given.find.split("/"))
        return find(sorted(MUTANTS)[part - 1 :: parts])
    if given.crashes:
        return crashes(given.seed or 0, plant)
    if given.seed is not None:
        return _tell(live(given.seed, plant, tell=say))
    return search(given.first or 0, given.count, plant)


def _tell(story: Story) -> int:
    for log in story.logs:
        say()
        for entry in log:
            at = (entry.at_ms - 1_000_000) / 1000
            say(f"{entry.seq:4} {at:8.3f} {entry.kind:22} {entry.turn_id or '':8} {entry.body}")
    say(f"\n{story.steps} steps, {story.virtual_seconds:.3f} s, digest {story.digest}")
    say("\n".join(story.faults) or "nothing found")
    return 1 if story.faults else 0


if __name__ == "__main__":
    sys.exit(main())
