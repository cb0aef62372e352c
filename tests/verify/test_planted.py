"""The checker can fail, and says nothing without a reason: a naive backend with each fault switched
on is reported under that fault's name and no other, and under none without a fault."""

import asyncio
import os
from collections.abc import Collection
from copy import deepcopy

import pytest
from tests.incidents.conftest import naive as served
from tests.verify import naive

from sessile.verify import loading, runner
from sessile.verify.checker import declared, judge
from sessile.verify.history import History

SHARED = {**runner.LIMITS, "stop_seconds": 5.0}
"""The naive backend has this process's time, which other tests may take."""
LIMITS = {
    "stuck-run": {"stuck_seconds": 1.5, "told_seconds": 2.0},
    "missing-terminal": {"told_seconds": 2.0},
    "unannounced-turn": {"told_seconds": 2.0},
    "silent-stream": {"silence_seconds": 0.5},
}
OF_THE_BOT = {"duplicate-active-session", "fallback-session"}
LIVE_ONLY = {"late-subscriber-miss"}
BY_A_HOOK = {"session-amnesia"}
"""`test_restarts` restarts a backend."""
MEASURED = {"linear-history-cost", "cross-session-contention"}
UNNUMBERED = {"fan-out-miss"}
"""What is missing would show in the numbers, too."""
ELSEWHERE = MEASURED | BY_A_HOOK | {each.name for each in declared() if "probe" in each.needs}
"""What a probe shows has a test of its own, in test_probe or test_pauses."""
PARTS = 7
SEEDS = int(os.environ.get("VERIFY_SEEDS", "3"))
"""VERIFY_SEEDS=50 pytest tests/verify is the long run."""


async def played(
    fault: str | None, *, seed: int = 0, bot: bool = False, only: Collection[str] = ()
) -> History:
    raw = deepcopy(naive.BOT if bot else naive.MAPPING)
    if fault in LIVE_ONLY:
        del raw["turn"]
        del raw["slow_text"]
        raw["settle_seconds"] = 0.3
    if fault in UNNUMBERED:
        del raw["stream"]["events"]["seq"]
    async with served(naive.naive(fault)) as site:
        plan = runner.Plan(
            url=site.url,
            target=loading.read_mapping(raw),
            limits={**SHARED, **LIMITS.get(fault or "", {})},
            seed=seed,
            messages_long=50 if fault in MEASURED else 1,
            only=only,
        )
        return await runner.play(plan)


def found(history: History) -> set[str]:
    return {each.check.name for each in judge(history) if each.verdict == "found"}


def told(history: History) -> str:
    return "\n".join(
        f"{each.check.name}: {each.findings[0].what}" for each in judge(history) if each.findings
    )


@pytest.mark.parametrize("fault", sorted(MEASURED))
async def test_a_fault_that_is_measured_is_reported_and_nothing_else_is(fault: str) -> None:
    history = await played(fault)

    assert found(history) == {fault}, told(history)


@pytest.mark.parametrize("part", range(PARTS))
async def test_a_fault_is_reported_under_its_name_and_nothing_else_is(part: int) -> None:
    """Several runs wait at once, each for a backend of its own."""
    faults = [name for check in declared() if (name := check.name) not in ELSEWHERE][part::PARTS]
    histories = await asyncio.gather(*(played(it, bot=it in OF_THE_BOT) for it in faults))

    wrong = {
        fault: told(history)
        for fault, history in zip(faults, histories, strict=True)
        if found(history) != {fault}
    }
    assert not wrong


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_nothing_is_reported_of_a_backend_without_a_fault(seed: int) -> None:
    history = await played(None, seed=seed)

    assert found(history) == set(), told(history)
    untested = {each.check.name for each in judge(history) if each.verdict == "not testable"}
    assert untested - ELSEWHERE == OF_THE_BOT | {"silent-stream"}
    assert "linear-history-cost" in untested


async def test_nothing_is_reported_of_a_bot_without_a_fault() -> None:
    assert found(await played(None, bot=True)) == set()
