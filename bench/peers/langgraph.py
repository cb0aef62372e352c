"""LangGraph's server in its development mode: `langgraph dev`, in memory."""

from collections.abc import Mapping

from bench.http import Measured, call
from bench.load import request
from bench.peers.peer import Peer, Place
from bench.store import TEXT

MESSAGE = {"role": "user", "content": TEXT}
RUN = {"assistant_id": "echo", "input": {"messages": [MESSAGE]}}


def _command(place: Place) -> list[str]:
    return [
        str(place.binaries / "langgraph"), "dev", "--no-browser", "--no-reload",
        "--n-jobs-per-worker", "10", "--port", str(place.port), "--server-log-level", "ERROR",
    ]  # fmt: skip


def _environment(_: Place) -> Mapping[str, str]:
    return {"LANGSMITH_TRACING": "false", "LOG_LEVEL": "ERROR"}


def open_thread(server: Measured, _: int) -> str:
    return str(call(server, "POST", "/threads", {})["thread_id"])


def turn(session: str) -> bytes:
    return request("POST", f"/threads/{session}/runs/wait", RUN)


def said(server: Measured, session: str) -> int:
    return len(call(server, "GET", f"/threads/{session}/state")["values"]["messages"])


def _stream(session: str) -> bytes:
    return request("GET", f"/threads/{session}/stream", accept="text/event-stream")


peer = Peer(
    name="langgraph",
    title="LangGraph server, `langgraph dev`",
    package="langgraph-api",
    keeps="in memory",
    agents="langgraph",
    command=_command,
    environment=_environment,
    open=open_thread,
    turn=turn,
    ended='"type":"ai"',
    said=said,
    stream=_stream,
)
