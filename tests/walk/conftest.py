"""A whole server in one process, and people who talk to it over HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.walk.people import Walk, walking


@pytest.fixture
async def walk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Walk]:
    """On the memory store, or where a test is marked `each_store`, on each."""
    store: str = getattr(request, "param", "memory")
    async with walking(data_dir=tmp_path / "data", store_url=store) as walk:
        yield walk
