"""uvicorn, set up for long streams, and stopped so that none of them is cut off."""

import asyncio
import socket
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sessile.core.errors import SessileError
from sessile.http.app import App
from sessile.http.doors import Doors
from sessile.http.guard import REPLY_HEADERS
from sessile.http.problems import ConnectionsFull, HeadTooLarge, MalformedRequest, problem
from sessile.http.reply import ABORT
from sessile.http.websocket import Upgraded
from sessile.settings import Settings

REPLY_SECONDS_MAX = 60.0
"""A client that takes nothing of a reply for so long is dropped, with what was kept for it."""

SOCKETS = b"/app/"
"""What WebSockets' paths begin with."""
MESSAGE_BYTES_MAX = 102_400


class Connection(HttpToolsProtocol):
    """A request has to arrive in time, with a head of some size; and a reader that reads nothing
    can be dropped, where closing would first wait for it to take what is buffered.

    A head's size is checked as often as bytes arrive, so that what is held may be larger by what
    arrives at once.
    """

    _due: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle | None = None
    _bounds = 0
    _head_bytes = 0
    _field_bytes = _fields = 0
    _in_head = True
    _in_body = False
    _entered = False

    def __init__(self, *, settings: Settings, doors: Doors, **given: Any) -> None:
        super().__init__(**given)
        self._settings = settings
        self._doors = doors

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._entered = self._doors.enter(self._address)
        if self._entered:
            self._await_head()
        else:
            self._refuse(ConnectionsFull())

    def data_received(self, data: bytes) -> None:
        bounds = self._bounds
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._bounds == bounds:
            self._head_bytes += len(data)
            if self._answered:
                # Even where these are empty lines, which begin nothing.
                self._await_head()
            if self._head_bytes > self._settings.head_bytes_max:
                self._refuse(self._head_too_large)
        else:
            # Some of these bytes, or all, are of what came before the head.
            self._head_bytes = 0
            if self._in_body:
                self._await(self._settings.body_seconds_max)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {ABORT: self.transport.abort}
        self._bounds += 1
        self._field_bytes = self._fields = 0
        self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_bytes += len(name) + len(value)
        self._fields += 1
        if self._has_too_much:
            raise self._head_too_large  # the parser makes a refusal of it
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # raises for a target that it cannot read, as CONNECT has
        self._in_head, self._in_body = False, True
        self._in_time()

    def on_message_complete(self) -> None:
        self._in_head, self._in_body = True, False
        self._bounds += 1
        self._in_time()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        upgraded = cast(Upgraded, self.transport.get_protocol())
        upgraded.left = partial(self._doors.leave, self._address)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._entered:
            self._doors.leave(self._address)
        self._in_time()
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls where its parser gives up."""
        self._refuse(self._head_too_large if self._has_too_much else MalformedRequest())

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

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def _has_too_much(self) -> bool:
        settings = self._settings
        return self._field_bytes > settings.head_bytes_max or self._fields > settings.headers_max

    @property
    def _head_too_large(self) -> HeadTooLarge:
        settings = self._settings
        return HeadTooLarge(bytes_max=settings.head_bytes_max, headers_max=settings.headers_max)

    def _await_head(self) -> None:
        """From the connection, or the first byte behind the request before."""
        self._await(self._settings.head_seconds_max)

    def _await(self, seconds: float) -> None:
        if self._due is None:
            self._due = self.loop.call_later(seconds, self.transport.abort)

    def _in_time(self) -> None:
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
        doors = Doors(
            connections_max=settings.connections_max, address_max=settings.connections_address_max
        )
        given["http"] = partial(Connection, settings=settings, doors=doors)
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
            timeout_keep_alive=cast(int, settings.keep_alive_seconds),
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds_max)),
            **given,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams end first: uvicorn waits for every reply that is under way."""
        self._app.drain()
        await self._app.drain_surfaces()
        await super().shutdown(sockets)
