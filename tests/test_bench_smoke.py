"""The benchmarks run, and what they hold themselves to holds: no figure is looked at here."""

from collections.abc import Awaitable
from pathlib import Path

import pytest
from bench import crowd, delta, http, memory, modelled, nth, pusher, store
from bench.report import Report


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path, {"cores": 2}, "python -m bench", say=lambda _: None)


async def measured(report: Report, measure: Awaitable[None]) -> list[str]:
    await measure
    report.write_json(report.directory / "figures.json")
    assert report.table()
    assert all(figure.value == figure.value for figure in report.figures)
    return [figure.name for figure in report.figures]


async def test_the_store_and_its_floor_write_the_same_rows(report: Report) -> None:
    names = await measured(report, store.measure(report, callers=(1, 4), rounds=2, turns=16))

    assert "4 callers: share of the floor" in names


async def test_every_turn_that_was_answered_over_http_is_in_its_log(report: Report) -> None:
    names = await measured(report, http.measure(report, callers=(2,), rounds=1, seconds=0.1))

    assert "2 callers: share of the commit floor" in names


async def test_turns_are_timed_at_their_place_in_the_session(report: Report) -> None:
    names = await measured(report, nth.measure(report, places=(10, 20, 30), samples=10))

    assert "echo agent: p50 at n = 30" in names


async def test_memory_is_read_from_a_server_with_sessions_and_readers(report: Report) -> None:
    names = await measured(
        report, memory.measure(report, sessions=50, readers=5, idle_seconds=0.1, warm_seconds=0.1)
    )

    assert "idle" in names


async def test_a_turn_is_timed_beside_readers_who_take_nothing(report: Report) -> None:
    names = await measured(report, crowd.measure(report, idle=10, stalled=4, seconds=0.1))

    assert "p99, beside them to alone" in names


async def test_a_reader_sees_the_first_delta(report: Report) -> None:
    names = await measured(report, delta.measure(report, turns=1, sessions=2, at_once_turns=1))

    assert "one session: p50" in names


async def test_an_agent_of_pydantic_ai_is_measured_beside_the_echo(report: Report) -> None:
    names = await measured(report, modelled.measure(report, callers=(2,), rounds=1, seconds=0.1))

    assert "2 callers, echo agent: turns" in names


async def test_every_subscriber_is_told_of_every_turn(report: Report) -> None:
    names = await measured(report, pusher.measure(report, subscribers=5, turns=2))

    assert "an open subscriber, 5 of one session" in names
