"""`sessile migrate`: brings a database to the schema of this version."""

import sqlite3
import sys

from sessile.cli.broken import no_database
from sessile.cli.failure import FAILED, CommandFailed
from sessile.core.errors import SessileError
from sessile.settings import Settings
from sessile.wiring import migrate as migrate_store


def migrate(settings: Settings) -> None:
    """Says from which revision to which. Raises CommandFailed."""
    try:
        revisions = migrate_store(settings)
    except SessileError as error:
        told = f"{error}; stop it first" if error.code == "data_directory_locked" else str(error)
        raise CommandFailed(told) from None
    except (sqlite3.Error, OSError) as error:
        raise CommandFailed(no_database(settings.data_dir, error), code=FAILED) from None
    before, after = revisions["before"], revisions["after"]
    if before == after:
        said = f"{settings.data_dir}: already at revision {after}"
    elif before is None:
        said = f"{settings.data_dir}: made, at revision {after}"
    else:
        said = f"{settings.data_dir}: from revision {before} to {after}"
    sys.stdout.write(f"{said}\n")
