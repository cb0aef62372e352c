"""A server as a process of its own, and the command line as a function."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import pytest

from sessile.cli import main
from sessile.settings import Settings
from sessile.wiring import migrate

WAIT_SECONDS = 30
"""For what is to happen; a test that needs it all has failed."""
STOP_SECONDS = 3


def environment(**more: str) -> dict[str, str]:
    """Of a process: this one's, without settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SESSILE_")}
    return {**kept, "COLUMNS": "100", **more}


def until(holds: Callable[[], object]) -> None:
    """Wait for what another process does to a file."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"{holds} does not come to hold"
        threading.Event().wait(0.01)


class Process:
    """A process whose output is read as it comes. `wait_for` waits for a line of it."""

    def __init__(
        self, *arguments: str, cwd: Path, stdin: Any = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._grew = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sessile", *arguments],
            cwd=cwd,
            env=environment(**(env or {})),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            bufsize=1,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, kept), daemon=True)
            for pipe, kept in (
                (self.process.stdout, self.lines),
                (self.process.stderr, self.errors),
            )
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # Asked twice, a server stops at once.
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(STOP_SECONDS)
        self.end()
        if self.process.stdin is not None:
            self.process.stdin.close()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line, of those written and those to come, in which the pattern is found."""
        found: list[re.Match[str]] = []

        def is_there() -> bool:
            for line in (*self.lines, *self.errors):
                if match := re.search(pattern, line):
                    found.append(match)
                    return True
            return self.process.poll() is not None and not any(r.is_alive() for r in self._readers)

        with self._grew:
            assert self._grew.wait_for(is_there, WAIT_SECONDS), f"no {pattern!r}\n{self.told}"
        assert found, f"it ended without {pattern!r}\n{self.told}"
        return found[0]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit code, when it has ended and all of its output was read."""
        code = self.process.wait(WAIT_SECONDS)
        for reader in self._readers:
            reader.join(WAIT_SECONDS)
        return code

    @property
    def told(self) -> str:
        return "".join((*self.lines, *self.errors))

    def _read(self, pipe: Any, kept: list[str]) -> None:
        for line in pipe:
            with self._grew:
                kept.append(line)
                self._grew.notify_all()
        with self._grew:
            self._grew.notify_all()


@cache
def empty_database() -> bytes:
    with TemporaryDirectory() as directory:
        migrate(Settings(data_dir=Path(directory)))
        return (Path(directory) / "sessile.db").read_bytes()


class Serve(Process):
    """`sessile serve`, on a port of its own, in a directory of its own."""

    def __init__(
        self, directory: Path, *arguments: str, port: str = "0", fresh: bool = False, **more: str
    ) -> None:
        """`fresh`: it makes its database itself, which takes it half a second."""
        if not fresh and not (directory / "sessile-data").exists():
            (directory / "sessile-data").mkdir(mode=0o700)
            (directory / "sessile-data" / "sessile.db").write_bytes(empty_database())
        super().__init__("serve", "--port", port, *arguments, cwd=directory, env=more)
        self.directory = directory

    def ready(self) -> Self:
        self.url = self.wait_for(r"^Sessile \S+ on (http://\S+)")[1]
        tokens = self.directory / self.wait_for(r"^  others +(.+)$")[1]
        lines = [line.split() for line in tokens.read_text(encoding="utf-8").splitlines()]
        self.token = next(line[0] for line in lines if line[3:4] == ["admin"])
        self.wait_for(r"^  or +sessile chat")
        return self

    @property
    def pid(self) -> int:
        return self.process.pid


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The demo, served for all tests that only talk to it."""
    with Serve(tmp_path_factory.mktemp("demo"), fresh=True) as served:
        yield served.ready()


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """The command line in this process: its exit code and what it wrote."""
    for name in [name for name in os.environ if name.startswith("SESSILE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")

    def ran(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        code = ended.value.code
        assert isinstance(code, int)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return ran
