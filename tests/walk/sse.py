"""Server-sent events as the HTML standard has a browser read them: independent of what we write."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    event: str
    data: str

    def json(self) -> Any:
        return json.loads(self.data)


class Parser:
    """Fed with bytes as they come. An event that was not ended by an empty line never was."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retries_ms: list[int] = []
        self.comments: list[str] = []
        self._rest = b""
        self._id = self._event = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[Event]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        events = (self._line(line.decode()) for line in lines)
        return [event for event in events if event is not None]

    def _line(self, line: str) -> Event | None:
        assert "\r" not in line
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if colon and not name:
            self.comments.append(value)
        elif name == "id":
            self._id = value
        elif name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "retry":
            self.retries_ms.append(int(value))
        else:
            raise AssertionError(f"no such field: {line}")
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        event = Event(self._id, self._event or "message", "\n".join(self._data))
        had_data, self._event, self._data = bool(self._data), "", []
        return event if had_data else None
