"""A guest's code in a task of its own: how it ended, and who ended it."""

import asyncio

import pytest

from sessile.ports.apart import GuestExited, apart


async def failing_group() -> None:
    """Leaves a cancellation counted in its task, before Python 3.13."""
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(broken())


async def broken() -> None:
    raise ValueError


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_cancellation_of_its_own_is_told_from_its_callers() -> None:
    async def cancels_itself() -> None:
        await failing_group()
        raise asyncio.CancelledError("mine")

    ended = await apart(cancels_itself)

    assert ended.cancelled()


async def test_the_time_is_over_though_a_group_failed_before() -> None:
    async def hangs() -> None:
        await failing_group()
        await for_ever()

    with pytest.raises(TimeoutError):
        await apart(hangs, seconds=0.01)


async def test_a_time_out_of_its_own_is_no_time_that_is_over() -> None:
    async def gives_up() -> None:
        raise TimeoutError("upstream")

    ended = await apart(gives_up, seconds=60)

    assert str(ended.exception()) == "upstream"


async def test_what_answers_when_its_time_is_over_is_heard() -> None:
    async def answers_late() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            return "late"
        return "never"

    assert (await apart(answers_late, seconds=0.01)).result() == "late"


async def test_it_ends_with_its_caller_and_its_error_is_not_asked_for() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def closes() -> None:
        begun.set()
        try:
            await for_ever()
        finally:
            ended.set()
            raise ValueError("while closing")

    async with asyncio.TaskGroup() as tasks:
        caller = tasks.create_task(apart(closes))
        await begun.wait()
        caller.cancel()

    assert caller.cancelled()
    assert ended.is_set()


async def test_who_asks_for_the_end_of_the_process_does_not_end_the_loop() -> None:
    async def leaves() -> None:
        raise SystemExit(3)

    ended = await apart(leaves)

    assert isinstance(ended.exception(), GuestExited)
