"""Names of channels, and the registry of who is in which."""

import sys

import pytest

from sessile.core.ids import SessionId
from sessile.pusher.channels import (
    CHANNEL_CHARS_MAX,
    MEMBERS_MAX,
    Joined,
    Kind,
    Left,
    Member,
    Registry,
    is_socket_id,
    kind,
    reserved,
    session_channel,
    session_of,
)

ANN = Member(user_id="ann", info={"name": "Ann"})
BEN = Member(user_id="ben")
ROOM = "presence-room"


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("orders", Kind.PUBLIC),
        ("sb-ses_1", Kind.PUBLIC),
        ("privateer", Kind.PUBLIC),
        ("private-sb-ses_1", Kind.PRIVATE),
        ("private-", Kind.PRIVATE),
        (ROOM, Kind.PRESENCE),
        ("a" * CHANNEL_CHARS_MAX, Kind.PUBLIC),
        ("-_=@,.;aZ9", Kind.PUBLIC),
        ("a" * (CHANNEL_CHARS_MAX + 1), None),
        ("", None),
        ("a b", None),
        ("a\n", None),
        ("a:b", None),
        ("é", None),
        ("#server-to-user-1", None),
        ("private-encrypted-x", None),
    ],
)
def test_a_name_says_what_kind_a_channel_is(channel: str, expected: Kind | None) -> None:
    assert kind(channel) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2", True),
        ("123456.7890", True),
        ("1", False),
        ("1.2.3", False),
        ("1.2\n", False),
        ("a.1", False),
        ("", False),
        ("1" * 21 + ".1", False),
    ],
)
def test_a_socket_id_is_two_numbers(text: str, expected: bool) -> None:
    assert is_socket_id(text) is expected


def test_the_channel_of_a_session_is_read_back() -> None:
    channel = session_channel(SessionId("ses_1"))

    assert kind(channel) is Kind.PRIVATE
    assert session_of(channel, public=False) == session_of(channel, public=True) == "ses_1"


@pytest.mark.parametrize(
    "channel",
    [
        "private-sb-",
        "private-sb-trn_1",
        "private-sb-ses_1.x",
        "private-presence-sb-ses_1",
        "xsb-ses_1",
    ],
)
def test_other_channels_are_no_session_s(channel: str) -> None:
    assert session_of(channel, public=True) is None


def test_a_session_has_a_presence_channel_too() -> None:
    assert session_of("presence-sb-ses_1", public=False) == "ses_1"


@pytest.mark.parametrize("channel", ["sb-ses_1", "private-sb-x", "presence-sb-", "sb-"])
def test_names_that_begin_as_a_session_s_are_kept_for_sessions(channel: str) -> None:
    assert reserved(channel)
    assert not reserved(f"x{channel}")


def test_a_public_channel_is_a_session_s_only_where_that_is_allowed() -> None:
    assert session_of("sb-ses_1", public=True) == "ses_1"
    assert session_of("sb-ses_1", public=False) is None


def test_every_session_id_fits_into_a_channel_s_name() -> None:
    longest = SessionId("ses_" + "a" * 64)

    assert session_of(session_channel(longest), public=False) == longest
    assert kind(session_channel(longest)) is Kind.PRIVATE


def test_a_channel_is_occupied_by_its_first_socket_and_vacated_by_its_last() -> None:
    registry = Registry()

    assert registry.subscribe("1.1", "c") == Joined(occupied=True, member_added=None)
    assert registry.subscribe("1.2", "c") == Joined(occupied=False, member_added=None)
    assert registry.sockets_of("c") == ("1.1", "1.2")
    assert registry.unsubscribe("1.1", "c") == Left(channel="c", vacated=False, member_removed=None)
    assert registry.unsubscribe("1.2", "c") == Left(channel="c", vacated=True, member_removed=None)
    assert registry.sockets_of("c") == ()
    assert registry.subscription_count("c") == 0
    assert len(registry.occupied()) == 0


def test_a_user_with_two_sockets_is_one_member() -> None:
    registry = Registry()

    assert registry.subscribe("1.1", ROOM, ANN).member_added == ANN
    assert registry.subscribe("1.2", ROOM, Member(user_id="ann")).member_added is None
    assert registry.subscribe("1.3", ROOM, BEN).member_added == BEN
    assert registry.members(ROOM) == (ANN, BEN)
    assert registry.user_count(ROOM) == 2
    assert registry.subscription_count(ROOM) == 3
    assert registry.unsubscribe("1.1", ROOM).member_removed is None
    assert registry.unsubscribe("1.2", ROOM).member_removed == ANN
    assert registry.members(ROOM) == (BEN,)


def test_a_subscription_begins_once() -> None:
    registry = Registry()
    registry.subscribe("1.1", "c")

    with pytest.raises(AssertionError):
        registry.subscribe("1.1", "c")


def test_a_socket_that_leaves_is_nowhere_any_more() -> None:
    registry = Registry()
    registry.subscribe("1.1", "c")
    registry.subscribe("1.1", ROOM, ANN)
    registry.subscribe("1.2", "c")

    assert registry.leave("1.1") == [
        Left(channel="c", vacated=False, member_removed=None),
        Left(channel=ROOM, vacated=True, member_removed=ANN),
    ]
    assert registry.channels_of("1.1") == ()
    assert registry.leave("1.1") == []
    assert registry.occupied() == ("c",)
    assert registry.members(ROOM) == ()
    assert registry.user_count(ROOM) == 0


def test_channels_are_found_by_how_they_begin() -> None:
    registry = Registry()
    for channel in ("presence-a", "private-b", "presence-c"):
        registry.subscribe("1.1", channel)

    assert registry.occupied("presence-") == ("presence-a", "presence-c")
    assert registry.channels_of("1.1") == ("presence-a", "private-b", "presence-c")
    assert len(registry.occupied()) == 3


def test_a_presence_channel_that_is_full_has_room_for_who_is_in_it() -> None:
    registry = Registry()
    for number in range(MEMBERS_MAX):
        member = Member(user_id=str(number))
        assert registry.has_room(ROOM, member)
        registry.subscribe(f"1.{number}", ROOM, member)

    assert not registry.has_room(ROOM, ANN)
    assert registry.has_room(ROOM, Member(user_id="0"))


def lines_run(registry: Registry, socket_id: str) -> int:
    """How many lines of Python it takes until this socket has left."""
    count = 0

    def trace(*_: object) -> object:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        registry.leave(socket_id)
    finally:
        sys.settrace(before)
    return count


def test_leaving_costs_what_the_socket_had_and_not_what_there_is() -> None:
    small, large = Registry(), Registry()
    for number in range(2_000):
        large.subscribe(f"2.{number}", f"c{number}")
        large.subscribe(f"3.{number}", "c1")
    for registry in (small, large):
        for number in range(3):
            registry.subscribe("4.1", f"c{number}")
            registry.subscribe("1.1", f"c{number}")

    assert lines_run(large, "1.1") == lines_run(small, "1.1")
    assert len(large.occupied()) == 2_000
