"""Three nodes on one PostgreSQL that are killed, paused and cut off, while 200 sessions talk.

What is recorded of a round is in its directory, which a failed round names:
`python -m tests.chaos.checker DIRECTORY` judges it again.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.checker import faults_of, summary, takeovers
from tests.chaos.nemesis import Nemesis, Rates, plan
from tests.chaos.nodes import ALIKE, APART, LEASE_SECONDS, Cluster, http
from tests.chaos.play import play
from tests.chaos.record import Recorder, load, write_finals

SECONDS = 60.0
RATES = Rates()
TAKEOVER_SECONDS_MAX = LEASE_SECONDS + 1.5
BUSY = 10
"""So many times as long things may take on a machine that does much else besides."""


@pytest.mark.timeout(420)
@pytest.mark.parametrize(("seed", "commands"), [(1, ALIKE), (2, ALIKE), (3, APART)])
async def test_nothing_is_lost_or_done_twice(
    tmp_path: Path, seed: int, commands: Sequence[Sequence[str]]
) -> None:
    blows = plan(seed, seconds=SECONDS, nodes=len(commands), rates=RATES)

    record = await play(tmp_path, seed=seed, seconds=SECONDS, blows=blows, commands=commands)

    told = summary(record)
    figures(tmp_path, told)
    assert faults_of(record) == [], f"{tmp_path}: {told}"
    # Three rounds are 30 kills, 20 pauses, 200 cuts.
    assert told["kill"] >= 10
    assert told["pause"] >= 7
    assert told["connections cut"] >= 70
    assert told["restart database"] + told["kill database"] >= 1
    assert told["turn.completed"] > 200


@pytest.mark.timeout(180)
async def test_what_a_killed_node_ran_is_soon_taken_over(tmp_path: Path) -> None:
    """Turns that had made a step: others are run one at a time, for one of them may be why."""
    recorder = Recorder(tmp_path)
    async with Cluster(tmp_path, recorder) as cluster, http() as client:
        first = cluster.nodes[0]
        sessions = [await _begun(client, first.url, number) for number in range(20)]
        # What another process writes to a file rings no bell.
        while _running(tmp_path) < len(sessions):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        killed = first.node_id
        await Nemesis(cluster).kill(first, seconds=0.1)
        assert await cluster.rest(seconds=60) == ""
        connection = await cluster.connect()
        await write_finals(tmp_path, connection)
        await connection.close()
    recorder.close()
    record = load(tmp_path)

    taken = takeovers(record, only=[killed])

    figures(tmp_path, {"takeover seconds": taken})
    assert len(taken) == len(sessions)
    assert taken[-1] <= TAKEOVER_SECONDS_MAX * BUSY, taken


def figures(directory: Path, told: Mapping[str, Any]) -> None:
    """Kept beside the record, and shown by `pytest -rP`."""
    text = json.dumps(told)
    (directory / "figures.json").write_text(text)
    sys.stdout.write(f"{directory}: {text}\n")


async def _begun(client: Any, url: str, number: int) -> str:
    """A session whose turn runs on the node of the URL, as it does where a slot is free: it has
    made a step, and then is long in a call that is not run twice."""
    text = f"canary-{number}-1 once plan:nk"
    body = {"input": {"type": "message", "text": text}}
    reply = await client.post(f"{url}/v1/turns", json=body)
    session_id: str = reply.raise_for_status().json()["session_id"]
    return session_id


def _running(directory: Path) -> int:
    runs = directory / "runs.jsonl"
    return runs.read_text().count('"name": "crawl"') if runs.exists() else 0


def test_a_plan_is_made_from_its_seed_alone() -> None:
    def planned(seed: int) -> Sequence[object]:
        return plan(seed, seconds=SECONDS, nodes=3, rates=RATES)

    assert planned(1) == planned(1) != planned(2)
