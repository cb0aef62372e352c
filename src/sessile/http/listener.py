"""uvicorn, set up for long streams, and stopped so that none of them is cut off."""

import socket
from typing import Any

import uvicorn

from sessile.http.app import App
from sessile.settings import Settings

KEEP_ALIVE_SECONDS = 65
"""Longer than the idle time of common proxies, so that they and not we close first."""


class Listener(uvicorn.Server):
    """`await Listener(app, settings).serve()`; setting `should_exit` ends it."""

    def __init__(self, app: App, settings: Settings, **given: Any) -> None:
        self._app = app
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            lifespan="off",
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
