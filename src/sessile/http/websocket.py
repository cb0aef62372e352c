"""WebSockets under uvicorn: what a client may make this process keep for it is bounded."""

from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

from sessile.http.reply import ABORT

FRAGMENTS_MAX = 64
"""Pieces of one message. Empty ones cost a client next to nothing, and are kept all the same."""
PONGS_BYTES_MAX = 65_536
"""What waits to be written when a ping comes: one who pings and reads nothing is dropped."""


class Upgraded(WebSocketsSansIOProtocol):
    """A connection that began as a request. What is said on it is for the application, which can
    drop it, as it can a stream."""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast(dict[str, Any], self.scope)["extensions"][ABORT] = self.transport.abort

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
