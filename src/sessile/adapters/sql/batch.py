"""One transaction in which many callers' jobs are answered one after another, without a database.

Sans I/O: a job says what it needs to see, the store reads that and hands it in, and the job is
answered from memory. Each job sees what those before it wrote. What they write is gathered, and
goes to the database in a few statements at the end: a head that five jobs changed is written once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sessile.adapters.sql.gathered import Gathered, Holder, Known, Place
from sessile.adapters.sql.jobs import NOTHING, Appended, Asked, Job, Needs
from sessile.core.attempts import authorised, check_append
from sessile.core.commands import (
    Decision,
    Named,
    Once,
    OpenSession,
    Remembered,
    SubmitTurn,
    View,
)
from sessile.core.context import Holding
from sessile.core.decide import decide
from sessile.core.events import Entry
from sessile.core.ids import NodeId, Seq, SessionId, SessionKey, TurnId
from sessile.core.records import record_of
from sessile.core.session import FREE, Session, SessionHead, Turn, due_at_ms
from sessile.core.settle import Changes, settle, stepped
from sessile.ports.store import Committed


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
        self._queues: dict[SessionKey, tuple[Seq, int]] = {}
        """Where the heads were when the queues were looked at, and how many were asked for."""
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

    def see_turn(self, key: SessionKey, turn: Turn) -> None:
        known = self._known[key]
        assert known is not None, "a turn has its session"
        known.turns[turn.turn_id] = turn

    def see_no_more(self, places: Iterable[tuple[SessionKey, TurnId]]) -> None:
        """Of these turns, those that there are were shown."""
        self._sought.update(places)

    def see_queue(self, key: SessionKey, most: int) -> None:
        """Its first turns were shown, as many as were asked for."""
        known = self._known[key]
        assert known is not None
        self._queues[key] = (known.head.head, most)

    # -- what a job needs, and its answer

    def holds(self, place: Holder) -> bool:
        """Whether the session that was found to hold the key, if any, still does."""
        key = self._holders[place]
        known = None if key is None else self._known[key]
        if known is None:
            return key is None
        return known.head.status == "active" and known.head.exclusive_key == place[1]

    def unsee(self, key: SessionKey) -> None:
        """It was written past this batch: what is asked next must be shown it again."""
        self._known.pop(key, None)
        self._queues.pop(key, None)

    def knows(self, key: SessionKey) -> bool:
        """Whether it was shown, or that there is none."""
        return key in self._known

    def known(self) -> Iterable[tuple[SessionKey, Known | None]]:
        return self._known.items()

    def key_of(self, job: Job) -> SessionKey:
        """The session that it is about: where an exclusive key is held, the one that holds it."""
        exclusive_key = job.names.exclusive_key
        if exclusive_key is None:
            return job.key
        return self._holders.get((job.key.tenant_id, exclusive_key)) or job.key

    def needs(self, job: Job) -> Needs | None:
        """What it must still be shown."""
        names, key = job.names, job.key
        place: Place | None = None
        answer: Remembered | None = None
        if names.once is not None:
            place = _place(key, names.once)
            if place in self._answers:
                answer, place = self._answers[place], None
        if names.exclusive_key is not None:
            holder = (key.tenant_id, names.exclusive_key)
            if holder not in self._holders:
                return Needs(key, holder=holder, answer=place)
            key = self._holders[holder] or key
        if key not in self._known:
            return Needs(key, head=True, answer=place)
        if answer is not None and answer.session_id != key.session_id:
            return self._elsewhere(SessionKey(key.tenant_id, answer.session_id), answer)
        known = self._known[key]
        if known is None:
            origin = origin_of(job)
            if origin is not None and origin not in self._known:
                return Needs(origin, head=True, answer=place)
            return None if place is None else Needs(key, answer=place)
        head = known.head
        named_id = names.turn_id if self._careful or not _mints(job) else None
        told = None if answer is None else answer.turn_id
        turns = self._unseen(known, head.running_turn_id, named_id, told)
        queue = 0
        if names.queue != "none" and head.queued:
            queue = self._unseen_queue(known, head.queued if names.queue == "all" else 1)
        wide = known.session is None
        if wide or turns or queue or place is not None:
            return Needs(key, wide=wide, turns=turns, queue=queue, answer=place)
        return None

    def _elsewhere(self, about: SessionKey, answer: Remembered) -> Needs | None:
        """What the answer that an open repeats is about."""
        if about not in self._known:
            return Needs(about, head=True)
        known = self._known[about]
        if known is None:
            return None
        turns = self._unseen(known, answer.turn_id)
        wide = known.session is None
        return Needs(about, wide=wide, turns=turns) if wide or turns else None

    def _unseen(self, known: Known, *turn_ids: TurnId | None) -> tuple[TurnId, ...]:
        unseen: tuple[TurnId, ...] = ()
        for turn_id in turn_ids:
            if turn_id is None or turn_id in known.turns or turn_id in unseen:
                continue
            if (known.head.key, turn_id) not in self._sought:
                unseen += (turn_id,)
        return unseen

    def _unseen_queue(self, known: Known, most: int) -> int:
        """How many of its first turns must be shown: `most`, or none."""
        head = known.head
        if sum(turn.status == "queued" for turn in known.turns.values()) == head.queued:
            return 0
        at, shown = self._queues.get(head.key, (head.head, 0))
        return 0 if at == head.head and shown >= most else most

    def answer(self, job: Job) -> Committed:
        """Raises what `decide` and `check_append` raise, and then nothing of the job is written."""
        return self._append(job) if isinstance(job, Appended) else self._transact(job)

    def renew(
        self, node: NodeId, holdings: Iterable[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        """The sessions whose lease was lost. The heads of all were shown."""
        lost: set[SessionKey] = set()
        until_ms = self.now_ms + lease_ms
        for holding in holdings:
            known = self._known[holding.key]
            if known is None or known.lease.owner != node or known.head.fence != holding.fence:
                lost.add(holding.key)
                continue
            known.lease, known.due_at_ms = replace(known.lease, until_ms=until_ms), until_ms
            self.gathered.moved[holding.key] = known
        return frozenset(lost)

    def _append(self, job: Appended) -> Committed:
        key = job.key
        known = self._known[key]
        view = self._view(key, known, NOTHING, exclusive=False)
        if check_append(view, job.holding, step=job.step):
            events = authorised(view, job.events)
            decision = Decision(events=events, lease=stepped(view.lease))
        else:
            decision = Decision(repeated=True)
        return self._apply(key, known, view, decision, key.session_id)

    def _transact(self, job: Asked) -> Committed:
        names, key = job.names, self.key_of(job)
        known = self._known[key]
        view = self._view(key, known, names, exclusive=key != job.key)
        decision = decide(view, job.command)
        record = record_of(key, job.command, decision, now_ms=view.now_ms)
        audited = () if record is None else (record,)
        self.gathered.audited.extend(audited)
        if view.origin is not None and decision.events:
            self.gathered.forks.append((key, view.origin))
        if decision.deleted:
            assert known is not None
            self._forget(known)
            return Committed(
                head=None, lease=FREE, session_id=key.session_id, deleted=True, audited=audited
            )
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
        committed = self._apply(key, known, view, decision, session_id)
        return committed._replace(audited=audited) if audited else committed

    def _view(self, key: SessionKey, known: Known | None, names: Named, *, exclusive: bool) -> View:
        remembered = None
        if names.once is not None:
            remembered = self._answers[_place(key, names.once)]
        if known is None:
            origin = None
            if names.origin is not None:
                origin = self._known.get(SessionKey(key.tenant_id, names.origin))
            return View(
                now_ms=self.now_ms,
                remembered=remembered,
                origin=None if origin is None else origin.head,
            )
        return View(
            now_ms=self.now_ms,
            head=known.head,
            lease=known.lease,
            session=known.session,
            turns=known.turns,
            remembered=remembered,
            exclusive=exclusive,
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
            lost=decision.lost,
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
        gathered.entries.extend([(key, entry) for entry in changes.entries])
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
        # Of another user's answers about it some stay, and are read again.
        self._answers = {
            place: answer
            for place, answer in self._answers.items()
            if answer is None or answer.session_id != head.key.session_id
        }


def origin_of(job: Job) -> SessionKey | None:
    """The session that it copies from."""
    origin = job.names.origin
    return None if origin is None else SessionKey(job.key.tenant_id, origin)


def _mints(job: Job) -> bool:
    """Whether the turn that it names is one that it makes."""
    return isinstance(job, Asked) and isinstance(job.command, SubmitTurn | OpenSession)


def _place(key: SessionKey, once: Once) -> Place:
    return (key.tenant_id, once.scope, once.user_id, once.key)
