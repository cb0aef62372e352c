"""One WebSocket: what waits to be sent on it, and who was let in, and how."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Send

from sessile.core.context import Principal
from sessile.core.ids import TenantId, UserId
from sessile.pusher.admission import Admission
from sessile.runtime.asking import Asking

ABORT, SEND_NOW = "sessile.abort", "sessile.send_now"
"""ASGI extensions of `http.listener`; where there are none, what they are for is waited for."""
GOODBYE_SECONDS_MAX = 2.0
"""How long a client has to take the frame that says why it is closed."""


class Socket:
    """What is put in is sent in that order, as the client takes it, and nothing after a close."""

    __slots__ = (
        "_bell", "_chars", "_chars_max", "_closing", "_now", "_waiting", "abort", "admitted",
        "asking", "cut_at", "places", "sending_since", "socket_id",
    )  # fmt: skip

    def __init__(self, socket_id: str, *, chars_max: int, extensions: Mapping[str, Any]) -> None:
        self.socket_id = socket_id
        self.abort: Callable[[], None] = extensions.get(ABORT, _nothing)
        """Drops the connection of a client that takes nothing: closing it would wait for it."""
        self._now: Callable[[str], bool] = extensions.get(SEND_NOW, _never)
        self.admitted: dict[str, Admission] = {}
        """By channel; some of them may have been left since."""
        self.asking: dict[str, Asking] = {}
        """By channel: who had it signed here. Never told to anyone."""
        self.places: dict[tuple[TenantId, UserId], Principal] = {}
        """Whose users' place it has."""
        self.sending_since: float | None = None
        self.cut_at: float | None = None
        """When the connection is dropped, should it still be open."""
        self._waiting: deque[str] = deque()
        self._chars = 0
        self._chars_max = chars_max
        self._closing: tuple[int, str] | None = None
        self._bell = asyncio.Event()

    def put(self, text: str) -> bool:
        """Whether there was room. One frame always has, however large it is."""
        if self._closing is None:
            idle = not self._waiting and self.sending_since is None
            if idle and self._now(text):
                return True
            if self._waiting and self._chars + len(text) > self._chars_max:
                return False
            self._waiting.append(text)
            self._chars += len(text)
            self._bell.set()
        return True

    def forget(self) -> None:
        """Nothing that waits is sent: the client fills what it missed from the log."""
        self._waiting.clear()
        self._chars = 0

    def close(self, code: int, reason: str) -> None:
        """When all that waits was sent."""
        if self._closing is None:
            self._closing = (code, reason)
            self.cut_at = asyncio.get_running_loop().time() + GOODBYE_SECONDS_MAX
            self._bell.set()

    async def write(self, send: Send) -> None:
        """Until it is closed; a client that has gone ends it too."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                while self._waiting:
                    text = self._waiting.popleft()
                    self._chars -= len(text)
                    self.sending_since = loop.time()
                    await send({"type": "websocket.send", "text": text})
                    self.sending_since = None
                if self._closing is not None:
                    code, reason = self._closing
                    await send({"type": "websocket.close", "code": code, "reason": reason})
                    return
                self._bell.clear()
                await self._bell.wait()
        except (OSError, RuntimeError):
            # What ASGI has for a client that is not there any more, and what uvicorn has for one
            # whose connection it ended itself, for a frame that is none.
            return


def _nothing() -> None:
    pass


def _never(_text: str) -> bool:
    return False
