"""What is asked of a batch, and what it needs to see for it."""

from collections.abc import Sequence
from typing import NamedTuple

from sessile.adapters.sql.gathered import Holder, Place
from sessile.core.commands import Command, Named, named
from sessile.core.context import Holding
from sessile.core.events import Event
from sessile.core.ids import SessionKey, TurnId

NOTHING = Named()


class Asked(NamedTuple):
    """A command for a session."""

    key: SessionKey
    command: Command
    names: Named

    @classmethod
    def of(cls, key: SessionKey, command: Command) -> "Asked":
        return cls(key, command, named(command))


class Appended(NamedTuple):
    """A fenced append to a running turn."""

    holding: Holding
    step: int
    events: Sequence[Event]

    @property
    def key(self) -> SessionKey:
        return self.holding.key

    @property
    def names(self) -> Named:
        return NOTHING


Job = Asked | Appended


class Needs(NamedTuple):
    """What of a session must be handed in before a job can be answered.

    `holder`: which session holds the exclusive key. `head`: all of it. `wide`: the wide row.
    `queue`: as many of the turns that wait, the first ones.
    """

    key: SessionKey
    holder: Holder | None = None
    head: bool = False
    wide: bool = False
    turns: tuple[TurnId, ...] = ()
    queue: int = 0
    answer: Place | None = None
