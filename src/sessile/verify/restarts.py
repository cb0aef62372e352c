"""The hook by which a run restarts the server: a command of whoever starts it."""

import asyncio
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Protocol
from urllib.parse import urlsplit

import httpx2

POLL_SECONDS = 0.05
CLOSED_SECONDS_MAX = 1.0
NOT_YET = (502, 503, 504)
"""Statuses of one that is not there yet, and of a proxy before it."""


class NotRestarted(Exception):
    """With why."""


class Restart(Protocol):
    """Kills the server and starts it again. `command`: for the report."""

    @property
    def command(self) -> str: ...

    async def __call__(self) -> str:
        """What was said meanwhile, once the server answers again. Raises NotRestarted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCommand:
    """Of a shell. It may return before the server answers, and leave it behind as its child."""

    command: str
    url: str
    seconds_max: float

    async def __call__(self) -> str:
        try:
            async with asyncio.timeout(self.seconds_max):
                return await self._restarted()
        except TimeoutError:
            raise NotRestarted(f"it did not answer within {self.seconds_max:g} s") from None
        except OSError as error:
            raise NotRestarted(str(error)) from None

    async def _restarted(self) -> str:
        """A connection that is held meanwhile shows whether the server was killed."""
        url = urlsplit(self.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        reader, writer = await asyncio.open_connection(url.hostname, port)
        try:
            said = await self._run()
            await self._answers()
            if not await _closed(reader):
                raise NotRestarted("a connection to it outlived the command, so it was not killed")
        finally:
            writer.close()
        return said

    async def _run(self) -> str:
        # Into a file: of a pipe, the server that is left behind would keep the other end. In a
        # session of its own: what interrupts the run may not interrupt that server.
        with TemporaryFile() as output:
            process = await asyncio.create_subprocess_shell(
                self.command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            said = _read(output)
        if code:
            raise NotRestarted(f"the command ended with {code}: {said}".rstrip(": "))
        return said

    async def _answers(self) -> None:
        async with httpx2.AsyncClient(timeout=5, trust_env=False) as client:
            while True:
                try:
                    async with client.stream("GET", self.url) as reply:
                        if reply.status_code not in NOT_YET:
                            return
                except httpx2.HTTPError:
                    pass
                await asyncio.sleep(POLL_SECONDS)


async def _closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(CLOSED_SECONDS_MAX):
            while await reader.read(4_096):
                pass
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def _read(output: IO[bytes]) -> str:
    output.seek(0)
    return output.read().decode(errors="replace").strip()
