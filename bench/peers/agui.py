"""pydantic-ai's own AG-UI endpoint, with its conversation store in memory."""

from bench.http import Measured
from bench.load import request
from bench.peers.peer import Peer, Place
from bench.store import TEXT


def _command(place: Place) -> list[str]:
    return [str(place.binaries / "python"), "serve.py", str(place.port)]


def _open(_: Measured, number: int) -> str:
    """The caller names it."""
    return f"session-{number}"


def _turn(session: str) -> bytes:
    message = {"id": "message", "role": "user", "content": TEXT}
    body = {"threadId": session, "runId": "run", "messages": [message]}
    rest = {"state": {}, "tools": [], "context": [], "forwardedProps": {}}
    return request("POST", "/kept", {**body, **rest}, accept="text/event-stream")


peer = Peer(
    name="agui",
    title="pydantic-ai's AG-UI endpoint",
    package="pydantic-ai-slim",
    keeps="in memory",
    agents="agui",
    command=_command,
    open=_open,
    turn=_turn,
    ended='"RUN_FINISHED"',
)
