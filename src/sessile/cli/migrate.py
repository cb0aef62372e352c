"""`sessile migrate`: brings a database to the schema of this version."""

import sqlite3
import sys

from sessile.cli.broken import no_database, no_postgres
from sessile.cli.failure import FAILED, CommandFailed
from sessile.cli.plain import one_line
from sessile.core.errors import SessileError
from sessile.settings import Settings, without_password
from sessile.wiring import MissingExtra
from sessile.wiring import migrate as migrate_store


def migrate(settings: Settings) -> None:
    """Says from which revision to which. Raises CommandFailed."""
    try:
        revisions = migrate_store(settings)
    except SessileError as error:
        if error.code == "storage_unreachable":
            raise CommandFailed(no_postgres(settings.store_url, error), code=FAILED) from None
        told = f"{error}; stop it first" if error.code == "data_directory_locked" else str(error)
        raise CommandFailed(told) from None
    except MissingExtra as error:
        raise CommandFailed(str(error)) from None
    except (sqlite3.Error, OSError) as error:
        raise CommandFailed(no_database(settings.data_dir, error), code=FAILED) from None
    before, after = revisions["before"], revisions["after"]
    url = one_line(without_password(settings.store_url))
    at = url if settings.shared else str(settings.data_dir)
    if before == after:
        said = f"{at}: already at revision {after}"
    elif before is None:
        said = f"{at}: made, at revision {after}"
    else:
        said = f"{at}: from revision {before} to {after}"
    sys.stdout.write(f"{said}\n")
