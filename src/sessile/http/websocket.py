"""WebSockets under uvicorn: what a client may make this process keep for it is bounded."""

import asyncio
from collections.abc import Callable
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
FAREWELL_SECONDS_MAX = 15.0
"""How long an ended connection has to be gone: closing waits for what the client does not read.
Longer than uvicorn waits for the client's own goodbye."""
REFUSED = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


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

    _cut: asyncio.TimerHandle | None = None
    left: Callable[[], None] | None = None
    """Called when the connection is lost."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            # Its head is larger than a WebSocket's may be, or it has a body; uvicorn would wait
            # for the request for ever.
            self.transport.write(b"".join(self.conn.data_to_send()) or REFUSED)
            self.transport.close()

    async def run_asgi(self) -> None:
        await super().run_asgi()
        if not self.disconnected:
            self._cut = self.loop.call_later(FAREWELL_SECONDS_MAX, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        if self.left is not None:
            self.left()
        super().connection_lost(exc)

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

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                # uvicorn would log each with a traceback, as a fault of ours.
                self._fail(CloseCode.INVALID_DATA, "text is UTF-8")
                return
        super().send_receive_event_to_app()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS_MAX:
            self._fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > PONGS_BYTES_MAX:
            self.transport.abort()
            return
        super().handle_ping()

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        self.conn.fail(code, reason)
        self.handle_parser_exception()
