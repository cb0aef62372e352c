"""Which entries nobody needs any more."""

from functools import partial

from tests.unit.machines import log_of

from sessile.core.codec import encode
from sessile.core.compaction import compact
from sessile.core.events import (
    Entry,
    LogCompacted,
    MessageDelta,
    TurnCompleted,
    TurnProgress,
)
from sessile.core.ids import MessageId, Seq, TurnId

TURN = TurnId("trn_1")


log = partial(log_of, at_ms=5)


def delta(turn_id: TurnId = TURN) -> MessageDelta:
    return MessageDelta(turn_id=turn_id, message_id=MessageId("msg_1"), offset=0, text="x")


def progress(tokens: int) -> TurnProgress:
    return TurnProgress(turn_id=TURN, tokens_used=tokens)


def end(tokens: int = 0) -> TurnCompleted:
    return TurnCompleted(turn_id=TURN, output="", tokens_used=tokens)


def ranges(entries: list[Entry], *, before_ms: int = 9) -> list[LogCompacted]:
    ends = [it for it in entries if it.kind == "turn.completed"]
    compacted = compact(entries, ends, after=Seq(0), before_ms=before_ms)
    bodies = [it.body for it in compacted.entries]
    folds = [LogCompacted(from_seq=Seq(a), to_seq=Seq(b)) for a in range(1, 9) for b in range(a, 9)]
    return [fold for body in bodies for fold in folds if encode(fold) == body]


def fold(begin: int, to: int) -> LogCompacted:
    return LogCompacted(from_seq=Seq(begin), to_seq=Seq(to))


def test_a_range_of_deltas_and_progress_is_one_entry() -> None:
    assert ranges(log(delta(), progress(3), delta(), end(3))) == [fold(1, 3)]


def test_what_stands_for_a_range_is_where_and_when_its_last_entry_was() -> None:
    entries = [it._replace(at_ms=it.seq) for it in log(delta(), delta(), delta(), end())]

    (folded,) = compact(entries, entries[-1:], after=Seq(0), before_ms=9).entries

    assert folded == Entry(Seq(3), "log.compacted", None, 3, encode(fold(1, 3)))


def test_progress_that_says_more_than_the_end_stays() -> None:
    assert ranges(log(delta(), delta(), progress(4), delta(), delta(), end(3))) == [
        fold(1, 2),
        fold(4, 5),
    ]


def test_one_entry_alone_stays() -> None:
    assert ranges(log(delta(), end())) == []


def test_a_turn_that_ended_too_late_is_where_it_stops() -> None:
    entries = log(delta(), delta(), end(), at_ms=9)

    compacted = compact(entries, entries[-1:], after=Seq(0), before_ms=9)

    assert compacted == ((), Seq(0))
    assert ranges(entries, before_ms=10) == [fold(1, 2)]


def test_nothing_behind_a_turn_that_goes_on_is_looked_at() -> None:
    entries = log(delta(), delta(), end(), delta(TurnId("trn_2")), delta(), delta())

    compacted = compact(entries, entries[2:3], after=Seq(0), before_ms=9)

    assert (len(compacted.entries), compacted.upto) == (1, 3)
