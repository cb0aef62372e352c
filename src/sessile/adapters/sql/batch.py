"""One transaction in which many callers' jobs are answered one after another, without a database.

Sans I/O: a job says what it needs to see, the store reads that and hands it in, and the job is
answered from memory. Each job sees what those before it wrote. What they write is gathered, and
goes to the database in a few statements at the end: a head that five jobs changed is written once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sessile.adapters.sql.gathered import Gathered, Holder, Known, Place
from sessile.core.attempts import authorised, check_append
from sessile.core.commands import (
    Command,
    Decision,
    Named,
    Once,
    OpenSession,
    Remembered,
    SubmitTurn,
    View,
    named,
)
from sessile.core.context import Holding
from sessile.core.decide import decide
from sessile.core.events import Entry, Event
from sessile.core.ids import Seq, SessionId, SessionKey, TurnId
from sessile.core.session import FREE, Session, SessionHead, Turn, due_at_ms
from sessile.core.settle import Changes, settle, stepped
from sessile.ports.store import Committed


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


class Needs(NamedTuple):
    """What of a session must be handed in before a job can be answered.

    `head`: all of it; a remembered answer is about it, and nothing of it is written. `wide`: the
    wide row. `queue`: as many of the turns that wait, the first ones.
    """

    key: SessionKey
    head: bool = False
    wide: bool = False
    turns: tuple[TurnId, ...] = ()
    queue: int = 0
    answer: Place | None = None


class Batch:
    """`careful`: also look for what is new if all goes well: ids that were just minted. They are
    found only where a commit's answer was lost, and the job is asked for again."""

    def __init__(self, *, careful: bool) -> None:
        self._careful = careful
        self._known: dict[SessionKey, Known | None] = {}
        self._holders: dict[Holder, SessionKey | None] = {}
        self._answers: dict[Place, Remembered | None] = {}
        self._sought: set[tuple[SessionKey, TurnId]] = set()
        """Turns that were looked for: those that there were are known."""
        self._queues: dict[SessionKey, Seq] = {}
        """Where the heads were when the queues were looked at."""
        self.gathered = Gathered()
        self.now_ms = 0

    # -- what is handed in

    def see(self, key: SessionKey, known: Known | None) -> None:
        self._known[key] = known

    def see_session(self, session: Session) -> None:
        """The wide row."""
        known = self._known[session.key]
        assert known is not None
        known.session = session

    def see_holder(self, place: Holder, key: SessionKey | None) -> None:
        self._holders[place] = key

    def see_answer(self, place: Place, answer: Remembered | None) -> None:
        self._answers[place] = answer

    def see_turns(
        self, key: SessionKey, turns: Iterable[Turn], *, sought: Iterable[TurnId] = ()
    ) -> None:
        known = self._known[key]
        assert known is not None, "a turn has its session"
        known.turns.update((turn.turn_id, turn) for turn in turns)
        self._sought.update((key, turn_id) for turn_id in sought)

    def see_queue(self, key: SessionKey) -> None:
        """Its first turns were shown, as many as were asked for."""
        known = self._known[key]
        assert known is not None
        self._queues[key] = known.head.head

    # -- what a job needs, and its answer

    def holds(self, place: Holder) -> bool:
        """Whether the session that was found to hold the key, if any, still does."""
        key = self._holders[place]
        known = None if key is None else self._known[key]
        if known is None:
            return key is None
        return known.head.status == "active" and known.head.exclusive_key == place[1]

    def known(self) -> Iterable[tuple[SessionKey, Known | None]]:
        return self._known.items()

    def key_of(self, job: Asked | Appended) -> SessionKey:
        """The session that it is about: where an exclusive key is held, the one that holds it."""
        if isinstance(job, Asked) and job.names.exclusive_key is not None:
            return self._holders.get((job.key.tenant_id, job.names.exclusive_key)) or job.key
        return job.key

    def needs(self, job: Asked | Appended) -> Needs | None:
        """What it must still be shown. The head of its session it was shown before."""
        key = self.key_of(job)
        names = Named() if isinstance(job, Appended) else job.names
        answer: Remembered | None = None
        if names.once is not None:
            place = _place(key, names.once)
            if place not in self._answers:
                return Needs(key, answer=place)
            answer = self._answers[place]
            if answer is not None and answer.session_id != key.session_id:
                return self._elsewhere(SessionKey(key.tenant_id, answer.session_id), answer)
        known = self._known[key]
        if known is None:
            return None
        head, turns = known.head, list[TurnId]()
        told = None if answer is None else answer.turn_id
        for turn_id in (head.running_turn_id, names.turn_id, told):
            if turn_id is not None and turn_id not in turns and self._unseen(known, turn_id):
                turns.append(turn_id)
        if _mints(job) and not self._careful:
            turns = [turn_id for turn_id in turns if turn_id != names.turn_id]
        queue = 0
        if names.queue != "none" and head.queued:
            seen = sum(turn.status == "queued" for turn in known.turns.values())
            if seen < head.queued and self._queues.get(key) != head.head:
                queue = head.queued if names.queue == "all" else 1
        wide = known.session is None
        return (
            Needs(key, wide=wide, turns=tuple(turns), queue=queue)
            if (wide or turns or queue)
            else None
        )

    def _elsewhere(self, about: SessionKey, answer: Remembered) -> Needs | None:
        """What the answer that an open repeats is about."""
        if about not in self._known:
            return Needs(about, head=True)
        known, turn_id = self._known[about], answer.turn_id
        if known is None:
            return None
        turns = () if turn_id is None or not self._unseen(known, turn_id) else (turn_id,)
        wide = known.session is None
        return Needs(about, wide=wide, turns=turns) if wide or turns else None

    def answer(self, job: Asked | Appended) -> Committed:
        """Raises what `decide` and `check_append` raise, and then nothing of the job is written."""
        return self._append(job) if isinstance(job, Appended) else self._transact(job)

    def _append(self, job: Appended) -> Committed:
        key = job.key
        known = self._known[key]
        view = self._view(key, known, Named())
        if check_append(view, job.holding, step=job.step):
            events = authorised(view, job.events)
            decision = Decision(events=events, lease=stepped(view.lease))
        else:
            decision = Decision(repeated=True)
        return self._apply(key, known, view, decision, key.session_id)

    def _transact(self, job: Asked) -> Committed:
        names, key = job.names, self.key_of(job)
        known = self._known[key]
        view = replace(self._view(key, known, names), exclusive=key != job.key)
        decision = decide(view, job.command)
        if decision.deleted:
            assert known is not None
            self._forget(known)
            return Committed(head=None, lease=FREE, session_id=key.session_id, deleted=True)
        session_id = decision.session_id or key.session_id
        if names.once is not None and not decision.repeated:
            place = _place(key, names.once)
            self._answers[place] = self.gathered.answers[place] = Remembered(
                request_hash=names.once.request_hash,
                session_id=session_id,
                turn_id=decision.turn_id,
                created=decision.created,
            )
            self.gathered.answered_at_ms = view.now_ms
        return self._apply(key, known, view, decision, session_id)

    def _view(self, key: SessionKey, known: Known | None, names: Named) -> View:
        remembered = None
        if names.once is not None:
            remembered = self._answers[_place(key, names.once)]
        if known is None:
            return View(now_ms=self.now_ms, remembered=remembered)
        return View(
            now_ms=self.now_ms,
            head=known.head,
            lease=known.lease,
            session=known.session,
            turns=known.turns,
            remembered=remembered,
        )

    def _apply(
        self,
        key: SessionKey,
        known: Known | None,
        view: View,
        decision: Decision,
        session_id: SessionId,
    ) -> Committed:
        entries: tuple[Entry, ...] = ()
        turns: Mapping[TurnId, Turn] = {}
        if decision.events or decision.lease is not None:
            changes = settle(view, decision, key=key)
            known = self._gather(known, changes, now_ms=view.now_ms)
            entries, turns = changes.entries, changes.turns
        about = known
        if session_id != key.session_id:
            about = self._known[SessionKey(key.tenant_id, session_id)]
        turn = None
        if about is not None and decision.turn_id is not None:
            turn = about.turns.get(decision.turn_id)
        return Committed(
            head=None if about is None else about.head,
            lease=FREE if about is None else about.lease,
            session_id=session_id,
            entries=entries,
            turns=turns,
            turn=turn,
            session=None if about is None else about.session,
            created=decision.created,
            repeated=decision.repeated,
        )

    def _gather(self, known: Known | None, changes: Changes, *, now_ms: int) -> Known:
        gathered, head, key = self.gathered, changes.head, changes.head.key
        due = due_at_ms(head, changes.lease, now_ms=now_ms)
        if known is None:
            assert changes.session is not None
            known = Known(head, changes.lease, due, changes.session)
            self._known[key] = gathered.born[key] = known
            if head.exclusive_key is not None:
                self._holders[key.tenant_id, head.exclusive_key] = key
        else:
            if head.status != known.head.status:
                self._let_go(known.head)
            known.head, known.lease, known.due_at_ms = head, changes.lease, due
            gathered.moved[key] = known
            if changes.session is not None:
                known.session = changes.session
                gathered.changed[key] = known
        for turn_id, turn in changes.turns.items():
            before, place = known.turns.get(turn_id), (key, turn_id)
            if before is None:
                gathered.turns_born[place] = known
            elif place not in gathered.turns_born:
                gathered.turns_moved[place] = known
                if turn.input is not before.input:
                    gathered.turns_edited[place] = known
            known.turns[turn_id] = turn
        gathered.entries.extend((key, entry) for entry in changes.entries)
        return known

    def _let_go(self, head: SessionHead) -> None:
        if head.exclusive_key is not None:
            self._holders[head.key.tenant_id, head.exclusive_key] = None

    def _forget(self, known: Known) -> None:
        head = known.head
        self._known[head.key] = None
        self.gathered.deleted[head.key] = head.user_id
        if head.status == "active":
            self._let_go(head)

    def _unseen(self, known: Known, turn_id: TurnId) -> bool:
        return turn_id not in known.turns and (known.head.key, turn_id) not in self._sought


def _mints(job: Asked | Appended) -> bool:
    """Whether the turn that it names is one that it makes."""
    return isinstance(job, Asked) and isinstance(job.command, SubmitTurn | OpenSession)


def _place(key: SessionKey, once: Once) -> Place:
    return (key.tenant_id, once.scope, once.user_id, once.key)
