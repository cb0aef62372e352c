"""Each origin system's broken twin is found out by name, within seconds, by what a mapping says of
its requests; a twin without its fault has nothing held against it that it does not lack."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from tests.incidents import banking_naive, sites_naive, support_naive, tasks_naive, workspace_naive
from tests.incidents.conftest import naive as served
from tests.incidents.test_twins import locking

from sessile.demo import sites
from sessile.verify import loading, runner
from sessile.verify.checker import judge
from sessile.verify.history import History

TWINS = Path(__file__).with_name("twins")
SECONDS_MAX = 10.0
NO_IDS = "non-resumable-stream"
"""Its channels have no ids to come back with, with and without a fault."""


async def held(app: Any, system: str, *only: str) -> dict[str, float]:
    """What is found, and when the first of it had happened: in seconds of the run. `only`: these
    parts of it."""
    target = loading.load(str(TWINS / f"{system}.yaml"))
    async with served(app) as site:
        plan = runner.Plan(
            url=site.url, target=target, limits=runner.LIMITS, messages_long=1, only=only
        )  # fmt: skip
        return found(await runner.play(plan))


def found(history: History) -> dict[str, float]:
    ended = {op.number: op.ended for op in history.ops}
    return {
        each.check.name: min(max(ended[number] for number in one.ops) for one in each.findings)
        for each in judge(history) if each.findings
    }  # fmt: skip


@asynccontextmanager
async def bank(fault: banking_naive.Fault | None, directory: Path) -> AsyncIterator[Any]:
    with closing(banking_naive.Messages(directory / "bank.db")) as messages:
        yield banking_naive.backend(fault, messages)


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("kept session", {"context-bleed"}),
        ("second card", {"orphan-tool-call"}),
        (None, set[str]()),
    ],
)
async def test_support_with_kept_actions(
    fault: support_naive.Fault | None, names: set[str]
) -> None:
    told = await held(support_naive.backend(fault), "support")

    assert told.keys() - {NO_IDS} == names
    assert all(told[name] < SECONDS_MAX for name in names)


async def test_a_bot_whose_fallback_opens_a_session() -> None:
    told = await held(sites_naive.naive(sites.Office()), "sites")

    assert told.keys() == {"fallback-session"}
    assert told["fallback-session"] < SECONDS_MAX


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("two ids", {"session-substitution"}),
        ("null id", {"null-session-id"}),
        ("another id", {"lost-message"}),
        # "null row" is in the database alone: `sessile doctor` is what looks there.
        (None, set[str]()),
    ],
)
async def test_a_bank_with_two_managers(
    fault: banking_naive.Fault | None, names: set[str], tmp_path: Path
) -> None:
    async with bank(fault, tmp_path) as app:
        told = await held(app, "banking")

    assert told.keys() == names
    assert all(told[name] < SECONDS_MAX for name in names)


@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("no session", {"null-session-id"}),
        ("lost progress", {"unannounced-turn"}),
        ("falling", {"phantom-progress"}),
        (None, set[str]()),
    ],
)
async def test_tasks_that_start_before_their_session(
    fault: tasks_naive.Fault | None, names: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_naive, "PAGE_SECONDS", 0.1)

    parts = () if fault is None else ("basics", "fan-out", "joined")
    told = await held(tasks_naive.backend(fault), "tasks", *parts)

    assert told.keys() == names
    assert all(told[name] < SECONDS_MAX for name in names)


async def test_a_workspace_that_reads_and_saves() -> None:
    told = await held(workspace_naive.naive(), "workspace")

    # What is overwritten may have been read before.
    assert told.keys() - {"non-monotonic-read"} == {"lost-message"}
    assert told["lost-message"] < SECONDS_MAX


async def test_a_workspace_that_locks() -> None:
    assert await held(locking(workspace_naive.naive()), "workspace") == {}
