"""The database that the settings name: opened for a server, or looked at without one."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from sessile.adapters.hints import signing_key
from sessile.adapters.local_notifier import LocalNotifier
from sessile.adapters.memory import MemoryStore
from sessile.adapters.migrations import HEAD, revision
from sessile.adapters.system import SystemClock, new_secret
from sessile.core.ids import NodeId
from sessile.ports.clock import Clock
from sessile.ports.notifier import Notifier
from sessile.ports.store import Identity, Store
from sessile.settings import Settings, without_password

if TYPE_CHECKING:
    from sessile.adapters.sql.archive import Archive


class MissingExtra(ImportError):
    """What was asked for needs a package that is not installed; the message says which."""


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock) -> AsyncGenerator[Store, None]:
    """The store that the settings name, migrated and ready."""
    if settings.store_url == "memory":
        async with MemoryStore(clock=clock, secret=new_secret()) as memory:
            yield memory
    elif settings.store_url == "sqlite":
        from sessile.adapters.sqlite import SqliteStore  # noqa: PLC0415

        async with SqliteStore(
            settings.data_dir / "sessile.db",
            clock=clock,
            busy_seconds=settings.store_busy_seconds_max,
        ) as sqlite:
            yield sqlite
    elif settings.store_url.startswith(("postgresql://", "postgres://")):
        with of_extra("PostgreSQL", "postgres"):
            from sessile.adapters.postgres import PostgresStore  # noqa: PLC0415
        async with PostgresStore(
            settings.store_url,
            lease_ms=int(settings.lease_ttl_seconds * 1000),
            busy_seconds=settings.store_busy_seconds_max,
            sharded=settings.store_sharded,
        ) as postgres:
            yield postgres
    else:
        told = without_password(settings.store_url)
        raise ValueError(f"store_url: {told!r} is none of sqlite, memory, postgresql://…")


@asynccontextmanager
async def open_notifier(
    settings: Settings, node: NodeId, identity: Identity, *, count_foreign: Callable[[], None]
) -> AsyncGenerator[Notifier, None]:
    """How this node and those that share its database, whose `identity` it is, wake each other.
    `count_foreign` is called for each payload of others."""
    key = signing_key(identity)
    if settings.notifier_url:
        with of_extra("NATS", "nats"):
            from sessile.adapters.nats import NatsNotifier  # noqa: PLC0415
        servers = settings.notifier_url.split(",")
        async with NatsNotifier(servers, node, key=key, count_foreign=count_foreign) as nats:
            yield nats
    elif settings.shared:
        from sessile.adapters.postgres.notifier import PostgresNotifier  # noqa: PLC0415

        lease_ms = int(settings.lease_ttl_seconds * 1000)
        async with PostgresNotifier(
            settings.store_url, node, lease_ms=lease_ms, key=key, count_foreign=count_foreign
        ) as postgres:
            yield postgres
    else:
        yield LocalNotifier()


def open_archive(settings: Settings) -> "AbstractAsyncContextManager[Archive]":
    """The database of the settings, to be read only, beside a server or without one.

    Raises FileNotFoundError where there is none, and StorageUnreachable.
    """
    busy_seconds = settings.store_busy_seconds_max
    if settings.shared:
        with of_extra("PostgreSQL", "postgres"):
            from sessile.adapters.postgres import archive  # noqa: PLC0415
        return archive.open_archive(settings.store_url, busy_seconds=busy_seconds)
    from sessile.adapters.sqlite.archive import open_archive  # noqa: PLC0415

    path = settings.data_dir / "sessile.db"
    if not path.is_file():
        raise FileNotFoundError(path)
    return open_archive(path, clock=SystemClock(), busy_seconds=busy_seconds)


def migrate(settings: Settings) -> Mapping[str, str | None]:
    """Bring the database of the settings to the newest revision; makes it if there is none.

    Answers the revisions `before` and `after`. Raises DataDirectoryLocked, StorageUnreachable and
    SchemaTooNew.
    """
    busy_seconds = settings.store_busy_seconds_max
    if settings.shared:
        with of_extra("PostgreSQL", "postgres"):
            from sessile.adapters.postgres import archive  # noqa: PLC0415
        return asyncio.run(archive.migrate_database(settings.store_url, busy_seconds=busy_seconds))
    from sessile.adapters.sqlite.archive import migrate_file  # noqa: PLC0415

    path = settings.data_dir / "sessile.db"
    return migrate_file(path, busy_seconds=busy_seconds)


def made(settings: Settings) -> None:
    """As `migrate`, but that a server may use the database if it is at the newest revision."""
    if settings.shared or revision(settings.data_dir / "sessile.db") != HEAD:
        migrate(settings)


def raise_epoch(settings: Settings) -> int:
    """Add 1 to the epoch of the settings' database, which no node may use meanwhile; brings it to
    the newest revision first. Answers the new epoch.

    Raises FileNotFoundError where there is none, and what `migrate` does.
    """
    busy_seconds = settings.store_busy_seconds_max
    if settings.shared:
        with of_extra("PostgreSQL", "postgres"):
            from sessile.adapters.postgres import archive  # noqa: PLC0415
        return asyncio.run(archive.raise_epoch(settings.store_url, busy_seconds=busy_seconds))
    from sessile.adapters.sqlite.archive import raise_epoch  # noqa: PLC0415

    return raise_epoch(settings.data_dir / "sessile.db", busy_seconds=busy_seconds)


@contextmanager
def of_extra(what: str, extra: str) -> Generator[None, None, None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        raise MissingExtra(f"{what} needs an extra: pip install 'sessile[{extra}]'") from missing
