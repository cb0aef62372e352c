"""A whole log as JSON Lines, sent while it is read."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sessile.core.codec import entry_json
from sessile.core.events import Entry
from sessile.core.ids import SessionId
from sessile.http.exchange import Access
from sessile.http.reply import abort

PIECE_BYTES = 65_536


class JsonLines(Response):
    """For OpenAPI."""

    media_type = "application/jsonl"


class Export:
    """An ASGI application. A client that leaves ends the reading, and so does one that takes
    nothing, or is not let in any more; none gets an end that would make half a log look like a
    whole one."""

    def __init__(
        self,
        session_id: SessionId,
        entries: AsyncIterator[Entry],
        access: Access,
        *,
        send_seconds_max: float,
    ) -> None:
        self._session_id = session_id
        self._entries = entries
        self._access = access
        self._send_seconds_max = send_seconds_max
        self._cut = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = f'attachment; filename="{self._session_id}.jsonl"'
        headers = [
            (b"content-type", b"application/jsonl"),
            (b"content-disposition", name.encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write(send))
            leaving = tasks.create_task(_left(receive))
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            writing.cancel()
            leaving.cancel()
        if self._cut:
            abort(scope)

    async def _write(self, send: Send) -> None:
        lines: list[str] = []
        size = 0
        async for entry in self._entries:
            line = entry_json(entry)
            lines.append(line)
            size += len(line)
            if size >= PIECE_BYTES:
                if not await self._access.holds():
                    self._cut = True
                    return
                await self._send(send, lines, more=True)
                lines, size = [], 0
            if self._cut:
                return
        await self._send(send, lines, more=False)

    async def _send(self, send: Send, lines: list[str], *, more: bool) -> None:
        body = "".join(f"{line}\n" for line in lines).encode()
        try:
            async with asyncio.timeout(self._send_seconds_max):
                await send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            self._cut = True


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
