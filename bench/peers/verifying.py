"""`sessile verify` on each peer, as a table in Markdown."""

import contextlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bench.peers.peer import Peer
from bench.peers.restart import kill
from bench.peers.serving import NotThere, Tree, installed, served

HEAD = ("server", "found", "passed", "not tested")
VERIFY_SECONDS_MAX = 600


@contextlib.contextmanager
def started(peer: Peer, directory: Path) -> Iterator[Tree]:
    """Alone, in an environment that is made where it is not there. Raises NotThere."""
    with peer.database() as database:
        dsn = "" if database is None else database.dsn
        with served(peer, installed(peer), directory, dsn) as server:
            yield server


def rows(peers: list[Peer], directory: Path, kept: Path | None) -> Iterator[str]:
    """A line for each peer, as soon as it is known. `kept`: where the reports and histories go."""
    yield _row(HEAD)
    yield _row(["---"] * len(HEAD))
    for peer in peers:
        title = f"{peer.title} {peer.version}"
        try:
            with (
                TemporaryDirectory(dir=directory) as name,
                started(peer, Path(name)) as server,
                restartable(server, Path(name) / "server.pid") as file,
            ):
                told = _verified(peer, f"http://127.0.0.1:{server.port}", file, kept)
        except NotThere as error:
            yield _row([title, str(error), "", ""])
            continue
        found = [f"`{each['name']}`" for each in told["checks"] if each["verdict"] == "found"]
        counts = [str(told["summary"][each]) for each in ("passed", "not testable")]
        yield _row([title, ", ".join(found) or "nothing", *counts])


@contextlib.contextmanager
def restartable(server: Tree, file: Path) -> Iterator[Path]:
    """The file with its process, which is another's once it was restarted."""
    file.write_text(str(server.pid))
    try:
        yield file
    finally:
        last = int(file.read_text())
        if last != server.pid and psutil.pid_exists(last):
            kill(psutil.Process(last))


def _verified(peer: Peer, url: str, file: Path, kept: Path | None) -> Any:
    command = [sys.executable, "-m", "sessile", "verify", url, "--mapping", peer.name, "--json"]
    restart = [sys.executable, "-m", "bench.peers.restart", str(file)]
    command += ["--restart", shlex.join(restart)]
    if "PROBES" in os.environ:  # in place of the echo: see bench/peers/agents
        command.append("--probe")
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        command += ["--html", str(kept / f"{peer.name}.html")]
        command += ["--history", str(kept / f"{peer.name}.jsonl")]
    came = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=VERIFY_SECONDS_MAX
    )
    if came.returncode not in (0, 1):
        raise NotThere(f"it was not verified: {came.stderr.strip()[-300:]}")
    return json.loads(came.stdout)


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
