"""A house of nodes on virtual time: the runtime as the server builds it, in processes that a test
can stop, over one store whose every call a test can hold."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import replace
from typing import Any, TypeVar

from tests.doubles import CountingIds
from tests.runtime.gate import Gate, Twice
from tests.simulation import checker, loop
from tests.simulation.store import Recorder

from sessile.adapters.memory import MemoryStore
from sessile.core.commands import Runner
from sessile.core.context import Principal
from sessile.core.events import Entry, WhenBusy
from sessile.core.ids import NodeId, SessionId, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import Lease, SessionHead, Turn
from sessile.core.transcript import Message, messages
from sessile.kit.assistant import Assistant
from sessile.ports.agent import Agent
from sessile.ports.clock import Clock, IdSource
from sessile.ports.notifier import Hint, Notifier
from sessile.ports.store import Store
from sessile.runtime.announce import Announcer
from sessile.runtime.answers import Submitted
from sessile.runtime.feed import Ended, Feed, Grown
from sessile.runtime.gates import Gates
from sessile.runtime.house import Housekeeper
from sessile.runtime.keeping import Keeping
from sessile.runtime.limits import Limits
from sessile.runtime.node import Node
from sessile.runtime.outages import WatchedStore
from sessile.runtime.reads import Reads
from sessile.runtime.sessions import Sessions
from sessile.runtime.telemetry import Telemetry
from sessile.runtime.threads import Threads
from sessile.runtime.workers import Workers
from sessile.settings import Settings
from sessile.wiring import runnable

T = TypeVar("T")

TICK_SECONDS = 0.005
PATIENCE_SECONDS = 60.0
ORDERS = 3
"""How many orders of what happens at one instant each test is run in."""

ACME = TenantId("acme")
ANN = Principal(tenant_id=ACME, user_id=UserId("ann"))
BOB = Principal(tenant_id=ACME, user_id=UserId("bob"))


def virtual(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test that takes a House (and then its parameters) on virtual time, in some orders."""

    def run(**parameters: Any) -> None:
        for seed in range(ORDERS):
            loop.simulate(seed, lambda sim: _in_a_house(sim, test, parameters))

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    signature = inspect.signature(test)
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for each in list(signature.parameters.values())[1:]
        ]
    )
    run.pytestmark = getattr(test, "pytestmark", [])  # type: ignore[attr-defined]
    return run


async def _in_a_house(
    sim: loop.Simulation,
    test: Callable[..., Coroutine[Any, Any, None]],
    parameters: dict[str, Any],
) -> None:
    house = House(sim)
    with house.troubles:
        await test(house, **parameters)
        house.gate.open_all()
        await house.quiet()
        await house.stop()
    house.check()


class LoopClock:
    """The loop's virtual time, as a wall clock; one that is `ahead_ms` of the others."""

    def __init__(self, running: asyncio.AbstractEventLoop, *, ahead_ms: int = 0) -> None:
        self._loop = running
        self._at_ms = 1_000_000 + ahead_ms

    def now_ms(self) -> int:
        return self._at_ms + round(self._loop.time() * 1000)


class Wire:
    """Carries hints: to the node that publishes at once, to the others soon after."""

    def __init__(self, running: asyncio.AbstractEventLoop) -> None:
        self._loop = running
        self._ears: list[tuple[loop.Node, Callable[[Hint], None]]] = []
        self.lost = False
        """Hints of other nodes do not arrive."""
        self.bare = False
        """Hints of other nodes arrive without their entries."""
        self.followed: list[tuple[loop.Node, SessionKey]] = []

    def at(self, process: loop.Node) -> Notifier:
        return _End(self, process)

    def hang(self, process: loop.Node, listener: Callable[[Hint], None]) -> Callable[[], None]:
        ear = (process, listener)
        self._ears.append(ear)
        return lambda: self._ears.remove(ear)

    def carry(self, sender: loop.Node, hint: Hint) -> None:
        for process, listener in tuple(self._ears):
            if process is sender:
                listener(hint)
            elif not self.lost and self._concerns(process, hint):
                told = replace(hint, entries=()) if self.bare else hint
                self._loop.call_soon(listener, told, context=process.context())

    def _concerns(self, process: loop.Node, hint: Hint) -> bool:
        told_to_all = hint.due or hint.control or hint.deleted
        return told_to_all or (process, hint.key) in self.followed


class _End:
    def __init__(self, wire: Wire, process: loop.Node) -> None:
        self._wire = wire
        self._process = process

    def publish(self, hint: Hint) -> None:
        self._wire.carry(self._process, hint)

    def listen(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        return self._wire.hang(self._process, listener)

    def follow(
        self, tenant_id: TenantId, session_id: SessionId | None = None
    ) -> Callable[[], None]:
        assert session_id is not None
        followed = (self._process, SessionKey(tenant_id, session_id))
        self._wire.followed.append(followed)
        return lambda: self._wire.followed.remove(followed)


class Rig:
    """One node: what `wiring.Server` builds, in a simulated process of its own."""

    def __init__(
        self,
        *,
        name: str,
        process: loop.Node,
        store: Store,
        notifier: Notifier,
        clock: Clock,
        ids: IdSource,
        agents: dict[str, Agent],
        settings: Settings,
        telemetry: Telemetry,
    ) -> None:
        self.name = name
        self.process = process
        self.telemetry = telemetry
        self._stop = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        announcer = Announcer(notifier=notifier, telemetry=self.telemetry)
        self.threads = Threads(threads_max=settings.tool_threads_max)
        lease_ms = int(settings.lease_ttl_seconds * 1000)
        self.limits = Limits(store=store, clock=clock, settings=settings, telemetry=telemetry)
        node = Node(
            store=WatchedStore(store),
            limits=self.limits,
            clock=clock,
            ids=ids,
            settings=settings,
            agents=agents,
            telemetry=self.telemetry,
            threads=self.threads,
            runner=Runner(node=NodeId(name), lease_ms=lease_ms, assistants=frozenset(agents)),
            publish=announcer.publish,
        )
        self.feed = Feed(
            store=store, notifier=notifier, settings=settings, telemetry=self.telemetry
        )
        self.workers = Workers(node=node, notifier=notifier, feed=self.feed)
        self.reads = Reads(node=node)
        self.gates = Gates(node=node, reads=self.reads)
        self.house = Housekeeper(node=node, keeping=lambda: self.keeping, credentials=())
        self.keeping = Keeping(
            node=node, reads=self.reads, notifier=notifier, erase=self.house.ring
        )
        self.sessions = Sessions(
            node=node,
            workers=self.workers,
            announcer=announcer,
            notifier=notifier,
            reads=self.reads,
            default_assistant=next(iter(agents)),
        )

    def begin(self) -> None:
        """Start the process; it takes turns once the loop has turned."""
        self._serving = self.process.spawn(self._serve(), name=f"{self.name} serves")

    async def stop(self) -> None:
        """As the server stops: what runs may end, the rest is handed back."""
        self._stop.set()
        if self._serving is not None and self.process.alive:
            await self._serving

    def do(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run it in this node's process."""
        return self.process.spawn(work)

    async def _serve(self) -> None:
        try:
            async with self.workers:
                await self._stop.wait()
        finally:
            self.feed.close()
            self.threads.close()


class House:
    """Nodes, the store and the wire between them, and what a test does with them."""

    def __init__(self, sim: loop.Simulation) -> None:
        self.sim = sim
        self.clock = LoopClock(sim.loop)
        self.ids = CountingIds()
        self.memory = MemoryStore(clock=self.clock)
        self.recorder = Recorder(self.memory, sim.loop)
        self.gate = Gate(self.recorder)
        self.wire = Wire(sim.loop)
        self.troubles = Troubles()
        self.nodes: list[Rig] = []
        self.opened: list[SessionKey] = []
        self._made = 0
        self.unfinished = False
        """The test leaves turns behind that nobody is there to end."""

    async def node(
        self,
        *assistants: Assistant | Agent,
        name: str = "",
        store: Store | None = None,
        clock_ahead_ms: int = 0,
        **settings: Any,
    ) -> Rig:
        """A node that runs, with these assistants."""
        self._made += 1
        name = name or f"node_{self._made}"
        process = self.sim.node(name)
        agents = [runnable(a) if isinstance(a, Assistant) else a for a in assistants]
        rig = Rig(
            name=name,
            process=process,
            store=self.gate if store is None else store,
            notifier=self.wire.at(process),
            clock=LoopClock(self.sim.loop, ahead_ms=clock_ahead_ms),
            ids=self.ids,
            agents={agent.name: agent for agent in agents},
            settings=Settings(store_url="memory", **settings),
            telemetry=Telemetry(),
        )
        self.nodes.append(rig)
        rig.begin()
        await self.later(0.001)
        return rig

    def twice(self, *kinds: str, finishes: bool = False) -> Store:
        """The store as an adapter shows it which lost the answers to appends of these kinds, or
        to the ends of turns, and asked again."""
        return Twice(self.gate, kinds, finishes=finishes)

    def kill(self, rig: Rig) -> None:
        rig.process.kill()
        self.nodes.remove(rig)

    async def stop(self) -> None:
        for rig in self.nodes:
            await rig.stop()

    # -- what callers do

    async def open(self, rig: Rig, principal: Principal = ANN, **more: Any) -> SessionId:
        opened = await rig.do(rig.sessions.open(principal, **more))
        key = opened.found.head.key
        if key not in self.opened:
            self.opened.append(key)
        return key.session_id

    def submit(
        self,
        rig: Rig,
        session_id: SessionId,
        text: str = "hello",
        *,
        when_busy: WhenBusy = "enqueue",
        principal: Principal = ANN,
        **more: Any,
    ) -> asyncio.Task[Submitted]:
        given = {"type": "message", "text": text}
        return rig.do(
            rig.sessions.submit(principal, session_id, given, when_busy=when_busy, **more)
        )

    def cancel(
        self, rig: Rig, session_id: SessionId, turn_id: TurnId, principal: Principal = ANN
    ) -> asyncio.Task[Turn]:
        return rig.do(rig.sessions.cancel(principal, session_id, turn_id))

    def edit(
        self, rig: Rig, session_id: SessionId, turn_id: TurnId, text: str
    ) -> asyncio.Task[Turn]:
        given = {"type": "message", "text": text}
        return rig.do(rig.sessions.edit(ANN, session_id, turn_id, given))

    def close(self, rig: Rig, session_id: SessionId) -> asyncio.Task[Any]:
        return rig.do(rig.sessions.close(ANN, session_id))

    @asynccontextmanager
    async def reader(
        self, rig: Rig, session_id: SessionId, *, after: int = 0, principal: Principal = ANN
    ) -> AsyncIterator["Follower"]:
        follower = Follower()
        task = rig.do(follower.follow(rig, principal, session_id, after))
        try:
            yield follower
        finally:
            task.cancel()
            await asyncio.wait({task})

    # -- what the store holds, past every gate

    def log(self, session_id: SessionId) -> tuple[Entry, ...]:
        return _now(self.memory.read(SessionKey(ACME, session_id), limit=100_000))

    def kinds(self, session_id: SessionId, *, after: int = 0) -> list[str]:
        return [entry.kind for entry in self.log(session_id)[after:]]

    def said(self, session_id: SessionId) -> list[tuple[str, str]]:
        """Role and text of each message."""
        return [(message.role, message.text) for message in self.messages(session_id)]

    def messages(self, session_id: SessionId) -> list[Message]:
        return list(messages(self.log(session_id)))

    def head(self, session_id: SessionId) -> SessionHead:
        found = _now(self.memory.find(SessionKey(ACME, session_id)))
        assert found is not None
        return found.head

    def lease(self, session_id: SessionId) -> Lease:
        return self.memory._kept[SessionKey(ACME, session_id)].lease

    def turn(self, session_id: SessionId, turn_id: TurnId) -> Turn:
        found = _now(self.memory.find(SessionKey(ACME, session_id), turn_id))
        assert found is not None
        assert found.turn is not None
        return found.turn

    def turns(self, session_id: SessionId) -> tuple[Turn, ...]:
        return _now(self.memory.turns(SessionKey(ACME, session_id), limit=1000))

    # -- time

    @property
    def now(self) -> float:
        return self.sim.loop.time()

    async def later(self, seconds: float) -> None:
        """Virtual seconds pass."""
        await asyncio.sleep(seconds)

    async def until(self, holds: Callable[[], object], *, within: float = PATIENCE_SECONDS) -> None:
        """Let time pass until this holds."""
        end = self.now + within
        while not holds():
            assert self.now < end, f"does not hold after {within} s"
            await asyncio.sleep(TICK_SECONDS)

    async def ended(
        self, session_id: SessionId, turn_id: TurnId, *, within: float = PATIENCE_SECONDS
    ) -> Turn:
        await self.until(lambda: self.turn(session_id, turn_id).ended, within=within)
        return self.turn(session_id, turn_id)

    async def quiet(self) -> None:
        """Until no turn runs or waits, where there is somebody to run it."""
        if self.nodes and not self.unfinished:
            await self.until(lambda: all(self._idle(key) for key in self.opened))

    def _idle(self, key: SessionKey) -> bool:
        kept = self.memory._kept.get(key)
        return kept is None or all(turn.ended for turn in kept.turns.values())

    def check(self) -> None:
        """Every test ends with what must hold of every log."""
        for key in self.opened:
            final = checker.final(self.memory, key)
            if final is not None:
                faults = checker.faults_of_log(
                    final, self.recorder.fences.get(key, {}), ended=not self.unfinished
                )
                assert not faults, "\n".join(faults)


class Follower:
    """What one reader got."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    @property
    def entries(self) -> list[Entry]:
        return [e for item in self.items if isinstance(item, Grown) for e in item.entries]

    @property
    def seqs(self) -> list[int]:
        return [entry.seq for entry in self.entries]

    @property
    def end(self) -> str | None:
        last = self.items[-1] if self.items else None
        return last.reason if isinstance(last, Ended) else None

    async def follow(
        self, rig: Rig, principal: Principal, session_id: SessionId, after: int
    ) -> None:
        async for item in rig.feed.follow(principal, session_id, after=after):
            self.items.append(item)


class Troubles(logging.Handler):
    """Nothing may fail in the pool unnoticed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []
        self.expected: tuple[str, ...] = ()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def told(self, message: str) -> bool:
        return any(record.getMessage() == message for record in self.records)

    def __enter__(self) -> "Troubles":
        logging.getLogger("sessile").addHandler(self)
        return self

    def __exit__(self, *exc: object) -> None:
        logging.getLogger("sessile").removeHandler(self)
        failed = [r for r in self.records if r.getMessage() == "a task of the pool failed"]
        if exc[0] is None and failed and "a task of the pool failed" not in self.expected:
            cause = failed[0].exc_info
            raise AssertionError("a task of the pool failed") from (cause[1] if cause else None)


def _now(call: Awaitable[T]) -> T:
    """The answer of a coroutine that waits for nothing."""
    with_answer = call.__await__()
    try:
        next(with_answer)
    except StopIteration as stop:
        answer: T = stop.value
        return answer
    raise AssertionError("it waits")


def outside() -> Context:
    """The context of no node."""
    return Context()
