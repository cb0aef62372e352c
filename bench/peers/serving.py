"""A peer's environment, and its server: a process, and those that it starts, on one processor."""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.machine import MEASURED
from bench.peers.peer import AGENTS, HERE, Peer, Place
from bench.servers import await_port, free_port, running

VENVS = HERE / ".venvs"
INSTALL_SECONDS_MAX = 900
START_SECONDS_MAX = 90.0


class NotThere(Exception):
    """A peer that cannot be installed or started, with why."""


class Tree(NamedTuple):
    """A server as what measures sees it: with its child processes."""

    process: psutil.Process
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def cpu_seconds(self) -> float:
        return sum(sum(each.cpu_times()[:2]) for each in self._all())

    def rss_mib(self) -> float:
        return sum(each.memory_info().rss for each in self._all()) / 2**20

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def installed(peer: Peer, *, venvs: Path = VENVS) -> Path:
    """The programs of its environment, which is made where it is not there as its requirements
    say. Raises NotThere."""
    venv = venvs / peer.name
    stamp, wanted = venv / "stamp", hashlib.sha256(peer.requirements.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return venv / "bin"
    python = shutil.which(peer.python)
    if python is None:
        raise NotThere(f"it needs {peer.python}, which is not here")
    shutil.rmtree(venv, ignore_errors=True)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    for command in (
        [python, "-m", "venv", str(venv)],
        [*pip, "--quiet", "--no-deps", "-r", str(peer.requirements)],
    ):
        came = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS_MAX
        )
        if came.returncode != 0:
            lines = [line for line in came.stderr.splitlines() if line.startswith("ERROR")]
            raise NotThere(f"it was not installed: {(lines or [came.stderr[-200:]])[-1]}")
    stamp.write_text(wanted)
    return venv / "bin"


@contextlib.contextmanager
def served(peer: Peer, binaries: Path, directory: Path, database: str = "") -> Iterator[Tree]:
    """Started in a copy of its agents. Raises NotThere."""
    home = directory / peer.name
    shutil.copytree(AGENTS / peer.agents, home, ignore=shutil.ignore_patterns("__pycache__"))
    place = Place(binaries, home, free_port(), database)
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        **peer.environment(place),
    }
    log = directory / f"{peer.name}.log"
    with (
        log.open("wb") as output,
        running(
            peer.command(place),
            (MEASURED,),
            directory=home,
            environment=environment,
            output=output,
        ) as process,
    ):
        try:
            await_port(place.port, process, seconds_max=START_SECONDS_MAX)
        except OSError:
            said = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise NotThere(f"it did not start: {said[-1]}") from None
        yield Tree(psutil.Process(process.pid), place.port)
