"""What every test shares: coroutines run on asyncio, the only event loop Sessile knows."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
