"""Ids are RFC 9562 version 7, and sort in the order in which they were made."""

from collections.abc import Iterator
from itertools import pairwise
from uuid import UUID

import pytest
from tests.doubles import ManualClock

from sessile.adapters.system import Uuid7Ids


def made(ids: Uuid7Ids, count: int) -> list[str]:
    return [ids.session_id().removeprefix("ses_") for _ in range(count)]


def test_an_id_is_a_version_7_of_its_moment() -> None:
    clock = ManualClock()
    (first,) = made(Uuid7Ids(now_ms=clock.now_ms), 1)

    assert UUID(first).version == 7
    assert UUID(first).variant == "specified in RFC 4122"
    assert int(first[:12], 16) == clock.now_ms()


def test_ids_of_one_millisecond_sort_as_they_were_made() -> None:
    ids = Uuid7Ids(now_ms=ManualClock().now_ms)

    many = made(ids, 1000)

    assert all(earlier < later for earlier, later in pairwise(many))
    assert all(UUID(each).version == 7 for each in many)


def test_ids_of_all_kinds_are_of_one_order() -> None:
    ids = Uuid7Ids(now_ms=ManualClock().now_ms)

    made_in_turn = [ids.session_id(), ids.turn_id(), ids.message_id(), ids.call_id()]

    bare = [each.rpartition("_")[2] for each in made_in_turn]
    assert bare == sorted(bare)


def test_a_clock_that_goes_back_reorders_nothing() -> None:
    clock = ManualClock()
    ids = Uuid7Ids(now_ms=clock.now_ms)
    many = made(ids, 10)

    for step in (-60_000, 1, 1, 59_997, 2):
        clock.advance(milliseconds=step)
        many += made(ids, 10)

    assert all(earlier < later for earlier, later in pairwise(many))
    assert int(many[-1][:12], 16) == clock.now_ms(), "it has caught up"


@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_a_millisecond_that_is_full_runs_over_into_the_next(byte: int) -> None:
    clock = ManualClock()
    ids = Uuid7Ids(now_ms=clock.now_ms, random_bytes=lambda count: bytes([byte] * count))
    many = made(ids, 3)

    clock.advance(milliseconds=1)
    many += made(ids, 3)

    assert all(earlier < later for earlier, later in pairwise(many))
    assert all(UUID(each).version == 7 for each in many)


def test_an_id_does_not_tell_the_next() -> None:
    ids = Uuid7Ids(now_ms=ManualClock().now_ms)

    steps = {later - earlier for earlier, later in pairwise(numbers(ids))}

    assert len(steps) == 99
    assert min(steps) > 1000


def numbers(ids: Uuid7Ids) -> Iterator[int]:
    return (int(each, 16) for each in made(ids, 100))
