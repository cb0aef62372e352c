"""Agno's AgentOS, with its sessions in SQLite."""

from urllib.parse import urlencode

from bench.http import Measured, call
from bench.load import request
from bench.peers.peer import Peer, Place
from bench.store import TEXT


def _command(place: Place) -> list[str]:
    file = place.directory / "sessions.db"
    return [str(place.binaries / "python"), "serve.py", str(place.port), str(file)]


def _open(server: Measured, _: int) -> str:
    return str(call(server, "POST", "/sessions?type=agent", {"agent_id": "echo"})["session_id"])


def _turn(session: str) -> bytes:
    form = {"message": TEXT, "stream": "false", "session_id": session}
    return request("POST", "/agents/echo/runs", form=urlencode(form))


def _said(server: Measured, session: str) -> int:
    found = call(server, "GET", f"/sessions/{session}/runs?type=agent")
    return sum(not each["from_history"] for run in found for each in run["messages"])


peer = Peer(
    name="agno",
    title="Agno AgentOS",
    package="agno",
    keeps="SQLite",
    agents="agno",
    command=_command,
    open=_open,
    turn=_turn,
    ended='"status":"COMPLETED"',
    said=_said,
)
