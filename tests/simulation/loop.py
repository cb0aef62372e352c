"""A deterministic event loop: one seed runs one program in one order, and waits cost no time.

What may be reordered: asyncio promises that callbacks given to `call_soon` run in the order given,
and that of two timers the one due earlier runs first. It calls the order of two timers of one
instant undefined, and says nothing of which woken task goes on first, nor whether before or after a
callback that became ready beside it. That it wakes them in order is an accident, which uvloop, a
busy machine or one more await undoes. So what is ready stands in lanes, first in, first out within
each, and every step draws a lane by lot. A task has a lane of its own (its steps follow each
other), so has a timer that is due, and so have all other callbacks of a node together. Time moves
only when nothing is ready.
"""

import asyncio
import contextlib
import ctypes
import gc
import hashlib
import heapq
import itertools
import random
import threading
import types
import warnings
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context, ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EXECUTOR_WAIT_SECONDS_MAX = 0.005
STEPS_MAX = 100_000


class Stuck(Exception):
    """The program gets nowhere; `tasks` says of each unfinished task where it waits."""

    def __init__(self, why: str, tasks: list["_Task"]) -> None:
        self.tasks = [str(task) for task in tasks]
        super().__init__("\n  ".join([why, *self.tasks]))


class Deadlock(Stuck):
    """Nothing is ready, no timer is set, and the program has not ended."""


class Livelock(Stuck):
    """The program has taken all the steps it was given, and has not ended."""


class Unhandled(Exception):
    """The program ended, but these `errors` of its tasks and callbacks reached nobody."""

    def __init__(self, seed: int, errors: list[BaseException]) -> None:
        self.errors = errors
        super().__init__(f"seed {seed}: {errors}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """What a run gave. Equal digests mean the same steps, in the same order, at the same times."""

    result: T
    digest: str
    steps: int
    virtual_seconds: float


class Node:
    """A simulated process: the tasks spawned in it, and all that these start, stop together.

    Nobody outside is told: who awaits a task inside waits on, and a lock held inside stays locked.
    What outlives a process (a database, a network) therefore runs outside of every node.
    """

    def __init__(self, name: str, loop: "SimulatedLoop") -> None:
        self.name = name
        self.number = next(loop.numbers)
        self.alive = True
        self.held_until_seconds = loop.time()
        self._loop = loop

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a task in the node. Like a process, it inherits no context variable."""
        assert self.alive, f"node {self.name} is dead"
        return self._loop.create_task(coro, name=name, context=self.context())

    def kill(self) -> None:
        """End it like kill -9: no callback of it ever runs again, hence no except and no finally.

        A node that kills itself runs on until it next waits, which then has no end.
        """
        self.alive = False
        self._loop.crashed = True

    def pause(self, seconds: float) -> None:
        """Hold its callbacks for this long, like SIGSTOP; timers that fall due wait among them."""
        self.held_until_seconds = max(self.held_until_seconds, self._loop.time() + seconds)
        self._loop.held_until_seconds = max(self._loop.held_until_seconds, self.held_until_seconds)
        # It does nothing, but time has to come by this instant.
        self._loop.call_at(self.held_until_seconds, lambda: None, context=Context())

    def context(self) -> Context:
        """A new context, empty but for the node: callbacks that run in it are the node's."""
        context = Context()
        context.run(_NODE.set, self)
        return context


_NODE: ContextVar[Node] = ContextVar("the simulated node")


class Simulation:
    """What a program is given: `random`, a stream apart from the scheduler's, `loop`, and nodes."""

    def __init__(self, seed: int, loop: "SimulatedLoop") -> None:
        self.random = random.Random(f"program {seed}")
        self.loop = loop

    async def latency(self, most_seconds: float) -> None:
        """Wait as one waits for an outside system: often next to nothing, or all of it.

        Extremes are drawn often because races live there: two whole waits end at one instant.
        """
        share = self.random.choice((1e-6, 1.0, self.random.random(), self.random.random()))
        await asyncio.sleep(most_seconds * share)

    def node(self, name: str) -> Node:
        """A new node, also when a process of this name starts again."""
        return Node(name, self.loop)


def simulate(
    seed: int, main: Callable[[Simulation], Awaitable[T]], *, steps_max: int = STEPS_MAX
) -> Outcome[T]:
    """Run `main` on a loop of its own to its end; what it left running is cancelled and closed.

    Raises what `main` raises, Deadlock, Livelock or Unhandled, and names the seed in each. Digest,
    steps and seconds are those of `main` alone. The garbage collector rests meanwhile: it would run
    finalizers at moments that no seed decides.
    """
    collecting = gc.isenabled()
    gc.disable()
    gc.freeze()  # from now on the collector sees only what this run makes
    try:
        return _run(seed, main, SimulatedLoop(seed, steps_max=steps_max))
    finally:
        gc.collect()  # the loop itself, now that nobody holds it
        gc.unfreeze()
        if collecting:
            gc.enable()


def _run(
    seed: int, main: Callable[[Simulation], Awaitable[T]], loop: "SimulatedLoop"
) -> Outcome[T]:
    try:
        result = loop.run_until_complete(main(Simulation(seed, loop)))
        digest, steps, seconds = loop.digest.hexdigest(), loop.steps, loop.time()
        loop.wind_up()
    except BaseException as error:
        error.add_note(f"seed {seed}, step {loop.steps}, {loop.time()} s, {loop.unhandled()=}")
        with contextlib.suppress(Stuck):
            loop.wind_up()
        raise
    finally:
        loop.bury()
    if errors := loop.unhandled():
        raise Unhandled(seed, errors) from errors[0]
    return Outcome(result=result, digest=digest, steps=steps, virtual_seconds=seconds)


class SimulatedLoop(asyncio.BaseEventLoop):
    """An event loop on virtual time whose every choice is drawn from a seed.

    It has no threads and no outside: executor jobs run in it, sockets and processes are refused.
    Who waits for time without letting it pass (`while ...: await sleep(0)`) ends in a Livelock.
    """

    def __init__(
        self, seed: int, *, start_seconds: float = 0.0, steps_max: int = STEPS_MAX
    ) -> None:
        super().__init__()
        self._errors: list[BaseException] = []
        self.numbers = itertools.count()
        self.tasks: list[_Task] = []
        self.steps = 0
        self.crashed = False
        self.held_until_seconds = start_seconds
        """Until then some node may be paused."""
        self.digest = hashlib.blake2b(digest_size=16)
        self._now_seconds = start_seconds
        self._steps_max = self._steps_end = steps_max
        self._chance = random.Random(f"scheduler {seed}")
        self._thread = threading.get_ident()
        self._world = Node("the world", self)
        self._lanes: dict[int, deque[_Entry]] = {}
        self._timers: list[tuple[float, _Entry]] = []
        self._graves: list[_Entry] = []
        self._generators: list[tuple[Node, weakref.ref[AsyncGenerator[Any, Any]]]] = []
        self._free_at_seconds: dict[Executor | None, float] = {}
        self.set_task_factory(lambda _, coro, **options: _Task(self, coro, **options))
        self.set_exception_handler(
            lambda _, event: self._errors.append(event.get("exception") or Exception(event))
        )

    def time(self) -> float:
        return self._now_seconds

    def node_of(self, context: Context | None = None) -> Node:
        """The node that owns what runs in this context; without one, in the current context."""
        return context.get(_NODE, self._world) if context is not None else _NODE.get(self._world)

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        self._check_caller()
        handle = asyncio.Handle(callback, args, self, context)
        node: Node = _NODE.get(self._world) if context is None else context.get(_NODE, self._world)
        task = getattr(callback, "__self__", None)
        if task.__class__ is _Task and callback != task.cancel:
            self._admit(_Entry(task.number, node, task.what, handle))
        else:
            self._admit(_Entry(node.number, node, _name(callback), handle))
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._check_caller()
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        entry = _Entry(next(self.numbers), self.node_of(context), _name(callback), handle)
        if when > self._now_seconds:
            heapq.heappush(self._timers, (when, entry))
        else:
            self._admit(entry)
        return handle

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run `func` in the loop after a wait, and hand over its result after another.

        As in a thread, it sees neither the running loop nor the caller's context. Jobs overtake
        each other, unless the executor has a single worker. One that is cancelled before its time
        runs in half the cases, for a thread might have begun it.
        """
        future: asyncio.Future[T] = self.create_future()
        context = self.node_of().context()
        run_at = max(self._now_seconds, self._free_at_seconds.get(executor, self._now_seconds))
        run_at += self._chance.uniform(1e-6, EXECUTOR_WAIT_SECONDS_MAX)
        reply_at = run_at + self._chance.uniform(1e-6, EXECUTOR_WAIT_SECONDS_MAX)
        if getattr(executor, "_max_workers", None) == 1:
            self._free_at_seconds[executor] = reply_at

        def work() -> None:
            if future.cancelled() and self._chance.random() < 0.5:
                return
            asyncio._set_running_loop(None)
            try:
                settle = partial(future.set_result, func(*args))
            except BaseException as error:  # noqa: BLE001 - the caller's to judge, as from a thread
                settle = partial(future.set_exception, error)
            finally:
                asyncio._set_running_loop(self)
            self.call_at(reply_at, lambda: future.done() or settle(), context=context)

        self.call_at(run_at, work, context=context)
        return future

    def unhandled(self) -> list[BaseException]:
        """The errors of callbacks, and of tasks that ended, which nobody has looked at."""
        ended = [task for task in self.tasks if task.node.alive and task.done()]
        self._errors += [e for task in ended if task._log_traceback and (e := task.exception())]
        return self._errors

    def wind_up(self) -> None:
        """Cancel the living tasks and close their async generators, with a new count of steps."""
        self._steps_end = self.steps + self._steps_max
        self.run_until_complete(self._cancel_tasks())
        self.run_until_complete(self.shutdown_asyncgens())

    async def shutdown_asyncgens(self) -> None:
        for node, reference in self._generators:
            if node.alive and (generator := reference()):
                await generator.aclose()

    def bury(self) -> None:
        """Close the loop and free what it ran, not one more line of which runs.

        CPython frees a suspended coroutine by calling its finalizer, which would run its finally
        blocks, but calls no finalizer twice: those of the killed are marked as if they had run.
        """
        self.close()
        self.unhandled()
        lost = self.crashed or bool(self._unfinished())
        for thing in gc.get_objects() if lost else ():
            if isinstance(thing, _LAST_WORDS):
                _mark_finalized(thing)
        thing = None
        for holder in (self.tasks, self._graves, self._lanes, self._timers):
            holder.clear()
        with warnings.catch_warnings(action="ignore") if lost else contextlib.nullcontext():
            gc.collect()  # who was killed closed no file, which is no leak of the program's

    def _run_once(self) -> None:
        while not (lanes := self._lanes_to_run()):
            self._pass_time()
        choice = int(self._chance.random() * len(lanes))
        lane = lanes[choice]
        queue = self._lanes[lane]
        entry = queue.popleft()
        if not queue:
            del self._lanes[lane]
        if not entry.node.alive:
            self._graves.append(entry)
            return
        if entry.handle.cancelled():
            return
        if self.steps == self._steps_end:
            raise Livelock(f"not ended after {self.steps} steps", self._unfinished())
        self.steps += 1
        step = f"{self._now_seconds!r} {choice} of {len(lanes)}: {entry.what}\n"
        self.digest.update(step.encode())
        entry.handle._run()

    def _lanes_to_run(self) -> list[int]:
        # In order of birth, not of arrival: who wakes the members of a set wakes them in an order
        # that differs from run to run, and that must not change what the lot draws.
        lanes, now = self._lanes.items(), self._now_seconds
        if self.held_until_seconds <= now:
            return sorted(self._lanes)
        return sorted(lane for lane, queue in lanes if queue[0].node.held_until_seconds <= now)

    def _pass_time(self) -> None:
        if not self._timers:
            raise Deadlock("nothing is ready and no timer is set", self._unfinished())
        self._now_seconds = self._timers[0][0]
        while self._timers and self._timers[0][0] == self._now_seconds:
            self._admit(heapq.heappop(self._timers)[1])

    def _admit(self, entry: "_Entry") -> None:
        queue = self._lanes.get(entry.lane)
        if queue is None:
            self._lanes[entry.lane] = deque((entry,))
        else:
            queue.append(entry)

    def _unfinished(self) -> list["_Task"]:
        return [task for task in self.tasks if task.node.alive and not task.done()]

    async def _cancel_tasks(self) -> None:
        await asyncio.sleep(0.001)  # until nothing is ready: a task yet unborn is not cancelled
        while left := [task for task in self._unfinished() if task is not asyncio.current_task()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    def _asyncgen_firstiter_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators.append((self.node_of(), weakref.ref(generator)))

    def _check_caller(self) -> None:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if threading.get_ident() != self._thread:
            raise RuntimeError("a simulated loop takes no calls from threads: no seed says when")


class _Task(asyncio.Task[Any]):
    """A task with a number, by which sets order it: by its address, each run had another order."""

    def __init__(self, loop: SimulatedLoop, coro: Any, **options: Any) -> None:
        self.number = next(loop.numbers)
        self.node = loop.node_of(options.get("context"))
        self.what = _name(coro)
        options["name"] = options.get("name") or f"Task-{self.number}"
        super().__init__(coro, loop=loop, **options)
        loop.tasks.append(self)

    def __hash__(self) -> int:
        return self.number

    def __str__(self) -> str:
        places, awaited = [], self.get_coro()
        while kind := next((kind for kind in _AWAITED if hasattr(awaited, f"{kind}_frame")), None):
            frame = getattr(awaited, f"{kind}_frame")
            place = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
            places.append(f"{frame.f_code.co_qualname} ({place})")
            awaited = getattr(awaited, _AWAITED[kind])
        return f"{self.get_name()} of {self.node.name}: {' > '.join(places)}"


_AWAITED = {"cr": "cr_await", "gi": "gi_yieldfrom", "ag": "ag_await"}
_LAST_WORDS = types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType, asyncio.Future


class _Entry(NamedTuple):
    """A callback in its lane, or on its way there."""

    lane: int
    node: Node
    what: str
    handle: asyncio.Handle


def _name(thing: object) -> str:
    name: str | None = getattr(thing, "__qualname__", None)
    return type(thing).__qualname__ if name is None else name


def _mark_finalized(thing: object) -> None:
    # The collector's flags are the low bits of the word in front of an object, this one the first.
    word = ctypes.c_size_t.from_address(id(thing) - ctypes.sizeof(ctypes.c_size_t))
    word.value |= 1
    assert gc.is_finalized(thing), "this Python keeps the flag elsewhere"


def _refuse(name: str, *_: object, **__: object) -> NoReturn:
    raise NotImplementedError(f"{name} is refused: a simulated loop has no outside")


for _refused in (
    "add_reader add_signal_handler add_writer connect_accepted_socket connect_read_pipe"
    " connect_write_pipe create_connection create_datagram_endpoint create_server"
    " create_unix_connection create_unix_server getaddrinfo getnameinfo sock_accept sock_connect"
    " sock_recv sock_recv_into sock_recvfrom sock_sendall sock_sendfile sock_sendto start_tls"
    " subprocess_exec subprocess_shell"
).split():
    setattr(SimulatedLoop, _refused, staticmethod(partial(_refuse, _refused)))
