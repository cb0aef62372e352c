"""One PostgreSQL for many nodes: the store, with group commit on a few lanes, and wake-up by
NOTIFY."""

from sessile.adapters.postgres.notifier import PostgresNotifier
from sessile.adapters.postgres.store import PostgresStore

__all__ = ["PostgresNotifier", "PostgresStore"]
