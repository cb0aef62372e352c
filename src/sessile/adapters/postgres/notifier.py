"""PostgresNotifier: hints between the nodes on one database, by LISTEN and NOTIFY."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Self

from asyncpg import Connection

from sessile.adapters.hints import Ears, Outbox, keep_up, pack
from sessile.adapters.postgres.connections import Connector, Patience
from sessile.core.ids import NodeId, SessionId, TenantId
from sessile.ports.notifier import Hint

CHANNEL = "sessile_hints"
PAYLOAD_BYTES_MAX = 7999
SHARED_SECONDS = 0.005
"""Hints within this time after a notification share the next."""
CHECK_SECONDS = 5.0
"""How often the connection that listens is asked whether there is somebody at its other end."""


class PostgresNotifier:
    """Every node hears all hints, on a connection of its own, and says its own on another.

    Opened by `async with`; where the database is not reached, hints stay on this node until it is.
    `lease_ms`: as PostgresStore has it. `key`: by which hints are signed. `count_foreign` is called
    for each payload that is dropped.
    """

    def __init__(
        self,
        dsn: str,
        node: NodeId,
        *,
        lease_ms: int,
        key: bytes,
        count_foreign: Callable[[], None],
    ) -> None:
        self._connector = Connector(dsn, Patience(lease_ms))
        self._node = node
        self._key = key
        self._ears = Ears(node, key, count_foreign)
        self._outbox = Outbox(payload_bytes_max=PAYLOAD_BYTES_MAX)
        self._loops: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            for name, serve in (("hints in", self._hear), ("hints out", self._say)):
                tried = asyncio.Event()
                loop = keep_up(name, serve, tried=tried)
                self._loops.append(tasks.create_task(loop, name=name))
                await tried.wait()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._outbox.farewell()
        for loop in self._loops:
            loop.cancel()
        await self._stack.aclose()

    def publish(self, hint: Hint) -> None:
        self._ears.tell(hint)
        self._outbox.put(hint)

    def listen(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        return self._ears.listen(listener)

    def follow(
        self, tenant_id: TenantId, session_id: SessionId | None = None
    ) -> Callable[[], None]:
        return lambda: None

    async def _hear(self, up: Callable[[], None]) -> None:
        connection = await self._connect("hints in")
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(CHANNEL, self._on_notification)
            up()
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_SECONDS):
                        await lost.wait()
                # Of a connection that was cut without a word, only asking tells.
                await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    def _on_notification(self, _: Connection, pid: int, channel: str, payload: str) -> None:
        self._ears.receive(payload.encode())

    async def _say(self, up: Callable[[], None]) -> None:
        connection = await self._connect("hints out")
        woken = self._outbox.woken
        try:
            connection.add_termination_listener(lambda _: woken.set())
            up()
            while True:
                await woken.wait()
                if connection.is_closed():
                    raise ConnectionResetError("the connection was lost")
                woken.clear()
                await self._notify(connection)
                await asyncio.sleep(SHARED_SECONDS)
        finally:
            connection.terminate()

    async def _notify(self, connection: Connection) -> None:
        try:
            await connection.execute(
                "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload",
                CHANNEL,
                pack(
                    self._node,
                    self._outbox.take(),
                    bytes_max=PAYLOAD_BYTES_MAX,
                    key=self._key,
                ),
            )
        finally:
            self._outbox.sent()

    async def _connect(self, name: str) -> Connection:
        lock_ms = self._connector.patience.lock_ms
        return await self._connector.connect(name, lock_ms=lock_ms)
