"""What must hold of forks: a copy of what was said until a turn's end, and nothing shared."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from tests.simulation.checker import Final

from sessile.adapters.memory import MemoryStore
from sessile.core import codec
from sessile.core.events import (
    TERMINAL_KINDS,
    Entry,
    Event,
    MessageAdded,
    SessionForked,
    ToolOutcome,
)
from sessile.core.ids import SessionKey, TurnId
from sessile.core.transcript import TEXT_KINDS


def faults_of_forks(
    finals: Mapping[SessionKey, Final],
    store: MemoryStore,
    forked: Mapping[SessionKey, tuple[SessionKey, TurnId]],
) -> Iterator[str]:
    """`forked`: by each fork that was acknowledged, of which session and at which turn."""
    for key, (origin, turn_id) in forked.items():
        if key not in finals or origin not in finals:
            continue  # which is told elsewhere
        for fault in _copied(finals[key], finals[origin], turn_id):
            yield f"{key.session_id}: it is a fork of {origin.session_id} at {turn_id}, and {fault}"
        if not finals[key].gone and origin not in store.records._forks.get(key, {}):
            yield f"{key.session_id}: nobody knows that it is a fork of {origin.session_id}"


def _copied(fork: Final, origin: Final, turn_id: TurnId) -> Iterator[str]:
    at = codec.decode(fork.log[1])
    if not isinstance(at, SessionForked):
        yield "its log does not say so"
        return
    end = origin.log[at.from_seq - 1]
    if (end.turn_id, end.kind in TERMINAL_KINDS) != (turn_id, True):
        yield f"cut at {end.kind} of {end.turn_id}"
    said = [_unbound(entry) for entry in origin.log[: at.from_seq] if entry.kind in TEXT_KINDS]
    copies = [codec.decode(entry) for entry in fork.log[2:] if entry.turn_id is None]
    copies = [event for event in copies if event.kind in TEXT_KINDS]
    if copies != said or any(entry.turn_id for entry in fork.log[: 2 + len(said)]):
        yield f"has {len(copies)} copies, not as the {len(said)} were said"
    shared = {turn.turn_id for turn in fork.turns} & {turn.turn_id for turn in origin.turns}
    if shared:
        yield f"shares {sorted(shared)}"


def _unbound(entry: Entry) -> Event:
    event = codec.decode(entry)
    if isinstance(event, MessageAdded):
        return replace(event, turn_id=None, steer_id=None)
    assert isinstance(event, ToolOutcome)
    return replace(event, turn_id=None)
