"""A tenant's cursor is one relay's: a second one would miss what the first has published."""

from pathlib import Path
from typing import Any

import pytest

from sessile import Assistant, Server, Settings


class Service:
    """A client that takes everything."""

    def trigger(self, channels: Any, event_name: str, data: Any) -> None: ...


def test_a_tenant_is_relayed_to_one_service(tmp_path: Path) -> None:
    server = Server(Assistant("echo", agent=_nothing), settings=Settings(data_dir=tmp_path))
    server.relay(Service(), tenants=["acme", "demo"])

    with pytest.raises(ValueError, match="demo"):
        server.relay(Service(), tenants=["globex", "demo"])
    server.relay(Service(), tenants=["globex"])


async def _nothing(_turn: object) -> str:
    return ""
