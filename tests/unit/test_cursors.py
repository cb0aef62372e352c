"""A cursor is what it says, or is taken for none of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.http.cursors import AHEAD_OF_ALL, cursor, seq_of

EPOCHS = st.integers(0, 10**17)
SEQS = st.integers(1, 10**17)


@given(EPOCHS, SEQS)
def test_what_a_reader_is_told_leads_back(epoch: int, seq: int) -> None:
    said = cursor(seq, epoch=epoch)

    assert seq_of(said, epoch=epoch, plain=0) == seq
    assert seq_of(said, epoch=epoch, plain=epoch) == seq


@given(EPOCHS, SEQS, EPOCHS)
def test_a_cursor_of_another_epoch_is_ahead_of_all(epoch: int, seq: int, present: int) -> None:
    expected = seq if epoch == present else AHEAD_OF_ALL

    assert seq_of(cursor(seq, epoch=epoch), epoch=present, plain=0) == expected


def test_while_there_was_no_restore_it_is_the_plain_seq() -> None:
    assert cursor(17, epoch=0) == "17"
    assert cursor(17, epoch=2) == "2.17"
    assert seq_of("0.17", epoch=0, plain=0) == 17


@pytest.mark.parametrize("said", ["0", "0.0", "7.0", "000"])
def test_who_has_read_nothing_misses_nothing(said: str) -> None:
    assert seq_of(said, epoch=3, plain=0) == 0


HOSTILE = [
    "",
    " ",
    ".",
    "1.",
    ".1",
    "1.2.3",
    "1..2",
    "-1",
    "+1",
    "1.-2",
    "1,2",
    "1e3",
    "0x1",
    "1 ",
    " 1",
    "1\n",
    "1.2\n",
    "1\0",
    "1_0",
    "\u0661",
    "1.\u0662",
    "\uff11",
    "\u00b2",
    "nan",
    "inf",
    "null",
    "1" * 19,
    "1" * 19 + ".1",
    "1." + "1" * 19,
    "9" * 100_000,
]


@pytest.mark.parametrize("said", HOSTILE)
def test_what_is_no_cursor_is_ahead_of_all(said: str) -> None:
    assert seq_of(said, epoch=0, plain=0) == AHEAD_OF_ALL
    assert seq_of(said, epoch=1, plain=1) == AHEAD_OF_ALL


@given(st.text(), EPOCHS)
def test_whatever_is_said_a_place_in_the_log_comes_of_it(said: str, epoch: int) -> None:
    assert 0 <= seq_of(said, epoch=epoch, plain=0) <= AHEAD_OF_ALL
