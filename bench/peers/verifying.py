"""`sessile verify` on each peer, as a table in Markdown."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.peers.peer import Peer
from bench.peers.serving import NotThere, Tree, installed, served

HEAD = ("server", "found", "passed", "not tested")
VERIFY_SECONDS_MAX = 300


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
            with TemporaryDirectory(dir=directory) as name, started(peer, Path(name)) as server:
                told = _verified(peer, f"http://127.0.0.1:{server.port}", kept)
        except NotThere as error:
            yield _row([title, str(error), "", ""])
            continue
        found = [f"`{each['name']}`" for each in told["checks"] if each["verdict"] == "found"]
        counts = [str(told["summary"][each]) for each in ("passed", "not testable")]
        yield _row([title, ", ".join(found) or "nothing", *counts])


def _verified(peer: Peer, url: str, kept: Path | None) -> Any:
    command = [sys.executable, "-m", "sessile", "verify", url, "--mapping", peer.name, "--json"]
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
