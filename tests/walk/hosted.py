"""A hosted service that takes events: what was published on it, and when it is out of order."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hosted:
    """It checks no signature: `pusher` speaks to it as to any other."""

    data_bytes_max = 10_240

    def __init__(self) -> None:
        self.port = 0
        self.took: list[dict[str, Any]] = []
        self.refuses: list[str] = []
        """Channels whose events it answers with 500, though it has taken every second of them."""
        self.refused = 0
        self.told: Callable[[], object] = lambda: None
        """Called, in a thread of its own, when it was asked something."""

    def of(self, channel: str) -> list[dict[str, Any]]:
        """The data that a channel was told, in order."""
        return [json.loads(each["data"]) for each in self.took if channel in each["channels"]]

    def answer(self, event: dict[str, Any]) -> int:
        if len(event["data"].encode()) > self.data_bytes_max:
            return 413
        refuses = any(channel in self.refuses for channel in event["channels"])
        self.refused += refuses
        if not refuses or self.refused % 2 == 0:
            self.took.append(event)
        self.told()
        return 500 if refuses else 200


@contextmanager
def hosted() -> Iterator[Hosted]:
    service = Hosted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(service.answer(json.loads(body)))
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
