"""Sends webhooks: to an address that was looked at, and nowhere else."""

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Self, cast

import httpcore2
from httpcore2 import AsyncNetworkBackend, AsyncNetworkStream

from sessile.adapters.webhooks.addresses import Addresses
from sessile.ports.webhooks import NotSent

CONNECTIONS_MAX, IDLE_MAX, IDLE_SECONDS = 100, 20, 15.0
REPLY_BYTES_MAX = 16_384
"""What is read of a reply's body, which nobody looks at: behind a short one, the connection may be
used again."""
REPLY_SECONDS_MAX = 1.0
"""And how long it is waited for."""


class WebhookSender:
    """`async with WebhookSender(…)`. `seconds_max`: of a whole request. `trusted`: whose
    certificates; None for those that the system trusts.

    Redirects are not followed, and no proxy of the environment is asked: the library below does
    neither.
    """

    def __init__(
        self, addresses: Addresses, *, seconds_max: float, trusted: ssl.SSLContext | None = None
    ) -> None:
        self._addresses = addresses
        self._seconds_max = seconds_max
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=trusted,
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=IDLE_MAX,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=_Pinned(addresses),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.aclose()

    def check(self, url: str) -> None:
        self._addresses.check(url)

    async def post(self, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> int:
        try:
            # The settings may be others than when it was registered.
            self.check(url)
        except ValueError as refused:
            raise NotSent(str(refused)) from None
        try:
            async with (
                asyncio.timeout(self._seconds_max),
                self._pool.stream("POST", url, headers=list(headers), content=body) as reply,
            ):
                with suppress(TimeoutError, httpcore2.ProtocolError, httpcore2.NetworkError):
                    await _read_some(reply)
                return int(reply.status)
        except TimeoutError:
            raise NotSent("no reply came in time") from None
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpcore2.TimeoutException,
        ) as error:
            raise NotSent(_said(error)) from None


async def _read_some(reply: httpcore2.Response) -> None:
    size = 0
    async with asyncio.timeout(REPLY_SECONDS_MAX):
        async for piece in reply.aiter_stream():
            size += len(piece)
            if size > REPLY_BYTES_MAX:
                return


def _said(error: Exception) -> str:
    """What the system said may name addresses behind this server; only of certificates is it
    told."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not valid: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpcore2.ProtocolError):
        return "what it replied is not HTTP"
    return "it cannot be connected to, or hung up"


class _Pinned(AsyncNetworkBackend):
    """Connects to one of the addresses that were looked at, and not to the name again: what it
    leads to may be another by then. The name stays what the certificate has to be for."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        # Where anyio is not installed, the library has another class of this name.
        self._below = cast(AsyncNetworkBackend, httpcore2.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  as the library calls it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        failed: Exception = httpcore2.ConnectError()
        for address in await self._addresses.of(host, port):
            try:
                return await self._below.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except httpcore2.ConnectError as error:
                failed = error
        raise failed
