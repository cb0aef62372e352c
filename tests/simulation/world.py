"""A world from a seed: some nodes over one store, clients and readers, and what befalls them."""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeVar

from tests.doubles import CountingIds
from tests.runtime.rig import LoopClock, Rig
from tests.simulation import checker, postgres, sqlite
from tests.simulation.agents import Stage, TracingTool, function_agent, model_agent
from tests.simulation.checker import Final, Read, Seen
from tests.simulation.database import Database
from tests.simulation.deletions import faults_of_deletions
from tests.simulation.forks import faults_of_forks
from tests.simulation.loop import Node, Simulation, simulate
from tests.simulation.postgres import BUSY_SECONDS, LanedStore
from tests.simulation.sqlite import WriterStore
from tests.simulation.store import DicedStore, Recorder, Weather

from sessile.adapters.memory import MemoryStore
from sessile.adapters.postgres.connections import Patience
from sessile.adapters.postgres.failures import UNKNOWN
from sessile.core.context import Principal
from sessile.core.errors import (
    SessileError,
    SessionNotFound,
    StorageBusy,
    StorageFull,
)
from sessile.core.events import Entry, WhenBusy
from sessile.core.ids import CallId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.ports.agent import Tool
from sessile.ports.notifier import Hint
from sessile.runtime.feed import Ended, Grown, Reset
from sessile.runtime.telemetry import Telemetry
from sessile.settings import Settings

T = TypeVar("T")
Protocol = Literal["memory", "sqlite", "postgres"]
PROTOCOLS: tuple[Protocol, ...] = ("memory", "memory", "sqlite", "postgres", "postgres")
Work = Callable[[Rig], Coroutine[Any, Any, T]]
ACME = TenantId("acme")
SETTINGS = Settings(
    store_url="memory",
    lease_ttl_seconds=2.0,
    drain_seconds_max=0.5,
    queue_turns_max=6,
    page_entries_max=7,
    tail_entries_max=9,
    tool_seconds_max=20.0,
    approval_seconds_max=3.0,
)
LEASE_MS = int(SETTINGS.lease_ttl_seconds * 1000)
REST_SECONDS_MAX = 180.0
CATCH_UP_SECONDS_MAX = 3.0
"""Two sweeps, and what they wait for the store."""
RESTS = 4
"""So many times, half a second apart, nothing is left to do."""
LAST_WRITE_SECONDS = 1.0 + BUSY_SECONDS
"""Of a caller that has gone, what it asked for last may be written until then."""
STEPS_MAX = 400_000
TIMES = (0, 0, 1, 2, 3, 4)
FATES = ("kill", "kill", "pause", "pause", "drain", "refuse", "start")
SHARE_DELETED = 0.2
SHARE_FORKED = 0.12
EXCLUSIVE = "exclusive"
"""The assistant of which a user has one active session."""
POLICIES: tuple[WhenBusy, ...] = ("enqueue", "enqueue", "reject", "interrupt", "steer", "steer")


class Cut(Exception):
    """The node went away with the question; nobody knows what became of it."""


@dataclass(frozen=True, kw_only=True)
class Plant:
    """What a world is built of; a planted fault puts another part into its place."""

    memory: type[MemoryStore] = MemoryStore
    store: type[DicedStore] = DicedStore
    """On memory: of the port, whatever it is on."""
    database: type[Database] = Database
    """On SQLite and PostgreSQL."""
    protocol: Protocol | None = None
    """None where the seed decides."""
    tool: type[TracingTool] = TracingTool
    settings: Settings = SETTINGS
    crash_at: int | None = None
    """Nothing befalls the nodes, but that one dies at this call of the store or the bus, from 1 on;
    0 to die at none."""
    crash_sent: bool = False
    """The call is sent before the node dies."""
    node: Callable[[Rig], None] = lambda _: None
    """What is done to each node before it begins."""
    around: Callable[[], AbstractContextManager[object]] = nullcontext
    """What is done to the runtime while the world lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What came of a seed."""

    faults: tuple[str, ...]
    digest: str
    steps: int
    calls: int
    """Of the store and the bus, by all nodes."""
    virtual_seconds: float
    ends: tuple[str, ...]
    logs: tuple[tuple[Entry, ...], ...]
    happened: Counter[str]
    """How often: by the kinds of entries, and what befell the nodes and the writes."""


def live(
    seed: int, plant: Plant | None = None, *, tell: Callable[[str], None] | None = None
) -> Story:
    """Let a world run to its rest, and judge it."""
    worlds: list[World] = []

    async def main(sim: Simulation) -> None:
        worlds.append(World(sim, plant or Plant(), tell))
        await worlds[0].run()

    with (
        postgres.modelled(),
        sqlite.modelled(),
        (plant or Plant()).around(),
        _listening() as failed,
    ):
        outcome = simulate(seed, main, steps_max=STEPS_MAX)
    worlds[0].seen.wrong.extend(failed)
    return worlds[0].judged(outcome.digest, outcome.steps, outcome.virtual_seconds)


@dataclass(slots=True)
class Reading:
    """A reader's memory between its connections."""

    name: str
    key: SessionKey
    after: int
    entries: list[Entry] = field(default_factory=list[Entry])
    ended: bool = False
    told: Literal["closed", "gone"] | None = None

    @property
    def cursor(self) -> int:
        return self.after + len(self.entries)


class DicedWire:
    """Hints between nodes: late, lost, repeated, with or without their entries."""

    def __init__(self, world: "World", process: Node) -> None:
        self._world = world
        self._process = process

    def publish(self, hint: Hint) -> None:
        if self._world.called(self._process):
            return
        chance, weather = self._world.chance, self._world.weather
        for process, listener in tuple(self._world.ears):
            if process is self._process:
                listener(hint)
                continue
            if chance.random() < weather.hints_lost:
                continue
            for _ in range(2 if chance.random() < weather.hints_repeated else 1):
                told = replace(hint, entries=()) if chance.random() < weather.hints_bare else hint
                seconds = weather.hints_seconds * chance.random()
                seconds *= 100 if chance.random() < weather.slow else 1
                self._world.loop.call_later(seconds, listener, told, context=process.context())

    def listen(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        ear = (self._process, listener)
        self._world.ears.append(ear)
        return lambda: self._world.ears.remove(ear)

    def follow(
        self, tenant_id: TenantId, session_id: SessionId | None = None
    ) -> Callable[[], None]:
        return lambda: None


class World:
    """One run. Everything in it that is random or timed comes from the seed."""

    def __init__(self, sim: Simulation, plant: Plant, tell: Callable[[str], None] | None) -> None:
        self.sim = sim
        self.loop = sim.loop
        self.chance = sim.random
        self.plant = plant
        self.weather = Weather()
        self.seen = Seen()
        self.ears: list[tuple[Node, Callable[[Hint], None]]] = []
        self.nodes: list[Rig] = []
        self.users: dict[SessionKey, Principal] = {}
        """The sessions that clients opened, and whose each is."""
        self.turns: dict[SessionKey, list[TurnId]] = {}
        self.readings: list[Reading] = []
        self._tell = tell
        self._clock = LoopClock(sim.loop)
        self._ids = CountingIds()
        self.memory = plant.memory(clock=self._clock)
        self.recorder = Recorder(self.memory, sim.loop)
        self.database = plant.database(
            self.memory,
            self.recorder,
            loop=sim.loop,
            chance=sim.random,
            weather=self.weather,
            idle_seconds=Patience(LEASE_MS).statement_ms / 1000,
        )
        drawn: Protocol = self.chance.choice(PROTOCOLS)
        self.protocol = plant.protocol or drawn
        self._calm = True
        self._slow = False
        self._gates = False
        self._settling = False
        self._stores: dict[str, DicedStore] = {}
        self._dead: dict[str, asyncio.Event] = {}
        self._cuts: set[asyncio.Timeout] = set()
        self.fates = Counter[str]()
        self._marks = 0
        self._calls = 0
        self._born = 0
        self._stage = Stage(
            loop=sim.loop,
            chance=self.chance,
            seen=self.seen,
            canaries={},
            fence_of=self._fence_of,
        )

    async def run(self) -> None:
        self.weather.twice = self.chance.choice((0.0, 0.05, 0.3))
        self.weather.slow = self.chance.choice((0.0, 0.0, 0.02, 0.1))
        lossy = self.protocol == "postgres" and self.weather.twice > 0
        self._slow = self.weather.slow > 0 or lossy
        self.weather.hints_lost = self.chance.choice((0.0, 0.1, 1.0))
        self._gates = self.chance.random() < 0.4
        for _ in range(self.chance.randint(1, 3)):
            if self._may_start():
                await self._start_node()
        for _ in range(self.chance.randint(1, 2)):
            await self._open()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._befall())
            for key in self.users:
                for _ in range(self.chance.randint(1, 2)):
                    group.create_task(self._client(key))
                if self.chance.random() < SHARE_DELETED:
                    group.create_task(self._deleter(key))
                if self.chance.random() < SHARE_FORKED:
                    group.create_task(self._forker(key))
            readers = [group.create_task(self._reader(each)) for each in self.readings]
            gated = self.users if self._gates else ()
            approvers = [group.create_task(self._approver(key)) for key in gated]
            await self._until_settled(group, readers, approvers)
        for rig in tuple(self.nodes):
            await self._stop_node(rig)

    # -- nodes, and what befalls them

    async def _start_node(self) -> Rig:
        self._born += 1
        name = f"node_{self._born}"
        process = self.sim.node(name)
        tools: tuple[Tool, ...] = (
            self.plant.tool("look", idempotent=True, stage=self._stage),
            self.plant.tool("send", idempotent=False, stage=self._stage),
            self.plant.tool("calls.send", idempotent=True, stage=self._stage),
            self.plant.tool("asks.pay", idempotent=False, stage=self._stage),
            self.plant.tool("asks.recall", idempotent=True, stage=self._stage),
            self.plant.tool("needs.refund", idempotent=True, stage=self._stage),
            self.plant.tool("asks.wire", idempotent=False, stage=self._stage),
        )
        agents = [
            function_agent(self._stage, tools),
            model_agent(self._stage, tools),
            function_agent(self._stage, tools, name=EXCLUSIVE, exclusive=True),
        ]
        store = self._stores[name] = self._store(process)
        rig = Rig(
            name=name,
            process=process,
            store=store,
            notifier=DicedWire(self, process),
            clock=self._clock,
            ids=self._ids,
            agents={agent.name: agent for agent in agents},
            settings=replace(
                self.plant.settings, turns_concurrent_max=self.chance.choice((1, 2, 32))
            ),
            telemetry=_TELEMETRY,
        )
        self.plant.node(rig)
        self._dead[name] = asyncio.Event()
        self.nodes.append(rig)
        rig.begin()
        self.say(f"{name} starts")
        await asyncio.sleep(0.001)
        return rig

    async def _befall(self) -> None:
        for _ in range(0 if self.plant.crash_at is not None else self.chance.choice(TIMES)):
            await asyncio.sleep(self.chance.random() * 4)
            self._calm = False
            fate = self.chance.choice(FATES)
            rig = self.chance.choice(self.nodes)
            self.say(f"{fate} {rig.name}")
            self.fates[fate] += 1
            match fate:
                case "kill":
                    self._kill(rig)
                case "pause":
                    rig.process.pause(self.chance.choice((0.3, 1.5, 2.5, 6.0)))
                case "drain":
                    self.nodes.remove(rig)
                    await self._stop_node(rig)
                case "refuse":
                    self.weather.refused_with = self.chance.choice((StorageBusy, StorageFull))
                    seconds = self.chance.choice((0.2, 1.0, 3.0))
                    self.weather.refused_until_seconds = self.loop.time() + seconds
                case _ if self._may_start():
                    await self._start_node()
                case _:
                    pass
            if not self.nodes:
                await asyncio.sleep(self.chance.random() * 3)
                await self._start_node()

    def _may_start(self) -> bool:
        """A file of SQLite is one process's."""
        return self.protocol != "sqlite" or not self.nodes

    def _store(self, process: Node) -> DicedStore:
        kinds = {"memory": self.plant.store, "sqlite": WriterStore, "postgres": LanedStore}
        store = kinds[self.protocol](
            self.recorder,
            loop=self.loop,
            chance=self.chance,
            weather=self.weather,
            called=partial(self.called, process),
        )
        if isinstance(store, LanedStore):
            store.lay(self.database, process, lease_ms=LEASE_MS)
        if isinstance(store, WriterStore):
            store.open(self.database, process)
        return store

    def _kill(self, rig: Rig) -> None:
        self.nodes.remove(rig)
        self._dead[rig.name].set()
        rig.process.kill()
        self.database.later(
            partial(self.database.lost, rig.process), self.weather.seconds(self.chance)
        )

    def called(self, process: Node) -> bool:
        """Some node calls the store or the bus. Whether it dies before that is sent."""
        self._calls += 1
        if self._calls != self.plant.crash_at:
            return False
        for rig in [each for each in self.nodes if each.process is process]:
            self._calm = False
            self.say(f"{rig.name} dies at call {self._calls}")
            self._kill(rig)
            self.loop.create_task(self._replace(), context=Context())
            return not self.plant.crash_sent
        return False

    async def _replace(self) -> None:
        await asyncio.sleep(self.chance.random() * 3)
        if self._may_start():
            await self._start_node()

    async def _stop_node(self, rig: Rig) -> None:
        """As the server stops: the store last, when nobody asks any more."""
        await rig.stop()
        self._dead[rig.name].set()
        await asyncio.sleep(0.001)
        store = self._stores.pop(rig.name)
        if isinstance(store, LanedStore | WriterStore):
            await store.stop()

    async def _until_settled(
        self,
        group: asyncio.TaskGroup,
        readers: list[asyncio.Task[None]],
        approvers: list[asyncio.Task[None]],
    ) -> None:
        """Clients have had their say, and nothing befalls any more: it has to come to rest, and
        readers that are cut no more have to get the rest."""
        going_on = [*readers, *approvers]
        await asyncio.wait([task for task in group._tasks if task not in going_on])
        self.weather.slow = 0.0
        end = self.loop.time() + REST_SECONDS_MAX
        rests = 0
        while self.loop.time() < end and rests < RESTS:
            await asyncio.sleep(0.5)
            rests = rests + 1 if self._at_rest() else 0
        for task in approvers:
            task.cancel()
        if approvers or self.seen.deleting != self.seen.deleted:
            await asyncio.sleep(LAST_WRITE_SECONDS)
        self._settling = True
        for cut in self._cuts:
            if not cut.expired():
                cut.reschedule(None)
        end = self.loop.time() + CATCH_UP_SECONDS_MAX
        while self.loop.time() < end and not all(map(self._caught_up, self.readings)):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        for rig in (rig for rig in self.nodes if rig.workers.running):
            self.seen.wrong.append(f"{rig.name} runs {rig.workers.running} turns, of none")
        for each in self.readings:
            each.ended = True
        for task in readers:
            task.cancel()

    def _at_rest(self) -> bool:
        """No turn is left, or still runs though its session is gone, and no node stands still that
        may have one more request to send."""
        kept = self.memory._kept.values()
        now = self.loop.time()
        return all(
            rig.process.held_until_seconds <= now and not rig.workers.running for rig in self.nodes
        ) and all(
            each.lease.owner is None and all(turn.ended for turn in each.turns.values())
            for each in kept
        )

    def _caught_up(self, reading: Reading) -> bool:
        kept = self.memory._kept.get(reading.key)
        return reading.told is not None if kept is None else reading.cursor == kept.head.head

    def _fence_of(self, key: SessionKey) -> int:
        kept = self.memory._kept.get(key)
        return 0 if kept is None else kept.head.fence

    async def ask(self, work: Work[T]) -> T:
        """Ask some node. Raises Cut where it goes away meanwhile."""
        while not self.nodes:  # noqa: ASYNC110  as a client does
            await asyncio.sleep(0.1)
        rig = self.chance.choice(self.nodes)
        dead = self.loop.create_task(self._dead[rig.name].wait())
        task = rig.do(work(rig))
        task.add_done_callback(_seen)
        try:
            await asyncio.wait({task, dead}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            dead.cancel()
            if not task.done():
                task.cancel()
        if task.done():
            return task.result()
        raise Cut

    # -- clients

    async def ask_of(self, key: SessionKey, work: Work[T]) -> T:
        """Ask some node of this session, which is there for nobody once it was deleted."""
        gone = key in self.seen.deleted
        try:
            answer = await self.ask(work)
        except SessionNotFound:
            self.seen.deleted.add(key)
            raise
        if gone:
            self.seen.wrong.append(f"{key.session_id}: it was deleted, and answers")
        return answer

    async def _open(self) -> None:
        principal = Principal(tenant_id=ACME, user_id=UserId(f"user_{len(self.users)}"))
        key = await self._begin(principal)
        for reader in range(self.chance.randint(0, 2)):
            self.readings.append(Reading(f"reader {reader}", key, self.chance.choice((0, 0, 1))))

    async def _begin(self, principal: Principal) -> SessionKey:
        assistant = self.chance.choice(("function", "model", EXCLUSIVE))
        gone = set(self.seen.deleted)
        times = self.chance.choice((1, 2)) if assistant == EXCLUSIVE else 1
        async with asyncio.TaskGroup() as group:
            opens = [group.create_task(self._opened(principal, assistant)) for _ in range(times)]
        opened = {each.result() for each in opens}
        key = opens[0].result()
        kept = [self.memory._kept.get(each) for each in opened]
        if sum(each is not None and each.head.status == "active" for each in kept) > 1:
            self.seen.wrong.append(f"{key.session_id}: it was opened beside another")
        if key in gone:
            self.seen.wrong.append(f"{key.session_id}: it was deleted, and opened")
        if key not in self.users:
            self._know(key, principal, canary=f"canary-{len(self.users)}-")
        return key

    def _know(self, key: SessionKey, principal: Principal, *, canary: str) -> None:
        self.users[key] = principal
        self.turns[key] = []
        self.seen.canaries[key] = canary
        self._stage.canaries[key.session_id] = canary

    async def _opened(self, principal: Principal, assistant: str) -> SessionKey:
        """Of an open whose outcome is not known a session may be left that nobody uses."""
        while True:
            try:
                opened = await self.ask(
                    lambda rig: rig.sessions.open(principal, assistant=assistant)
                )
                return opened.found.head.key
            except (StorageBusy, StorageFull, Cut):
                await asyncio.sleep(0.1)

    async def _client(self, key: SessionKey) -> None:
        principal = self.users[key]
        for _ in range(self.chance.randint(1, 4)):
            await asyncio.sleep(self.chance.choice((0.0, 0.05, 0.5, 2.0)) * self.chance.random())
            try:
                if self._gates and self.chance.random() < 0.4:
                    await self._grant(key, principal)
                await self._act(key, principal)
            except (SessileError, Cut) as refused:
                self.say(f"{key.session_id}: {refused!r}")

    async def _act(self, key: SessionKey, principal: Principal) -> None:
        session_id, chance = key.session_id, self.chance
        known = self.turns[key]
        does = chance.random()
        if does < 0.65 or not known:
            await self._submit(key, principal)
        elif does < 0.85:
            turn_id = chance.choice((chance.choice(known), known[-1]))
            self.say(f"{session_id}: cancel {turn_id}")
            turn = await self.ask_of(
                key, lambda rig: rig.sessions.cancel(principal, session_id, turn_id)
            )
            if not turn.ended or turn.status == "cancelled":
                self.seen.cancelled.add((key, turn_id))
        elif does < 0.95:
            kept = self.memory._kept.get(key)
            waits = [turn_id for turn_id in known if kept and turn_id in kept.queue]
            turn_id = chance.choice(waits or known)
            given = {"type": "message", "text": self._text(key)}
            self.say(f"{session_id}: edit {turn_id}")
            await self.ask_of(
                key, lambda rig: rig.sessions.edit(principal, session_id, turn_id, given)
            )
        else:
            self.say(f"{session_id}: close")
            await self.ask_of(key, lambda rig: rig.sessions.close(principal, session_id))
            self.seen.closed.add(key)

    async def _submit(self, key: SessionKey, principal: Principal) -> None:
        session_id, chance = key.session_id, self.chance
        once = chance.random() < 0.5
        text = self._text(key, once=once)
        given = {"type": "message", "text": text}
        policy = chance.choice(POLICIES)
        self.say(f"{session_id}: submit {text!r} {policy}")

        async def submit(rig: Rig) -> None:
            submitted = await rig.sessions.submit(
                principal,
                session_id,
                given,
                when_busy=policy,
                idempotency_key=text if once else None,
            )
            turn_id = submitted.turn.turn_id
            self.seen.accepted.add((key, turn_id, text))
            self.turns[key].append(turn_id)

        async with asyncio.TaskGroup() as group:
            for _ in range(chance.choice((1, 1, 2)) if once else 1):
                group.create_task(self._patiently(key, submit, once=once))

    async def _deleter(self, key: SessionKey) -> None:
        """Its user deletes it, more often than not in the midst of a turn, and may begin anew."""
        principal, chance = self.users[key], self.chance
        await asyncio.sleep(chance.choice((0.1, 1.0, 5.0)) * chance.random())
        if chance.random() < 0.6:
            await self._until_busy(key, waits=self._gates and chance.random() < 0.5)
        times = chance.choice((1, 1, 2))
        asked = 0

        async def delete(rig: Rig) -> None:
            nonlocal asked
            asked += 1
            try:
                await rig.keeping.delete(principal, key.session_id)
            except SessionNotFound:
                if asked == times == 1 and self.protocol != "memory":
                    self.seen.wrong.append(f"{key.session_id}: the first delete finds nothing")
                raise
            self.seen.deleted.add(key)

        self.say(f"{key.session_id}: delete")
        self.seen.deleting.add(key)
        async with asyncio.TaskGroup() as group:
            for _ in range(times):
                group.create_task(self._patiently(key, delete, once=True))
        if chance.random() < 0.5:
            await self._client(await self._begin(principal))

    async def _forker(self, key: SessionKey) -> None:
        """Its user goes on from the end of one of its turns, beside it; and may delete that."""
        principal, chance = self.users[key], self.chance
        end = self.loop.time() + 6.0
        await asyncio.sleep(chance.choice((0.5, 3.0)) * chance.random())
        ended: list[TurnId] = []
        while not ended and (kept := self.memory._kept.get(key)) and self.loop.time() < end:
            ended = [turn_id for turn_id in kept.order if kept.turns[turn_id].ended]
            await asyncio.sleep(0.1 * chance.random())
        if not ended:
            return
        turn_id = chance.choice(ended)
        self.say(f"{key.session_id}: fork at {turn_id}")
        try:
            opened = await self.ask_of(
                key, lambda rig: rig.sessions.fork(principal, key.session_id, turn_id)
            )
        except (SessileError, Cut) as refused:
            self.say(f"refused: {refused!r}")
            return
        fork = opened.found.head.key
        self._know(fork, principal, canary=self.seen.canaries[key])
        self.seen.forked[fork] = (key, turn_id)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._client(fork))
            if chance.random() < SHARE_DELETED:
                group.create_task(self._deleter(fork))

    async def _until_busy(self, key: SessionKey, *, waits: bool) -> None:
        """A turn runs, or waits for an approval, if one does so soon."""
        end = self.loop.time() + 2.0
        while self.loop.time() < end and (kept := self.memory._kept.get(key)) is not None:
            head = kept.head
            if (head.awaiting_until_ms if waits else head.running_turn_id) is not None:
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(self.chance.choice((0.0, 0.3, 3.0)) * self.chance.random())

    async def _patiently(
        self, key: SessionKey, work: Callable[[Rig], Coroutine[Any, Any, None]], *, once: bool
    ) -> None:
        """A client that may ask again does so, elsewhere: with a key always, without one where it
        is told that nothing was stored."""
        for _ in range(3):
            hurried = self.chance.random() < 0.2
            try:
                async with asyncio.timeout(self.chance.random() * 0.01 if hurried else None):
                    return await self.ask_of(key, work)
            except (StorageBusy, StorageFull) as refused:
                if not once and str(refused) == UNKNOWN:
                    return None
                await asyncio.sleep(0.5)
            except (Cut, TimeoutError):
                if not once:
                    return None
            except SessileError as refused:
                self.say(f"refused: {refused!r}")
                return None

    def _text(self, key: SessionKey, *, once: bool = False) -> str:
        self._marks += 1
        gates = "acdgh" if self._gates else ""
        steps = "".join(
            self.chance.choice(
                ("tteppsinibufw" if self.chance.random() < 0.3 else "tepsinbu") + gates
            )
            for _ in range(self.chance.randint(0, 5))
        )
        kind = "once" if once else "more"
        return f"{self.seen.canaries[key]}{kind}-{self._marks} plan:{steps}"

    async def _grant(self, key: SessionKey, principal: Principal) -> None:
        grants = [each for each in ("money", "refund") if self.chance.random() < 0.6]
        operator = replace(principal, roles=frozenset({"operator"}))
        self.say(f"{key.session_id}: grants {grants}")
        await self.ask_of(key, lambda rig: rig.gates.grant(operator, key.session_id, grants))

    async def _approver(self, key: SessionKey) -> None:
        """Somebody who sees what waits, now and then, and answers most of it."""
        principal = self.users[key]
        passed_over: set[CallId] = set()
        chance = self.chance
        while True:
            await asyncio.sleep(chance.choice((0.1, 1.0, 3.0)) * chance.random())
            if (kept := self.memory._kept.get(key)) is None:
                return
            running = kept.head.running_turn_id
            awaited = None if running is None else kept.turns[running].awaited
            if chance.random() < 0.2:
                await self._try(self._grant(key, principal))
            for call_id in () if awaited is None else awaited.call_ids:
                if call_id in passed_over:
                    continue
                if chance.random() < 0.2:
                    passed_over.add(call_id)
                    continue
                granted = chance.random() < 0.7
                async with asyncio.TaskGroup() as group:
                    for each in chance.choice(((granted,), (granted,), (granted, not granted))):
                        answer = self._answer(key, principal, call_id, granted=each)
                        group.create_task(self._try(answer))

    async def _answer(
        self, key: SessionKey, principal: Principal, call_id: CallId, *, granted: bool
    ) -> None:
        self.say(f"{key.session_id}: {'approve' if granted else 'deny'} {call_id}")
        if granted:
            self.seen.approved.add((key, call_id))
        await self.ask_of(
            key, lambda rig: rig.gates.answer(principal, key.session_id, call_id, granted=granted)
        )
        self.seen.answered.add((key, call_id, granted))

    async def _try(self, asked: Coroutine[Any, Any, None]) -> None:
        try:
            await asked
        except (SessileError, Cut) as refused:
            self.say(f"refused: {refused!r}")

    # -- readers

    async def _reader(self, reading: Reading) -> None:
        principal = self.users[reading.key]

        async def follow(rig: Rig) -> None:
            async for item in rig.feed.follow(
                principal, reading.key.session_id, after=reading.cursor
            ):
                match item:
                    case Grown(entries):
                        reading.entries.extend(entries)
                    case Reset():
                        self.seen.wrong.append(f"{reading.name} was reset")
                    case Ended(reason):
                        reading.told = reason
                        return

        while not reading.ended and reading.told is None:
            try:
                await self._follow_for_a_while(reading.key, follow)
            except SessionNotFound:
                reading.told = "gone"

    async def _follow_for_a_while(self, key: SessionKey, follow: Work[None]) -> None:
        seconds = self.chance.choice((0.1, 1.0, 10.0)) * self.chance.random()
        cut = asyncio.timeout(None if self._settling else seconds)
        try:
            async with cut:
                self._cuts.add(cut)
                try:
                    await self.ask_of(key, follow)
                finally:
                    self._cuts.discard(cut)
        except (Cut, TimeoutError, StorageBusy, StorageFull):
            await asyncio.sleep(0.01)

    # -- the judgement

    def judged(self, digest: str, steps: int, seconds: float) -> Story:
        self.seen.completed_at = self.recorder.completed_at
        for each in self.readings:
            self.seen.reads.append(
                Read(
                    each.name,
                    each.key,
                    each.after,
                    tuple(each.entries),
                    whole=True,
                    told=each.told,
                )
            )
        finals: dict[SessionKey, Final] = {}
        buried, faults = self.recorder.buried, list[str]()
        for key in self.users:
            kept = buried.get(key) or self.memory._kept.get(key)
            if kept is not None:
                final = finals[key] = checker.final_of(key, kept, gone=key in buried)
                fences = self.recorder.fences.get(key, {})
                faults += checker.faults_of_log(final, fences, ended=not final.gone)
        faults += checker.faults_of_world(finals, self.seen)
        faults += faults_of_deletions(self.users, self.memory, buried, self.seen)
        faults += faults_of_forks(finals, self.memory, self.seen.forked)
        if self._calm and not self._slow:
            faults += checker.faults_of_calm(finals)
        whole = hashlib.blake2b(digest.encode(), digest_size=16)
        whole.update(repr([final.log for final in finals.values()]).encode())
        return Story(
            faults=tuple(faults),
            digest=whole.hexdigest(),
            steps=steps,
            calls=self._calls,
            virtual_seconds=seconds,
            ends=tuple(end for final in finals.values() for end in checker.ends_of(final.log)),
            logs=tuple(final.log for final in finals.values()),
            happened=self._happened(finals.values()),
        )

    def _happened(self, finals: Collection[Final]) -> Counter[str]:
        happened = self.fates.copy()
        happened["reply lost"] += self.weather.replies_lost
        happened["reader of what is gone"] += sum(each.told == "gone" for each in self.readings)
        names = [final.head.exclusive_key for final in finals]
        origins = {origin for origin, _ in self.seen.forked.values()}
        happened["deleted beside its fork"] += len(origins & self.recorder.buried.keys())
        for kept in self.recorder.buried.values():
            running, name = kept.head.running_turn_id, kept.head.exclusive_key
            happened["exclusive opened anew"] += name is not None and names.count(name) > 1
            happened["deleted"] += 1
            happened["deleted in a turn"] += running is not None
            happened["deleted while it waits"] += kept.head.awaiting_until_ms is not None
            happened["deleted with a queue"] += kept.head.queued > 0
            if running is not None:
                happened["deleted in a later attempt"] += kept.turns[running].attempt > 1
        waited: set[TurnId | None] = set()
        for entry in (entry for final in finals for entry in final.log):
            happened[entry.kind] += 1
            if entry.kind == "turn.awaiting":
                waited.add(entry.turn_id)
            elif entry.kind == "turn.started" and '"attempt":1,' not in entry.body:
                happened["gone on" if entry.turn_id in waited else "taken over"] += 1
                waited.discard(entry.turn_id)
            if entry.kind == "approval.denied" and '"by":null' in entry.body:
                happened["not answered in time"] += 1
        return happened

    def say(self, sentence: str) -> None:
        if self._tell is not None:
            self._tell(f"{self.loop.time():8.3f}  {sentence}")


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What fails in a pool is contained, and told to the log alone."""
    failed: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: _note(record, failed)  # type: ignore[method-assign]
    logger = logging.getLogger("sessile")
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield failed
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


def _note(record: logging.LogRecord, failed: list[str]) -> None:
    if record.exc_info is not None and record.getMessage() != "agent raised":
        failed.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


def _seen(task: asyncio.Task[Any]) -> None:
    """Nobody waits for it any more; that it failed is no news."""
    if not task.cancelled():
        task.exception()


_TELEMETRY = Telemetry()
