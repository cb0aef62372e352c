"""The fenced append: one statement, for one session or for many.

It asks for no decision: the fence, the turn and the step are compared in the statement that
allocates the seqs, which locks the heads in the order of their keys. What it does not find as it
should be, and what changes more than a head and a turn's record, is left to a Transaction.
"""

from collections.abc import Sequence

from asyncpg import Connection

from sessile.adapters.postgres.columns import numbered, values
from sessile.adapters.sql.jobs import Appended
from sessile.adapters.sql.rows import head_of, lease_of
from sessile.core import codec
from sessile.core.events import (
    ButtonOffered,
    Entry,
    Event,
    IntentDecided,
    MessageAdded,
    MessageDelta,
    MessageReset,
    Progress,
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
    ToolStarted,
    TurnProgress,
)
from sessile.core.ids import Seq, SessionKey
from sessile.ports.store import Committed

STEPS = MessageAdded | ToolCompleted | ToolFailed | ToolInterrupted | ToolRefused
PLAIN = STEPS | MessageDelta | MessageReset | TurnProgress | IntentDecided | ButtonOffered

HEADS = """
    $::key[], $::key[], $::bigint[], $::key[], $::int[], $::int[], $::int[], $::bool[], $::bigint[],
    $::bigint[], $::bigint[], $::bigint[], $::key[]
"""
ENTRIES = "$::key[], $::key[], $::int[], $::key[], $::key[], $::text[]"
APPEND = numbered(
    f"""
    WITH asked AS (
        SELECT * FROM unnest({HEADS})
            AS a(tenant_id, session_id, fence, turn_id, step, entries, read, progressed,
            current_iteration, total_iterations, tokens_used, total_tokens, node)
    ), held AS (
        SELECT a.*
        FROM asked AS a
        JOIN session_head AS h ON h.tenant_id = a.tenant_id AND h.session_id = a.session_id
        WHERE h.fence = a.fence AND h.running_turn_id = a.turn_id AND h.step = a.step
            AND h.lease_owner = a.node AND h.status = 'active'
        ORDER BY h.tenant_id, h.session_id
        FOR UPDATE OF h
    ), grown AS (
        UPDATE session_head AS h SET
            head = h.head + held.entries, step = h.step + 1,
            steers_unread = h.steers_unread - held.read
        FROM held
        WHERE h.tenant_id = held.tenant_id AND h.session_id = held.session_id
        RETURNING h.tenant_id, h.session_id, h.user_id, h.exclusive_key, h.status, h.head,
            h.fence, h.next_position, h.queued, h.running_turn_id, h.awaiting_until_ms,
            h.cancel_turn_id, h.steers_unread, h.lease_owner, h.lease_until_ms, h.step,
            h.head - held.entries AS before, sessile_now_ms() AS now_ms
    ), written AS (
        INSERT INTO entry (tenant_id, session_id, seq, turn_id, kind, at_ms, body)
        SELECT e.tenant_id, e.session_id, g.before + e.place, e.turn_id, e.kind, g.now_ms,
            e.body
        FROM unnest({ENTRIES})
            AS e(tenant_id, session_id, place, turn_id, kind, body)
        JOIN grown AS g ON g.tenant_id = e.tenant_id AND g.session_id = e.session_id
    ), turned AS (
        UPDATE turn AS t SET
            progressed = t.progressed OR held.progressed,
            current_iteration = greatest(t.current_iteration, held.current_iteration),
            total_iterations = greatest(t.total_iterations, held.total_iterations),
            tokens_used = greatest(t.tokens_used, held.tokens_used),
            total_tokens = greatest(t.total_tokens, held.total_tokens)
        FROM held
        WHERE t.tenant_id = held.tenant_id AND t.session_id = held.session_id
            AND t.turn_id = held.turn_id AND (
                t.progressed < held.progressed
                OR t.current_iteration < held.current_iteration
                OR t.total_iterations < held.total_iterations
                OR t.tokens_used < held.tokens_used
                OR t.total_tokens < held.total_tokens
            )
    )
    SELECT * FROM grown
"""  # no value is in it  # noqa: S608  # nosec B608
)


def is_plain(job: Appended) -> bool:
    """Whether it changes no more than the statement below does: a call that starts by a grant is
    looked at against the grants, which are in another table."""
    return bool(job.events) and all(
        isinstance(event, PLAIN) or (isinstance(event, ToolStarted) and event.grant is None)
        for event in job.events
    )


async def append(connection: Connection, jobs: Sequence[Appended]) -> list[Committed | None]:
    """None for each that found its session otherwise. Of each session there is one job."""
    heads = [_head(job) for job in jobs]
    encoded = [[(e.kind, codec.encode(e)) for e in job.events] for job in jobs]
    entries = [
        (*job.key, place, job.holding.turn_id, kind, body)
        for job, bodies in zip(jobs, encoded, strict=True)
        for place, (kind, body) in enumerate(bodies, start=1)
    ]
    rows = await connection.fetch(APPEND, *values(HEADS, heads), *values(ENTRIES, entries))
    grown = {SessionKey(row[0], row[1]): row for row in rows}
    answers: list[Committed | None] = []
    for job, bodies in zip(jobs, encoded, strict=True):
        row = grown.get(job.key)
        if row is None:
            answers.append(None)
            continue
        before, now_ms, turn_id = row[16], row[17], job.holding.turn_id
        answers.append(
            Committed(
                head=head_of(row[2:13], key=job.key),
                lease=lease_of(row[13:16]),
                session_id=job.key.session_id,
                entries=tuple(
                    Entry(Seq(seq), kind, turn_id, now_ms, body)
                    for seq, (kind, body) in enumerate(bodies, start=before + 1)
                ),
            )
        )
    return answers


def _head(job: Appended) -> tuple[object, ...]:
    """As `asked` has it."""
    holding, events = job.holding, job.events
    read = sum(isinstance(e, MessageAdded) and e.steer_id is not None for e in events)
    progressed = any(map(_is_step, events))
    most = Progress()
    for event in events:
        if isinstance(event, TurnProgress):
            most = most.raised_to(event)
    return (
        *holding.key, holding.fence, holding.turn_id, job.step, len(events), read, progressed,
        most.current_iteration, most.total_iterations, most.tokens_used, most.total_tokens,
        holding.node,
    )  # fmt: skip


def _is_step(event: Event) -> bool:
    """As `core.turns` counts what an attempt got done."""
    return isinstance(event, STEPS) and getattr(event, "role", "assistant") == "assistant"
