"""The bank's chatbot as it was: two managers, each of which makes a session of its own, and a
database that takes a row without one. Without its fault it is as good as so small a one can be."""

import re
import sqlite3
from itertools import count
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Header

Fault = Literal["two ids", "null id", "another id", "null row"]


class Messages:
    """The table of messages."""

    def __init__(self, database: Path) -> None:
        self._rows = sqlite3.connect(database, isolation_level=None)
        self._rows.execute("create table messages (session_id text, role text, content text)")

    def add(self, session_id: str | None, role: str, content: str) -> None:
        self._rows.execute("insert into messages values (?, ?, ?)", (session_id, role, content))

    def of(self, session_id: str) -> list[tuple[str, str]]:
        asked = "select role, content from messages where session_id = ? order by rowid"
        return list(self._rows.execute(asked, (session_id,)))

    def close(self) -> None:
        self._rows.close()


def backend(fault: Fault | None, messages: Messages) -> FastAPI:
    app = FastAPI()
    numbers = count(1)

    def new_chat_id() -> str:
        return f"chat-{next(numbers)}"

    def new_session_id(chat_id: str) -> str | None:
        """The second manager, which does not know of the first."""
        if fault == "two ids":
            return f"session-{next(numbers)}"
        return None if fault == "null id" else chat_id

    @app.post("/api/auth/login")
    async def log_in(body: dict[str, Any]) -> dict[str, Any]:
        return {"token": "token", "user": {"username": body["username"]}}

    @app.post("/api/sessions", status_code=201)
    async def open_session(body: dict[str, Any]) -> dict[str, Any]:
        chat_id = new_chat_id()
        return {
            "sessionId": chat_id,
            "chatSession": {"sessionId": chat_id, "userId": body["userId"]},
            "session": {"sessionId": new_session_id(chat_id)},
            "timestamp": "now",
        }

    @app.post("/api/chat/message")
    async def say(body: dict[str, Any], x_session_id: str = Header()) -> dict[str, Any]:
        # Where the session is not known to it, it makes one: nobody is told.
        session_id = new_chat_id() if fault == "another id" else x_session_id
        known = re.findall(r"\d+", " ".join(content for _, content in messages.of(session_id)))
        number = (re.findall(r"\d+", body["content"]) or known or [""])[-1]
        reply = f"It is about {number}." if number else "Hello."
        messages.add(session_id, "user", body["content"])
        messages.add(session_id, "assistant", reply)
        if fault == "null row":
            messages.add(None, "system", "metrics of the reply")
        return {"sessionId": x_session_id, "reply": reply}

    @app.get("/api/sessions/{session_id}/history")
    async def history(session_id: str) -> dict[str, Any]:
        told = [{"role": role, "content": content} for role, content in messages.of(session_id)]
        return {"sessionId": session_id, "messages": told}

    return app
