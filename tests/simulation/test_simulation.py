"""The real runtime in worlds made of chance: nothing is found, and what is planted is.

What lives many worlds does so in a process of its own, which measures no coverage: that would take
more than twice as long.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from tests.runtime.rig import LoopClock
from tests.simulation.database import Database
from tests.simulation.loop import Simulation, simulate
from tests.simulation.mutants import MUTANTS
from tests.simulation.search import SEEDS_TO_FIND_A_FAULT_IN_MAX
from tests.simulation.store import Recorder, Weather
from tests.simulation.world import Plant, live

from sessile.adapters.memory import MemoryStore
from sessile.adapters.postgres.lanes import Lane
from sessile.adapters.postgres.transaction import Transaction
from sessile.core.ids import SessionId, SessionKey, TenantId

WORLDS = 10_000
WORLDS_A_TEST = 500
pytestmark = pytest.mark.timeout(300)
HAPPENS = {
    "kill": 100, "pause": 110, "drain": 50, "refuse": 50, "start": 50, "reply lost": 700,
    "taken over": 50, "gone on": 150, "not answered in time": 35,
    "approval.granted": 80, "approval.denied": 90, "session.closed": 35, "session.granted": 300,
    "session.revoked": 180, "tool.interrupted": 80, "tool.refused": 140, "message.reset": 10,
    "turn.awaiting": 160, "turn.cancel_requested": 160, "turn.cancelled": 230,
    "turn.completed": 500, "turn.edited": 10, "turn.failed": 25, "turn.steered": 120,
    "deleted": 70, "deleted in a turn": 40, "deleted while it waits": 4, "deleted with a queue": 6,
    "deleted in a later attempt": 2, "deleted beside its fork": 2, "exclusive opened anew": 2,
    "reader of what is gone": 65, "session.forked": 30,
}  # fmt: skip
"""So often at least in WORLDS_A_TEST worlds: about half as often as in the dullest of them."""
PARTS = 6
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("first", range(0, WORLDS, WORLDS_A_TEST))
def test_nothing_is_found_in_worlds_made_of_chance(first: int) -> None:
    told = told_by("--from", str(first), "--count", str(WORLDS_A_TEST))

    assert f"{WORLDS_A_TEST} worlds, 0 with faults" in told, told
    happened = {what: int(times) for what, times in re.findall(r"(\w[\w. ]*): (\d+)", told)}
    dull = {what: happened.get(what, 0) for what, least in HAPPENS.items()
            if happened.get(what, 0) < least}  # fmt: skip
    assert not dull
    assert happened["no turn"] <= WORLDS_A_TEST // 100


@pytest.mark.parametrize(("protocol", "seed"), [("sqlite", 23), ("postgres", 13)])
def test_a_node_may_die_at_every_call_of_the_store_and_the_bus(protocol: str, seed: int) -> None:
    """Once ahead of each, once when it is sent; then another node goes on."""
    told = told_by("--crashes", "--seed", str(seed), "--protocol", protocol)

    calls, found = re.findall(r"\d+", told.splitlines()[-1])
    assert int(calls) > 100
    assert found == "0", told


@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_a_planted_fault_is_found_and_its_seed_replays_it(part: int) -> None:
    told = told_by("--find", f"{part}/{PARTS}")

    lines = [line.split(" | ", 3) for line in told.splitlines()]
    assert [name for name, *_ in lines] == sorted(MUTANTS)[part - 1 :: PARTS]
    for name, seed, again, fault in lines:
        assert 0 <= int(seed) < SEEDS_TO_FIND_A_FAULT_IN_MAX, name
        assert again == "same", name
        assert fault, name


@pytest.mark.parametrize("fault", [None, "fence removed", "postgres: append compares no fence"])
def test_a_seed_replays_in_another_process(fault: str | None) -> None:
    """Whatever its hashes are: nothing may hang on the order of a set."""
    seed = 9
    story = live(seed, MUTANTS[fault] if fault else Plant())
    planted = ["--fault", fault] if fault else []

    told = [
        told_by("--seed", str(seed), *planted, hashes=each, fails=fault is not None)
        for each in ("1", "2")
    ]

    assert bool(story.faults) == (fault is not None)
    assert told[0] == told[1]
    assert f"digest {story.digest}\n{chr(10).join(story.faults) or 'nothing found'}\n" in told[0]


def told_by(*words: str, hashes: str = "0", fails: bool = False) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *words],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={"PYTHONHASHSEED": hashes, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert ran.returncode == (1 if fails else 0), ran.stdout + ran.stderr
    return ran.stdout


def test_the_worlds_are_not_all_alike() -> None:
    """What a rule is to judge has to happen."""
    stories = [live(seed) for seed in range(80)]
    kinds = {entry.kind for story in stories for log in story.logs for entry in log}
    bodies = [(e.kind, e.body) for story in stories for log in story.logs for e in log]
    verdicts = {json.loads(body)["verdict"] for kind, body in bodies if kind == "tool.refused"}
    denials = [body for kind, body in bodies if kind == "approval.denied"]
    attempts = [
        entry.body
        for story in stories
        for log in story.logs
        for entry in log
        if entry.kind == "turn.started" and '"attempt":1,' not in entry.body
    ]

    assert len({story.digest for story in stories}) == 80
    assert len(attempts) >= 5
    assert {"needs_grant", "denied"} <= verdicts
    assert any('"by":null' in body for body in denials), "nobody answered in time"
    assert kinds >= {
        "approval.denied", "approval.granted", "approval.requested", "session.granted",
        "session.revoked", "tool.refused", "turn.awaiting",
        "message.added", "message.delta", "message.reset", "session.closed", "session.opened",
        "tool.completed", "tool.failed", "tool.interrupted", "tool.started",
        "turn.cancel_requested", "turn.cancelled", "turn.completed", "turn.edited", "turn.failed",
        "turn.progress", "turn.queued", "turn.started", "turn.steered",
    }  # fmt: skip


def test_what_befalls_a_lane_of_postgresql_happens_in_the_worlds() -> None:
    happened = Counter[str]()
    plant = Plant(protocol="postgres", around=lambda: counted(happened))

    assert not [fault for seed in range(60) for fault in live(seed, plant).faults]

    assert {what for what, times in happened.items() if times} == {
        "a batch of several",
        "a batch taken apart",
        "a job waits aside",
        "a lock is given up",
        "a commit that nobody saw stands",
        "a commit that nobody saw does not stand",
    }


@pytest.mark.parametrize(("stands_still_seconds", "has"), [(0.3, False), (1.0, True)])
def test_who_stands_still_in_a_transaction_for_too_long_loses_its_locks(
    stands_still_seconds: float, has: bool
) -> None:
    """What the worlds seldom come to: a node that is paused in the midst of one."""
    key = SessionKey(TenantId("acme"), SessionId("ses_1"))

    async def main(sim: Simulation) -> bool:
        memory = MemoryStore(clock=LoopClock(sim.loop))
        database = Database(
            memory,
            Recorder(memory, sim.loop),
            loop=sim.loop,
            chance=sim.random,
            weather=Weather(),
            idle_seconds=0.8,
        )
        first = database.serve(sim.node("first"), lock_seconds=0.25)
        second = database.serve(sim.node("second"), lock_seconds=0.25)
        database.begin(first)
        database.lock(first, [key], lambda _: None)
        await asyncio.sleep(stands_still_seconds)
        had: list[Exception | None] = []
        database.lock(second, [key], had.append)
        await asyncio.sleep(0.3)
        assert first.gone == has
        return had == [None]

    assert simulate(0, main).result == has


def test_the_page_names_each_planted_fault() -> None:
    page = (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")
    section = page.split("## Faults that are planted")[1].split("\n## ")[0]

    assert re.findall(r"^- (.+)$", section, re.M) == [*MUTANTS]


@contextmanager
def counted(happened: Counter[str]) -> Iterator[None]:
    apart, put, stands, lock = Lane._answer_apart, Lane.put, Transaction.stands, Database.lock

    async def counted_apart(self: Lane, callers: Any, error: Exception) -> None:
        happened["a batch taken apart"] += 1
        await apart(self, callers, error)

    def counted_put(self: Lane, caller: Any) -> None:
        happened["a job waits aside"] += self._aside is None
        happened["a batch of several"] += bool(self._waiting)
        put(self, caller)

    async def counted_stands(self: Transaction, job: Any, unseen: Any) -> Any:
        answer = await stands(self, job, unseen)
        if unseen is not None:
            how = "does not stand" if answer is None else "stands"
            happened[f"a commit that nobody saw {how}"] += 1
        return answer

    def counted_lock(self: Database, backend: Any, keys: Any, had: Any) -> None:
        def counted_had(error: Exception | None) -> None:
            happened["a lock is given up"] += error is not None
            had(error)

        lock(self, backend, keys, counted_had)

    with (
        patch.object(Lane, "_answer_apart", counted_apart),
        patch.object(Lane, "put", counted_put),
        patch.object(Transaction, "stands", counted_stands),
        patch.object(Database, "lock", counted_lock),
    ):
        yield
