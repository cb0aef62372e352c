"""What every test shares: coroutines run on asyncio, the only event loop Sessile knows; and what a
test makes of the process's log ends with it."""

import logging
import os
from collections.abc import Iterator

import pytest

# A connection that is cut while asyncpg asks whether there is TLS leaves a future that nobody
# reads, which would fail whichever test runs then.
os.environ.setdefault("PGSSLMODE", "disable")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


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
