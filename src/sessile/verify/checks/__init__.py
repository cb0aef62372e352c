"""What is looked for, each under the name that it is reported by. A check is a pure function of the
facts: it tells what it tried, and what it found with the operations that show it."""

from types import ModuleType

from sessile.verify.checks import (
    growth,
    identity,
    isolation,
    lifecycle,
    order,
    pause,
    probe,
    replays,
    restart,
    streams,
)

MODULES: tuple[ModuleType, ...] = (
    identity, isolation, order, lifecycle, probe, streams, replays, restart, pause,
    growth,
)  # fmt: skip
"""They register their checks when they are imported."""
