"""ADK's `adk api_server`, with its sessions in SQLite."""

from bench.http import Measured, call
from bench.load import request
from bench.peers.peer import Peer, Place
from bench.store import TEXT

SESSIONS = "/apps/echo/users/user/sessions"


def _command(place: Place) -> list[str]:
    database = f"sqlite+aiosqlite:///{place.directory / 'sessions.db'}"
    return [
        str(place.binaries / "adk"), "api_server", "--port", str(place.port),
        "--session_service_uri", database, "--log_level", "ERROR", str(place.directory),
    ]  # fmt: skip


def _open(server: Measured, _: int) -> str:
    return str(call(server, "POST", SESSIONS, {})["id"])


def _turn(session: str) -> bytes:
    message = {"role": "user", "parts": [{"text": TEXT}]}
    named = {"app_name": "echo", "user_id": "user", "session_id": session}
    return request("POST", "/run", {**named, "new_message": message})


def _said(server: Measured, session: str) -> int:
    return len(call(server, "GET", f"{SESSIONS}/{session}")["events"])


peer = Peer(
    name="adk",
    title="ADK `api_server`",
    package="google-adk",
    keeps="SQLite",
    agents="adk",
    command=_command,
    open=_open,
    turn=_turn,
    ended='"role":"model"',
    said=_said,
)
