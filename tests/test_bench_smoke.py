"""The benchmarks run, and what they hold themselves to holds: no figure is looked at here."""

import asyncio
import re
import sys
from collections.abc import Awaitable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from bench import crowd, delta, http, memory, modelled, nth, pusher, readers, store
from bench.load import Load, request
from bench.machine import ASKING
from bench.peers import measure as peers
from bench.peers.__main__ import NAMES, named
from bench.peers.peer import AGENTS, Peer, Place
from bench.peers.serving import NotThere, installed, served
from bench.peers.table import as_markdown
from bench.report import Report

from sessile.verify import loading

HERE = Path(sys.executable).parent


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


async def test_memory_is_read_from_a_server_with_sessions(report: Report) -> None:
    names = await measured(
        report, memory.measure(report, sessions=50, idle_seconds=0.1, warm_seconds=0.1)
    )

    assert "idle" in names


async def test_a_turn_is_timed_beside_readers_who_take_nothing(report: Report) -> None:
    names = await measured(
        report, crowd.measure(report, idle=10, stalled=4, seconds=0.1, rest_seconds=0.1)
    )

    assert "p99, beside them to alone" in names


async def test_readers_are_held_and_told_beside_a_bare_server(report: Report) -> None:
    names = await measured(
        report,
        readers.measure(report, held=10, sessions=5, seconds=0.3, fan_out=3, rounds=1),
    )

    assert "an entry to 3 readers of one session: CPU, to a bare uvicorn's" in names


async def test_a_reader_sees_the_first_delta(report: Report) -> None:
    names = await measured(report, delta.measure(report, turns=1, sessions=2, at_once_turns=1))

    assert "one session: p50" in names


async def test_an_agent_of_pydantic_ai_is_measured_beside_the_echo(report: Report) -> None:
    names = await measured(report, modelled.measure(report, callers=(2,), rounds=1, seconds=0.1))

    assert "2 callers, echo agent: turns" in names


async def test_every_subscriber_is_told_of_every_turn(report: Report) -> None:
    names = await measured(report, pusher.measure(report, subscribers=5, turns=2))

    assert "an open subscriber, 5 of one session" in names


def floor(*, module: str = "bench.floors", **differs: object) -> Peer:
    """The floor that answers JSON alone, as if it were a peer: nothing has to be installed."""

    def command(place: Place) -> list[str]:
        file = place.directory / "floor.db"
        return [sys.executable, "-m", module, "json", str(place.port), str(file)]

    return Peer(
        name="adk", title="A floor", package="google-adk", keeps="nowhere", agents="adk",
        command=command, environment=lambda _: {"PYTHONPATH": str(Path(__file__).parents[1])},
        open=lambda _, number: f"session-{number}",
        turn=lambda session: request("POST", "/", {"input": {"text": session}}),
        ended="completed", **differs,
    )  # fmt: skip


async def test_a_peer_is_measured_by_the_same_callers_as_sessile(report: Report) -> None:
    peer = floor(said=lambda _, __: 0)

    names = await measured(
        report,
        peers.measure(
            report, peer, HERE, callers=(1, 4), rounds=1, seconds=0.1, places=(10,), nth_seconds=5
        ),
    )

    assert {"peer, 4 callers: turns", "sessile, 4 callers: turns"} <= set(names)
    assert {"peer: n-th turn, n = 10", "sessile: n-th turn, n = 10"} <= set(names)
    assert report.value("adk", "peer, 4 callers: refused") == 0
    assert report.value("adk", "peer: messages in its histories, to those of answered turns") == 0
    assert "| Sessile, beside it | SQLite |" in as_markdown(report, [peer])


def test_a_peer_that_does_not_start_is_in_the_table_with_why(report: Report) -> None:
    peer = floor(module="such_a_floor")

    with (
        pytest.raises(NotThere, match=r"it did not start: .*such_a_floor") as raised,
        served(peer, HERE, report.directory),
    ):
        pass

    report.absent[peer.name] = str(raised.value)
    assert "such_a_floor" in as_markdown(report, [peer])
    assert "such_a_floor" in report.table()


def test_a_peer_whose_python_is_not_there_is_not_installed(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match=r"it needs python1\.0"):
        installed(replace(named("agui"), python="python1.0"), venvs=tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_each_peer_has_its_versions_pinned_its_agent_and_its_mapping(name: str) -> None:
    peer = named(name)

    lines = peer.requirements.read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.\[\]-]+==[\w.!+]+", line)] == []
    assert peer.version
    assert (AGENTS / peer.agents).is_dir()
    assert loading.load(name).name == name


async def test_the_load_reads_answers_in_chunks_and_counts_those_that_were_refused() -> None:
    answers = cycle((b"200 OK", b"500 Oh", b"200 OK"))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4_096):
            writer.write(b"HTTP/1.1 " + next(answers) + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            await writer.drain()
            writer.write(b"4\r\ndone\r\n0\r\n")
            await writer.drain()
            writer.write(b"\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with Load(processor=ASKING) as load:
        came = await asyncio.to_thread(
            load.run, port, [request("GET", "/")], seconds=30, expect="done", turns_max=6,
            forgives=True,
        )  # fmt: skip
    server.close()

    assert (came.answered, came.refused) == (4, 2)
    assert came.said.startswith("HTTP/1.1 500")
