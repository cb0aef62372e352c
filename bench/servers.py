"""Servers to be measured: each a process of its own, on the one processor that they share."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

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
    with _running(line, processors) as process:
        assert process.stdout is not None
        for said in process.stdout:
            if found := _URL.search(said):
                yield Server(process.pid, int(found[1]))
                return
        raise RuntimeError(f"{' '.join(line)} did not start")


@contextlib.contextmanager
def floor(kind: str, directory: Path) -> Iterator[Server]:
    """`json` or `commit`, as in `bench.floors`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = directory / f"{kind}.db"
    with _running([sys.executable, "-m", "bench.floors", kind, str(port), str(path)]) as process:
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                break
        yield Server(process.pid, port)


@contextlib.contextmanager
def _running(
    command: list[str], processors: Collection[int] = (MEASURED,)
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HERE.parent)
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
        assert process.stdout is not None
        process.stdout.close()
