"""A redaction as statements: of the session that was named, its forks, and what it is a fork of."""

from collections.abc import Sequence

from sessile.adapters.sql.gathered import Gathered, Known
from sessile.adapters.sql.rows import Row, head_of, lease_of, session_of, turn_of
from sessile.adapters.sql.scripts import Ask, Each, Now, Script, Write
from sessile.core.commands import Decision, View
from sessile.core.errors import SessionNotFound
from sessile.core.events import Entry
from sessile.core.ids import SessionKey
from sessile.core.records import noted
from sessile.core.redaction import (
    SESSION_KINDS,
    Redacted,
    Redaction,
    RedactMessage,
    Shown,
)
from sessile.core.session import Lease, due_at_ms
from sessile.core.settle import settle
from sessile.ports.store import Committed

ENTRY_COLUMNS = "seq, kind, turn_id, at_ms, body"


class _Held:
    """A session whose head is locked."""

    def __init__(self, shown: Shown, lease: Lease) -> None:
        self.shown = shown
        self.lease = lease


def redact(key: SessionKey, command: RedactMessage) -> Script[tuple[Committed, ...]]:
    """Raises what `Records.redact` does."""
    now_ms: int = yield Now()
    held = yield from _family(key, command)
    redaction = Redaction(command)
    waiting = [key, *sorted(held.keys() - {key})]
    while waiting:
        it = waiting.pop(0)
        shown = held[it].shown
        entries = yield from _entries(it, tuple(redaction.ids))
        held[it].shown = shown._replace(entries=entries)
        if redaction.meet(held[it].shown):
            waiting = [key, *sorted(held.keys() - {key})]
    redaction.check(held[key].shown)
    gathered = Gathered()
    committed: list[Committed] = []
    for it in (key, *sorted(held.keys() - {key})):
        done = yield from _rewrite(held[it], redaction, gathered, now_ms)
        if done is not None:
            committed.append(done)
    if not committed:
        head = held[key].shown.head
        return (Committed(head, held[key].lease, key.session_id, repeated=True),)
    if command.note is not None:
        details = {"message_id": command.message_id, "reason": command.reason}
        record = noted(
            command.principal,
            command.note,
            "message.redacted",
            key.session_id,
            now_ms=now_ms,
            **details,
        )
        gathered.audited.append(record)
        committed[0] = committed[0]._replace(audited=(record,))
    yield Write(gathered)
    return tuple(committed)


def _family(key: SessionKey, command: RedactMessage) -> Script[dict[SessionKey, _Held]]:
    """All that may have a copy, locked in the order of their keys. A fork locks its origin: none
    is made of a session that is locked."""
    held: dict[SessionKey, _Held] = {}
    gone: set[SessionKey] = set()
    missing = {key}
    while missing:
        for each in sorted(missing):
            found = yield from _lock(each)
            if found is None:
                gone.add(each)
            else:
                held[each] = found
        if key in gone or not command.principal.may_reach(key, held[key].shown.head.user_id):
            raise SessionNotFound()
        # Asked again behind the locks: a fork may have been made before.
        relatives = yield from _relatives(key, command)
        missing = relatives - held.keys() - gone
    return held


def _relatives(key: SessionKey, command: RedactMessage) -> Script[set[SessionKey]]:
    tenant_id, principal = key.tenant_id, command.principal
    sql = "SELECT origin_id, origin_user_id FROM fork WHERE tenant_id = $1 AND session_id = $2"
    rows = yield Ask(sql, key)
    origins = [
        SessionKey(tenant_id, origin_id)
        for origin_id, user_id in rows
        if principal.may_reach(SessionKey(tenant_id, origin_id), user_id)
    ]
    found = set(origins)
    for origin in (key, *origins):
        sql = "SELECT session_id FROM fork WHERE tenant_id = $1 AND origin_id = $2"
        rows = yield Ask(sql, origin)
        found |= {SessionKey(tenant_id, row[0]) for row in rows}
    return found


def _lock(key: SessionKey) -> Script[_Held | None]:
    sql = """
        SELECT user_id, exclusive_key, status, head, fence, next_position, queued, running_turn_id,
            awaiting_until_ms, cancel_turn_id, steers_unread, lease_owner, lease_until_ms, step
        FROM session_head WHERE tenant_id = $1 AND session_id = $2
    """
    rows: Sequence[Row] = yield Ask(sql, key, locks=True)
    if not rows:
        return None
    head, lease = head_of(rows[0], key=key), lease_of(rows[0][11:])
    sql = """
        SELECT user_id, assistant, title, metadata, grants, created_at_ms, updated_at_ms
        FROM session WHERE tenant_id = $1 AND session_id = $2
    """
    wide = yield Ask(sql, key)
    running = None
    if head.running_turn_id is not None:
        sql = """
            SELECT turn_id, seq, position, message_id, user_id, status, attempt, strikes,
                progressed, cancel_reason, cancel_by, current_iteration, total_iterations,
                tokens_used, total_tokens, created_at_ms, started_at_ms, ended_at_ms, error,
                awaited, input, output
            FROM turn WHERE tenant_id = $1 AND session_id = $2 AND turn_id = $3
        """
        turns = yield Ask(sql, (*key, head.running_turn_id))
        running = turn_of(turns[0], key=key)
    return _Held(Shown(head, session_of(wide[0], key=key), running, ()), lease)


def _entries(key: SessionKey, ids: Sequence[str]) -> Script[tuple[Entry, ...]]:
    """Those with one of the ids, all of their turns, and those of the session itself."""
    has = " OR ".join(f"body LIKE ${n}" for n in range(3, 3 + len(ids)))
    kinds = ", ".join(f"'{kind}'" for kind in SESSION_KINDS)
    sql = f"""
        SELECT {ENTRY_COLUMNS} FROM entry
        WHERE tenant_id = $1 AND session_id = $2 AND (
            kind IN ({kinds}) OR {has} OR turn_id IN (
                SELECT turn_id FROM entry
                WHERE tenant_id = $1 AND session_id = $2 AND turn_id IS NOT NULL AND ({has})
            )
        )
        ORDER BY seq
    """  # no value is in it  # noqa: S608  # nosec B608
    rows: Sequence[Row] = yield Ask(sql, (*key, *(f"%{each}%" for each in ids)))
    return tuple(Entry(*row) for row in rows)


def _rewrite(
    held: _Held, redaction: Redaction, gathered: Gathered, now_ms: int
) -> Script[Committed | None]:
    shown, lease = held.shown, held.lease
    redacted = redaction.rewrite(shown)
    if not redacted.events:
        return None
    head, session = shown.head, redacted.session or shown.session
    key = head.key
    turns = {} if shown.running is None else {shown.running.turn_id: shown.running}
    turns |= {turn.turn_id: turn for turn in redacted.turns}
    view = View(now_ms=now_ms, head=head, lease=lease, session=session, turns=turns)
    changes = settle(view, Decision(events=redacted.events), key=key)
    turns |= changes.turns
    due = due_at_ms(changes.head, lease, now_ms=now_ms)
    known = Known(changes.head, lease, due, session, turns)
    gathered.moved[key] = known
    if redacted.session is not None:
        gathered.changed[key] = known
    for turn_id in {*(it.turn_id for it in redacted.turns), *changes.turns}:
        gathered.turns_moved[key, turn_id] = gathered.turns_edited[key, turn_id] = known
    gathered.entries.extend((key, entry) for entry in changes.entries)
    yield from _void(key, redacted, owner=head.user_id)
    return Committed(
        changes.head, lease, key.session_id, entries=changes.entries, turns=turns, session=session
    )


def _void(key: SessionKey, redacted: Redacted, *, owner: str) -> Script[None]:
    sql = "UPDATE entry SET body = $1 WHERE tenant_id = $2 AND session_id = $3 AND seq = $4"
    yield Each(sql, [(it.body, *key, it.seq) for it in redacted.entries])
    # What was asked is not to be guessed from its hash either: the same key is refused from now on.
    sql = """
        UPDATE idempotency SET request_hash = ''
        WHERE tenant_id = $1 AND scope = $2 AND turn_id = $3
    """
    yield Each(sql, [(*key, turn_id) for turn_id in sorted(redacted.inputs)])
    sql = """
        UPDATE idempotency SET request_hash = ''
        WHERE tenant_id = $1 AND scope = 'open' AND user_id = $2 AND turn_id = $3
    """
    yield Each(sql, [(key.tenant_id, owner, turn_id) for turn_id in sorted(redacted.inputs)])
