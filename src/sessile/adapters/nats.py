"""NatsNotifier: hints between very many nodes, by NATS, each session on a subject of its own."""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from hashlib import blake2b
from random import sample
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error, UnexpectedEOF

from sessile.adapters.hints import Ears, Outbox, bare, keep_up, pack
from sessile.core.ids import NodeId, SessionId, TenantId
from sessile.ports.notifier import Hint

logger = logging.getLogger(__name__)

PAYLOAD_BYTES_MAX = 65_536
CONNECT_SECONDS_MAX = 5.0
CANCEL_SECONDS = 0.5
PING_SECONDS = 5
"""How often a server is asked whether it is there; it is given up when it is silent twice."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NatsNotifier:
    """A node hears the hints of the sessions that it follows, each on
    `{subject}.log.{tenant}.{session}`, and those that may concern any node, on `{subject}.all`.
    NATS keeps none of them, and who may publish there is not believed: hints are signed by `key`.
    `count_foreign` is called for each payload that is dropped.

    Opened by `async with`; where no server is reached, hints stay on this node until one is. A
    session that is just being followed is subscribed to a moment later: what is said in between
    waits for the sweep.
    """

    def __init__(
        self,
        servers: list[str],
        node: NodeId,
        *,
        key: bytes,
        count_foreign: Callable[[], None],
        subject: str = "sessile",
    ) -> None:
        self._servers = servers
        self._key = key
        self._node = node
        self._subject = subject
        self._ears = Ears(node, key, count_foreign)
        self._outbox = Outbox(payload_bytes_max=PAYLOAD_BYTES_MAX)
        self._followed = Counter[str]()
        self._changed = set[str]()
        """Subjects that are followed since the connection was asked last, or no more."""
        self._hearing = False
        self._client = Client()
        self._loops: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tried = asyncio.Event()
            loop = keep_up("nats", self._serve, tried=tried)
            self._loops.append(tasks.create_task(loop, name="nats"))
            await tried.wait()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._outbox.farewell()
        while self._loops and not self._loops[0].done():
            # More than once: the client swallows a cancellation where it flushes. To a server
            # that takes nothing it would flush for each hint that waits, and when it is closed.
            self._loops[0].cancel()
            await asyncio.wait(self._loops, timeout=CANCEL_SECONDS)
            _hang_up(self._client)
        await self._stack.aclose()

    def publish(self, hint: Hint) -> None:
        self._ears.tell(hint)
        self._outbox.put(hint)

    def listen(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        return self._ears.listen(listener)

    def follow(
        self, tenant_id: TenantId, session_id: SessionId | None = None
    ) -> Callable[[], None]:
        subject = self._subject_of(tenant_id, session_id)
        self._count(subject, 1)
        return lambda: self._count(subject, -1)

    def _count(self, subject: str, more: int) -> None:
        self._followed[subject] += more
        if not self._followed[subject]:
            del self._followed[subject]
        if self._hearing:
            self._changed.add(subject)
            self._outbox.woken.set()

    def _subject_of(self, tenant_id: TenantId, session_id: SessionId | None) -> str:
        session = "*" if session_id is None else _token(session_id)
        return f"{self._subject}.log.{_token(tenant_id)}.{session}"

    async def _serve(self, up: Callable[[], None]) -> None:
        """The client would reconnect by itself, but gives up for good at some of the errors that
        a server may send. So each connection has a client of its own."""
        subscribed: dict[str, Subscription] = {}
        woken = self._outbox.woken

        async def closed() -> None:
            woken.set()

        told = False

        async def complain(error: Exception) -> None:
            """Of what does not end the connection: a subject that is forbidden, say."""
            nonlocal told
            if self._client.is_connected and not told and not isinstance(error, UnexpectedEOF):
                told = True
                logger.warning("NATS refuses hints, or loses some", extra={"error": str(error)})

        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                client = await self._connect(error_cb=complain, closed_cb=closed)
                await self._hear(client, f"{self._subject}.all")
                self._hearing = True
                self._changed.update(self._followed)
                await self._subscribe(client, subscribed)
                await client.flush()
            up()
            while True:
                await woken.wait()
                if client.is_closed:
                    raise client.last_error or ConnectionResetError("the connection was lost")
                woken.clear()
                await self._subscribe(client, subscribed)
                await self._say(client)
        finally:
            self._hearing = False
            self._changed.clear()
            await _close(self._client)

    async def _connect(self, **callbacks: Any) -> Client:
        """To one of the servers, each with its own user. Raises what the last one fails with."""
        servers = sample(self._servers, len(self._servers))  # the order of servers  # nosec B311
        while True:
            self._client = client = Client()
            server, user = _with_user(servers.pop())
            try:
                await client.connect(
                    server,
                    name=f"sessile {self._node}",
                    no_echo=True,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=PING_SECONDS,
                    **{**user, **callbacks},
                )
            except (OSError, Error, TimeoutError):
                if not servers:
                    raise
                await _close(client)
            else:
                return client

    async def _subscribe(self, client: Client, subscribed: dict[str, Subscription]) -> None:
        changed, self._changed = self._changed, set[str]()
        for subject in changed:
            followed = subject in self._followed
            if followed and subject not in subscribed:
                subscribed[subject] = await self._hear(client, subject)
            elif not followed and subject in subscribed:
                await subscribed.pop(subject).unsubscribe()

    async def _hear(self, client: Client, subject: str) -> Subscription:
        on_message = self._on_message
        return await client.subscribe(subject, cb=on_message)  # pyright: ignore[reportUnknownMemberType]

    async def _on_message(self, message: Msg) -> None:
        # Not from here: the client would keep what a listener raises to itself.
        asyncio.get_running_loop().call_soon(self._ears.receive, message.data)

    async def _say(self, client: Client) -> None:
        try:
            for hint in self._outbox.take():
                await self._send(client, self._subject_of(*hint.key), hint)
                # To all, not to one of a group: that one might have no room, or no such assistant.
                if hint.due or hint.control or hint.deleted:
                    await self._send(client, f"{self._subject}.all", bare(hint))
        finally:
            self._outbox.sent()

    async def _send(self, client: Client, subject: str, hint: Hint) -> None:
        bytes_max = min(PAYLOAD_BYTES_MAX, client.max_payload)
        for payload in pack(self._node, (hint,), bytes_max=bytes_max, key=self._key):
            await client.publish(subject, payload.encode())


def _with_user(server: str) -> tuple[str, dict[str, Any]]:
    """The address, and whom to log in as: the client does not decode what is in the address."""
    parts = urlsplit(server)
    if parts.username is None:
        return server, {}
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    user = unquote(parts.username)
    if parts.password is None:
        return bare, {"token": user}
    return bare, {"user": user, "password": unquote(parts.password)}


async def _close(client: Client) -> None:
    try:
        with suppress(AssertionError):  # where it had nothing to connect to
            await client.close()
    finally:
        _hang_up(client)


def _hang_up(client: Client) -> None:
    """At once: where the other end takes nothing, a close waits for it."""
    transport: Any = client._transport  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    if transport:
        transport._io_writer.transport.abort()  # noqa: SLF001


def _token(name: str) -> str:
    """The name as a part of a subject: as it is, or its digest where NATS would not have it. Two
    names with one digest would hear each other's hints, and know them by their keys."""
    if _PLAIN.fullmatch(name):
        return name
    return "=" + blake2b(name.encode(errors="replace"), digest_size=16).hexdigest()
