"""What every test shares: coroutines run on asyncio, the only event loop Sessile knows; and what a
test makes of the process's log, or of its task, ends with it."""

import asyncio
import functools
import inspect
import logging
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest

# A connection that is cut while asyncpg asks whether there is TLS leaves a future that nobody
# reads, which would fail whichever test runs then.
os.environ.setdefault("PGSSLMODE", "disable")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def processes_of_tests_are_not_measured() -> None:
    """Coverage is of what tests do themselves. Measured too, the servers that they start would take
    a third longer, and each starts some."""
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """A test that is a coroutine has a task of its own. In the one task that anyio has for all, a
    test that fails within a TaskGroup would leave it cancelled, before Python 3.13, for the next.
    """
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def apart(**given: Any) -> None:
            await asyncio.get_running_loop().create_task(test(**given))

        pyfuncitem.obj = apart
    return (yield)


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in tuple(root.manager.loggerDict)}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(capture=False)
