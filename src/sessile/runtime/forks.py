"""What a fork copies."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from sessile.core.codec import decode
from sessile.core.errors import OriginMoved, TooLarge
from sessile.core.events import (
    TERMINAL_KINDS,
    Entry,
    Event,
    MessageAdded,
    SessionRedacted,
    SessionSummarized,
    ToolOutcome,
)
from sessile.core.ids import Seq, TurnId

FORK_TRIES = 50
"""A session that runs grows with each word: what came is looked through, and it is tried again."""
FORKED_AT = Seq(2)
"""Behind `session.opened` and `session.forked` comes what a fork inherits."""


async def end_of(log: AsyncIterator[Entry], turn_id: TurnId) -> Seq:
    """Where the turn, which has ended, did so. `log`: from before that on."""
    async for entry in log:
        if entry.turn_id == turn_id and entry.kind in TERMINAL_KINDS:
            return entry.seq
    raise AssertionError("an ended turn has its end in the log")


async def unvoided(log: AsyncIterator[Entry], *, after: Seq) -> Seq:
    """How far the log goes, of which more came behind `after`. Raises OriginMoved where that voids
    something: what was read of it must not be written."""
    async for entry in log:
        after = entry.seq
        if entry.kind == SessionRedacted.kind:
            raise OriginMoved(head=after)
    return after


async def inherited(newest_first: AsyncIterator[Entry], *, entries_max: int) -> tuple[Event, ...]:
    """Copies of what was said. Raises TooLarge."""
    said: list[tuple[Seq, Event]] = []
    async for entry in newest_first:
        if len(said) == entries_max:
            raise TooLarge(entries_max=entries_max)
        said.append((entry.seq, _unbound(decode(entry))))
    said.reverse()
    return tuple(_renumbered(event, said) for _, event in said)


def _renumbered(event: Event, said: Sequence[tuple[Seq, Event]]) -> Event:
    """What a summary stands for has other numbers in the copy."""
    if not isinstance(event, SessionSummarized):
        return event
    covered = sum(seq <= event.upto_seq for seq, _ in said)
    return replace(event, upto_seq=Seq(FORKED_AT + covered))


def _unbound(event: Event) -> Event:
    """A copy, in a session where the turn that it came from does not exist."""
    if isinstance(event, MessageAdded):
        return replace(event, turn_id=None, steer_id=None)
    if isinstance(event, ToolOutcome):
        return replace(event, turn_id=None)
    return event
