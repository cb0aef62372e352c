"""Worlds by the thousand: until a number is reached, a fault is found, or the time is over."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace

from tests.simulation.mutants import MUTANTS
from tests.simulation.world import Plant, Story, live

SEEDS_TO_FIND_A_FAULT_IN_MAX = 2000
SOAKED_AT_ONCE = 100
"""Worlds of one job of a soak; the first of them also dies at every call."""
TELL_SECONDS = 60.0


def say(line: str = "") -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def faults_of(seed: int, plant: Plant, happened: Counter[str] | None = None) -> tuple[str, ...]:
    """A world that breaks is a find, too. `happened`: grows by what happened in it."""
    try:
        story = live(seed, plant)
    except Exception as error:  # noqa: BLE001
        return (repr(error),)
    if happened is not None:
        happened.update(story.happened)
        happened["no turn"] += not story.happened["turn.started"]
    return story.faults


def search(first: int, count: int, plant: Plant) -> int:
    began, found, happened = time.process_time(), 0, Counter[str]()
    for seed in range(first, first + count):
        if faults := faults_of(seed, plant, happened):
            found += 1
            say(f"{replay(seed, plant)}: {faults[0]}")
    say(", ".join(f"{what}: {times}" for what, times in sorted(happened.items())))
    seconds = time.process_time() - began
    say(f"{count} worlds, {found} with faults, {count / seconds:.1f} a second of one core")
    return 1 if found else 0


def find(names: Sequence[str]) -> int:
    """Each of these planted faults: by which seed first, that this seed finds nothing without the
    fault, and that it tells the same twice."""
    missed = 0
    for name in names:
        plant = MUTANTS[name]
        seeds = range(SEEDS_TO_FIND_A_FAULT_IN_MAX)
        found = ((seed, story) for seed in seeds if (story := _told(seed, plant)) is not None)
        seed, story = next(found, (-1, None))
        again = story is not None and live(seed, plant) == story
        clean = story is not None and not live(seed, Plant(protocol=plant.protocol)).faults
        missed += not (again and clean)
        told = story.faults[0] if story is not None else "not found"
        say(f"{name} | {seed} | {'same' if again else 'differs'} | {told}")
    return 1 if missed else 0


def _told(seed: int, plant: Plant) -> Story | None:
    """What the checker has found fault with; a world that breaks says too little of why."""
    try:
        story = live(seed, plant)
    except Exception:  # noqa: BLE001
        return None
    return story if story.faults else None


def crashes(seed: int, plant: Plant) -> int:
    found = 0
    for each, faults in _crashed(seed, plant):
        found += 1
        say(f"{replay(seed, each)}: {faults[0]}")
    say(f"{live(seed, replace(plant, crash_at=0)).calls} calls, {found} deaths with faults")
    return 1 if found else 0


def _crashed(seed: int, plant: Plant) -> Iterator[tuple[Plant, tuple[str, ...]]]:
    """The deaths, one at each call before it was sent and one behind, that end in a fault."""
    calls = live(seed, replace(plant, crash_at=0)).calls
    for crash_at in range(1, calls + 1):
        for sent in (False, True):
            each = replace(plant, crash_at=crash_at, crash_sent=sent)
            if faults := faults_of(seed, each):
                yield each, faults


def soak(first: int, *, hours: float, workers: int) -> int:
    """Until the first fault, which is told with how it is played again."""
    began, told, lived = time.monotonic(), 0.0, 0
    end = began + hours * 3600
    say(f"worlds from seed {first} on, {workers} at a time")
    with ProcessPoolExecutor(workers) as pool:
        jobs: dict[Future[list[str]], int] = {}
        while jobs or time.monotonic() < end:
            while len(jobs) < workers and time.monotonic() < end:
                jobs[pool.submit(_soaked, first)] = first
                first += SOAKED_AT_ONCE
            done, _ = wait(jobs, return_when=FIRST_COMPLETED)
            for job in done:
                del jobs[job]
                lived += SOAKED_AT_ONCE
                if faults := job.result():
                    say("\n".join(faults))
                    return 1
            seconds = time.monotonic() - began
            if seconds - told >= TELL_SECONDS:
                told = seconds
                say(f"{lived} worlds, seed {first}, {seconds / 60:.0f} min, nothing found")
    say(f"{lived} worlds, nothing found; the next seed is {first}")
    return 0


def _soaked(first: int) -> list[str]:
    """The faults of the first world that has some, if there is one."""
    for seed in range(first, first + SOAKED_AT_ONCE):
        if faults := faults_of(seed, Plant()):
            return [replay(seed, Plant()), *faults]
    for each, faults in _crashed(first, Plant()):
        return [replay(first, each), *faults]
    return []


def replay(seed: int, plant: Plant) -> str:
    """The command that tells this world."""
    words = [f"python -m tests.simulation --seed {seed}"]
    words += [f'--fault "{name}"' for name, each in MUTANTS.items() if _is(plant, each)]
    if plant.protocol is not None:
        words.append(f"--protocol {plant.protocol}")
    if plant.crash_at is not None:
        words.append(f"--crash-at {plant.crash_at}")
    if plant.crash_sent:
        words.append("--crash-sent")
    return " ".join(words)


def _is(plant: Plant, mutant: Plant) -> bool:
    same = replace(mutant, crash_at=plant.crash_at, crash_sent=plant.crash_sent)
    return replace(same, protocol=plant.protocol) == plant
