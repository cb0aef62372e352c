"""The real runtime in worlds made of chance: nothing is found, and what is planted is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.simulation.faults import FAULTS
from tests.simulation.world import Story, live

WORLDS = 2000
WORLDS_A_TEST = 100
WORLDS_TO_FIND_A_FAULT_IN_MAX = 500


@pytest.mark.parametrize("first", range(0, WORLDS, WORLDS_A_TEST))
def test_nothing_is_found_in_worlds_made_of_chance(first: int) -> None:
    for seed in range(first, first + WORLDS_A_TEST):
        story = live(seed)

        assert not story.faults, f"python -m tests.simulation --seed {seed}: {story.faults}"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_its_seed_replays_it(fault: str) -> None:
    seed, story = found(fault)

    assert live(seed, FAULTS[fault]) == story
    assert live(seed).faults == ()


@pytest.mark.parametrize("fault", [None, "fence removed", "context cached by a tool"])
def test_a_seed_replays_in_another_process(fault: str | None) -> None:
    """Whatever its hashes are: nothing may hang on the order of a set."""
    seed, story = found(fault) if fault else (7, live(7))

    told = [told_by_another_process(seed, fault, hashes) for hashes in ("1", "2")]

    assert told[0] == told[1]
    assert f"digest {story.digest}\n{chr(10).join(story.faults) or 'nothing found'}\n" in told[0]


def found(fault: str) -> tuple[int, Story]:
    """The first seed that finds it."""
    return next(
        (seed, story)
        for seed in range(WORLDS_TO_FIND_A_FAULT_IN_MAX)
        if (story := live(seed, FAULTS[fault])).faults
    )


def told_by_another_process(seed: int, fault: str | None, hashes: str) -> str:
    planted = ["--fault", fault] if fault else []
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed), *planted],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={"PYTHONHASHSEED": hashes, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert ran.returncode == (1 if fault else 0), ran.stderr
    return ran.stdout


def test_the_worlds_are_not_all_alike() -> None:
    """What a rule is to judge has to happen."""
    stories = [live(seed) for seed in range(60)]
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

    assert len({story.digest for story in stories}) == 60
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
