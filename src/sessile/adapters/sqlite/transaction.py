"""One database transaction, in which many callers' jobs are answered one after another.

Each job sees what those before it wrote. What they write is gathered, and goes to the database
in a few statements at the end: a head that five jobs changed is written once.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sessile.adapters.sql.rows import head_of, lease_of, session_of, turn_of
from sessile.adapters.sqlite.spread import spread
from sessile.adapters.sqlite.writes import Known, Place, Writes
from sessile.core.attempts import authorised, check_append
from sessile.core.commands import (
    Command,
    Decision,
    Named,
    Once,
    OpenSession,
    Remembered,
    View,
)
from sessile.core.context import Holding
from sessile.core.decide import decide
from sessile.core.events import Entry, Event
from sessile.core.ids import NodeId, SessionId, SessionKey, TenantId, TurnId
from sessile.core.session import FREE, Turn, due_at_ms
from sessile.core.settle import Changes, settle, stepped
from sessile.ports.clock import Clock
from sessile.ports.store import Committed

HOT_SESSIONS_MAX = 512
"""Sessions that are remembered between transactions, those of the last ones."""
HOT_QUEUE_MAX = 4
"""Of each, as many waiting turns at most; a longer queue is read when it is wanted."""


class Transaction:
    """`hot`: what the last transactions knew of their sessions. It must be emptied when this
    transaction fails."""

    def __init__(
        self, connection: sqlite3.Connection, clock: Clock, hot: dict[SessionKey, Known]
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._hot = hot
        self._known: dict[SessionKey, Known | None] = {}
        self._sought: set[tuple[SessionKey, TurnId]] = set()
        """Turns that were looked for: those that there were are known."""
        self._writes = Writes(connection)

    def prepare(
        self, keys: Iterable[SessionKey], turns: Iterable[tuple[SessionKey, TurnId]]
    ) -> None:
        """Read these sessions and turns ahead, all in one go."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._hot]
        for begin in range(0, len(wanted), 64):
            self._load(wanted[begin : begin + 64])
        sought = [(key, turn_id) for key, turn_id in turns if self._unseen(key, turn_id)]
        for begin in range(0, len(sought), 64):
            self._load_turns(sought[begin : begin + 64])

    def transact(self, key: SessionKey, command: Command, names: Named) -> Committed:
        """Raises what `decide` raises, and then nothing of the job will be written."""
        holder = self._holder(key.tenant_id, names.exclusive_key)
        exclusive = holder is not None and holder != key
        key = holder or key
        # The id of what is opened is new, and not looked for.
        born = isinstance(command, OpenSession) and holder is None
        known = None if born else self._session(key)
        view = replace(self._view(key, known, names), exclusive=exclusive)
        decision = decide(view, command)
        if decision.deleted:
            assert known is not None
            return self._delete(key, known)
        session_id = decision.session_id or key.session_id
        if names.once is not None and not decision.repeated:
            answer = Remembered(
                request_hash=names.once.request_hash,
                session_id=session_id,
                turn_id=decision.turn_id,
                created=decision.created,
            )
            self._writes.answer(_place(key, names.once), answer, at_ms=view.now_ms)
        return self._apply(key, known, view, decision, session_id)

    def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        """Raises LeaseLost, and then nothing of the job will be written."""
        key = holding.key
        known = self._session(key)
        view = self._view(key, known, Named())
        if check_append(view, holding, step=step):
            decision = Decision(events=authorised(view, events), lease=stepped(view.lease))
        else:
            decision = Decision(repeated=True)
        return self._apply(key, known, view, decision, key.session_id)

    def renew(
        self, node: NodeId, holdings: Iterable[Holding], lease_ms: int
    ) -> frozenset[SessionKey]:
        """The sessions whose lease was lost."""
        lost: set[SessionKey] = set()
        for holding in holdings:
            known = self._session(holding.key)
            if known is None or known.lease.owner != node or known.head.fence != holding.fence:
                lost.add(holding.key)
                continue
            until_ms = self._clock.now_ms() + lease_ms
            known.lease = replace(known.lease, until_ms=until_ms)
            known.due_at_ms = until_ms
            self._writes.moved(known)
        return frozenset(lost)

    def flush(self) -> None:
        """Write what the jobs decided."""
        self._writes.flush()

    def keep_hot(self) -> None:
        """After the commit: what the next transaction need not read again."""
        hot = self._hot
        for key, known in self._known.items():
            hot.pop(key, None)
            if known is not None:
                known.cool(queue_max=HOT_QUEUE_MAX)
                hot[key] = known
        while len(hot) > HOT_SESSIONS_MAX:
            del hot[next(iter(hot))]

    def _view(self, key: SessionKey, known: Known | None, names: Named) -> View:
        remembered = None
        if names.once is not None:
            remembered = self._answered(_place(key, names.once))
        now_ms = self._clock.now_ms()
        if known is None:
            return View(now_ms=now_ms, remembered=remembered)
        running = known.head.running_turn_id
        if running is not None:
            self._turn(known, running)
        if names.turn_id is not None:
            self._turn(known, names.turn_id)
        if names.queue != "none" and known.head.queued:
            self._queue(known, limit=known.head.queued if names.queue == "all" else 1)
        return View(
            now_ms=now_ms,
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
        if about is None or session_id != key.session_id:
            about = self._session(SessionKey(key.tenant_id, session_id))
        turn = None
        if about is not None and decision.turn_id is not None:
            turn = self._turn(about, decision.turn_id)
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
        writes, head = self._writes, changes.head
        due = due_at_ms(head, changes.lease, now_ms=now_ms)
        if known is None:
            assert changes.session is not None
            known = Known(head, changes.lease, due, changes.session)
            self._known[head.key] = known
            writes.born(known)
        else:
            if head.status != known.head.status:
                writes.closes(known)
            known.head, known.lease, known.due_at_ms = head, changes.lease, due
            writes.moved(known)
            if changes.session is not None:
                known.session = changes.session
                writes.changed(known)
        for turn_id, turn in changes.turns.items():
            writes.turn(known, turn_id, turn)
        writes.entries(head.key, changes.entries)
        return known

    def _session(self, key: SessionKey) -> Known | None:
        if key in self._known:
            return self._known[key]
        known = self._hot.get(key)
        if known is None:
            self._load([key])
            return self._known[key]
        self._known[key] = known
        return known

    def _load(self, keys: Sequence[SessionKey]) -> None:
        sql = """
            SELECT json_group_array(json_array(
                h.tenant_id, h.session_id,
                h.user_id, exclusive_key, status, head, fence, next_position, queued,
                running_turn_id, awaiting_until_ms, cancel_turn_id, steers_unread,
                lease_owner, lease_until_ms, step,
                s.user_id, assistant, title, metadata, grants, created_at_ms, updated_at_ms,
                due_at_ms
            ))
            FROM (VALUES (?, ?)) AS wanted
            CROSS JOIN session_head AS h ON h.tenant_id = column1 AND h.session_id = column2
            CROSS JOIN session AS s ON s.tenant_id = column1 AND s.session_id = column2
        """
        values = [value for key in keys for value in key]
        ((rows,),) = self._connection.execute(spread(sql, len(keys)), values).fetchall()
        self._known.update(dict.fromkeys(keys))
        for row in json.loads(rows):
            key = SessionKey(row[0], row[1])
            self._known[key] = Known(
                head=head_of(row[2:13], key=key),
                lease=lease_of(row[13:16]),
                session=session_of(row[16:23], key=key),
                due_at_ms=row[23],
            )

    def _unseen(self, key: SessionKey, turn_id: TurnId) -> bool:
        known = self._known.get(key) or self._hot.get(key)
        return known is not None and turn_id not in known.turns

    def _load_turns(self, places: Sequence[tuple[SessionKey, TurnId]]) -> None:
        sql = """
            SELECT json_group_array(json_array(
                t.tenant_id, t.session_id,
                turn_id, seq, position, message_id, user_id, status, attempt, strikes,
                progressed, cancel_reason, cancel_by, current_iteration, total_iterations,
                tokens_used, total_tokens, created_at_ms, started_at_ms, ended_at_ms, error,
                awaited, input, output
            ))
            FROM (VALUES (?, ?, ?)) AS wanted
            CROSS JOIN turn AS t
                ON t.tenant_id = column1 AND t.session_id = column2 AND t.turn_id = column3
        """
        values = [value for key, turn_id in places for value in (*key, turn_id)]
        ((rows,),) = self._connection.execute(spread(sql, len(places)), values).fetchall()
        self._sought.update(places)
        for row in json.loads(rows):
            known = self._session(SessionKey(row[0], row[1]))
            assert known is not None, "a turn has its session"
            turn = turn_of(row[2:], key=known.head.key)
            known.turns[turn.turn_id] = turn

    def _turn(self, known: Known, turn_id: TurnId) -> Turn | None:
        place = (known.head.key, turn_id)
        if turn_id not in known.turns and place not in self._sought:
            self._load_turns([place])
        return known.turns.get(turn_id)

    def _queue(self, known: Known, *, limit: int) -> None:
        """The first turns that wait. What was gathered is written first: it may be of them."""
        if sum(turn.status == "queued" for turn in known.turns.values()) == known.head.queued:
            return
        self._writes.flush()
        sql = """
            SELECT turn_id, seq, position, message_id, user_id, status, attempt, strikes,
                progressed, cancel_reason, cancel_by, current_iteration, total_iterations,
                tokens_used, total_tokens, created_at_ms, started_at_ms, ended_at_ms, error,
                awaited, input, output
            FROM turn WHERE tenant_id = ? AND session_id = ? AND status = 'queued'
            ORDER BY position LIMIT ?
        """
        key = known.head.key
        for row in self._connection.execute(sql, (*key, limit)).fetchall():
            turn = turn_of(row, key=key)
            known.turns[turn.turn_id] = turn

    def _answered(self, place: Place) -> Remembered | None:
        if place in self._writes.answers:
            return self._writes.answers[place]
        sql = """
            SELECT request_hash, session_id, turn_id, created FROM idempotency
            WHERE tenant_id = ? AND scope = ? AND user_id = ? AND key = ?
        """
        for row in self._connection.execute(sql, place).fetchall():
            return Remembered(
                request_hash=row[0], session_id=row[1], turn_id=row[2], created=bool(row[3])
            )
        return None

    def _holder(self, tenant_id: TenantId, exclusive_key: str | None) -> SessionKey | None:
        if exclusive_key is None:
            return None
        if holder := self._writes.exclusive.get((tenant_id, exclusive_key)):
            return SessionKey(tenant_id, holder)
        sql = """
            SELECT session_id FROM session_head
            WHERE tenant_id = ? AND exclusive_key = ? AND status = 'active'
        """
        for (session_id,) in self._connection.execute(sql, (tenant_id, exclusive_key)).fetchall():
            holder_key = SessionKey(tenant_id, session_id)
            if holder_key not in self._writes.closed:
                return holder_key
        return None

    def _delete(self, key: SessionKey, known: Known) -> Committed:
        self._writes.flush()
        run = self._connection.execute
        run("DELETE FROM session_head WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM session WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM entry WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM turn WHERE tenant_id = ? AND session_id = ?", key)
        run("DELETE FROM idempotency WHERE tenant_id = ? AND scope = ?", key)
        run(
            """
            DELETE FROM idempotency
            WHERE tenant_id = ? AND scope = 'open' AND user_id = ? AND session_id = ?
            """,
            (key.tenant_id, known.head.user_id, key.session_id),
        )
        self._known[key] = None
        return Committed(head=None, lease=FREE, session_id=key.session_id, deleted=True)


def _place(key: SessionKey, once: Once) -> Place:
    return (key.tenant_id, once.scope, once.user_id, once.key)
