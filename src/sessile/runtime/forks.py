"""What a fork copies."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from sessile.core.codec import decode
from sessile.core.errors import TooLarge
from sessile.core.events import Entry, Event, MessageAdded, SessionSummarized, ToolOutcome
from sessile.core.ids import Seq, TurnId
from sessile.core.transcript import TEXT_KINDS

FORKED_AT = Seq(2)
"""Behind `session.opened` and `session.forked` comes what a fork inherits."""


async def said_until(
    newest_first: AsyncIterator[Entry], turn_id: TurnId, *, entries_max: int
) -> tuple[Seq, tuple[Event, ...]]:
    """Where in a log this turn ended, and what was said up to there. Raises TooLarge."""
    inherited: list[tuple[Seq, Event]] = []
    cut: Seq | None = None
    async for entry in newest_first:
        if cut is None:
            ended = entry.turn_id == turn_id and entry.kind.startswith("turn.")
            cut = entry.seq if ended else None
        elif entry.kind in TEXT_KINDS:
            inherited.append((entry.seq, _unbound(decode(entry))))
        if len(inherited) > entries_max:
            raise TooLarge(entries_max=entries_max)
    assert cut is not None, "an ended turn has its end in the log"
    inherited.reverse()
    return cut, tuple(_renumbered(event, inherited) for _, event in inherited)


def _renumbered(event: Event, inherited: Sequence[tuple[Seq, Event]]) -> Event:
    """What a summary stands for has other numbers in the copy."""
    if not isinstance(event, SessionSummarized):
        return event
    covered = sum(seq <= event.upto_seq for seq, _ in inherited)
    return replace(event, upto_seq=Seq(FORKED_AT + covered))


def _unbound(event: Event) -> Event:
    """A copy, in a session where the turn that it came from does not exist."""
    if isinstance(event, MessageAdded):
        return replace(event, turn_id=None, steer_id=None)
    if isinstance(event, ToolOutcome):
        return replace(event, turn_id=None)
    return event
