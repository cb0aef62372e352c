"""Servers to be measured: each a process of its own, on the one processor that they share."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from bench.machine import MEASURED, cpu_seconds, rss_kib

TOKEN = "bench-token"
START_SECONDS_MAX = 30.0
STREAMS_MAX = "5000"
"""One user asks here for all."""
HERE = Path(__file__).parent
_URL = re.compile(rb"on http://127\.0\.0\.1:(\d+)")


class Server(NamedTuple):
    pid: int
    port: int

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def rss_mib(self) -> float:
        return rss_kib(self.pid) / 1024


@contextlib.contextmanager
def sessile(
    directory: Path,
    file: str = "agents.py",
    *settings: str,
    command: str = "serve",
    processors: Collection[int] = (MEASURED,),
) -> Iterator[Server]:
    """`sessile serve`, or `work`, with the assistants of a file beside this one."""
    line = [
        sys.executable, "-m", "sessile", command, str(HERE / file),
        "--port", "0", "--data-dir", str(directory), "--dev-token", TOKEN,
        "--log-level", "warning", "--streams-user-max", STREAMS_MAX,
        "--streams-tenant-max", STREAMS_MAX, *settings,
    ]  # fmt: skip
    with running(line, processors) as process:
        assert process.stdout is not None
        for said in process.stdout:
            if found := _URL.search(said):
                yield Server(process.pid, int(found[1]))
                return
        raise RuntimeError(f"{' '.join(line)} did not start")


@contextlib.contextmanager
def floor(kind: str, directory: Path) -> Iterator[Server]:
    """`json`, `commit` or `events`, as in `bench.floors`."""
    port = free_port()
    path = directory / f"{kind}.db"
    with running([sys.executable, "-m", "bench.floors", kind, str(port), str(path)]) as process:
        await_port(port, process)
        yield Server(process.pid, port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_port(
    port: int, process: subprocess.Popen[bytes], *, seconds_max: float = START_SECONDS_MAX
) -> None:
    """Until it takes connections. Raises OSError where the process ends, or it takes too long."""
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.02)
        else:
            return


@contextlib.contextmanager
def running(
    command: list[str],
    processors: Collection[int] = (MEASURED,),
    *,
    directory: Path = HERE.parent,
    environment: Mapping[str, str] | None = None,
    output: int | IO[Any] = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Its standard output is a pipe, which somebody has to read, unless it is told another."""
    errors = None if output == subprocess.PIPE else output
    process = subprocess.Popen(
        command, stdout=output, stderr=errors, cwd=directory, env=environment
    )
    try:
        os.sched_setaffinity(process.pid, processors)
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
