"""`make chaos`: rounds longer than the tests', each from a seed; it ends at the first in which
something is found, and says where its record is."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.checker import faults_of, summary
from tests.chaos.nemesis import Rates, plan
from tests.chaos.nodes import ALIKE, APART
from tests.chaos.play import play

from sessile.core.codec import to_json


def main() -> int:
    asked = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    asked.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    asked.add_argument("--seconds", type=float, default=300.0, help="of each round")
    asked.add_argument("--rounds", type=int, default=1)
    given = asked.parse_args()
    for seed in range(given.seed, given.seed + given.rounds):
        directory = Path(tempfile.mkdtemp(prefix=f"sessile-chaos-{seed}-"))
        sys.stdout.write(f"seed {seed}: {directory}\n")
        sys.stdout.flush()
        commands = (ALIKE, APART)[seed % 2]
        blows = plan(seed, seconds=given.seconds, nodes=len(commands), rates=Rates())
        round_ = play(directory, seed=seed, seconds=given.seconds, blows=blows, commands=commands)
        record = asyncio.run(round_)
        sys.stdout.write(f"{to_json(summary(record))}\n")
        if faults := faults_of(record):
            sys.stdout.write("".join(f"{fault}\n" for fault in faults))
            return 1
        shutil.rmtree(directory)
    sys.stdout.write("nothing found\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
