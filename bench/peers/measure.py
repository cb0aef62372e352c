"""A peer beside Sessile: the same work, by the same callers, in turns."""

import contextlib
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from bench.http import Contestant, Measured, compete, open_sessions, turn_requests
from bench.load import Load, request
from bench.machine import ASKING
from bench.peers.holding import held
from bench.peers.peer import Peer
from bench.peers.serving import served
from bench.report import Report, middle, percentile
from bench.servers import TOKEN, sessile

CALLERS = (1, 64)
PLACES = (10, 100, 300, 1_000)
SPREAD = 5
"""A turn counts as the n-th if it is at most so many before or behind."""
COMPLETED = '"status":"completed"'


async def measure(
    report: Report,
    peer: Peer,
    binaries: Path,
    *,
    callers: Sequence[int] = CALLERS,
    rounds: int = 3,
    seconds: float = 4.0,
    places: Sequence[int] = PLACES,
    nth_seconds: float = 90.0,
    held_connections: int = 500,
) -> None:
    """`binaries`: the programs of its environment. Raises NotThere."""
    async with _both(report, peer, binaries) as (theirs, ours, load):
        for who, server in (("peer", theirs), ("sessile", ours)):
            report.add(peer.name, f"{who}: memory before", server.rss_mib(), "MiB")
        _loaded(report, peer, load, theirs, ours, callers, rounds, seconds)
        for who, server in (("peer", theirs), ("sessile", ours)):
            report.add(peer.name, f"{who}: memory after the callers", server.rss_mib(), "MiB")
        turn = peer.turn(peer.open(theirs, 1_000))
        _nth(report, peer, "peer", load, theirs, turn, peer.ended, places, nth_seconds)
        turn = turn_requests(open_sessions(ours, 1, assistant="echo"))[0]
        _nth(report, peer, "sessile", load, ours, turn, COMPLETED, places, nth_seconds)
    if peer.stream is None:
        return
    # Servers that have done nothing yet: what a load has left free would be used again.
    async with _both(report, peer, binaries) as (theirs, ours, _):
        sessions = [peer.open(theirs, number) for number in range(held_connections)]
        _hold(report, peer, "peer", theirs, [peer.stream(each) for each in sessions])
        sessions = open_sessions(ours, held_connections, assistant="echo")
        _hold(report, peer, "sessile", ours, [_followed(each) for each in sessions])


@contextlib.asynccontextmanager
async def _both(
    report: Report, peer: Peer, binaries: Path
) -> AsyncGenerator[tuple[Measured, Measured, Load]]:
    with TemporaryDirectory(dir=report.directory) as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        load = stack.enter_context(Load(processor=ASKING))
        settings: tuple[str, ...] = ()
        dsn = ""
        if (database := stack.enter_context(peer.database())) is not None:
            dsn = database.dsn
            connection = await asyncpg.connect(dsn)
            await connection.execute("CREATE DATABASE sessile")
            await connection.close()
            settings = ("--store-url", database.dsn_of("sessile"))
        theirs = stack.enter_context(served(peer, binaries, directory, dsn))
        ours = stack.enter_context(sessile(directory / "data", "agents.py", *settings))
        yield theirs, ours, load


def _loaded(
    report: Report, peer: Peer, load: Load, theirs: Measured, ours: Measured,
    callers: Sequence[int], rounds: int, seconds: float,
) -> None:  # fmt: skip
    began = time.perf_counter()
    sessions = [peer.open(theirs, number) for number in range(max(callers))]
    took_ms = (time.perf_counter() - began) * 1000 / len(sessions)
    report.add(peer.name, "peer: open a session", took_ms, "ms")
    own_sessions = open_sessions(ours, max(callers), assistant="echo")
    answered = 0
    for count in callers:
        turns = [peer.turn(each) for each in sessions[:count]]
        peers = Contestant(theirs, turns, peer.ended, forgives=True)
        sessiles = Contestant(ours, turn_requests(own_sessions[:count]), COMPLETED)
        compete([peers, sessiles], load, rounds=rounds, seconds=seconds)
        answered += peers.all_answered
        _compare(report, peer, count, peers, sessiles)
    if peer.said is not None and answered:
        kept = sum(peer.said(theirs, each) for each in sessions)
        name = "peer: messages in its histories, to those of answered turns"
        report.add(peer.name, name, kept / answered / 2 * 100, "%")


def _followed(session: str) -> bytes:
    path = f"/v1/sessions/{session}/events"
    return request("GET", path, token=TOKEN, accept="text/event-stream")


def _compare(
    report: Report, peer: Peer, count: int, peers: Contestant, sessiles: Contestant
) -> None:
    who = f"{count} caller{'s' * (count > 1)}"
    for name, each in (("peer", peers), ("sessile", sessiles)):
        if not each.latencies_ms:
            report.absent[f"{peer.name}, {who}"] = f"no turn was answered: {each.said[:200]}"
            return
        report.add(peer.name, f"{name}, {who}: turns", each.rate, "/s")
        report.add(peer.name, f"{name}, {who}: p50", percentile(each.latencies_ms, 0.5), "ms")
        report.add(peer.name, f"{name}, {who}: p99", percentile(each.latencies_ms, 0.99), "ms")
        report.add(peer.name, f"{name}, {who}: CPU a turn", each.cpu_ms, "ms")
    refused = peers.refused / (peers.refused + len(peers.latencies_ms))
    report.add(peer.name, f"peer, {who}: refused", refused * 100, "%")
    if peers.said:
        report.say(f"  {who}: one that was refused: {peers.said[-400:]}")
    times = middle([own / one for own, one in zip(sessiles.rates, peers.rates, strict=True) if one])
    report.add(peer.name, f"{who}: sessile's turns to the peer's", times, "")


def _nth(
    report: Report, peer: Peer, who: str, load: Load, server: Measured, turn: bytes, ended: str,
    places: Sequence[int], seconds: float,
) -> None:  # fmt: skip
    """One session's turns, one after another, as far as it gets in that time."""
    most = max(places) + SPREAD
    cpu = server.cpu_seconds()
    came = load.run(server.port, [turn], seconds=seconds, expect=ended, turns_max=most)
    for place in places:
        near = came.latencies_ms[place - SPREAD - 1 : place + SPREAD]
        if len(near) > SPREAD:
            report.add(peer.name, f"{who}: n-th turn, n = {place:,}", middle(near), "ms")
    report.add(peer.name, f"{who}: turns in one session, in {seconds:g} s", came.answered, "")
    cost = (server.cpu_seconds() - cpu) / came.answered * 1000
    report.add(peer.name, f"{who}: n-th turn, CPU a turn", cost, "ms")
    report.add(peer.name, f"{who}: memory after them", server.rss_mib(), "MiB")


def _hold(
    report: Report, peer: Peer, who: str, server: Measured, requests: Sequence[bytes]
) -> None:
    with held(server.port, requests[:20]):  # what the first ones import is not theirs
        pass
    before = server.rss_mib()
    with held(server.port, requests) as still:
        each_kib = (server.rss_mib() - before) * 1024 / len(requests)
        cpu, began = server.cpu_seconds(), time.perf_counter()
        there = still()
        idle = (server.cpu_seconds() - cpu) / (time.perf_counter() - began) * 100
    report.add(peer.name, f"{who}: readers held, of {len(requests)}", there, "")
    report.add(peer.name, f"{who}: memory of each", each_kib, "KiB")
    report.add(peer.name, f"{who}: CPU with them, idle", idle, "%")
