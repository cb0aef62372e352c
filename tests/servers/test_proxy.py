"""What the proxy does to a connection, as its two ends see it."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.servers.postgres import free_port
from tests.servers.proxy import Proxy
from tests.servers.waits import until

PATIENCE_SECONDS = 10.0


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Proxy, list[bytes]]]:
    """A proxy before a server that answers each line with the same line; what it was asked."""
    asked: list[bytes] = []
    serving: list[asyncio.Task[None] | None] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        try:
            while line := await reader.readline():
                asked.append(line)
                writer.write(line)
        except ConnectionResetError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with asyncio.timeout(PATIENCE_SECONDS), server:
        async with Proxy(server.sockets[0].getsockname()[1]) as proxy:
            yield proxy, asked
        await asyncio.gather(*filter(None, serving))


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def asks(self, line: bytes) -> bytes:
        self._writer.write(line)
        return await self._reader.readline()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        client = Client(reader, writer)
        assert await client.asks(b"hello\n") == b"hello\n"
        yield client
    finally:
        writer.close()


async def test_a_cut_connection_is_reset_and_counted() -> None:
    async with echoing() as (proxy, _):
        async with connected(proxy) as first, connected(proxy) as second:
            assert proxy.cut_one(random.Random(1)) == 1
            assert proxy.cut() == 2
            for client in (first, second):
                with pytest.raises(ConnectionResetError):
                    await client.asks(b"more\n")

        assert proxy.cuts == 2


async def test_a_lost_reply_was_asked_for_and_done() -> None:
    async with echoing() as (proxy, asked):
        async with connected(proxy) as client:
            proxy.lose_replies()
            with pytest.raises(ConnectionResetError):
                await client.asks(b"commit\n")

        assert asked == [b"hello\n", b"commit\n"]
        assert proxy.cuts == 1
        async with connected(proxy) as again:
            assert await again.asks(b"again\n") == b"again\n"


@pytest.mark.parametrize(("up", "down"), [(True, False), (False, True), (True, True)])
async def test_a_stall_holds_back_either_way_and_cuts_nothing(up: bool, down: bool) -> None:
    async with echoing() as (proxy, asked):

        async def was_asked(line: bytes) -> bool:
            return line in asked

        async with connected(proxy) as client, asyncio.TaskGroup() as tasks:
            proxy.stall(up=up, down=down)
            answered = tasks.create_task(client.asks(b"late\n"))
            if not up:
                await until(lambda: was_asked(b"late\n"))
            assert not (await asyncio.wait({answered}, timeout=0.3))[0]
            assert not up or asked == [b"hello\n"]
            proxy.pass_all()

        assert answered.result() == b"late\n"
        assert asked == [b"hello\n", b"late\n"]
        assert proxy.cuts == 0


async def test_a_server_that_is_gone_is_told_at_once() -> None:
    async with Proxy(free_port()) as proxy:
        with pytest.raises(ConnectionResetError):
            async with connected(proxy):
                pass

    assert proxy.cuts == 0
