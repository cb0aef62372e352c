"""An event stream as it is read by the field's clients: https://html.spec.whatwg.org/#event-stream"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

EVENT_BYTES_MAX = 4 * 1024 * 1024
_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
"""The other half of a `\\r` that comes last may be on its way."""


class TooLong(ValueError):
    """An event, or a line, of more than EVENT_BYTES_MAX."""


@dataclass(slots=True)
class Event:
    """`id`: its own, where it has one; what a client comes back with is the last that was sent."""

    name: str
    data: str
    id: str | None


@dataclass(slots=True)
class Reader:
    """Takes bytes as they come; answers the events that are whole. Raises TooLong."""

    _bytes: bytes = b""
    _name: str = ""
    _id: str | None = None
    _data: list[str] = field(default_factory=list[str])
    _size: int = 0
    _began: bool = False

    def feed(self, data: bytes) -> Iterator[Event]:
        self._bytes += data
        if not self._began and len(self._bytes) >= 3:
            self._bytes, self._began = self._bytes.removeprefix(b"\xef\xbb\xbf"), True
        *lines, self._bytes = _END.split(self._bytes)
        if len(self._bytes) + self._size > EVENT_BYTES_MAX:
            raise TooLong(f"an event has more than {EVENT_BYTES_MAX} bytes")
        for line in lines:
            if (event := self._line(line.decode(errors="replace"))) is not None:
                yield event

    def _line(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
                self._size += len(value)
            elif name == "event":
                self._name = value
            elif name == "id" and "\0" not in value:
                self._id = value or None
            return None
        name, data, own = self._name, self._data, self._id
        self._name, self._data, self._id, self._size = "", [], None, 0
        if not data:
            return None
        return Event(name or "message", "\n".join(data), own)
