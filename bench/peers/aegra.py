"""Aegra: LangGraph's API on PostgreSQL."""

from collections.abc import Mapping

from tests.servers.postgres import Postgres

from bench.peers import langgraph
from bench.peers.peer import Peer, Place


def _command(place: Place) -> list[str]:
    return [
        str(place.binaries / "uvicorn"), "aegra_api.main:app", "--port", str(place.port),
        "--log-level", "warning", "--no-access-log",
    ]  # fmt: skip


def _environment(place: Place) -> Mapping[str, str]:
    return {
        "DATABASE_URL": place.database,
        "AEGRA_CONFIG": "langgraph.json",
        "LOG_LEVEL": "ERROR",
        "REDIS_BROKER_ENABLED": "false",
    }


peer = Peer(
    name="aegra",
    title="Aegra",
    package="aegra-api",
    keeps="PostgreSQL",
    agents="langgraph",
    python="python3.12",
    command=_command,
    environment=_environment,
    database=Postgres,
    open=langgraph.open_thread,
    turn=langgraph.turn,
    ended='"type": "ai"',
    said=langgraph.said,
)
