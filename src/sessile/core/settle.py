"""From a decision to the rows that a store writes: the same pure function for every store."""

from dataclasses import replace
from typing import NamedTuple

from sessile.core import codec
from sessile.core.commands import Decision, View
from sessile.core.events import Entry, Event, SessionEvent, SessionOpened
from sessile.core.ids import Seq, SessionKey, TurnId
from sessile.core.session import (
    Lease,
    Session,
    SessionHead,
    Turn,
    evolve,
    evolve_session,
    unborn,
)
from sessile.core.turns import evolve_turn_by


class Changes(NamedTuple):
    """The rows after a decision. `session` and `turns` hold only those that changed."""

    head: SessionHead
    lease: Lease
    entries: tuple[Entry, ...]
    session: Session | None
    turns: dict[TurnId, Turn]


def settle(view: View, decision: Decision, *, key: SessionKey) -> Changes:
    """Numbers the events, and folds them into the head, the wide row and the turns."""
    now_ms = view.now_ms
    events = decision.events
    if view.head is None:
        opened = events[0]
        assert isinstance(opened, SessionOpened), "a log begins with session.opened"
        before = unborn(key, opened.user_id)
    else:
        before = view.head
    head = evolve(before, events)
    session = view.session
    of_turns: dict[TurnId, list[tuple[Seq, Event]]] = {}
    entries: list[Entry] = []
    for seq, event in enumerate(events, start=before.head + 1):
        turn_id = codec.turn_of(event)
        entries.append(Entry(Seq(seq), event.kind, turn_id, now_ms, codec.encode(event)))
        if turn_id is None:
            if isinstance(event, SessionEvent):
                session = evolve_session(session, event, key=key, at_ms=now_ms)
        else:
            of_turns.setdefault(turn_id, []).append((Seq(seq), event))
    turns: dict[TurnId, Turn] = {}
    for turn_id, happened in of_turns.items():
        known = view.turns.get(turn_id)
        turn = evolve_turn_by(known, happened, key=key, at_ms=now_ms)
        if turn is not None and turn is not known:
            turns[turn_id] = turn
    return Changes(
        head=head,
        lease=view.lease if decision.lease is None else decision.lease,
        entries=tuple(entries),
        session=None if session is view.session else session,
        turns=turns,
    )


def stepped(lease: Lease) -> Lease:
    """The lease after one fenced append."""
    return replace(lease, step=lease.step + 1)
