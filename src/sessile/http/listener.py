"""uvicorn, set up for long streams, and stopped so that none of them is cut off."""

import asyncio
import socket
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sessile.http.app import App
from sessile.http.reply import ABORT
from sessile.settings import Settings

REQUEST_SECONDS_MAX = 30.0
"""From a connection, or a request's first byte, to its last: slower ones are dropped."""
KEEP_ALIVE_SECONDS = 65
"""Longer than the idle time of common proxies, so that they close first and not we."""


class Connection(HttpToolsProtocol):
    """A request has to arrive in time; and a reader that reads nothing can be dropped, where
    closing would first wait for it to take what is buffered."""

    _due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._await_request()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {ABORT: self.transport.abort}
        self._await_request()

    def on_message_complete(self) -> None:
        self._request_came()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_came()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        if self._due is None:
            self._due = self.loop.call_later(REQUEST_SECONDS_MAX, self.transport.abort)

    def _request_came(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None


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
            ws="none",
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
        await super().shutdown(sockets)
