"""The schema's versions: Alembic revisions, run when a store opens and by `sessile migrate`."""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from sessile.core.errors import SessileError

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEAD = "0001"
"""The newest revision. Stated here too, so that an up-to-date database is seen without Alembic."""


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
                f"the database has the schema {current}, and this version knows up to {HEAD}",
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
