"""Pusher Channels: how soon an entry is at each of many subscribers, and what each costs."""

import asyncio
import base64
import json
import os
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

from bench.http import BODY, call, open_sessions
from bench.machine import ASKING, pinned
from bench.report import Report, at_most, percentile
from bench.servers import Server, sessile
from sessile.core.context import Principal
from sessile.core.ids import TenantId, UserId
from sessile.pusher.admission import channel_data
from sessile.pusher.signing import AppKeys

SECTION = "pusher"
WARM = 20
PATIENCE_SECONDS = 60.0
ADMIN = Principal(tenant_id=TenantId("demo"), user_id=UserId("admin"), roles=frozenset({"admin"}))
_ESTABLISHED = re.compile(rb"(\d+\.\d+)")


async def measure(report: Report, *, subscribers: int = 2_000, turns: int = 20) -> None:
    for shared in (True, False):
        with (
            pinned(ASKING),
            TemporaryDirectory(dir=report.directory) as name,
            sessile(Path(name) / "data") as server,
        ):
            await _subscribers(
                report, server, Path(name) / "data", subscribers, turns, shared=shared
            )


async def _subscribers(
    report: Report, server: Server, data_dir: Path, count: int, turns: int, *, shared: bool
) -> None:
    keys = _keys(data_dir)
    ids = open_sessions(server, 1 if shared else count, assistant="echo")
    # What is imported and cached for the first of them is no subscriber's.
    for each in await _subscribed(server, keys, ids[:1] * WARM):
        each.close()
    before, begun = server.rss_mib(), server.cpu_seconds()
    clients = await _subscribed(server, keys, ids * count if shared else ids)
    opening = (server.cpu_seconds() - begun) / count * 1000
    kib = (server.rss_mib() - before) * 1024 / count
    about = f"{count:,} of one session" if shared else f"{count:,} of a session each"
    report.add(SECTION, f"an open subscriber, {about}", kib, "KiB")
    report.add(SECTION, f"opening one, {about}: CPU", opening, "ms")
    late: list[float] = []
    begun = server.cpu_seconds()
    for number in range(turns):
        told = clients if shared else [clients[number % count]]
        for each in told:
            each.ended = asyncio.get_running_loop().create_future()
        path = f"/v1/sessions/{ids[0 if shared else number % count]}/turns?wait=30"
        asked = time.time()
        await asyncio.to_thread(call, server, "POST", path, BODY)
        async with asyncio.timeout(PATIENCE_SECONDS):
            late += [(await each.ended - asked) * 1000 for each in told]
    if shared:
        spent = (server.cpu_seconds() - begun) / len(late) * 1e6
        report.add(SECTION, f"a turn to one of them, {about}: CPU", spent, "µs")
    for share in (50, 99):
        aim = at_most(1_000) if share == 99 else None
        name = f"from asked to its end received, {about}: p{share}"
        report.add(SECTION, name, percentile(late, share / 100), "ms", aim)
    for each in clients:
        each.close()


class _Client(asyncio.Protocol):
    """Reads as little as it can: what is measured is the server."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.greeted: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        # An event's name may be cut in two, and is found with the next piece.
        self._rest = data[-20:]
        if not self.greeted.done() and (at := data.find(b"socket_id")) >= 0:
            if found := _ESTABLISHED.search(data, at):
                self.greeted.set_result(found[1].decode())
        if not self.subscribed.done() and b"sessile.position" in data:
            self.subscribed.set_result(None)
        if b'"turn.completed"' in data:
            self._rest = b""
            if not self.ended.done():
                self.ended.set_result(time.time())

    def begin(self, server: Server, key: str) -> None:
        nonce = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /app/{key}?protocol=7&client=bench HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {nonce}\r\n\r\n".encode()
        )

    def say(self, event: str, data: object) -> None:
        payload = json.dumps({"event": event, "data": data}).encode()
        # Masked with zeros: a client's frames have to be masked, but with what is its own affair.
        size = len(payload)
        assert 126 <= size < 65_536
        self._transport.write(b"\x81\xfe" + size.to_bytes(2, "big") + bytes(4) + payload)

    def close(self) -> None:
        self._transport.abort()


async def _subscribed(server: Server, keys: AppKeys, ids: list[str]) -> list[_Client]:
    loop = asyncio.get_running_loop()
    clients: list[_Client] = []
    data = channel_data(ADMIN, until_seconds=10_000_000_000)
    async with asyncio.timeout(PATIENCE_SECONDS * 2):
        for session_id in ids:
            _, client = await loop.create_connection(_Client, "127.0.0.1", server.port)
            client.begin(server, keys.key)
            channel = f"private-sb-{session_id}"
            auth = keys.channel_auth(await client.greeted, channel, data)
            joining = {"channel": channel, "auth": auth, "channel_data": data}
            client.say("pusher:subscribe", joining)
            await client.subscribed
            clients.append(client)
    return clients


def _keys(data_dir: Path) -> AppKeys:
    key, secret = (data_dir / "pusher-app").read_text().splitlines()[-1].split()
    return AppKeys(key=key, secret=secret)
