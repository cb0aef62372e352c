"""A server of its own for each test: what one leaves, no other sees."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.guarantees.servers import Process, World, serving

Serve = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """`async with serve(assistant, …, **settings) as world`: again, it is the same database."""
    return partial(serving, tmp_path / "data")


@pytest.fixture
async def process(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Process]:
    """A server in a process of its own, which is not started yet."""
    settings: dict[str, Any] = getattr(request, "param", {})
    async with AsyncExitStack() as stack:
        process = Process(tmp_path / "data", **settings)
        stack.push_async_callback(process.end)
        yield process
