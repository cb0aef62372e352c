"""`python -m tests.simulation --seed 7`: one world, told as it happens, and its logs."""

import argparse
import sys
import time

from tests.simulation.faults import FAULTS
from tests.simulation.world import Plant, Story, live


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell this world")
    parser.add_argument("--from", type=int, default=0, dest="first", help="else: worlds from here")
    parser.add_argument("--count", type=int, default=1000, help="this many worlds")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="with this fault planted")
    given = parser.parse_args()
    plant = FAULTS[given.fault] if given.fault else Plant()
    if given.seed is not None:
        return _tell(live(given.seed, plant, tell=say))
    return _search(given.first, given.count, plant)


def _tell(story: Story) -> int:
    for log in story.logs:
        say()
        for entry in log:
            at = (entry.at_ms - 1_000_000) / 1000
            say(f"{entry.seq:4} {at:8.3f} {entry.kind:22} {entry.turn_id or '':8} {entry.body}")
    say(f"\n{story.steps} steps, {story.virtual_seconds:.3f} s, digest {story.digest}")
    say("\n".join(story.faults) or "nothing found")
    return 1 if story.faults else 0


def _search(first: int, count: int, plant: Plant) -> int:
    began, found = time.monotonic(), 0
    for seed in range(first, first + count):
        try:
            faults = live(seed, plant).faults
        except Exception as error:  # noqa: BLE001  a world that breaks is a find, too
            faults = (repr(error),)
        if faults:
            found += 1
            say(f"seed {seed}: {faults[0]}")
    seconds = time.monotonic() - began
    say(f"{count} worlds, {found} with faults, {count / seconds:.1f} a second")
    return 1 if found else 0


def say(line: str = "") -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
