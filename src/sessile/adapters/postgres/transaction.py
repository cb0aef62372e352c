"""One transaction of a lane: lock the heads, look, answer the jobs, write.

The heads are locked in the order of their keys, so that no two batches wait for each other. What
else is read is read behind the lock, in a statement of its own: one that waited for a lock sees
the rows of other tables as they were before it waited.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from asyncpg import Connection

from sessile.adapters.postgres.look import known_of, look
from sessile.adapters.postgres.scripts import run
from sessile.adapters.postgres.tenants import TenantConnection
from sessile.adapters.postgres.writes import write
from sessile.adapters.sql.batch import Batch, origin_of
from sessile.adapters.sql.gathered import Gathered, Holder
from sessile.adapters.sql.jobs import Appended, Asked
from sessile.adapters.sql.keeping import beside
from sessile.core.errors import SessileError
from sessile.core.ids import Seq, SessionKey, TurnId
from sessile.core.session import Session, Turn
from sessile.core.turns import evolve_turn_by
from sessile.ports.store import Committed

HOT_SESSIONS_MAX = 512
"""Sessions of which a lane remembers what others may have changed meanwhile: it is used only where
the head, which is read each time, is where it was."""
HOT_QUEUE_MAX = 4
"""Of each, as many waiting turns at most; a longer queue is read when it is wanted."""

Job = Asked | Appended
Answer = Committed | SessileError


class Hot(NamedTuple):
    """The wide row and the turns of a session as they were at `head`."""

    head: Seq
    session: Session
    turns: Mapping[TurnId, Turn]


class HolderMoved(Exception):
    """The session that held an exclusive key was closed before it could be locked."""


class Transaction:
    """Within a transaction of the connection's, which the caller begins and ends."""

    def __init__(
        self, connection: TenantConnection, hot: dict[SessionKey, Hot], *, careful: bool
    ) -> None:
        self._connection = connection
        self._hot = hot
        self._batch = Batch(careful=careful)

    async def lock(self, jobs: Sequence[Job]) -> None:
        """The heads of all sessions that the jobs are about. Raises HolderMoved."""
        batch = self._batch
        places = {
            (job.key.tenant_id, job.names.exclusive_key)
            for job in jobs
            if isinstance(job, Asked) and job.names.exclusive_key is not None
        }
        if places:
            await self._find_holders(sorted(places))
        origins = {origin for job in jobs if (origin := origin_of(job)) is not None}
        keys = sorted({*map(batch.key_of, jobs), *origins})
        sql = """
            SELECT sessile_now_ms(), locked.*
            FROM (VALUES (1)) AS always
            LEFT JOIN (
                SELECT h.tenant_id, h.session_id, h.user_id, h.exclusive_key, h.status, h.head,
                    h.fence, h.next_position, h.queued, h.running_turn_id, h.awaiting_until_ms,
                    h.cancel_turn_id, h.steers_unread, h.lease_owner, h.lease_until_ms, h.step,
                    h.due_at_ms
                FROM unnest($1::text[], $2::text[]) AS k(tenant_id, session_id)
                JOIN session_head AS h
                    ON h.tenant_id = k.tenant_id AND h.session_id = k.session_id
                ORDER BY h.tenant_id, h.session_id
                FOR UPDATE OF h
            ) AS locked ON true
        """
        rows = await self._connection.fetch(sql, *zip(*keys, strict=True))
        batch.now_ms = rows[-1][0]  # when the last lock was had
        for key in keys:
            batch.see(key, None)
        for row in rows:
            if row[1] is None:
                continue
            key = SessionKey(row[1], row[2])
            known, hot = known_of(row[3:], key=key), self._hot.get(key)
            if hot is not None and hot.head == known.head.head:
                known.session, known.turns = hot.session, dict(hot.turns)
            batch.see(key, known)
        if not all(batch.holds(place) for place in places):
            raise HolderMoved

    async def answer(self, jobs: Sequence[Job]) -> list[Answer]:
        """What the jobs come to, in their order; it holds once the transaction is committed."""
        batch, connection = self._batch, self._connection
        await look(connection, batch, map(batch.needs, jobs))
        answers: list[Answer] = []
        for job in jobs:
            while (needs := batch.needs(job)) is not None:
                if needs.turns or needs.queue:
                    await self._flush()  # it may be among what is to be read
                await look(connection, batch, (needs,))
            try:
                answers.append(batch.answer(job))
            except SessileError as refusal:
                answers.append(refusal)
            if batch.gathered.deleted:
                await self._flush()  # what is asked next is not to find it
        await self._flush()
        return answers

    async def stands(self, job: Job, unseen: Committed | None) -> Committed | None:
        """The answer, if the transaction that gave it was committed though nobody saw it. The heads
        must be locked: it may still be on its way, and holds them as long as it is."""
        if unseen is None:
            return None
        key = SessionKey(job.key.tenant_id, unseen.session_id)
        if unseen.deleted:
            sql = "SELECT 1 FROM session_head WHERE tenant_id = $1 AND session_id = $2"
            there = await self._connection.fetchval(sql, *key) is not None
            return None if there else unseen
        sql = """
            SELECT 1 FROM entry
            WHERE tenant_id = $1 AND session_id = $2 AND seq = $3
            AND kind = $4 AND at_ms = $5 AND body = $6
        """
        entry = unseen.entries[0]
        values = (*key, entry.seq, entry.kind, entry.at_ms, entry.body)
        there = await self._connection.fetchval(sql, *values) is not None
        return unseen if there else None

    def keep_hot(self) -> None:
        """After the commit: what the next transaction may not need to read."""
        hot = self._hot
        for key, known in self._batch.known():
            hot.pop(key, None)
            if known is not None and known.session is not None:
                known.cool(queue_max=HOT_QUEUE_MAX)
                hot[key] = Hot(known.head.head, known.session, known.turns)
        while len(hot) > HOT_SESSIONS_MAX:
            del hot[next(iter(hot))]

    async def _find_holders(self, places: Sequence[Holder]) -> None:
        sql = """
            SELECT h.tenant_id, h.exclusive_key, h.session_id
            FROM unnest($1::text[], $2::text[]) AS k(tenant_id, exclusive_key)
            JOIN session_head AS h
                ON h.tenant_id = k.tenant_id AND h.exclusive_key = k.exclusive_key
            WHERE h.status = 'active'
        """
        for place in places:
            self._batch.see_holder(place, None)
        for row in await self._connection.fetch(sql, *zip(*places, strict=True)):
            self._batch.see_holder((row[0], row[1]), SessionKey(row[0], row[2]))

    async def _flush(self) -> None:
        gathered, self._batch.gathered = self._batch.gathered, Gathered()
        if not gathered.empty:
            await write(self._connection, gathered)
        if gathered.audited or gathered.forks:
            await run(self._connection, beside(gathered))


def keep_hot(
    hot: dict[SessionKey, Hot], jobs: Sequence[Appended], answers: Sequence[Committed | None]
) -> None:
    """What is remembered of the sessions that were appended to without a Transaction."""
    for job, answer in zip(jobs, answers, strict=True):
        known = hot.get(job.key)
        if known is None or answer is None or answer.head is None:
            continue
        turn_id, entries = job.holding.turn_id, answer.entries
        turn = known.turns.get(turn_id)
        if turn is None or entries[0].seq != known.head + 1:
            del hot[job.key]
            continue
        events = zip((entry.seq for entry in entries), job.events, strict=True)
        evolved = evolve_turn_by(turn, events, key=job.key, at_ms=entries[0].at_ms)
        assert evolved is not None
        turns = {**known.turns, turn_id: evolved}
        hot[job.key] = Hot(answer.head.head, known.session, turns)


async def held_elsewhere(
    connection: Connection, keys: Collection[SessionKey]
) -> frozenset[SessionKey]:
    """The sessions of these whose heads somebody has locked."""
    sql = """
        WITH asked AS (
            SELECT h.tenant_id, h.session_id
            FROM unnest($1::text[], $2::text[]) AS k(tenant_id, session_id)
            JOIN session_head AS h ON h.tenant_id = k.tenant_id AND h.session_id = k.session_id
        ), free AS (
            SELECT h.tenant_id, h.session_id
            FROM asked AS k
            JOIN session_head AS h ON h.tenant_id = k.tenant_id AND h.session_id = k.session_id
            FOR UPDATE OF h SKIP LOCKED
        )
        SELECT tenant_id, session_id FROM asked EXCEPT SELECT tenant_id, session_id FROM free
    """
    rows = await connection.fetch(sql, *zip(*keys, strict=True))
    return frozenset(SessionKey(row[0], row[1]) for row in rows)
