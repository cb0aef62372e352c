"""WebSockets under uvicorn: what a client may make this process keep for it is bounded."""

from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from sessile.http.reply import ABORT

SEND_NOW = "sessile.send_now"
"""The ASGI extension by which a text is sent without waiting, where nothing has to be waited
for: `send_now(text)` says whether it was."""

FRAGMENTS_MAX = 64
"""Pieces of one message. Empty ones cost a client next to nothing, and are kept all the same."""
PONGS_BYTES_MAX = 65_536
"""What waits to be written when a ping comes: one who pings and reads nothing is dropped."""


class _Framed:
    """Many are sent the same text, one after another: it is made a frame once for all."""

    def __init__(self) -> None:
        self._text = ""
        self._frame = b""

    def of(self, text: str) -> bytes:
        if text is not self._text:
            frame = Frame(Opcode.TEXT, text.encode())
            self._text, self._frame = text, frame.serialize(mask=False)
        return self._frame


_framed = _Framed()


class Upgraded(WebSocketsSansIOProtocol):
    """A connection that began as a request. What is said on it is for the application, which can
    drop it, as it can a stream."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions = cast(dict[str, Any], self.scope)["extensions"]
            extensions[ABORT] = self.transport.abort
            extensions[SEND_NOW] = self.send_now

    def send_now(self, text: str) -> bool:
        if not (self.handshake_complete and self.writable.is_set()) or self.close_sent:
            return False
        if self.conn.state is not State.OPEN or self.transport.is_closing():
            return False
        self.transport.write(_framed.of(text))
        return True

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS_MAX:
            self.frames = []
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > PONGS_BYTES_MAX:
            self.transport.abort()
            return
        super().handle_ping()
