"""A database that cannot be used: why, and what to do."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sessile.cli.failure import FAILED, CommandFailed
from sessile.cli.plain import one_line
from sessile.core.errors import SessileError
from sessile.settings import Settings, without_password
from sessile.wiring import MissingExtra

RESTORE = "keep a copy of it, and put a backup in its place"
TODO = {
    sqlite3.SQLITE_BUSY: "another process holds it: end that, and start again",
    sqlite3.SQLITE_CANTOPEN: "its files have to be this user's to read and write",
    sqlite3.SQLITE_CORRUPT: RESTORE,
    sqlite3.SQLITE_FULL: "make room on the disk, and start again",
    sqlite3.SQLITE_IOERR: "look at the disk, and whether there is room on it, and start again",
    sqlite3.SQLITE_NOTADB: RESTORE,
    sqlite3.SQLITE_PERM: "its files have to be this user's to read and write",
    sqlite3.SQLITE_READONLY: "its files have to be this user's to read and write",
}
"""What helps, by SQLite's primary result code."""


@contextmanager
def looking_at(settings: Settings) -> Generator[None, None, None]:
    """Raises CommandFailed for what a database that is looked at without a server fails with."""
    try:
        yield
    except FileNotFoundError as error:
        raise CommandFailed(_absent(error)) from None
    except MissingExtra as error:
        raise CommandFailed(str(error)) from None
    except sqlite3.Error as error:
        raise CommandFailed(no_database(settings.data_dir, error), code=FAILED) from None
    except SessileError as error:
        raise CommandFailed(no_postgres(settings.store_url, error), code=FAILED) from None


@contextmanager
def changing(settings: Settings) -> Generator[None, None, None]:
    """Raises CommandFailed for what a database that is changed without a server fails with."""
    try:
        yield
    except SessileError as error:
        if error.code == "storage_unreachable":
            raise CommandFailed(no_postgres(settings.store_url, error), code=FAILED) from None
        told = f"{error}; stop it first" if error.code == "data_directory_locked" else str(error)
        raise CommandFailed(told) from None
    except FileNotFoundError as error:
        raise CommandFailed(_absent(error)) from None
    except MissingExtra as error:
        raise CommandFailed(str(error)) from None
    except (sqlite3.Error, OSError) as error:
        raise CommandFailed(no_database(settings.data_dir, error), code=FAILED) from None


def _absent(error: FileNotFoundError) -> str:
    return f"there is no database {error}; give the server's --data-dir, or its --store-url"


def no_database(directory: Path, error: Exception) -> str:
    """Why the database of a data directory cannot be used, and what to do."""
    at = one_line(str(directory))
    told = one_line(str(error))
    if isinstance(error, OSError):
        return (
            f"cannot use the data directory {at}: {one_line(error.strerror or told)};"
            " give one that can be written by --data-dir"
        )
    if isinstance(error, sqlite3.Error):
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        todo = TODO.get(primary, f"`sessile doctor --data-dir {at}` says more")
        return f"cannot use the database in {at}: {told}; {todo}"
    return f"cannot use the database in {at}: {told}"


def no_postgres(url: str, error: Exception) -> str:
    """The same for a PostgreSQL database."""
    told = one_line(str(error)) or type(error).__name__
    told = f"cannot use {one_line(without_password(url))}: {told}"
    if getattr(error, "code", "") == "schema_too_new" or isinstance(error.__cause__, ValueError):
        return told
    return (
        f"{told}; is the server up, may this user create tables there,"
        " is the password in the address?"
    )
