"""What a redaction leaves of the logs that have a message's content: places, and no text.

A user's message is voided wherever its input stands; an assistant's with its deltas, buttons, the
arguments of the calls that it makes, and its turn's output; a tool's card with the call's
arguments, its outcome, and what an approval showed of it. Summaries that were written behind it
are voided whole. What else of its turn repeats its text, a title that was made of it, and metadata
that hold it lose that. Copies in forks have the same ids.

Sans I/O: a store shows the entries, one session after another, and writes what is answered.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sessile.core.codec import decode, to_json
from sessile.core.context import Principal
from sessile.core.errors import MessageNotFound, StillInUse
from sessile.core.events import (
    TERMINAL_KINDS,
    Entry,
    Event,
    SessionRedacted,
    TurnCancelRequested,
)
from sessile.core.ids import MessageId, SessionKey, TurnId
from sessile.core.notes import Note
from sessile.core.session import Session, SessionHead, Turn
from sessile.core.transcript import TEXT_KINDS
from sessile.core.turns import evolve_turn
from sessile.core.voids import Body, Voids, texts_of

SESSION_KINDS = ("session.opened", "session.updated", "session.summarized")
"""What is shown besides the entries that have one of `ids` in their body, and all the entries of
the turns that these are of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactMessage:
    """Void the content of a message, in this session and in its forks. `reason`: a code."""

    principal: Principal
    message_id: MessageId
    reason: str = ""
    note: Note | None = None


class Shown(NamedTuple):
    """One session. `running`: the turn that runs in it, or waits for a person, if one does."""

    head: SessionHead
    session: Session
    running: Turn | None
    entries: Sequence[Entry]


class Redacted(NamedTuple):
    """What to write of one session: entries instead of those that there are, rows instead of
    theirs, and events as of any decision. Without `events`, nothing. `inputs`: the turns whose
    input was voided."""

    entries: tuple[Entry, ...] = ()
    turns: tuple[Turn, ...] = ()
    session: Session | None = None
    events: tuple[Event, ...] = ()
    inputs: frozenset[TurnId] = frozenset()


@dataclass(slots=True)
class Redaction:
    """`ids`: the messages that are voided, the one that was named and presses of its buttons.
    Each session may have more of them."""

    command: RedactMessage
    ids: dict[MessageId, None] = field(default_factory=dict[MessageId, None])

    def __post_init__(self) -> None:
        self.ids[self.command.message_id] = None

    def meet(self, shown: Shown) -> bool:
        """Whether there are more ids than before: then the entries are to be shown again."""
        before, ended = len(self.ids), _ended(shown.entries)
        presses = {
            entry.turn_id
            for entry in shown.entries
            if entry.kind in ("turn.queued", "turn.edited")
            and entry.turn_id in ended
            and _body(entry)["input"].get("message_id") in self.ids
        }
        for entry in shown.entries:
            if entry.kind == "turn.queued" and entry.turn_id in presses:
                self.ids[_body(entry)["message_id"]] = None
        return len(self.ids) > before

    def check(self, shown: Shown) -> None:
        """Of the session that was named. Raises RoleRequired, MessageNotFound; StillInUse where
        the message's turn has not ended, or another runs here, whose agent has read it."""
        self.command.principal.check_scope("write")
        named, running = self.command.message_id, shown.running
        own = {it.turn_id for it in shown.entries if _message_of(it, (named,)) == named}
        if not own:
            raise MessageNotFound()
        in_use = {it for it in own if it is not None} - _ended(shown.entries)
        if running is not None and running.status == "running":
            in_use.add(running.turn_id)
        if in_use:
            raise StillInUse(turn_id=min(in_use))

    def rewrite(self, shown: Shown) -> Redacted:
        """What becomes of the session, all of whose ids are known."""
        voids = self._voids(shown.entries)
        changed = {it.seq: it for it in (_voided(it, voids) for it in shown.entries) if it}
        kept = voids.session(shown.session)
        session = replace(shown.session, **kept)
        if not changed and session == shown.session:
            return Redacted()
        by, running = self.command.principal.user_id, shown.running
        events: list[Event] = []
        if running is not None and running.status == "running" and running.cancel_reason is None:
            # Of a fork: its agent has read what is void now.
            stop = TurnCancelRequested(turn_id=running.turn_id, by=by, reason="redacted")
            events.append(stop)
        reason = self.command.reason
        events.append(SessionRedacted(message_ids=tuple(self.ids), by=by, reason=reason))
        touched = sorted({it.turn_id for it in changed.values() if it.turn_id is not None})
        log = [changed.get(it.seq, it) for it in shown.entries]
        return Redacted(
            entries=tuple(changed.values()),
            turns=tuple(_folded(shown.head.key, each, log) for each in touched),
            session=None if session == shown.session else session,
            events=tuple(events),
            inputs=frozenset(voids.inputs),
        )

    def _voids(self, entries: Sequence[Entry]) -> Voids:
        voids = Voids(ids=frozenset(self.ids))
        for entry in entries:
            if _message_of(entry, self.ids) in self.ids:
                _learn(voids, entry, _body(entry))
        for entry in entries:
            if entry.kind == "turn.edited" and entry.turn_id in voids.inputs:
                voids.texts |= texts_of(_body(entry))
        return voids


def _learn(voids: Voids, entry: Entry, body: Body) -> None:
    """What is void, by one of the entries that are the message."""
    if entry.kind in TEXT_KINDS:
        voids.place = min(voids.place, entry.seq)
    voids.texts |= texts_of(body)
    calls: list[Any] = []
    if entry.kind == "message.added" and body["role"] == "assistant":
        calls = [it["call_id"] for it in body["parts"] if it["type"] == "tool_call"]
    elif "call_id" in body:
        calls = [body["call_id"]]
        voids.answered.update(calls)
    voids.asked.update(calls)
    turn_id = entry.turn_id
    if turn_id is None:
        return
    voids.turns.add(turn_id)
    if entry.kind == "turn.queued":
        voids.inputs.add(turn_id)
    elif entry.kind in ("message.delta", "message.reset", "button.offered") or (
        body.get("role") == "assistant"
    ):
        voids.outputs.add(turn_id)


def _voided(entry: Entry, voids: Voids) -> Entry | None:
    """The entry without what is void; None where nothing is."""
    body = _body(entry)
    voids.take(entry, body)
    after = to_json(body)
    if after == entry.body or after == to_json(_body(entry)):
        return None
    return entry._replace(body=to_json({**body, "redacted": True}))


def _folded(key: SessionKey, turn_id: TurnId, log: Iterable[Entry]) -> Turn:
    turn: Turn | None = None
    for entry in log:
        if entry.turn_id == turn_id:
            turn = evolve_turn(turn, decode(entry), key=key, seq=entry.seq, at_ms=entry.at_ms)
    assert turn is not None, "all entries of the turn are shown"
    return turn


def _ended(entries: Iterable[Entry]) -> set[TurnId]:
    return {it.turn_id for it in entries if it.turn_id is not None and it.kind in TERMINAL_KINDS}


def _message_of(entry: Entry, ids: Iterable[MessageId]) -> MessageId | None:
    """The message that the entry is of, where it may be one of these: of a long log, few entries
    are worth reading."""
    return _body(entry).get("message_id") if any(it in entry.body for it in ids) else None


def _body(entry: Entry) -> Body:
    body: Body = json.loads(entry.body)
    return body
