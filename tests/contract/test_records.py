"""What is kept besides the logs, and what is voided of them: the same promises of every store."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.contract.desk import (
    ACME,
    ADMIN,
    ALL,
    ANN,
    BOB,
    NODE,
    NODE_2,
    OTHER,
    STRANGER,
    Desk,
    holding,
    once,
    runner,
)

from sessile.core.audit import Audit, SessionChecks
from sessile.core.codec import decode
from sessile.core.commands import AnswerApproval, DeleteSession, ExpireSession, SetGrants
from sessile.core.context import Holding, Principal
from sessile.core.errors import (
    IdempotencyConflict,
    LeaseLost,
    MessageNotFound,
    OriginMoved,
    SessionNotFound,
    StillInUse,
)
from sessile.core.events import (
    ButtonOffered,
    Event,
    LogCompacted,
    MessageAdded,
    MessageDelta,
    SessionForked,
    SessionRedacted,
    SessionSummarized,
    ToolStarted,
    TurnProgress,
)
from sessile.core.ids import AuditId, CallId, MessageId, Seq, SessionKey, TurnId, UserId
from sessile.core.notes import AuditRecord, Note
from sessile.core.redaction import RedactMessage
from sessile.core.transcript import messages
from sessile.ports.store import Committed
from sessile.runtime.histories import read_history

CANARY = "canary-8f41c7 sings"


def note(desk: Desk) -> Note:
    return Note(audit_id=desk.ids.audit_id(), request_id="req_1")


async def redact(
    desk: Desk, key: SessionKey, message_id: MessageId, principal: Principal = ANN
) -> tuple[Committed, ...]:
    command = RedactMessage(
        principal=principal, message_id=message_id, reason="personal_data", note=note(desk)
    )
    return await desk.store.records.redact(key, command)


async def fork(desk: Desk, key: SessionKey, principal: Principal = ANN) -> SessionKey:
    """Of all that was said, as the runtime does it."""
    found = await desk.look(key)
    copies: list[Event] = []
    for entry in await desk.store.read(key, history=True, limit=ALL):
        event: Any = decode(entry)
        copies.append(replace(event, turn_id=None) if hasattr(event, "turn_id") else event)
    forked = SessionForked(
        from_session_id=key.session_id, from_turn_id=TurnId("trn_1"), from_seq=found.head.head
    )
    return await desk.open(
        principal,
        forked=forked,
        origin_seen=found.head.head,
        inherited=tuple(copies),
        title=found.session.title,
    )


async def everywhere(desk: Desk, *keys: SessionKey) -> str:
    """All that the store shows of these sessions."""
    shown: list[Any] = []
    for key in keys:
        shown.append(await desk.everything(key))
        history = await read_history(desk.store, key, entries_max=100)
        shown.append(history.messages)
        summary = await desk.store.summary(key, before=ALL)
        shown.append(summary)
    shown.append(await desk.store.records.audit(ACME, limit=ALL))
    return repr(shown)


def user_message(committed: Committed) -> MessageId:
    assert committed.turn is not None
    return committed.turn.message_id


def call_of(held: Holding, message: str, arguments: dict[str, Any]) -> ToolStarted:
    return ToolStarted(
        turn_id=held.turn_id,
        call_id=CallId(f"call_{message}"),
        message_id=MessageId(f"msg_{message}"),
        name="orders.look",
        arguments=arguments,
    )


# -- redaction


async def test_a_users_message_is_void_wherever_its_input_stood(desk: Desk) -> None:
    key = await desk.open(title="canary-8f41c7…", metadata={"first": f"said {CANARY}", "n": 1})
    running = await desk.run(key, "before")
    waits = await desk.submit(key, f"{CANARY} at first", run=False, once=once("k", key.session_id))
    assert waits.turn is not None
    await desk.edit(key, waits.turn.turn_id, CANARY)
    held = holding(await desk.finish(running, successor=runner()))
    call = call_of(held, "card", {"query": f"look for {CANARY}", "order": 7})
    await desk.store.append(held, 0, [call, call.completed({"echo": CANARY, "found": 2})])
    progress = TurnProgress(turn_id=held.turn_id, note=f"on {CANARY}", tokens_used=3)
    await desk.store.append(held, 1, [progress, desk.reply(held, "I will not repeat it")])
    await desk.finish(held, step=2)

    (done,) = await redact(desk, key, user_message(waits))

    assert "canary" not in await everywhere(desk, key)
    assert done.entries[-1].kind == SessionRedacted.kind
    found = await desk.look(key)
    assert (found.session.title, found.session.metadata) == (None, {"first": "", "n": 1})
    turn = await desk.turn(key, held.turn_id)
    assert turn.input == {"type": "message", "text": "", "redacted": True}
    assert "I will not repeat it" in await everywhere(desk, key)
    log = await desk.log(key)
    (outcome,) = (json.loads(it.body) for it in log if it.kind == "tool.completed")
    assert outcome["result"] == {"echo": "", "found": 2}
    with pytest.raises(IdempotencyConflict):
        await desk.submit(key, "guess", once=once("k", key.session_id))


async def test_the_entries_stay_in_their_places(desk: Desk) -> None:
    key = await desk.open()
    submitted = await desk.submit(key, CANARY)
    await desk.finish(holding(submitted))
    before = await desk.log(key)

    await redact(desk, key, user_message(submitted))

    after = await desk.log(key)
    places = [(it.seq, it.kind, it.turn_id, it.at_ms) for it in before]
    assert [(it.seq, it.kind, it.turn_id, it.at_ms) for it in after[:-1]] == places
    redacted = decode(after[-1])
    assert redacted == SessionRedacted(
        message_ids=(user_message(submitted),), by=UserId("ann"), reason="personal_data"
    )


async def test_an_assistants_message_is_void_with_its_deltas_its_buttons_and_its_calls(
    desk: Desk,
) -> None:
    key = await desk.open()
    held = await desk.run(key, "tell me")
    said = MessageId("msg_said")
    call = call_of(held, "card", {"query": CANARY})
    part = {
        "type": "tool_call",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
        "provider": {"raw": CANARY},
    }
    button = {"type": "button", "button": "go", "label": CANARY, "payload": {"to": CANARY}}
    parts = (
        {"type": "thinking", "text": CANARY},
        {"type": "text", "text": CANARY, "provider": {"raw": CANARY}},
        part,
        button,
    )
    whole = MessageAdded(turn_id=held.turn_id, message_id=said, role="assistant", parts=parts)
    events = [
        MessageDelta(turn_id=held.turn_id, message_id=said, offset=0, text="canary-"),
        MessageDelta(turn_id=held.turn_id, message_id=said, offset=7, text="8f41c7 sings"),
        ButtonOffered(
            turn_id=held.turn_id, message_id=said, button="go", label=CANARY, payload={"a": CANARY}
        ),
        whole,
        call,
        call.completed("sent"),
    ]
    await desk.store.append(held, 0, events)
    await desk.finish(held, step=1, output=CANARY)

    await redact(desk, key, said)

    assert "canary" not in await everywhere(desk, key)
    assert (await desk.turn(key, held.turn_id)).output == ""
    log = await desk.log(key)
    kinds = [it.kind for it in log if "redacted" in json.loads(it.body)]
    assert kinds.count("message.delta") == 2
    (added,) = (it for it in messages(log) if it.role == "assistant")
    assert [part["type"] for part in added.parts] == ["text", "tool_call", "button"]


async def test_a_tools_card_is_void_with_what_an_approval_showed(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "refund it")
    asking = desk.asking(held)
    call = replace(asking.asked[0], arguments={"card": CANARY})
    asked = replace(asking, asked=(call,), open_calls=(call,))
    await desk.store.transact(key, asked)
    answer = AnswerApproval(
        principal=ANN, call_id=call.call_id, granted=False, reason=CANARY, note=note(desk)
    )
    await desk.store.transact(key, answer)
    held = holding(await desk.start(key))
    refused = call.refused(verdict="denied", reason=CANARY)
    await desk.finish(held, closing=[refused])

    await redact(desk, key, call.message_id)

    assert "canary" not in await everywhere(desk, key)


async def test_a_steered_message_is_void(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "go")
    steered = await desk.submit(key, CANARY, when_busy="steer")
    event: Any = decode(steered.entries[0])
    await desk.finish(
        held, end="failed", error={"code": "x", "message": "", "retry": False}, unread=[event]
    )
    log = await desk.log(key)
    requeued = next(it for it in reversed(log) if it.kind == "turn.queued")
    assert requeued.turn_id is not None
    await desk.cancel(key, requeued.turn_id)

    await redact(desk, key, event.message_id)

    assert "canary" not in await everywhere(desk, key)


async def test_a_press_is_void_with_the_message_that_offered_it(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "offer")
    said = desk.reply(held, CANARY)
    await desk.finish(held, closing=[said], output=CANARY)
    press = {"type": "button", "button": "go", "payload": {"to": CANARY}, "text": CANARY}
    command = replace(desk.first(), input={**press, "message_id": said.message_id})
    await desk.finish(holding(await desk.store.transact(key, command)))

    await redact(desk, key, said.message_id)

    assert "canary" not in await everywhere(desk, key)


async def test_summaries_behind_it_are_void_and_what_they_stood_for_is_told_again(
    desk: Desk,
) -> None:
    key = await desk.open()
    held = await desk.run(key, "early")
    early = SessionSummarized(summary="all was early", upto_seq=Seq(2))
    await desk.finish(held, closing=[early, desk.reply(held, "kept words")])
    submitted = await desk.submit(key, CANARY)
    held = holding(submitted)
    seq = (await desk.look(key)).head.head
    late = SessionSummarized(summary=f"somebody said {CANARY}", upto_seq=Seq(seq))
    await desk.finish(held, closing=[late])

    await redact(desk, key, user_message(submitted))
    await desk.finish(await desk.run(key, "on and on"))

    for most in (1, 2, 100):
        history = await read_history(desk.store, key, entries_max=most)
        texts = [message.text for message in history.messages]
        assert texts[0] == "all was early"
    assert "kept words" in texts
    assert "canary" not in await everywhere(desk, key)


async def test_it_is_void_in_forks_of_forks_and_in_what_they_are_forks_of(desk: Desk) -> None:
    first = await desk.open(title=CANARY)
    submitted = await desk.submit(first, CANARY)
    await desk.finish(holding(submitted))
    second = await fork(desk, first)
    third = await fork(desk, second, ADMIN)
    sibling = await fork(desk, first)
    await desk.delete(sibling)
    beside = await desk.open()
    await desk.finish(await desk.run(beside, CANARY))

    done = await redact(desk, second, user_message(submitted))

    assert [it.session_id for it in done] == [it.session_id for it in (second, first, third)]
    assert "canary" not in await everywhere(desk, first, second, third)
    assert "canary" in await everywhere(desk, beside)


async def test_a_fork_whose_origin_is_gone_is_still_found(desk: Desk) -> None:
    first = await desk.open()
    submitted = await desk.submit(first, CANARY)
    await desk.finish(holding(submitted))
    second = await fork(desk, first)
    third = await fork(desk, second)
    await desk.delete(second)

    await redact(desk, first, user_message(submitted))

    assert "canary" not in await everywhere(desk, first, third)


async def test_what_a_fork_is_a_fork_of_stays_where_the_caller_does_not_reach_it(
    desk: Desk,
) -> None:
    first = await desk.open()
    submitted = await desk.submit(first, CANARY)
    await desk.finish(holding(submitted))
    theirs = await fork(desk, first, ADMIN)
    demoted = replace(ADMIN, roles=frozenset())

    (done,) = await redact(desk, theirs, user_message(submitted), demoted)

    assert done.session_id == theirs.session_id
    assert "canary" in await everywhere(desk, first)


async def test_no_fork_is_made_of_what_was_voided_meanwhile(desk: Desk) -> None:
    key = await desk.open()
    submitted = await desk.submit(key, CANARY)
    held = holding(submitted)
    await desk.finish(held)
    read_at = (await desk.look(key)).head.head
    await redact(desk, key, user_message(submitted))

    forked = SessionForked(
        from_session_id=key.session_id, from_turn_id=held.turn_id, from_seq=read_at
    )
    with pytest.raises(OriginMoved):
        await desk.open_as(forked=forked, origin_seen=read_at, inherited=(desk.reply(held, "x"),))


async def test_a_fork_of_a_stranger_or_of_nothing_is_refused(desk: Desk) -> None:
    key = await desk.open()
    for principal, from_session_id in ((BOB, key.session_id), (ANN, "ses_99")):
        forked = SessionForked(
            from_session_id=from_session_id,  # type: ignore[arg-type]
            from_turn_id=TurnId("trn_1"),
            from_seq=Seq(1),
        )
        with pytest.raises(SessionNotFound):
            await desk.open_as(principal, forked=forked, origin_seen=Seq(1))


async def test_a_turn_that_runs_in_a_fork_is_stopped(desk: Desk) -> None:
    key = await desk.open()
    submitted = await desk.submit(key, CANARY)
    await desk.finish(holding(submitted))
    copy = await fork(desk, key)
    held = await desk.run(copy, "repeat it")

    await redact(desk, key, user_message(submitted))

    assert (await desk.look(copy)).head.cancel_turn_id == held.turn_id
    ended = await desk.finish(held, output="said")
    assert ended.turn is not None
    assert ended.turn.status == "cancelled"


async def test_what_is_in_use_is_not_voided(desk: Desk) -> None:
    key = await desk.open()
    submitted = await desk.submit(key, "said before")
    await desk.finish(holding(submitted))
    running = await desk.submit(key, "runs")
    waits = await desk.submit(key, "waits", run=False)
    before = await desk.everything(key)

    for each in (submitted, running, waits):
        with pytest.raises(StillInUse):
            await redact(desk, key, user_message(each))

    assert await desk.everything(key) == before
    assert await desk.store.records.audit(ACME, limit=ALL) == ()


async def test_what_is_not_there_or_not_theirs_is_the_same(desk: Desk) -> None:
    key = await desk.open()
    submitted = await desk.submit(key, CANARY)
    await desk.finish(holding(submitted))
    message_id = user_message(submitted)

    with pytest.raises(MessageNotFound):
        await redact(desk, key, MessageId("msg_99"))
    for principal, where in (
        (BOB, key),
        (STRANGER, key),
        (ANN, SessionKey(ACME, "ses_99")),  # type: ignore[arg-type]
        (STRANGER, SessionKey(OTHER, key.session_id)),
    ):
        with pytest.raises(SessionNotFound):
            await redact(desk, where, message_id, principal)
    assert "canary" in await everywhere(desk, key)


async def test_again_it_changes_nothing(desk: Desk) -> None:
    key = await desk.open()
    submitted = await desk.submit(key, CANARY)
    await desk.finish(holding(submitted))
    await redact(desk, key, user_message(submitted))
    before = await desk.everything(key)

    (again,) = await redact(desk, key, user_message(submitted), ADMIN)

    assert (again.repeated, again.entries) == (True, ())
    assert await desk.everything(key) == before
    assert len(await desk.store.records.audit(ACME, limit=ALL)) == 1


async def test_the_session_goes_on_behind_it(desk: Desk) -> None:
    """What a node remembered of it is not what it was."""
    key = await desk.open(title=CANARY)
    submitted = await desk.submit(key, CANARY)
    await desk.finish(holding(submitted))

    await redact(desk, key, user_message(submitted))
    await desk.update(key, metadata={"more": 1})
    await desk.finish(await desk.run(key, "more"))

    assert "canary" not in await everywhere(desk, key)


async def test_what_is_asked_at_the_same_moment_finds_it_as_it_is(desk: Desk) -> None:
    key = await desk.open(title=CANARY)
    submitted = await desk.submit(key, CANARY)
    await desk.finish(holding(submitted))

    await asyncio.gather(
        desk.update(key, metadata={"before": 1}),
        redact(desk, key, user_message(submitted)),
        desk.update(key, metadata={"after": 1}),
        desk.submit(key, "next", run=False),
    )

    assert "canary" not in await everywhere(desk, key)
    assert (await desk.look(key)).session.metadata == {"before": 1, "after": 1}


# -- audit


async def test_who_did_what_is_written_with_it_and_outlives_the_session(desk: Desk) -> None:
    key = await desk.open()
    await desk.store.transact(key, SetGrants(principal=ADMIN, grants=("refund",), note=note(desk)))
    await desk.store.transact(key, SetGrants(principal=ADMIN, grants=("refund",), note=note(desk)))
    (call_id,) = await desk.awaits(await desk.run(key, "my money"))
    answer = AnswerApproval(principal=ANN, call_id=call_id, granted=True, note=note(desk))
    told = (await desk.store.transact(key, answer)).audited
    await desk.store.transact(key, replace(answer, note=note(desk)))
    with pytest.raises(SessionNotFound):
        await desk.store.transact(key, DeleteSession(principal=BOB, note=note(desk)))

    gone = await desk.store.transact(key, DeleteSession(principal=ANN, note=note(desk)))

    newest_first = await desk.store.records.audit(ACME, limit=ALL)
    assert [(it.actor, it.action, it.subject, it.details) for it in newest_first] == [
        ("ann", "session.deleted", key.session_id, {}),
        ("ann", "approval.granted", key.session_id, {"call_id": call_id}),
        ("root", "grants.set", key.session_id, {"grants": ["refund"]}),
    ]
    assert (*gone.audited, *told) == newest_first[:2]
    assert {it.request_id for it in newest_first} == {"req_1"}
    assert await desk.store.records.audit(OTHER, limit=ALL) == ()


async def test_records_are_paged_the_newest_first_and_none_is_written_twice(desk: Desk) -> None:
    def record(n: int, action: str = "key.made") -> AuditRecord:
        return AuditRecord(
            tenant_id=ACME,
            audit_id=AuditId(f"aud_{n}"),
            at_ms=n,
            actor="root",
            action=action,
            subject=f"key_{n}",
        )

    for n in range(5):
        await desk.store.records.note(record(n))
    await desk.store.records.note(record(3, "never"))

    first = await desk.store.records.audit(ACME, limit=2)
    rest = await desk.store.records.audit(ACME, before=first[-1].audit_id, limit=ALL)

    assert [*first, *rest] == [record(n) for n in reversed(range(5))]


# -- erasure


def asked(desk: Desk, user: str = "ann") -> AuditRecord:
    return AuditRecord(
        tenant_id=ACME,
        audit_id=desk.ids.audit_id(),
        at_ms=1,
        actor="root",
        action="user.erasure_asked",
        subject=user,
    )


async def test_an_erasure_is_remembered_until_it_is_done(desk: Desk) -> None:
    records, ann = desk.store.records, UserId("ann")
    first = await records.ask_erasure(ACME, ann, asked(desk))
    desk.clock.advance(milliseconds=5)
    assert await records.ask_erasure(ACME, ann, asked(desk)) == first
    await records.erased(first, sessions=3, record=None)
    assert await records.erasures(limit=10) == (replace(first, sessions=3),)
    assert await records.erasures(OTHER, limit=10) == ()

    await records.erased(first, sessions=1, record=asked(desk))
    await records.erased(first, sessions=7, record=None)

    assert await records.erasures(ACME, limit=10) == ()
    (done,) = await records.erasures(ACME, user_id=ann, limit=10)
    assert (done.sessions, done.done_at_ms) == (4, desk.clock.now_ms())
    again = await records.ask_erasure(ACME, ann, asked(desk))
    assert (again.sessions, again.done_at_ms) == (0, None)
    assert len(await records.audit(ACME, limit=ALL)) == 4


async def test_a_users_are_the_sessions_and_the_forks_that_others_made_of_them(
    desk: Desk,
) -> None:
    records, ann = desk.store.records, UserId("ann")
    own = await desk.open()
    await desk.finish(await desk.run(own, CANARY))
    copy = await fork(desk, own, ADMIN)
    await desk.open(BOB)
    await desk.open(STRANGER)
    await desk.delete(own)
    own = await desk.open()

    assert set(await records.theirs(ACME, ann, limit=10)) == {own.session_id, copy.session_id}
    assert len(await records.theirs(ACME, ann, limit=1)) == 1
    await desk.delete(own)
    await desk.delete(copy, ADMIN)
    assert await records.theirs(ACME, ann, limit=10) == ()


async def test_a_users_keys_are_forgotten_so_many_at_a_time(desk: Desk) -> None:
    key = await desk.open(BOB)
    for n in range(3):
        await desk.submit(
            key, run=False, principal=BOB, once=once(f"{n}", key.session_id, user=BOB)
        )
    await desk.open(ANN, once=once("a", "open"))
    records, bob = desk.store.records, UserId("bob")

    assert [await records.forget(ACME, bob, limit=2) for _ in range(3)] == [2, 1, 0]
    assert not (
        await desk.submit(key, principal=BOB, once=once("0", key.session_id, user=BOB))
    ).repeated
    assert (await desk.open_as(once=once("a", "open"))).repeated


async def test_who_runs_a_deleted_session_can_write_nothing_more(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, CANARY)

    await desk.delete(key)

    with pytest.raises(LeaseLost):
        await desk.store.append(held, 0, [desk.reply(held, CANARY)])
    with pytest.raises(LeaseLost):
        await desk.finish(held)
    assert await desk.log(key) == ()


# -- what one node does for all


async def test_a_chore_is_one_nodes_until_it_is_left_or_its_time_is_over(desk: Desk) -> None:
    records = desk.store.records
    assert await records.take_chore("clean", NODE, lease_ms=1_000) == ""
    assert await records.take_chore("clean", NODE_2, lease_ms=1_000) is None
    assert await records.take_chore("clean", NODE, lease_ms=1_000) == ""
    await records.leave_chore("clean", NODE_2, "not mine")
    await records.leave_chore("clean", NODE, "so far")
    assert await records.take_chore("clean", NODE_2, lease_ms=1_000) == "so far"
    assert await records.take_chore("other", NODE, lease_ms=1_000) == ""

    desk.clock.advance(milliseconds=1_001)

    assert await records.take_chore("clean", NODE, lease_ms=1_000) == "so far"


async def test_sessions_are_walked_with_when_they_were_last_used(desk: Desk) -> None:
    opened = []
    for principal in (ANN, STRANGER, BOB, ANN, STRANGER):
        desk.clock.advance(milliseconds=10)
        opened.append(await desk.open(principal))
    in_order = sorted(opened)

    walked, after = [], None
    while page := await desk.store.records.aged(after, limit=2):
        walked += page
        after = page[-1].head.key

    assert [it.head.key for it in walked] == in_order
    assert walked == [(it.head, (await desk.log(it.head.key))[-1].at_ms) for it in walked]


async def test_an_old_session_is_deleted_unless_it_is_used_meanwhile(desk: Desk) -> None:
    used, busy, waits, idle = [await desk.open() for _ in range(4)]
    seen = {key: (await desk.look(key)).head.head for key in (used, idle)}
    await desk.update(used, title="still here", retitle=True)
    await desk.run(busy)
    await desk.submit(waits, run=False)

    for key in (used, busy, waits, idle):
        head = seen.get(key) or (await desk.look(key)).head.head
        command = ExpireSession(principal=ADMIN, head=head, note=note(desk))
        assert (await desk.store.transact(key, command)).deleted == (key == idle)

    assert await desk.store.find(idle) is None
    (record,) = await desk.store.records.audit(ACME, limit=ALL)
    assert (record.action, record.subject) == ("session.expired", idle.session_id)


# -- compaction


async def spoken(desk: Desk, key: SessionKey) -> Holding:
    """A turn that has ended: five deltas and two progress entries, in two ranges."""
    held = await desk.run(key)
    await desk.append(held, 0, "a", "b", "c")
    progress = TurnProgress(turn_id=held.turn_id, current_iteration=2, tokens_used=5)
    call = desk.call(held)
    await desk.store.append(held, 1, [progress, call, call.completed("x")])
    await desk.append(held, 2, "d", "e")
    await desk.store.append(held, 3, [replace(progress, tokens_used=9)])
    await desk.finish(held, step=4, closing=[desk.reply(held, "abcde")])
    return held


def ranges(log: Sequence[Any]) -> list[tuple[int, int]]:
    events = [decode(it) for it in log]
    return [(it.from_seq, it.to_seq) for it in events if isinstance(it, LogCompacted)]


async def test_deltas_of_ended_turns_are_folded_and_the_hole_is_told(desk: Desk) -> None:
    key = await desk.open()
    await spoken(desk, key)
    before = await desk.log(key)
    desk.clock.advance(milliseconds=100)
    compact = desk.store.records.compact

    assert not await compact(key, before_ms=desk.clock.now_ms() - 100, limit=1_000)
    assert await desk.log(key) == before
    assert not await compact(key, before_ms=desk.clock.now_ms(), limit=1_000)

    log = await desk.log(key)
    first = next(it.seq for it in before if it.kind == "message.delta")
    assert ranges(log) == [(first, first + 3), (first + 6, first + 8)]
    gone = {"message.delta", "turn.progress"}
    kept = [it for it in log if it.kind != "log.compacted"]
    assert kept == [it for it in before if it.kind not in gone]
    inside = await desk.store.read(key, after=first + 1, limit=1)
    assert [(it.kind, it.seq) for it in inside] == [("log.compacted", first + 3)]
    assert not await compact(key, before_ms=desk.clock.now_ms(), limit=1_000)
    assert await desk.log(key) == log


async def test_a_turn_that_goes_on_is_not_folded_nor_anything_behind_it(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.append(held, 0, "a", "b", "c")
    desk.clock.advance(milliseconds=100)
    compact = desk.store.records.compact

    await compact(key, before_ms=desk.clock.now_ms(), limit=1_000)
    assert ranges(await desk.log(key)) == []
    await desk.finish(held, step=1)
    desk.clock.advance(milliseconds=100)
    await compact(key, before_ms=desk.clock.now_ms(), limit=1_000)

    assert len(ranges(await desk.log(key))) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_it_goes_page_by_page_to_the_end(desk: Desk, limit: int) -> None:
    key = await desk.open()
    for _ in range(3):
        await spoken(desk, key)
    desk.clock.advance(milliseconds=100)

    pages = 0
    while await desk.store.records.compact(key, before_ms=desk.clock.now_ms(), limit=limit):
        pages += 1
        assert pages < 100

    log = await desk.log(key)
    if limit > 1:
        assert ranges(log)
    head = (await desk.look(key)).head.head
    assert log[-1].seq == head
    for after in range(head):
        (following,) = await desk.store.read(key, after=after, limit=1)
        begin = json.loads(following.body).get("from_seq", following.seq)
        assert begin <= after + 1 <= following.seq


async def test_what_was_folded_is_still_redacted(desk: Desk) -> None:
    key = await desk.open()
    submitted = await desk.submit(key, CANARY)
    held = holding(submitted)
    await desk.append(held, 0, "x", "y")
    await desk.finish(held, step=1)
    desk.clock.advance(milliseconds=100)
    await desk.store.records.compact(key, before_ms=desk.clock.now_ms(), limit=1_000)

    await redact(desk, key, user_message(submitted))

    assert "canary" not in await everywhere(desk, key)
    assert ranges(await desk.log(key))


# -- what is held against the log


async def faults(desk: Desk, key: SessionKey, without: str = "") -> list[str]:
    """What the audit of the rows against the log finds."""
    checks, log = SessionChecks(), await desk.log(key)
    audit = Audit(key, checks)
    turns = {it.turn_id: it for it in await desk.store.turns(key, limit=ALL)}
    found = await desk.look(key)
    log = tuple(it for it in log if it.kind != without)
    head = replace(found.head, head=log[-1].seq)
    for turn in (*audit.take(log), *audit.finish(head, found.session)):
        audit.compare(turn, turns.get(turn.turn_id))
    return [it.check for check in checks.all for it in check.faults]


async def test_the_audit_knows_what_is_void_and_what_was_folded(desk: Desk) -> None:
    key = await desk.open(title=CANARY)
    submitted = await desk.submit(key, CANARY)
    held = holding(submitted)
    await desk.append(held, 0, "x", "y")
    await desk.finish(held, step=1)
    desk.clock.advance(milliseconds=100)
    await desk.store.records.compact(key, before_ms=desk.clock.now_ms(), limit=1_000)
    await redact(desk, key, user_message(submitted))
    copy = await fork(desk, key)

    assert await faults(desk, key) == []
    assert await faults(desk, copy) == []
    assert await faults(desk, key, without="session.redacted") == ["voided"]
    assert "seq" in await faults(desk, key, without="log.compacted")
