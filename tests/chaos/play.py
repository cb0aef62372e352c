"""A round: nodes, load and nemesis for a while, then rest; and what is recorded of it."""

import asyncio
import gc
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tests.chaos.load import Load
from tests.chaos.nemesis import Blow, Nemesis
from tests.chaos.nodes import ALIKE, Cluster, Restarted, http
from tests.chaos.record import Record, Recorder, load, write_finals

REST_SECONDS_MAX = 240.0
"""Turns that are suspect are run one at a time: after many kills that takes a while."""
UNCLOSED = (
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
"""A client that is called away while it connects leaves its socket to the garbage collector."""


async def play(
    directory: Path,
    *,
    seed: int,
    seconds: float,
    blows: Sequence[Blow],
    sessions: int = 200,
    pause_seconds: float = 6.0,
    commands: Sequence[Sequence[str]] = ALIKE,
    bus: Restarted | None = None,
) -> Record:
    """It lasts `seconds`, or until the last blow has fallen. What it leaves in the directory can be
    judged again: `python -m tests.chaos.checker`."""
    with Recorder(directory) as recorder:
        recorder.put("round", seed=seed, seconds=seconds, sessions=sessions, commands=commands)
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(
                Cluster(directory, recorder, commands=commands, bus=bus)
            )
            clients = Load(
                await stack.enter_async_context(http()),
                [node.url for node in cluster.nodes if node.takes_requests],
                recorder,
                random.Random(seed),
                sessions=sessions,
                pause_seconds=pause_seconds,
            )
            recorder.put("began")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(clients.run())
                async with asyncio.TaskGroup() as harm:
                    harm.create_task(Nemesis(cluster).run(blows))
                    harm.create_task(asyncio.sleep(seconds))
                await cluster.heal()
                clients.stop()
                await clients.over.wait()
                await _rest(cluster, clients, directory)
            for node in cluster.nodes:
                for line in node.complaints():
                    recorder.put("complaint", place=node.name, **_brief(line))
            recorder.put("cuts", count=cluster.cuts)
    gc.collect()  # what is unclosed is told now, and not in another test
    return load(directory)


async def _rest(cluster: Cluster, clients: Load, directory: Path) -> None:
    if left := await cluster.rest(seconds=REST_SECONDS_MAX):
        cluster.recorder.put("unrest", left=left)
    connection = await cluster.connect()
    try:
        rows = await connection.fetch("SELECT session_id, head FROM session_head")
        clients.rest_at({row[0]: row[1] for row in rows})
        await write_finals(directory, connection)
    finally:
        with suppress(OSError):
            await connection.close()


def _brief(line: dict[str, str]) -> dict[str, str]:
    said = line["exception"].strip().splitlines()
    return {"message": line["message"], "exception": said[-1], "trace": line["exception"][-3000:]}
