"""An event stream as it is read by the field's clients: https://html.spec.whatwg.org/#event-stream"""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Event:
    name: str
    data: str
    id: str | None


@dataclass(slots=True)
class Reader:
    """Takes bytes as they come; answers the events that are whole. `id` is the last that was
    sent, which is what a client comes back with."""

    id: str | None = None
    _bytes: bytes = b""
    _name: str = ""
    _data: list[str] = field(default_factory=list[str])
    _began: bool = False

    def feed(self, data: bytes) -> Iterator[Event]:
        self._bytes += data
        if not self._began and len(self._bytes) >= 3:
            self._bytes, self._began = self._bytes.removeprefix(b"\xef\xbb\xbf"), True
        *lines, self._bytes = self._bytes.replace(b"\r\n", b"\n").split(b"\n")
        if self._bytes.endswith(b"\r"):
            pass  # the other half of this line's end may be on its way
        for line in lines:
            if (event := self._line(line.decode(errors="replace"))) is not None:
                yield event

    def _line(self, line: str) -> Event | None:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "event":
                self._name = value
            elif name == "id" and "\0" not in value:
                self.id = value
            return None
        name, data = self._name, self._data
        self._name, self._data = "", []
        if not data:
            return None
        return Event(name or "message", "\n".join(data), self.id)
