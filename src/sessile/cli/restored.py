"""`sessile restored`: says that a database was put back to an earlier state."""

import sys

from sessile.cli.broken import changing
from sessile.cli.plain import one_line
from sessile.settings import Settings, without_password
from sessile.wiring import raise_epoch


def restored(settings: Settings) -> None:
    """Raises CommandFailed."""
    with changing(settings):
        epoch = raise_epoch(settings)
    url = one_line(without_password(settings.store_url))
    at = url if settings.shared else str(settings.data_dir)
    sys.stdout.write(
        f"{at}: now epoch {epoch}; whoever read it before starts again from a snapshot."
        " Start the nodes.\n"
    )
