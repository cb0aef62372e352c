"""Three nodes on one PostgreSQL that are killed, paused and cut off, while 200 sessions talk.

What is recorded of a round is in its directory, which a failed round names:
`python -m tests.chaos.checker DIRECTORY` judges it again.
"""

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.checker import faults_of, summary, takeovers
from tests.chaos.nemesis import Nemesis, Rates, plan
from tests.chaos.nodes import ALIKE, APART, LEASE_SECONDS, Cluster, http
from tests.chaos.play import UNCLOSED, play
from tests.chaos.record import Recorder, load, write_finals
from tests.servers.nats import Nats

pytestmark = [pytest.mark.filterwarnings(each) for each in UNCLOSED]

SECONDS = 60.0
RATES = Rates()
TAKEOVER_SECONDS_MAX = LEASE_SECONDS + 1.5
PASSED = "passed.json"
"""In the directory of a round in which all was well: its figures."""
BUSY = 10
"""So many times as long things may take on a machine that does much else besides."""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Of a round: it stays where the round fails, longer than pytest would keep it."""
    kept = Path(tempfile.mkdtemp(prefix="sessile-chaos-"))
    yield kept
    if (kept / PASSED).exists():
        shutil.rmtree(kept)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("seed", "commands", "by_nats"), [(1, ALIKE, False), (2, ALIKE, True), (3, APART, False)]
)
async def test_nothing_is_lost_or_done_twice(
    directory: Path, seed: int, commands: Sequence[Sequence[str]], by_nats: bool
) -> None:
    rates = replace(RATES, bus_restarts=1) if by_nats else RATES
    blows = plan(seed, seconds=SECONDS, nodes=len(commands), rates=rates)

    with Nats() if by_nats else nullcontext() as bus:
        record = await play(
            directory, seed=seed, seconds=SECONDS, blows=blows, commands=commands, bus=bus
        )

    told = summary(record)
    assert faults_of(record) == [], f"{directory}: {told}"
    # Three rounds are 30 kills, 20 pauses, 200 cuts.
    assert told["kill"] >= 10
    assert told["pause"] >= 7
    assert told["connections cut"] >= 67
    assert told["restart database"] + told["kill database"] >= 1
    assert told["turn.completed"] > 100
    passed(directory, told)


@pytest.mark.timeout(180)
async def test_what_a_killed_node_ran_is_soon_taken_over(directory: Path) -> None:
    """Turns that had made a step: others are run one at a time, for one of them may be why."""
    async with AsyncExitStack() as stack:
        recorder = stack.enter_context(Recorder(directory))
        cluster = await stack.enter_async_context(Cluster(directory, recorder))
        client = await stack.enter_async_context(http())
        first, nemesis = cluster.nodes[0], Nemesis(cluster)
        sessions = [await _begun(client, first.url, number) for number in range(20)]
        # What another process writes to a file rings no bell.
        while _in_calls(directory) < len(sessions):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        killed = first.node_id
        nemesis.kill(first)
        await nemesis.start(first)
        assert await cluster.rest(seconds=60) == ""
        connection = await cluster.connect()
        await write_finals(directory, connection)
        await connection.close()
    record = load(directory)

    taken = takeovers(record, only=[killed])

    assert len(taken) == len(sessions)
    assert taken[-1] <= TAKEOVER_SECONDS_MAX * BUSY, taken
    passed(directory, {"takeover seconds": taken})


def passed(directory: Path, figures: Mapping[str, Any]) -> None:
    """`pytest -rP` shows the figures."""
    text = json.dumps(figures)
    (directory / PASSED).write_text(text)
    sys.stdout.write(f"{text}\n")


async def _begun(client: Any, url: str, number: int) -> str:
    """A session whose turn runs on the node of the URL, as it does where a slot is free: it has
    made a step, and then is long in a call that is not run twice."""
    text = f"canary-{number}-1 once plan:nkk"
    body = {"input": {"type": "message", "text": text}}
    reply = await client.post(f"{url}/v1/turns", json=body)
    session_id: str = reply.raise_for_status().json()["session_id"]
    return session_id


def _in_calls(directory: Path) -> int:
    """How many turns are in the call that is long."""
    return len({line["turn"] for line in load(directory).runs if line["name"] == "crawl"})


def test_a_plan_is_made_from_its_seed_alone() -> None:
    def planned(seed: int) -> Sequence[object]:
        return plan(seed, seconds=SECONDS, nodes=3, rates=RATES)

    assert planned(1) == planned(1) != planned(2)
