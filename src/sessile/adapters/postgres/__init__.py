"""The store of many nodes: one PostgreSQL, group commit on a few lanes, wake-up by NOTIFY."""

from sessile.adapters.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
