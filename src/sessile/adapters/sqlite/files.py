"""The data directory, which one server at a time may use, and connections to the file in it."""

import fcntl
import os
import sqlite3
import time
from pathlib import Path

from sessile.core.errors import SessileError, StorageGone

WAL_BYTES_MAX = 64 * 1024 * 1024
"""To this size the write-ahead log is cut when a checkpoint has emptied it."""

EMPTY_MILLISECONDS_MAX = 100
"""How long readers are waited for, before the write-ahead log is emptied."""


class DataDirectoryLocked(SessileError):
    """Another server uses the data directory; `process` is its id."""

    code = "data_directory_locked"


class DirectoryLock:
    """The right to use a data directory. The system takes it back when the process dies."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.read(self._file, 20).decode("ascii", "replace").strip()
            os.close(self._file)
            raise DataDirectoryLocked(
                f"another server uses the data directory {directory}: process {process or '?'}",
                directory=str(directory),
                process=process,
            ) from None
        os.truncate(self._file, 0)
        os.write(self._file, str(os.getpid()).encode())

    def release(self) -> None:
        os.close(self._file)


class InPlace:
    """Files as they were opened. SQLite goes on with files that have no name any more, and what is
    written there is lost; and where they were, another server may have begun."""

    def __init__(self, *paths: Path) -> None:
        self._opened = {path: _inode(path) for path in paths}

    def check(self) -> None:
        """Raises StorageGone where one is not where it was."""
        for path, opened in self._opened.items():
            if _inode(path) != opened:
                raise StorageGone()


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def connect_writer(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """The one connection that writes. It is handed to the writer's thread once it is set up."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
    mode = _switch_to_wal(connection, busy_seconds=busy_seconds)
    assert mode == "wal", f"{path} cannot be written in WAL mode, but only in mode {mode}"
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
    # Measured: a tenth more turns a second than at 1000 pages, for a log of 16 MiB.
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.execute("PRAGMA temp_store = MEMORY")
    # What is deleted is gone from the file too.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def emptied(connection: sqlite3.Connection) -> bool:
    """Bring all that was committed into the file, and empty the write-ahead log, which has the
    pages as they were. Not while somebody reads from it: then it is to be asked again."""
    (busy,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {EMPTY_MILLISECONDS_MAX}")
    try:
        (left, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error:
        return False  # what was committed is; the disk's trouble is told where it is written to
    finally:
        connection.execute(f"PRAGMA busy_timeout = {busy}")
    return bool(left == 0)


def _switch_to_wal(connection: sqlite3.Connection, *, busy_seconds: float) -> str:
    # Refused at once where another connection reads, busy_timeout or not: so it is retried.
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                connection.close()
                raise
            time.sleep(0.01)
        else:
            return str(mode)


def connect_reader(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """A connection that cannot write, used by one thread at a time."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
    return connection
