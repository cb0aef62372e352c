"""`sessile migrate`: brings a database to the schema of this version."""

import sys

from sessile.cli.broken import changing
from sessile.cli.plain import one_line
from sessile.settings import Settings, without_password
from sessile.wiring import migrate as migrate_store


def migrate(settings: Settings) -> None:
    """Says from which revision to which. Raises CommandFailed."""
    with changing(settings):
        revisions = migrate_store(settings)
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
