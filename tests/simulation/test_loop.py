"""The simulated loop: it finds planted bugs, replays them, and keeps what asyncio promises."""

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.simulation.loop import (
    EXECUTOR_WAIT_SECONDS_MAX,
    Deadlock,
    Livelock,
    SimulatedLoop,
    Simulation,
    Unhandled,
    simulate,
)

Program = Callable[[Simulation], Awaitable[Any]]


# Five programs, each with a planted bug and its mend -------------------------------------------


async def lost_update(sim: Simulation, *, mended: bool) -> None:
    """Two messages for one session; each is read, added and saved within 2 ms."""
    saved: tuple[str, ...] = ()
    transaction = asyncio.Lock()

    async def submit(message: str) -> None:
        nonlocal saved
        await sim.latency(0.1)
        async with transaction if mended else contextlib.nullcontext():
            read = saved
            await sim.latency(0.002)
            saved = (*read, message)

    async with asyncio.TaskGroup() as group:
        group.create_task(submit("a"))
        group.create_task(submit("b"))

    assert sorted(saved) == ["a", "b"]


async def zombie_lease(sim: Simulation, *, mended: bool) -> None:
    """A holder that stood still for longer than its lease writes beside its successor."""
    fence, expires_at = 0, 0.0
    writers: list[int] = []

    async def turn() -> None:
        nonlocal fence, expires_at
        while expires_at > sim.loop.time():  # noqa: ASYNC110 - a lease is polled
            await asyncio.sleep(1)
        fence += 1
        mine = fence
        for _ in range(8):
            if fence != mine:
                return
            expires_at = sim.loop.time() + 10
            await sim.latency(0.05)
            if mended and fence != mine:
                return
            writers.append(mine)
            await sim.latency(2)

    first, second = sim.node("first"), sim.node("second")
    first.spawn(turn())
    await asyncio.sleep(0.001)
    second.spawn(turn())
    await asyncio.sleep(sim.random.uniform(0, 8))
    first.pause(sim.random.uniform(0, 20))
    await asyncio.sleep(60)

    assert writers == sorted(writers)


async def resume_gap(sim: Simulation, *, mended: bool) -> None:
    """A follower that reads the backlog and then listens misses what is appended in between."""
    log: list[int] = []
    listeners: list[asyncio.Queue[int]] = []

    async def append_all() -> None:
        for seq in range(1, 4):
            await sim.latency(0.5)
            log.append(seq)
            for listener in listeners:
                listener.put_nowait(seq)

    async def follow() -> list[int]:
        await sim.latency(1)
        live: asyncio.Queue[int] = asyncio.Queue()
        if mended:
            listeners.append(live)
        seen = list(log)
        await sim.latency(0.05)
        if not mended:
            listeners.append(live)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while len(seen) < 3:
                    seq = await live.get()
                    if seq not in seen:
                        seen.append(seq)
        return seen

    async with asyncio.TaskGroup() as group:
        group.create_task(append_all())
        follower = group.create_task(follow())

    assert follower.result() == [1, 2, 3]


async def unended_turn(sim: Simulation, *, mended: bool) -> None:
    """A turn cancelled at the instant in which its model ends is left running.

    In the order in which the timers were set, the cancellation comes first and all is well.
    """
    status = "running"

    async def turn() -> None:
        nonlocal status
        try:
            await asyncio.sleep(1)
            if not mended:
                status = "saving"
        except asyncio.CancelledError:
            status = "cancelled"
            raise
        try:
            await sim.latency(0.002)
            status = "done"
        finally:
            if mended and status != "done":
                status = "cancelled"

    task: asyncio.Task[None] | None = None

    def cancel() -> None:
        assert task
        task.cancel()

    sim.loop.call_at(1, cancel)
    task = asyncio.create_task(turn())
    await asyncio.wait([task])

    assert status in {"cancelled", "done"}


async def deep_order(sim: Simulation, *, mended: bool) -> None:
    """Chunks that arrive at one instant are put in order by a sorter that gives up too early.

    Of the 120 orders in which five tasks can go on, one alone is too much for it.
    """
    arrived: list[int] = []
    start = asyncio.Event()

    async def deliver(chunk: int) -> None:
        await start.wait()
        arrived.append(chunk)

    async with asyncio.TaskGroup() as group:
        for chunk in range(5):
            group.create_task(deliver(chunk))
        await asyncio.sleep(1)
        start.set()

    swaps_left = 10 if mended else 9
    while (
        swaps_left and (place := next((i for i in range(4) if arrived[i] > arrived[i + 1]), 9)) < 9
    ):
        arrived[place], arrived[place + 1] = arrived[place + 1], arrived[place]
        swaps_left -= 1
    assert arrived == [0, 1, 2, 3, 4]


PROGRAMS = [lost_update, zombie_lease, resume_gap, unended_turn, deep_order]


def first_red(program: Program, *, seeds_max: int) -> tuple[int, AssertionError] | None:
    for seed in range(seeds_max):
        try:
            simulate(seed, program)
        except AssertionError as error:
            return seed, error
    return None


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_planted_bug_is_found_and_its_seed_replays_it(program: Callable[..., Any]) -> None:
    found = first_red(partial(program, mended=False), seeds_max=1000)

    assert found
    seed, error = found
    with pytest.raises(AssertionError) as again:
        simulate(seed, partial(program, mended=False))
    assert again.value.__notes__ == error.__notes__
    assert f"seed {seed}," in error.__notes__[0]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_mended_program_is_clean(program: Callable[..., Any]) -> None:
    assert first_red(partial(program, mended=True), seeds_max=200) is None


# Order ------------------------------------------------------------------------------------------


def orders(
    program: Callable[[Simulation], Awaitable[Iterable[str]]], *, seeds_max: int = 50
) -> set[str]:
    """The orders in which the seeds ran the program."""
    return {"".join(simulate(seed, program).result) for seed in range(seeds_max)}


def test_timers_of_one_instant_run_in_any_order() -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []
        for name in "abc":
            sim.loop.call_later(1, ran.append, name)
        await asyncio.sleep(2)
        return ran

    assert orders(main) == {"abc", "acb", "bac", "bca", "cab", "cba"}


def test_an_earlier_timer_runs_first() -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []
        for name, delay in [("c", 3), ("a", 1), ("b", 2)]:
            sim.loop.call_later(delay, ran.append, name)
        await asyncio.sleep(4)
        return ran

    assert orders(main) == {"abc"}


def test_a_due_timer_and_a_ready_callback_run_in_any_order() -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []
        sim.loop.call_soon(ran.append, "s")
        sim.loop.call_later(0, ran.append, "t")
        await asyncio.sleep(1)
        return ran

    assert orders(main) == {"st", "ts"}


def test_woken_tasks_go_on_in_any_order() -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []
        start = asyncio.Event()

        async def worker(name: str) -> None:
            await start.wait()
            ran.append(name)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(worker(name))
            await asyncio.sleep(1)
            start.set()
        return ran

    assert orders(main) == {"abc", "acb", "bac", "bca", "cab", "cba"}


def test_callbacks_run_in_the_order_in_which_they_were_given() -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []
        task = asyncio.create_task(asyncio.sleep(9))
        sim.loop.call_soon(ran.append, "a")
        sim.loop.call_soon(task.cancel)
        sim.loop.call_soon(lambda: ran.append(f"b{task.cancelling()}"))
        sim.loop.call_soon_threadsafe(ran.append, "c")
        await asyncio.wait([task])
        await asyncio.sleep(1)
        return ran

    assert orders(main) == {"ab1c"}


def test_a_cancelled_handle_never_runs() -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []
        soon = sim.loop.call_soon(ran.append, "soon")
        later = sim.loop.call_later(5, ran.append, "later")
        twins: list[asyncio.TimerHandle] = []

        def cancel(twin: int) -> None:
            twins[twin].cancel()

        twins += [sim.loop.call_later(5, cancel, other) for other in (1, 0)]
        soon.cancel()
        later.cancel()
        await asyncio.sleep(9)
        ran += [str(twin.cancelled()) for twin in twins]
        return ran

    assert orders(main) == {"TrueFalse", "FalseTrue"}


# Digest -----------------------------------------------------------------------------------------


async def busy(sim: Simulation) -> list[str]:
    """All that could make two runs differ: sets, hashes, jobs, names, many tasks at one instant."""
    mailboxes = {asyncio.Queue[str]() for _ in range(8)}
    ran: list[str] = []

    async def worker(mailbox: asyncio.Queue[str], number: int) -> None:
        ran.append(await mailbox.get())
        await sim.latency(0.01)
        ran.append(str(await asyncio.to_thread(lambda: number)))

    async with asyncio.TaskGroup() as group:
        for number, mailbox in enumerate(sorted(mailboxes, key=id)):
            group.create_task(worker(mailbox, number))
        await asyncio.sleep(1)
        for mailbox in mailboxes:
            mailbox.put_nowait("mail")
    done, _ = await asyncio.wait([asyncio.create_task(asyncio.sleep(1)) for _ in range(8)])
    return [*ran, *(task.get_name() for task in done)]


def digests() -> list[str]:
    return [simulate(seed, busy).digest for seed in range(10)]


def test_equal_seeds_give_equal_digests() -> None:
    first, ballast = simulate(7, busy), []
    for kilobytes in range(20):
        ballast.append([object() for _ in range(kilobytes * 50)])
        assert simulate(7, busy) == first


def test_other_seeds_give_other_digests() -> None:
    assert len(set(digests())) == 10


def test_digests_are_equal_in_every_process() -> None:
    root = Path(__file__).parents[2]
    program = "from tests.simulation.test_loop import digests; print(*digests())"

    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        printed = subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert printed.stdout.split() == digests()


def test_the_digest_tells_times_apart() -> None:
    async def main(sim: Simulation, *, seconds: float) -> None:
        await asyncio.sleep(seconds)

    short, long = (simulate(1, partial(main, seconds=seconds)) for seconds in (1, 2))

    assert short.digest != long.digest
    assert (short.steps, short.virtual_seconds, long.virtual_seconds) == (long.steps, 1, 2)


def test_the_programs_chance_is_not_the_schedulers() -> None:
    async def main(sim: Simulation, *, draws: int) -> None:
        for _ in range(draws):
            sim.random.random()
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(asyncio.sleep(1))

    assert simulate(3, partial(main, draws=0)).digest == simulate(3, partial(main, draws=9)).digest


# Time -------------------------------------------------------------------------------------------


def test_time_starts_where_it_is_told_and_passes_when_nothing_is_ready() -> None:
    loop = SimulatedLoop(1, start_seconds=100)

    loop.run_until_complete(asyncio.sleep(3600))
    seconds = loop.time()
    loop.bury()

    assert seconds == 3700


def test_latency_is_anything_up_to_its_most() -> None:
    async def main(sim: Simulation) -> float:
        await sim.latency(10)
        return sim.loop.time()

    waits = sorted(simulate(seed, main).result for seed in range(40))

    assert 0 < waits[0] < 0.001
    assert 0.1 < waits[len(waits) // 2] < 10
    assert waits[-2:] == [10, 10]


# Programs that get nowhere ----------------------------------------------------------------------


def test_a_deadlock_names_each_task_and_where_it_waits() -> None:
    locks: list[asyncio.Lock] = []

    async def take(first: int, second: int) -> None:
        async with locks[first]:
            await asyncio.sleep(1)
            async with locks[second]:
                pass

    async def main(sim: Simulation) -> None:
        locks[:] = [asyncio.Lock(), asyncio.Lock()]
        sim.node("n").spawn(take(0, 1), name="left")
        await take(1, 0)

    with pytest.raises(Deadlock) as caught:
        simulate(5, main)

    tasks = sorted(caught.value.tasks)
    assert len(tasks) == 2
    assert tasks[0].startswith("Task-")
    assert "main (test_loop.py:" in tasks[0]
    assert "take (test_loop.py:" in tasks[0]
    assert tasks[1].startswith("left of n: ")
    assert "Lock.acquire (locks.py:" in tasks[1]
    assert tasks[1] in str(caught.value)
    assert "seed 5, " in caught.value.__notes__[0]


def test_a_livelock_is_ended() -> None:
    async def main(sim: Simulation) -> None:
        while True:  # noqa: ASYNC110 - what is never to be done
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="1000 steps") as caught:
        simulate(5, main, steps_max=1000)

    assert "main (test_loop.py:" in caught.value.tasks[0]


def test_tasks_that_will_not_end_fail_the_run() -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    async def main(sim: Simulation) -> None:
        sim.node("n").spawn(stubborn())
        await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="stubborn"):
        simulate(5, main)


# Errors that nobody hears -----------------------------------------------------------------------


async def fail() -> None:
    raise LookupError("lost")


def fail_at_once() -> None:
    raise LookupError("lost")


def test_an_orphans_error_fails_the_run() -> None:
    async def main(sim: Simulation) -> None:
        sim.node("n").spawn(fail())
        await asyncio.sleep(1)

    with pytest.raises(Unhandled, match=r"seed 5: .*lost") as caught:
        simulate(5, main)

    assert isinstance(caught.value.__cause__, LookupError)


def test_a_callbacks_error_fails_the_run() -> None:
    async def main(sim: Simulation) -> None:
        sim.loop.call_later(1, fail_at_once)
        await asyncio.sleep(2)

    with pytest.raises(Unhandled, match="lost"):
        simulate(5, main)


def test_a_lost_jobs_error_fails_the_run() -> None:
    async def main(sim: Simulation) -> None:
        sim.loop.run_in_executor(None, fail_at_once)
        await asyncio.sleep(2)

    with pytest.raises(Unhandled, match="lost"):
        simulate(5, main)


def test_an_error_in_the_cleaning_up_fails_the_run() -> None:
    async def untidy() -> None:
        try:
            await asyncio.sleep(9)
        finally:
            await fail()

    async def main(sim: Simulation) -> None:
        sim.node("n").spawn(untidy())
        await asyncio.sleep(1)

    with pytest.raises(Unhandled, match="lost"):
        simulate(5, main)


def test_an_error_of_the_program_carries_those_that_nobody_heard() -> None:
    async def main(sim: Simulation) -> None:
        sim.node("n").spawn(fail())
        await asyncio.Event().wait()

    with pytest.raises(Deadlock) as caught:
        simulate(5, main)

    assert "lost" in caught.value.__notes__[0]


# The end of a run -------------------------------------------------------------------------------


def test_what_was_left_running_is_cancelled_and_closed() -> None:
    ended: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)
            ended.append("generator")

    async def server() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            ended.append("task")

    kept = []

    async def main(sim: Simulation) -> str:
        sim.node("n").spawn(server())
        generator = numbers()
        kept.append(generator)
        async for _ in generator:
            break
        return "result"

    outcome = simulate(1, main)

    assert (outcome.result, outcome.virtual_seconds) == ("result", 0)
    assert sorted(ended) == ["generator", "task"]


def test_a_generator_dropped_at_the_end_is_closed_once() -> None:
    closed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append("once")

    async def main(sim: Simulation) -> None:
        async for _ in numbers():
            break

    for seed in range(50):
        simulate(seed, main)

    assert closed == ["once"] * 50


def test_the_collector_works_again_after_a_run() -> None:
    async def main(sim: Simulation) -> bool:
        return gc.isenabled()

    assert not simulate(1, main).result
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_run_leaves_nothing_behind() -> None:
    loops: list[weakref.ref[SimulatedLoop]] = []

    async def main(sim: Simulation) -> None:
        loops.append(weakref.ref(sim.loop))
        sim.node("n").spawn(asyncio.sleep(5))

    simulate(1, main)

    assert loops[0]() is None


# Crashes and pauses -----------------------------------------------------------------------------


class Held:
    """What a frame holds, to see whether the frame is freed."""


def test_a_killed_node_runs_no_finally_and_no_except_ever() -> None:
    path = Path(__file__)
    ran: list[str] = []
    frames: list[weakref.ref[Held]] = []

    @contextlib.contextmanager
    def opened() -> Iterator[None]:
        try:
            yield
        finally:
            ran.append("context manager")

    @contextlib.asynccontextmanager
    async def connected() -> AsyncIterator[None]:
        try:
            yield
        finally:
            ran.append("async context manager")

    async def chunks() -> AsyncIterator[int]:
        held = Held()
        frames.append(weakref.ref(held))
        try:
            yield 1
            await asyncio.sleep(100)
        except BaseException:
            ran.append("except")
            raise
        finally:
            ran.append("generator")

    async def child() -> None:
        try:
            with opened(), path.open():  # noqa: ASYNC230 - it is closed by the kill alone
                async with connected(), asyncio.timeout(50):
                    async for _ in chunks():
                        pass
        finally:
            ran.append("child")

    async def serve() -> None:
        asyncio.get_running_loop().call_later(50, asyncio.ensure_future, unborn())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                await asyncio.to_thread(lambda: None)
                await asyncio.gather(asyncio.sleep(100), asyncio.shield(asyncio.sleep(200)))
        finally:
            ran.append("parent")

    async def unborn() -> None:
        ran.append("unborn")

    async def main(sim: Simulation) -> None:
        node = sim.node("n")
        node.spawn(serve())
        await asyncio.sleep(1)
        node.spawn(unborn())
        node.kill()
        await asyncio.sleep(1000)

    for seed in range(20):
        simulate(seed, main)
    gc.collect()

    assert ran == []
    assert len(frames) == 20
    assert not any(frame() for frame in frames)


def test_a_killed_nodes_timers_callbacks_and_jobs_stop() -> None:
    ran: list[str] = []

    async def serve(sim: Simulation) -> None:
        sim.loop.call_later(2, ran.append, "timer")
        sim.loop.run_in_executor(None, ran.append, "job")
        sim.loop.call_soon(ran.append, "callback")

    async def main(sim: Simulation, *, killed: bool) -> None:
        node = sim.node("n")
        served = node.spawn(serve(sim))
        served.add_done_callback(lambda _: node.kill() if killed else None)
        await asyncio.sleep(3)

    seen = set()
    for seed in range(20):
        ran.clear()
        simulate(seed, partial(main, killed=True))
        seen.add(tuple(ran))
    assert seen == {(), ("callback",)}

    ran.clear()
    simulate(1, partial(main, killed=False))
    assert sorted(ran) == ["callback", "job", "timer"]


def test_a_job_may_be_done_though_its_caller_was_killed() -> None:
    async def main(sim: Simulation) -> str:
        ran: list[str] = []

        async def serve() -> None:
            await asyncio.to_thread(ran.append, "committed")
            ran.append("replied")

        node = sim.node("n")
        node.spawn(serve())
        await asyncio.sleep(sim.random.uniform(0, 2 * EXECUTOR_WAIT_SECONDS_MAX))
        node.kill()
        await asyncio.sleep(1)
        return "-".join(ran)

    assert orders(main) == {"", "committed", "committed-replied"}


def test_a_dead_node_is_woken_by_nobody() -> None:
    async def main(sim: Simulation) -> None:
        mailbox: asyncio.Queue[str] = asyncio.Queue()
        got: list[str] = []

        async def serve() -> None:
            got.append(await mailbox.get())

        dead, alive = sim.node("n"), sim.node("n")
        dead.spawn(serve())
        await asyncio.sleep(1)
        dead.kill()
        mailbox.put_nowait("first")
        await asyncio.sleep(1)
        alive.spawn(serve())
        await asyncio.sleep(1)

        assert got == ["first"]

    simulate(1, main)


def test_a_node_that_kills_itself_ends_at_its_next_await() -> None:
    ran: list[str] = []

    async def main(sim: Simulation) -> None:
        node = sim.node("n")

        async def serve() -> None:
            try:
                node.kill()
                await asyncio.sleep(0)
                ran.append("after")
            finally:
                ran.append("finally")

        node.spawn(serve())
        await asyncio.sleep(1)

    simulate(1, main)

    assert ran == []


def test_other_nodes_live_on() -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []

        async def serve(name: str) -> None:
            await asyncio.create_task(asyncio.sleep(2))
            ran.append(name)

        nodes = {name: sim.node(name) for name in "abc"}
        for name, node in nodes.items():
            node.spawn(serve(name))
        await asyncio.sleep(1)
        nodes["b"].kill()
        await asyncio.sleep(5)
        return sorted(ran)

    assert orders(main) == {"ac"}


def test_who_waits_for_a_killed_task_waits_for_ever() -> None:
    async def main(sim: Simulation) -> None:
        node = sim.node("n")
        task = node.spawn(asyncio.sleep(5))
        await asyncio.sleep(1)
        node.kill()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(task), 100)
        await task

    with pytest.raises(Deadlock) as caught:
        simulate(1, main)

    assert len(caught.value.tasks) == 1


def test_a_paused_node_stands_still_and_then_goes_on() -> None:
    async def main(sim: Simulation) -> list[float]:
        ticks: list[float] = []

        async def tick(seconds: int) -> None:
            while True:
                await asyncio.sleep(seconds)
                ticks.append(sim.loop.time())

        paused, other = sim.node("paused"), sim.node("other")
        paused.spawn(tick(1))
        other.spawn(tick(3))
        await asyncio.sleep(2.5)
        paused.pause(4)
        await asyncio.sleep(5.6)
        return ticks

    for seed in range(20):
        assert simulate(seed, main).result == [1, 2, 3, 6, 6.5, 7.5]


def test_a_paused_node_may_be_killed() -> None:
    ran: list[str] = []

    async def main(sim: Simulation) -> None:
        async def serve() -> None:
            await asyncio.sleep(1)
            ran.append("on")

        node = sim.node("n")
        node.spawn(serve())
        node.pause(10)
        await asyncio.sleep(5)
        node.kill()
        await asyncio.sleep(50)

    simulate(1, main)

    assert ran == []


def test_a_node_inherits_no_context() -> None:
    variable = ContextVar("variable", default="nothing")

    async def get() -> str:
        return variable.get()

    async def main(sim: Simulation) -> tuple[str, str]:
        variable.set("something")
        return await asyncio.create_task(get()), await sim.node("n").spawn(get())

    assert simulate(1, main).result == ("something", "nothing")


def test_nothing_starts_in_a_dead_node() -> None:
    async def main(sim: Simulation) -> None:
        node = sim.node("n")
        node.kill()
        with contextlib.closing(fail()) as coro, pytest.raises(AssertionError, match="n is dead"):
            node.spawn(coro)

    simulate(1, main)


# Jobs and the outside ---------------------------------------------------------------------------


def test_jobs_run_in_the_loop_and_see_no_loop() -> None:
    async def main(sim: Simulation) -> float:
        def job(number: int) -> int:
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            assert threading.current_thread() is threading.main_thread()
            return number + 1

        assert await asyncio.to_thread(job, 1) == 2
        assert await sim.loop.run_in_executor(None, job, 2) == 3
        with pytest.raises(LookupError, match="lost"):
            await asyncio.to_thread(fail_at_once)
        assert asyncio.get_running_loop() is sim.loop
        return sim.loop.time()

    assert 0 < simulate(1, main).result <= 6 * EXECUTOR_WAIT_SECONDS_MAX


@pytest.mark.parametrize(("workers", "found"), [(1, {"abc"}), (2, None)])
def test_jobs_overtake_each_other_unless_one_worker_does_them(
    workers: int, found: set[str] | None
) -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []
        jobs = [sim.loop.run_in_executor(executor, ran.append, name) for name in "abc"]
        await asyncio.gather(*jobs)
        return ran

    with ThreadPoolExecutor(workers) as executor:
        assert orders(main) == (found or {"abc", "acb", "bac", "bca", "cab", "cba"})


def test_a_cancelled_job_may_run_nevertheless() -> None:
    async def main(sim: Simulation) -> list[str]:
        ran: list[str] = []
        job = sim.loop.run_in_executor(None, ran.append, "x")
        job.cancel()
        await asyncio.sleep(1)
        return ran

    assert orders(main) == {"", "x"}


def test_the_outside_is_refused() -> None:
    async def main(sim: Simulation) -> None:
        with pytest.raises(NotImplementedError, match="create_connection is refused"):
            await asyncio.open_connection("localhost", 80)
        with pytest.raises(NotImplementedError, match="create_server is refused"):
            await asyncio.start_server(print, "localhost", 80)
        with pytest.raises(NotImplementedError, match="subprocess_exec is refused"):
            await asyncio.create_subprocess_exec("true")
        with pytest.raises(NotImplementedError, match="getaddrinfo is refused"):
            await sim.loop.getaddrinfo("localhost", 80)

    simulate(1, main)


def test_a_thread_is_refused() -> None:
    refused: list[str] = []

    async def main(sim: Simulation) -> None:
        def call() -> None:
            try:
                sim.loop.call_soon_threadsafe(print)
            except RuntimeError as error:
                refused.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    simulate(1, main)

    assert refused == ["a simulated loop takes no calls from threads: no seed says when"]


# asyncio unchanged ------------------------------------------------------------------------------


async def use_task_group(sim: Simulation) -> None:
    sibling = None

    async def fail_later() -> None:
        await asyncio.sleep(1)
        await fail()

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - leaving the group raises
        async with asyncio.TaskGroup() as group:
            sibling = group.create_task(asyncio.sleep(100))
            group.create_task(fail_later())
    assert sibling
    assert sibling.cancelled()
    assert len(caught.value.exceptions) == 1
    assert sim.loop.time() == 1


async def use_timeouts(sim: Simulation) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await asyncio.sleep(5)
    async with asyncio.timeout(3) as deadline:
        await asyncio.sleep(2)
        deadline.reschedule(None)
        await asyncio.sleep(5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(5), 1)
    assert await asyncio.wait_for(asyncio.sleep(1, "slept"), 5) == "slept"
    assert sim.loop.time() == 12


async def use_queues(sim: Simulation) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(2)
    taken: list[int] = []

    async def take() -> None:
        while True:
            taken.append(await queue.get())
            await sim.latency(0.1)
            queue.task_done()

    taker = asyncio.create_task(take())
    for number in range(9):
        await queue.put(number)
        assert queue.qsize() <= 2
    await queue.join()
    taker.cancel()
    assert taken == list(range(9))


async def use_locks(sim: Simulation) -> None:
    lock, condition, event = asyncio.Lock(), asyncio.Condition(), asyncio.Event()
    inside = turn = 0

    async def work(number: int) -> None:
        nonlocal inside, turn
        await event.wait()
        for _ in range(3):
            async with lock:
                inside += 1
                await sim.latency(0.1)
                assert inside == 1
                inside -= 1
        async with condition:
            await condition.wait_for(lambda: turn == number)
            turn += 1
            condition.notify_all()

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(work(number))
        event.set()
    assert turn == 5


async def use_gather_and_shield(sim: Simulation) -> None:
    slept = [asyncio.sleep(seconds, seconds) for seconds in (3, 1, 2)]
    assert await asyncio.gather(*slept) == [3, 1, 2]
    results = await asyncio.gather(fail(), asyncio.sleep(1, "slept"), return_exceptions=True)
    assert [type(result) for result in results] == [LookupError, str]
    inner = asyncio.create_task(asyncio.sleep(5, "inner"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.shield(inner)
    assert await inner == "inner"
    slept = [asyncio.sleep(seconds, seconds) for seconds in (3, 1, 2)]
    assert [await each for each in asyncio.as_completed(slept)] == [1, 2, 3]


async def use_async_generators(sim: Simulation) -> None:
    closed: list[str] = []

    async def numbers(name: str) -> AsyncGenerator[int, None]:
        try:
            for number in range(3):
                await sim.latency(0.1)
                yield number
        finally:
            await asyncio.sleep(1)
            closed.append(name)

    assert [number async for number in numbers("whole")] == [0, 1, 2]
    async with contextlib.aclosing(numbers("part")) as generator:
        assert await anext(generator) == 0
    async for _ in numbers("dropped"):
        break
    del generator
    await asyncio.sleep(5)
    assert closed == ["whole", "part", "dropped"]


async def use_threads_and_streams_of_results(sim: Simulation) -> None:
    async with asyncio.TaskGroup() as group:
        jobs = [group.create_task(asyncio.to_thread(pow, 2, n)) for n in range(5)]
    assert [job.result() for job in jobs] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    "program",
    [
        use_task_group,
        use_timeouts,
        use_queues,
        use_locks,
        use_gather_and_shield,
        use_async_generators,
        use_threads_and_streams_of_results,
    ],
)
def test_asyncio_works_unchanged(program: Program) -> None:
    for seed in range(50):
        simulate(seed, program)
