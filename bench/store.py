"""The store alone: durable turns a second, beside raw SQL that writes the same rows."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.machine import MEASURED, pinned
from bench.rawsql import Copied, Fact, Raw
from bench.report import Report, at_least, middle, percentile
from sessile.adapters.sqlite import SqliteStore
from sessile.adapters.system import SystemClock, Uuid7Ids
from sessile.cli.serving import spare_garbage
from sessile.core.commands import FinishTurn, OpenSession, Runner, SubmitTurn
from sessile.core.context import Holding, Principal
from sessile.core.events import MessageAdded
from sessile.core.ids import NodeId, SessionKey, TenantId, UserId
from sessile.ports.store import Store

SECTION = "store"
TEXT = "What was the total of my last order, and when will it arrive? " * 8 + "Thanks!!"[:4]
CALLERS = (1, 16, 64, 256)
COUNTED = ("session_head", "session", "entry", "turn", "idempotency")
ENTRIES_A_TURN = 5

_clock = SystemClock()
_ids = Uuid7Ids(now_ms=_clock.now_ms)
_principal = Principal(tenant_id=TenantId("default"), user_id=UserId("user"))
_runner = Runner(
    node=NodeId("node_1_0123456789ab"), lease_ms=12_000, assistants=frozenset({"echo"})
)


class Callers:
    """Sessions of one store, each with a caller that asks for the next turn when one is done."""

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self._count = count
        self._keys: list[SessionKey] = []

    async def open(self) -> None:
        for _ in range(self._count):
            key = SessionKey(_principal.tenant_id, _ids.session_id())
            await self._store.transact(key, OpenSession(principal=_principal, assistant="echo"))
            self._keys.append(key)

    async def run(self, turns: int) -> tuple[float, list[float]]:
        """Turns of each caller. Answers the seconds that it took, and each turn's latency in
        milliseconds."""
        latencies: list[float] = []
        begun = time.perf_counter()
        await asyncio.gather(*(self._call(key, turns, latencies) for key in self._keys))
        return time.perf_counter() - begun, latencies

    async def _call(self, key: SessionKey, turns: int, latencies: list[float]) -> None:
        for _ in range(turns):
            begun = time.perf_counter()
            await turn(self._store, key)
            latencies.append((time.perf_counter() - begun) * 1000)


def new_ids(count: int) -> list[str]:
    return [str(_ids.turn_id()) for _ in range(count)]


async def turn(store: Store, key: SessionKey) -> None:
    """One durable turn: a message that starts it at once, and the reply that ends it."""
    turn_id = _ids.turn_id()
    submit = SubmitTurn(
        principal=_principal,
        turn_id=turn_id,
        message_id=_ids.message_id(),
        input={"type": "message", "text": TEXT},
        when_busy="enqueue",
        queue_max=256,
        runner=_runner,
    )
    started = await store.transact(key, submit)
    assert started.head is not None
    holding = Holding(key, turn_id, started.head.fence, 1, _runner.node)
    reply = MessageAdded(
        turn_id=turn_id,
        message_id=_ids.message_id(),
        role="assistant",
        parts=({"type": "text", "text": TEXT},),
    )
    finish = FinishTurn(
        holding=holding, step=0, end="completed", output=TEXT, closing=(reply,), successor=_runner
    )
    ended = await store.transact(key, finish)
    assert ended.turn is not None
    assert ended.turn.status == "completed"


async def copied(directory: Path) -> Copied:
    """What a turn writes, read from one."""
    path = directory / "copied" / "sessile.db"
    async with SqliteStore(path, clock=_clock) as store:
        callers = Callers(store, 1)
        await callers.open()
        await callers.run(1)
    connection = sqlite3.connect(path)
    facts = [
        Fact(kind, body)
        for kind, body in connection.execute("SELECT kind, body FROM entry WHERE seq > 1")
    ]
    ((given, output),) = connection.execute("SELECT input, output FROM turn").fetchall()
    connection.close()
    kinds = [fact.kind for fact in facts]
    assert kinds == [
        "turn.queued", "turn.started", "message.added", "message.added", "turn.completed"
    ], kinds  # fmt: skip
    return Copied(facts[:3], facts[3:], given, output)


async def measure(
    report: Report, *, callers: Sequence[int] = CALLERS, rounds: int = 5, turns: int = 12_000
) -> None:
    """`turns`: of all callers together, in each round."""
    with pinned(MEASURED), TemporaryDirectory(dir=report.directory) as name:
        template = await copied(Path(name))
        for count in callers:
            # One caller waits for the disk twice a turn: fewer turns take as long.
            each = max(turns // (count * 8 if count == 1 else count), 1)
            await _compare(report, Path(name) / str(count), template, count, rounds, each)


async def _compare(
    report: Report, directory: Path, template: Copied, count: int, rounds: int, turns: int
) -> None:
    paths = _places(directory)
    sessions = [_ids.session_id() for _ in range(count)]
    floor = Raw(paths["floor"], template, sessions)
    once = Raw(paths["once"], template, sessions)
    rates: dict[str, list[float]] = {"store": [], "floor": [], "once": []}
    shares: list[float] = []
    latencies: list[float] = []
    async with SqliteStore(paths["store"], clock=_clock) as store:
        ((synchronous,),) = store._writer._connection.execute("PRAGMA synchronous").fetchall()  # noqa: SLF001
        assert synchronous == 2, "the store's commits are not durable"
        stood = Callers(store, count)
        await stood.open()
        for _ in range(rounds):
            spare_garbage()
            seconds, took = await stood.run(turns)
            rates["store"].append(count * turns / seconds)
            latencies.extend(took)
            ids = [[_ids.turn_id() for _ in sessions] for _ in range(turns)]
            begun = time.perf_counter()
            for turn_ids in ids:
                floor.turn_of_each(turn_ids)
            rates["floor"].append(count * turns / (time.perf_counter() - begun))
            shares.append(rates["store"][-1] / rates["floor"][-1])
            if count == 1:
                begun = time.perf_counter()
                for turn_ids in ids:
                    once.turn_at_once(turn_ids)
                rates["once"].append(turns / (time.perf_counter() - begun))
    floor.close()
    once.close()
    _check(paths, sessions=count, turns=count * turns * rounds)
    who = f"{count} caller{'s' * (count > 1)}"
    report.add(SECTION, f"{who}: turns", middle(rates["store"]), "/s")
    report.add(SECTION, f"{who}: floor, same rows and commits", middle(rates["floor"]), "/s")
    if count == 1:
        report.add(SECTION, f"{who}: floor, one commit a turn", middle(rates["once"]), "/s")
    aim = at_least(0.6) if count == 64 else None
    report.add(SECTION, f"{who}: share of the floor", middle(shares), "", aim)
    report.add(SECTION, f"{who}: p50", percentile(latencies, 0.5), "ms")
    report.add(SECTION, f"{who}: p99", percentile(latencies, 0.99), "ms")


def _places(directory: Path) -> dict[str, Path]:
    paths = {name: directory / name / "sessile.db" for name in ("store", "floor", "once")}
    for path in paths.values():
        path.parent.mkdir(parents=True)
    return paths


def _check(paths: dict[str, Path], *, sessions: int, turns: int) -> None:
    """Not a row is missing, and the floor wrote as many as the store."""
    for name in ("store", "floor"):
        connection = sqlite3.connect(paths[name])
        rows = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in COUNTED
        }
        gaps = connection.execute(
            "SELECT count(*) FROM session_head AS h WHERE head <> (SELECT count(*) FROM entry"
            " AS e WHERE e.tenant_id = h.tenant_id AND e.session_id = h.session_id)"
        ).fetchone()[0]
        connection.close()
        assert gaps == 0, f"{name}: {gaps} sessions with a gap"
        assert rows == {
            "session_head": sessions,
            "session": sessions,
            "entry": sessions + ENTRIES_A_TURN * turns,
            "turn": turns,
            "idempotency": 0,
        }, f"{name}: {rows}"
