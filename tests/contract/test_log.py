"""The log: gap-free, in order, paged by its own numbers, and never changed."""

import asyncio
from itertools import pairwise

import pytest
from tests.contract.desk import ACME, ANN, Desk

from sessile.core.codec import decode
from sessile.core.events import (
    MessageAdded,
    SessionOpened,
    SessionSummarized,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
    TurnProgress,
    TurnQueued,
    Unknown,
)
from sessile.core.ids import Seq, SessionId, SessionKey
from sessile.core.transcript import TEXT_KINDS


async def numbers(desk: Desk, key: SessionKey, **page: object) -> list[int]:
    return [entry.seq for entry in await desk.store.read(key, **{"limit": 100, **page})]  # type: ignore[arg-type]


async def test_a_log_begins_with_its_session_and_has_no_gap(desk: Desk) -> None:
    key = await desk.open(title="Orders")
    held = await desk.run(key, "where is 7?")
    await desk.append(held, 0, "it", "is")
    await desk.finish(held, step=1, closing=[desk.reply(held, "it is")])

    entries = await desk.log(key)

    assert [entry.seq for entry in entries] == list(range(1, 9))
    assert [entry.kind for entry in entries] == [
        "session.opened",
        "turn.queued",
        "turn.started",
        "message.added",
        "message.delta",
        "message.delta",
        "message.added",
        "turn.completed",
    ]
    assert {entry.turn_id for entry in entries[1:]} == {held.turn_id}
    assert entries[0].turn_id is None


async def test_a_commit_answers_with_the_entries_that_a_reader_will_see(desk: Desk) -> None:
    key = await desk.open()

    committed = await desk.submit(key, "a")

    assert committed.entries == (await desk.log(key))[1:]
    assert committed.head == (await desk.look(key)).head
    assert committed.turn == await desk.turn(key, committed.turn.turn_id)  # type: ignore[union-attr]
    assert committed.session == (await desk.look(key)).session


async def test_two_submits_at_once_are_both_kept_and_in_one_order(desk: Desk) -> None:
    key = await desk.open()

    both = await asyncio.gather(desk.submit(key, "a", run=False), desk.submit(key, "b", run=False))

    seqs = [committed.entries[0].seq for committed in both]
    assert sorted(seqs) == [2, 3]
    turns = await desk.store.turns(key, limit=10)
    assert [turn.position for turn in turns] == [1, 2]
    assert [turn.input["text"] for turn in turns] == [
        text for _, text in sorted(zip(seqs, "ab", strict=True))
    ]


async def test_many_submits_to_many_sessions_at_once_lose_nothing(desk: Desk) -> None:
    keys = [await desk.open() for _ in range(8)]

    await asyncio.gather(*(desk.submit(key, f"{n}") for n in range(25) for key in keys))

    for key in keys:
        turns = await desk.store.turns(key, limit=100)
        assert sorted(int(turn.input["text"]) for turn in turns) == list(range(25))
        assert (await desk.look(key)).head.queued == 24


async def test_pages_are_cut_by_seq_from_either_end(desk: Desk) -> None:
    key = await desk.open()
    for _ in range(9):
        await desk.submit(key, run=False)

    assert await numbers(desk, key) == list(range(1, 11))
    assert await numbers(desk, key, limit=3) == [1, 2, 3]
    assert await numbers(desk, key, after=4, limit=3) == [5, 6, 7]
    assert await numbers(desk, key, after=4, before=7) == [5, 6]
    assert await numbers(desk, key, newest_first=True, limit=3) == [10, 9, 8]
    assert await numbers(desk, key, newest_first=True, before=8, limit=3) == [7, 6, 5]
    assert await numbers(desk, key, newest_first=True, after=8) == [10, 9]
    assert await numbers(desk, key, after=10) == []
    assert await numbers(desk, key, after=99) == []
    assert await numbers(desk, key, before=1) == []
    assert await numbers(desk, SessionKey(ACME, SessionId("ses_none"))) == []


async def test_a_history_is_what_was_said(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.append(held, 0, "a", "b")
    await desk.store.append(held, 1, [TurnProgress(turn_id=held.turn_id, current_iteration=1)])
    said = [
        desk.call(held),
        desk.reply(held, "ab"),
        desk.outcome(held),
        desk.outcome(held, ToolFailed, error="no"),
        desk.outcome(held, ToolInterrupted, reason="lost"),
        desk.outcome(held, ToolRefused, verdict="denied", reason="no"),
        SessionSummarized(summary="so", upto_seq=Seq(0)),
    ]
    await desk.store.append(held, 2, said)
    await desk.finish(held, step=3, closing=[desk.reply(held, "done")])

    kinds = [entry.kind for entry in await desk.store.read(key, history=True, limit=100)]
    assert kinds == ["message.added", *(event.kind for event in said[1:]), "message.added"]
    assert set(kinds) == TEXT_KINDS
    assert await numbers(desk, key, history=True) == [4, *range(9, 16)]
    assert await numbers(desk, key, history=True, after=3, limit=2) == [4, 9]
    assert await numbers(desk, key, history=True, newest_first=True, limit=3) == [15, 14, 13]
    assert await numbers(desk, key, history=True, newest_first=True, before=10, after=2) == [9, 4]


async def test_the_last_summary_is_found_however_far_back(desk: Desk) -> None:
    key, other = await desk.open(), await desk.open()
    held = await desk.run(key)
    for step, text in enumerate(("first", "second")):
        summary = SessionSummarized(summary=text, upto_seq=Seq(0))
        await desk.store.append(held, step, [summary, *[desk.reply(held, "x")] * 20])

    seqs = [entry.seq for entry in await desk.log(key) if entry.kind == "session.summarized"]
    found = [await desk.store.summary(key, before=seq + 1) for seq in seqs]
    assert [entry.seq for entry in found if entry is not None] == seqs
    assert found[1] == (await desk.log(key))[seqs[1] - 1]
    assert await desk.store.summary(key, before=seqs[1]) == found[0]
    assert await desk.store.summary(key, before=seqs[0]) is None
    assert await desk.store.summary(other, before=1000) is None
    assert await desk.store.summary(SessionKey(ACME, SessionId("ses_none")), before=1000) is None


async def test_an_earlier_read_is_a_prefix_of_every_later_one(desk: Desk) -> None:
    key = await desk.open()
    reads = []
    held = await desk.run(key)
    for step in range(5):
        await desk.append(held, step, "x" * step)
        reads.append(await desk.log(key))
    await desk.submit(key, "later")
    await desk.finish(held, step=5)
    reads.append(await desk.log(key))

    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(reads))


async def test_a_kind_that_this_version_does_not_know_survives(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    strange = Unknown(kind="mood.changed", turn_id=held.turn_id, body={"mood": "good", "n": [1]})

    await desk.store.append(held, 0, [strange])

    assert decode((await desk.log(key))[-1]) == strange


@pytest.mark.parametrize("text", ["", "ünï €", "🦀 \U0010ffff", 'quo"te \\ back', "a\nb\t\x7f\x01"])
async def test_text_comes_back_as_it_was(desk: Desk, text: str) -> None:
    key = await desk.open(title=text, metadata={text: [text, {"deep": text}]})
    held = await desk.run(key, text)
    await desk.append(held, 0, text)
    await desk.finish(held, step=1, output=text, closing=[desk.reply(held, text)])

    opened, queued = (decode(entry) for entry in (await desk.log(key))[:2])
    assert isinstance(opened, SessionOpened)
    assert isinstance(queued, TurnQueued)
    assert opened.title == text
    assert queued.input["text"] == text
    session = (await desk.look(key)).session
    assert session.title == text
    assert session.metadata == {text: [text, {"deep": text}]}
    turn = await desk.turn(key, held.turn_id)
    assert (turn.input["text"], turn.output) == (text, text)


async def test_nul_and_lone_surrogates_become_the_replacement_character(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a\0b\ud800c")
    await desk.store.append(held, 0, [desk.reply(held, "x\0y\udfffz \\u0000")])

    queued, _, _, reply = (decode(entry) for entry in (await desk.log(key))[1:])

    assert isinstance(queued, TurnQueued)
    assert isinstance(reply, MessageAdded)
    assert queued.input["text"] == "a\ufffdb\ufffdc"
    assert reply.parts[0]["text"] == "x\ufffdy\ufffdz \\u0000"


async def test_an_entry_may_be_large(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "q" * 1_000_000)

    await desk.append(held, 0, "a" * 1_000_000)

    assert [len(entry.body) > 1_000_000 for entry in (await desk.log(key))[1::3]] == [True, True]


async def test_time_is_the_clock_s(desk: Desk) -> None:
    key = await desk.open()
    desk.clock.advance(milliseconds=5)
    held = await desk.run(key)
    desk.clock.advance(milliseconds=5)
    await desk.finish(held)

    turn = await desk.turn(key, held.turn_id)

    born = desk.clock.now_ms() - 10
    assert [entry.at_ms - born for entry in await desk.log(key)] == [0, 5, 5, 5, 10]
    assert (turn.created_at_ms, turn.started_at_ms, turn.ended_at_ms) == (
        born + 5,
        born + 5,
        born + 10,
    )


async def test_heads_are_told_of_the_sessions_that_somebody_follows(desk: Desk) -> None:
    first, second = await desk.open(), await desk.open()
    await desk.submit(second, run=False)
    gone = SessionKey(ACME, SessionId("ses_none"))
    foreign = SessionKey(first.tenant_id, SessionId(""))

    sweep = await desk.store.sweep(
        due_max=0, assistants=(), following=[first, second, gone, foreign]
    )

    assert sweep.due == ()
    assert dict(sweep.heads) == {first: Seq(1), second: Seq(2)}
    assert ANN.tenant_id == ACME


async def test_a_page_ends_before_it_is_too_large_and_has_one_entry_at_least(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "a")
    await desk.append(held, 0, *("é" * 500 for _ in range(10)))
    log = await desk.log(key)
    sizes = [len(entry.body.encode()) for entry in log]

    async def page(**asked: object) -> list[int]:
        return await numbers(desk, key, **asked)

    assert await page(bytes_max=sum(sizes)) == [entry.seq for entry in log]
    assert await page(bytes_max=sum(sizes[:6])) == [1, 2, 3, 4, 5, 6]
    assert await page(bytes_max=sum(sizes[:6]) - 1) == [1, 2, 3, 4, 5]
    assert await page(bytes_max=sum(sizes), limit=2) == [1, 2]
    assert await page(after=6, bytes_max=1) == [7]
    assert await page(after=len(log), bytes_max=1) == []
    for how in ({"newest_first": True}, {"newest_first": True, "history": True}, {"history": True}):
        whole = await page(**how)
        assert await page(**how, bytes_max=1) == whole[:1]
        assert await page(**how, bytes_max=2**40) == whole


async def test_a_page_of_turns_ends_before_it_is_too_large(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key, "é" * 500)
    await desk.finish(held, step=0, closing=[desk.reply(held, "e" * 500)])
    for _ in range(3):
        await desk.submit(key, "é" * 500, run=False)

    async def page(**asked: int | bool) -> list[int]:
        turns = await desk.store.turns(key, **{"limit": 10, **asked})
        return [turn.position for turn in turns]

    assert await page(bytes_max=10_000) == [1, 2, 3, 4]
    assert await page(bytes_max=2_000) == [1]
    assert await page(bytes_max=3_000) == [1, 2]
    assert await page(after=1, bytes_max=3_000) == [2, 3]
    assert await page(queued=True, bytes_max=1) == [2]
