"""The store of one machine: one SQLite file in WAL mode, one writer thread, group commit."""

from sessile.adapters.sqlite.files import DataDirectoryLocked
from sessile.adapters.sqlite.store import SqliteStore

__all__ = ["DataDirectoryLocked", "SqliteStore"]
