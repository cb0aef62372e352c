"""The hooks by which a run restarts the server, or pauses it and lets it go on: commands of whoever
starts it."""

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, ClassVar, Protocol
from urllib.parse import urlsplit

import httpx2

POLL_SECONDS = 0.05
CLOSED_SECONDS_MAX = 1.0
PAUSED_SECONDS = 1.0
"""Who has not answered for so long is taken to be paused."""
NOT_YET = (502, 503, 504)
"""Statuses of one that is not there yet, and of a proxy before it."""


class NotDone(Exception):
    """With why."""


class Hook(Protocol):
    """Does something to the server. `command`: for the report."""

    @property
    def command(self) -> str: ...

    async def __call__(self) -> str:
        """What was said meanwhile, once it is done. Raises NotDone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCommand(ABC):
    """Of a shell. `late`: what had not happened when `seconds_max` were over."""

    command: str
    url: str
    seconds_max: float
    late: ClassVar[str] = "it did not answer"

    async def __call__(self) -> str:
        try:
            async with asyncio.timeout(self.seconds_max):
                return await self._done()
        except TimeoutError:
            raise NotDone(f"{self.late} within {self.seconds_max:g} s") from None
        except OSError as error:
            raise NotDone(str(error)) from None

    @abstractmethod
    async def _done(self) -> str: ...

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
            raise NotDone(f"the command ended with {code}: {said}".rstrip(": "))
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


class Restart(ByCommand):
    """It may return before the server answers, and leave it behind as its child."""

    async def _done(self) -> str:
        """A connection that is held meanwhile shows whether the server was killed."""
        url = urlsplit(self.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        reader, writer = await asyncio.open_connection(url.hostname, port)
        try:
            said = await self._run()
            await self._answers()
            if not await _closed(reader):
                raise NotDone("a connection to it outlived the command, so it was not killed")
        finally:
            writer.close()
        return said


class Pause(ByCommand):
    late: ClassVar[str] = "the command did not end"

    async def _done(self) -> str:
        """What is paused is connected to, and does not answer."""
        said = await self._run()
        async with httpx2.AsyncClient(timeout=PAUSED_SECONDS, trust_env=False) as client:
            try:
                async with client.stream("GET", self.url) as reply:
                    raise NotDone(f"it still answers, by {reply.status_code}")
            except httpx2.TimeoutException:
                return said
            except httpx2.HTTPError as error:
                raise NotDone(f"it is gone: {error}") from None


class Resume(ByCommand):
    async def _done(self) -> str:
        said = await self._run()
        await self._answers()
        return said


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
