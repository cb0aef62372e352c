"""The schema's versions: Alembic revisions, run when a store opens and by `sessile migrate`."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from sessile.core.errors import SessileError

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD = "0007"
"""The newest revision. Stated here too, so that an up-to-date database is seen without Alembic."""


ADVISORY_KEY = 7_368_115_296_108_229
"""Of the lock on a PostgreSQL database under which it is migrated."""


class SchemaTooNew(SessileError):
    """The database was made by a newer version of Sessile; use that version or a newer one."""

    code = "schema_too_new"


def migrate(path: Path, *, busy_seconds: float = 10.0) -> None:
    """Bring the SQLite database at `path` to the newest revision; creates it if there is none.

    All in one transaction. Raises SchemaTooNew, and changes nothing, where this version does not
    know the database's revision.
    """
    if revision(path) == HEAD:
        return
    path.touch(mode=0o600)  # SQLite gives its other files the mode of this one
    # Alembic takes half a second to import, and most starts have nothing to migrate.
    from sqlalchemy import NullPool, create_engine, event  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(path, isolation_level=None, timeout=busy_seconds),
        poolclass=NullPool,
    )

    def begin(connection: "Connection") -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "begin", begin)
    try:
        with engine.begin() as connection:
            upgrade(connection)
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error  # as every other statement on this database fails
        raise


async def migrate_postgres(dsn: str, *, busy_seconds: float = 10.0) -> None:
    """The same for the PostgreSQL database at `dsn`, under an advisory lock: of nodes that start
    at once, one migrates and the others wait for it. `busy_seconds`: how long a connection may
    take. Raises what asyncpg raises."""
    if await revision_postgres(dsn, busy_seconds=busy_seconds) == HEAD:
        return
    import asyncpg  # noqa: PLC0415
    from sqlalchemy import NullPool, text  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    async def connect() -> asyncpg.Connection:
        # What is seen behind the lock is what was committed before it was let go of.
        isolation = {"default_transaction_isolation": "read committed"}
        return await asyncpg.connect(dsn, timeout=busy_seconds, server_settings=isolation)

    # The address is for asyncpg alone to read: SQLAlchemy knows other words in it.
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    lock = text("SELECT pg_advisory_xact_lock(:key)")
    try:
        async with engine.begin() as connection:
            await connection.execute(lock, {"key": ADVISORY_KEY})
            await connection.run_sync(upgrade)
    except DBAPIError as error:
        if error.orig is not None and error.orig.__cause__ is not None:
            raise error.orig.__cause__ from error
        raise
    finally:
        await engine.dispose()


def upgrade(connection: "Connection", revision: str = "head") -> None:
    """Upgrade within the transaction that the connection has begun."""
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    for current in MigrationContext.configure(connection).get_current_heads():
        if current not in known:
            raise SchemaTooNew(
                f"the database has the schema {current}, and this version knows up to {HEAD};"
                " use the version that made it, or a newer one",
                revision=current,
            )
    command.upgrade(config, revision)


def revision(path: Path) -> str | None:
    """The revision of the database, or None where there is none yet."""
    if not path.exists():
        return None
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        (row,) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except (sqlite3.OperationalError, ValueError):
        return None
    finally:
        connection.close()
    found: str = row[0]
    return found


async def revision_postgres(dsn: str, *, busy_seconds: float = 10.0) -> str | None:
    """The same for a PostgreSQL database. Raises what a connection can fail with."""
    import asyncpg  # noqa: PLC0415

    connection = await asyncpg.connect(dsn, timeout=busy_seconds, command_timeout=busy_seconds)
    try:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return found
    finally:
        await connection.close(timeout=busy_seconds)
