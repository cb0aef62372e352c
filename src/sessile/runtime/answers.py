"""What a caller is told who opened a session, or submitted an input."""

from dataclasses import dataclass

from sessile.core.ids import Seq
from sessile.core.session import Turn
from sessile.ports.store import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """`created` is False where the exclusive session that there is was found, also when that
    answer is repeated."""

    found: Found
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The turn as it stands. `seq`: the entry behind which all that it does is found."""

    turn: Turn
    seq: Seq
    repeated: bool
