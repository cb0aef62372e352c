"""What a test leaves behind on its task is not there for the next."""

import asyncio
from collections.abc import AsyncIterator

import pytest


@pytest.fixture(scope="module")
async def task_of_all() -> AsyncIterator[None]:
    """As long as there is one of these, anyio runs all coroutines in one task."""
    yield  # noqa: PT022


@pytest.mark.usefixtures("task_of_all")
@pytest.mark.parametrize("_", range(2))
async def test_a_test_begins_on_a_task_that_nobody_has_cancelled(_: int) -> None:
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.Event().wait()
