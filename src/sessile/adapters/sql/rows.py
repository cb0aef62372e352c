"""Between values and rows. The order of a row's columns is the order in the SQL beside it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sessile.adapters.sql.gathered import Known
from sessile.core.codec import clean, to_json
from sessile.core.events import Progress
from sessile.core.ids import SessionKey
from sessile.core.session import Awaited, Lease, Session, SessionHead, Turn

Row = Sequence[Any]

COUNTED = {"sessions": ("session_head", "active"), "queue": ("turn", "queued")}
"""The table and the status of what limits count, each by an index of these alone."""


def text_or_none(text: str | None) -> str | None:
    """As the log's bodies have it: NUL and lone surrogates become U+FFFD."""
    if text is None:
        return None
    text = text.replace("\0", "\ufffd")
    return text if text.isascii() else clean(text)


def head_of(row: Row, *, key: SessionKey) -> SessionHead:
    """user_id, exclusive_key, status, head, fence, next_position, queued, running_turn_id,
    awaiting_until_ms, cancel_turn_id, steers_unread"""
    return SessionHead(
        key=key,
        user_id=row[0],
        exclusive_key=row[1],
        status=row[2],
        head=row[3],
        fence=row[4],
        next_position=row[5],
        queued=row[6],
        running_turn_id=row[7],
        awaiting_until_ms=row[8],
        cancel_turn_id=row[9],
        steers_unread=row[10],
    )


def lease_of(row: Row) -> Lease:
    """lease_owner, lease_until_ms, step"""
    return Lease(owner=row[0], until_ms=row[1], step=row[2])


def session_of(row: Row, *, key: SessionKey) -> Session:
    """user_id, assistant, title, metadata, grants, created_at_ms, updated_at_ms"""
    return Session(
        key=key,
        user_id=row[0],
        assistant=row[1],
        title=row[2],
        metadata={} if row[3] == "{}" else json.loads(row[3]),
        grants=() if row[4] == "[]" else tuple(json.loads(row[4])),
        created_at_ms=row[5],
        updated_at_ms=row[6],
    )


def turn_of(row: Row, *, key: SessionKey) -> Turn:
    """turn_id, seq, position, message_id, user_id, status, attempt, strikes, progressed,
    cancel_reason, cancel_by, current_iteration, total_iterations, tokens_used, total_tokens,
    created_at_ms, started_at_ms, ended_at_ms, error, awaited, input, output"""
    return Turn(
        session_id=key.session_id,
        turn_id=row[0],
        seq=row[1],
        position=row[2],
        message_id=row[3],
        by=row[4],
        status=row[5],
        attempt=row[6],
        strikes=row[7],
        progressed=bool(row[8]),
        cancel_reason=row[9],
        cancel_by=row[10],
        progress=Progress(
            current_iteration=row[11],
            total_iterations=row[12],
            tokens_used=row[13],
            total_tokens=row[14],
        ),
        created_at_ms=row[15],
        started_at_ms=row[16],
        ended_at_ms=row[17],
        error=None if row[18] is None else json.loads(row[18]),
        awaited=None if row[19] is None else _awaited(json.loads(row[19])),
        input=json.loads(row[20]),
        output=row[21],
    )


def born_head_row(born: Known) -> Row:
    """tenant_id, session_id, user_id, exclusive_key, status, what `head_row` begins with,
    assistant"""
    head = born.head
    assert born.session is not None
    changing = head_row(head, born.lease, born.due_at_ms)[:-2]
    names = (*head.key, head.user_id, head.exclusive_key, head.status)
    return (*names, *changing, born.session.assistant)


def head_row(head: SessionHead, lease: Lease, due_at_ms: int | None) -> Row:
    """head, fence, step, next_position, queued, running_turn_id, awaiting_until_ms,
    cancel_turn_id, steers_unread, lease_owner, lease_until_ms, due_at_ms, tenant_id, session_id"""
    return (
        head.head,
        head.fence,
        lease.step,
        head.next_position,
        head.queued,
        head.running_turn_id,
        head.awaiting_until_ms,
        head.cancel_turn_id,
        head.steers_unread,
        lease.owner,
        lease.until_ms,
        due_at_ms,
        *head.key,
    )


def session_row(session: Session) -> Row:
    """tenant_id, session_id, user_id, assistant, title, metadata, grants, created_at_ms,
    updated_at_ms"""
    return (
        *session.key,
        session.user_id,
        session.assistant,
        text_or_none(session.title),
        to_json(session.metadata),
        to_json(session.grants),
        session.created_at_ms,
        session.updated_at_ms,
    )


def born_turn_row(turn: Turn, *, key: SessionKey) -> Row:
    """tenant_id, session_id, turn_id, seq, position, message_id, user_id, created_at_ms, input, and
    what `turn_row` begins with"""
    return (
        *key,
        turn.turn_id,
        turn.seq,
        turn.position,
        turn.message_id,
        turn.by,
        turn.created_at_ms,
        to_json(turn.input),
        *turn_row(turn, key=key)[:-3],
    )


def turn_row(turn: Turn, *, key: SessionKey) -> Row:
    """status, attempt, strikes, progressed, cancel_reason, cancel_by, current_iteration,
    total_iterations, tokens_used, total_tokens, started_at_ms, ended_at_ms, error, awaited, output,
    tenant_id, session_id, turn_id"""
    progress = turn.progress
    return (
        turn.status,
        turn.attempt,
        turn.strikes,
        turn.progressed,
        text_or_none(turn.cancel_reason),
        turn.cancel_by,
        progress.current_iteration,
        progress.total_iterations,
        progress.tokens_used,
        progress.total_tokens,
        turn.started_at_ms,
        turn.ended_at_ms,
        None if turn.error is None else to_json(turn.error),
        None if turn.awaited is None else to_json(asdict(turn.awaited)),
        text_or_none(turn.output),
        *key,
        turn.turn_id,
    )


def _awaited(fields: dict[str, Any]) -> Awaited:
    calls, call_ids = tuple(fields.pop("calls")), tuple(fields.pop("call_ids"))
    return Awaited(calls=calls, call_ids=call_ids, **fields)


def input_row(turn: Turn, *, key: SessionKey) -> Row:
    """input, tenant_id, session_id, turn_id"""
    return (to_json(turn.input), *key, turn.turn_id)
