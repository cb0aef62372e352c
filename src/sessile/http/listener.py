"""uvicorn, set up for long streams, and stopped so that none of them is cut off."""

import asyncio
import socket
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sessile.core.errors import SessileError
from sessile.http.app import App
from sessile.http.guard import REPLY_HEADERS
from sessile.http.problems import HeadTooLarge, MalformedRequest, problem
from sessile.http.reply import ABORT
from sessile.http.websocket import Upgraded
from sessile.settings import Settings

REQUEST_SECONDS_MAX = 30.0
"""From a connection, or a request's first byte, to its last: slower ones are dropped."""
REPLY_SECONDS_MAX = 60.0
"""A client that takes nothing of a reply for so long is dropped, with what was kept for it."""
KEEP_ALIVE_SECONDS = 65
"""Longer than the idle time of common proxies, so that they close first and not we."""
HEAD_BYTES_MAX = 65_536
"""A request's line and headers, and its trailers. Checked as often as bytes arrive, so that what
is held may be larger by what arrives at once."""

SOCKETS = b"/app/"
"""What WebSockets' paths begin with."""
MESSAGE_BYTES_MAX = 102_400


class Connection(HttpToolsProtocol):
    """A request has to arrive in time, with a head of some size; and a reader that reads nothing
    can be dropped, where closing would first wait for it to take what is buffered."""

    _due: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle | None = None
    _bounds = 0
    _head_bytes = 0
    _field_bytes = 0
    _in_head = True
    _in_body = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._await_request()

    def data_received(self, data: bytes) -> None:
        bounds = self._bounds
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._bounds == bounds:
            self._head_bytes += len(data)
            if self._answered:
                # Even where these are empty lines, which begin nothing.
                self._await_request()
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(HeadTooLarge(bytes_max=HEAD_BYTES_MAX))
        else:
            # Some of these bytes, or all, are of what came before the head.
            self._head_bytes = 0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {ABORT: self.transport.abort}
        self._bounds += 1
        self._field_bytes = 0
        self._await_request()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > HEAD_BYTES_MAX:
            raise HeadTooLarge(bytes_max=HEAD_BYTES_MAX)  # the parser makes a refusal of it
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._in_body = True, False
        self._bounds += 1
        self._request_came()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_came()
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls where its parser gives up."""
        if self._field_bytes > HEAD_BYTES_MAX:
            self._refuse(HeadTooLarge(bytes_max=HEAD_BYTES_MAX))
        else:
            self._refuse(MalformedRequest())

    def _refuse(self, error: SessileError) -> None:
        """Say why, where that cannot be taken for a part of another reply; and hang up."""
        if self._in_body:
            unanswered = not self.pipeline and not self.cycle.response_started
        else:
            unanswered = self._answered
        if unanswered:
            reply = problem(error, request_id=None)
            lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}".encode()]
            headers = (*self.server_state.default_headers, *reply.headers, *REPLY_HEADERS)
            lines += [b"%s: %s" % header for header in headers]
            self.transport.write(b"\r\n".join([*lines, b"", reply.body]))
            self._await_reader()
        self.transport.close()

    def _should_upgrade(self) -> bool:
        """Nothing else is a WebSocket: its bytes are a request's, whatever its headers say."""
        is_socket = self.url.startswith(SOCKETS) and self.scope["method"] == "GET"
        return is_socket and super()._should_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade may be asked for by anyone, and passed over."""

    @property
    def _answered(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def _await_request(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(REQUEST_SECONDS_MAX, self.transport.abort)

    def _request_came(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _await_reader(self) -> None:
        if self._look is None:
            left = self.transport.get_write_buffer_size()
            self._look = self.loop.call_later(REPLY_SECONDS_MAX, self._looked, left)

    def _looked(self, before: int) -> None:
        self._look = None
        left = self.transport.get_write_buffer_size()
        if left >= before > 0:
            self.transport.abort()
        elif left:
            self._await_reader()


class Listener(uvicorn.Server):
    """`await Listener(app, settings).serve()`; setting `should_exit` ends it."""

    def __init__(self, app: App, settings: Settings, **given: Any) -> None:
        self._app = app
        given["http"] = Connection
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            lifespan="off",
            ws=Upgraded,
            ws_max_size=MESSAGE_BYTES_MAX,
            ws_ping_interval=None,  # what is spoken there has pings of its own
            ws_per_message_deflate=False,  # some hundred KiB for each connection
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds_max)),
            **given,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams end first: uvicorn waits for every reply that is under way."""
        self._app.drain()
        await self._app.drain_surfaces()
        await super().shutdown(sockets)
