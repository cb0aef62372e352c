"""One database transaction, in which many callers' jobs are answered one after another.

The rules are the batch's; here is read what it must be shown.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from sessile.adapters.sql.batch import Batch
from sessile.adapters.sql.gathered import Gathered, Holder, Known, Place
from sessile.adapters.sql.jobs import Asked, Job, Needs
from sessile.adapters.sql.keeping import beside
from sessile.adapters.sql.rows import head_of, lease_of, session_of, turn_of
from sessile.adapters.sql.scripts import Script, Write
from sessile.adapters.sqlite import scripts
from sessile.adapters.sqlite.spread import spread
from sessile.adapters.sqlite.writes import write
from sessile.core.commands import OpenSession, Remembered
from sessile.core.context import Holding
from sessile.core.errors import SessileError, StorageGone
from sessile.core.ids import NodeId, SessionKey, TurnId
from sessile.ports.clock import Clock
from sessile.ports.store import Committed

T = TypeVar("T")
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
        self._batch = Batch(careful=True)
        self.voids = False
        """What it removed must be gone from the files too, once it is committed."""

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Read ahead what these jobs need as things stand, the sessions and turns in one go."""
        batch = self._batch
        self._see([job.key for job in jobs if not _opens(job)])
        for job in jobs:
            # The id of what is opened is new, and not looked for.
            if _opens(job) and not batch.knows(job.key):
                batch.see(job.key, None)
        self._look([it for it in map(batch.needs, jobs) if it is not None])

    def answer(self, job: Job) -> Committed:
        """Raises what `Batch.answer` raises, and then nothing of the job will be written."""
        batch = self._batch
        while (needs := batch.needs(job)) is not None:
            self._look([needs])
        batch.now_ms = self._clock.now_ms()
        committed = batch.answer(job)
        if committed.deleted:
            self.flush()  # what is asked next is not to find it
        return committed

    def renew(
        self, node: NodeId, holdings: Collection[Holding], *, lease_ms: int
    ) -> frozenset[SessionKey]:
        """The sessions whose lease was lost."""
        self._see([holding.key for holding in holdings])
        self._batch.now_ms = self._clock.now_ms()
        return self._batch.renew(node, holdings, lease_ms=lease_ms)

    def run(self, script: Callable[[], Script[T]], *, voids: bool) -> T:
        """What the script comes to; where it is refused, nothing of it is written. `voids`: what it
        removes must be gone from the files too."""
        self.flush()
        written: list[SessionKey] = []

        def write_all(step: Write) -> None:
            written.extend((*step.gathered.moved, *step.gathered.changed))
            self._write(step.gathered)

        self._connection.execute("SAVEPOINT script")
        try:
            answer = scripts.run(
                self._connection, script(), now_ms=self._clock.now_ms, write=write_all
            )
        except SessileError:
            self._connection.execute("ROLLBACK TO script")
            raise
        finally:
            self._connection.execute("RELEASE script")
        for key in written:
            self._batch.unsee(key)
            self._hot.pop(key, None)
        self.voids = self.voids or voids
        return answer

    def probe(self) -> None:
        """Raises StorageGone where there is nothing to write to."""
        sql = "UPDATE store SET written_at_ms = ?"
        if self._connection.execute(sql, (self._clock.now_ms(),)).rowcount != 1:
            raise StorageGone()

    def flush(self) -> None:
        """Write what the jobs decided."""
        gathered, self._batch.gathered = self._batch.gathered, Gathered()
        self._write(gathered)

    def _write(self, gathered: Gathered) -> None:
        write(self._connection, gathered)
        self.voids = self.voids or bool(gathered.deleted)
        if gathered.audited or gathered.forks:
            scripts.run(
                self._connection, beside(gathered), now_ms=self._clock.now_ms, write=lambda _: None
            )

    def keep_hot(self) -> None:
        """After the commit: what the next transaction need not read again."""
        hot = self._hot
        for key, known in self._batch.known():
            hot.pop(key, None)
            if known is not None:
                known.cool(queue_max=HOT_QUEUE_MAX)
                hot[key] = known
        while len(hot) > HOT_SESSIONS_MAX:
            del hot[next(iter(hot))]

    def _look(self, needs: Sequence[Needs]) -> None:
        self._see([it.key for it in needs if it.head])
        self._see_turns([(it.key, turn_id) for it in needs for turn_id in it.turns])
        for holder in dict.fromkeys([it.holder for it in needs if it.holder is not None]):
            self._see_holder(holder)
        for place in dict.fromkeys([it.answer for it in needs if it.answer is not None]):
            self._see_answer(place)
        for key, most in dict.fromkeys([(it.key, it.queue) for it in needs if it.queue]):
            self._see_queue(key, most)

    def _see(self, keys: Iterable[SessionKey]) -> None:
        batch, wanted = self._batch, list[SessionKey]()
        for key in dict.fromkeys(keys):
            if batch.knows(key):
                continue
            if (known := self._hot.get(key)) is None:
                wanted.append(key)
            else:
                batch.see(key, known)
        for begin in range(0, len(wanted), 64):
            self._load(wanted[begin : begin + 64])

    def _load(self, keys: Sequence[SessionKey]) -> None:
        sql = """
            SELECT json_group_array(json_array(
                h.tenant_id, h.session_id,
                h.user_id, exclusive_key, status, head, fence, next_position, queued,
                running_turn_id, awaiting_until_ms, cancel_turn_id, steers_unread,
                lease_owner, lease_until_ms, step,
                s.user_id, s.assistant, title, metadata, grants, created_at_ms, updated_at_ms,
                due_at_ms
            ))
            FROM (VALUES (?, ?)) AS wanted
            CROSS JOIN session_head AS h ON h.tenant_id = column1 AND h.session_id = column2
            CROSS JOIN session AS s ON s.tenant_id = column1 AND s.session_id = column2
        """
        values = [value for key in keys for value in key]
        ((rows,),) = self._connection.execute(spread(sql, len(keys)), values).fetchall()
        for key in keys:
            self._batch.see(key, None)
        for row in json.loads(rows):
            key = SessionKey(row[0], row[1])
            known = Known(
                head=head_of(row[2:13], key=key),
                lease=lease_of(row[13:16]),
                session=session_of(row[16:23], key=key),
                due_at_ms=row[23],
            )
            self._batch.see(key, known)

    def _see_turns(self, places: Iterable[tuple[SessionKey, TurnId]]) -> None:
        wanted = list(dict.fromkeys(places))
        for begin in range(0, len(wanted), 64):
            self._load_turns(wanted[begin : begin + 64])

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
        self._batch.see_no_more(places)
        for row in json.loads(rows):
            key = SessionKey(row[0], row[1])
            self._batch.see_turn(key, turn_of(row[2:], key=key))

    def _see_queue(self, key: SessionKey, most: int) -> None:
        if not self._batch.gathered.empty:
            self.flush()  # it may be of them
        sql = """
            SELECT turn_id, seq, position, message_id, user_id, status, attempt, strikes,
                progressed, cancel_reason, cancel_by, current_iteration, total_iterations,
                tokens_used, total_tokens, created_at_ms, started_at_ms, ended_at_ms, error,
                awaited, input, output
            FROM turn WHERE tenant_id = ? AND session_id = ? AND status = 'queued'
            ORDER BY position LIMIT ?
        """
        for row in self._connection.execute(sql, (*key, most)).fetchall():
            self._batch.see_turn(key, turn_of(row, key=key))
        self._batch.see_queue(key, most)

    def _see_answer(self, place: Place) -> None:
        sql = """
            SELECT request_hash, session_id, turn_id, created FROM idempotency
            WHERE tenant_id = ? AND scope = ? AND user_id = ? AND key = ?
        """
        self._batch.see_answer(place, None)
        for row in self._connection.execute(sql, place).fetchall():
            remembered = Remembered(
                request_hash=row[0], session_id=row[1], turn_id=row[2], created=bool(row[3])
            )
            self._batch.see_answer(place, remembered)

    def _see_holder(self, holder: Holder) -> None:
        sql = """
            SELECT session_id FROM session_head
            WHERE tenant_id = ? AND exclusive_key = ? AND status = 'active'
        """
        self._batch.see_holder(holder, None)
        for (session_id,) in self._connection.execute(sql, holder).fetchall():
            self._batch.see_holder(holder, SessionKey(holder[0], session_id))


def _opens(job: Job) -> bool:
    return isinstance(job, Asked) and isinstance(job.command, OpenSession)
