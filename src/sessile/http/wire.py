"""Records as they go over the wire: every field always there, the same in every reply."""

from collections.abc import Iterable
from typing import Any

from sessile.core.codec import timestamp
from sessile.core.session import Turn
from sessile.core.transcript import Message
from sessile.ports.store import Found


def session_wire(found: Found) -> dict[str, Any]:
    head, session = found.head, found.session
    blocked = None
    if head.awaiting_until_ms is not None:
        blocked = {
            "turn_id": head.running_turn_id,
            "expires_at": timestamp(head.awaiting_until_ms),
        }
    return {
        "session_id": head.key.session_id,
        "user_id": head.user_id,
        "assistant": session.assistant,
        "status": head.status,
        "title": session.title,
        "metadata": session.metadata,
        "grants": session.grants,
        "head": head.head,
        "queued": head.queued,
        "running_turn_id": head.running_turn_id,
        "blocked_by": blocked,
        "created_at": timestamp(session.created_at_ms),
        "updated_at": timestamp(session.updated_at_ms),
    }


def turn_wire(turn: Turn) -> dict[str, Any]:
    progress = turn.progress
    return {
        "turn_id": turn.turn_id,
        "session_id": turn.session_id,
        "status": turn.status,
        "position": turn.position,
        "attempt": turn.attempt,
        "input": turn.input,
        "output": turn.output,
        "error": turn.error,
        "current_iteration": progress.current_iteration,
        "total_iterations": progress.total_iterations,
        "tokens_used": progress.tokens_used,
        "total_tokens": progress.total_tokens,
        "created_at": timestamp(turn.created_at_ms),
        "started_at": _timestamp(turn.started_at_ms),
        "ended_at": _timestamp(turn.ended_at_ms),
    }


def message_wire(message: Message) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        "turn_id": message.turn_id,
        "seq": message.seq,
        "role": message.role,
        "parts": message.parts,
        "text": message.text,
        "state": message.state,
        "at": timestamp(message.at_ms),
    }


def page_wire(items: Iterable[dict[str, Any]], *, after: object) -> dict[str, Any]:
    return {"items": list(items), "next": after}


def _timestamp(at_ms: int | None) -> str | None:
    return None if at_ms is None else timestamp(at_ms)
