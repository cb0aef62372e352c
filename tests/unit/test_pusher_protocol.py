"""One connection: what it may do, when it is pinged, how it ends."""

import json
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.core.ids import Seq
from sessile.pusher import frames
from sessile.pusher.channels import Kind, Member
from sessile.pusher.frames import Event
from sessile.pusher.protocol import (
    Action,
    Authorize,
    ClientEvent,
    Close,
    Connection,
    Limits,
    Send,
    Unsubscribed,
)

PRIVATE = "private-sb-ses_1"
ROOM = "presence-room"
TALK = "private-talk"
ANN = Member(user_id="ann", info=1)
ANN_DATA = '{"user_id":"ann","user_info":1}'


def connection(limits: Limits | None = None) -> Connection:
    return Connection("1.2", limits or Limits(), now=0)


def subscribe(channel: str, auth: str = "app:1", channel_data: str | None = None) -> str:
    data = {"channel": channel, "auth": auth, "channel_data": channel_data}
    return json.dumps({"event": "pusher:subscribe", "data": data})


def unsubscribe(channel: str) -> str:
    return json.dumps({"event": "pusher:unsubscribe", "data": {"channel": channel}})


def trigger(channel: str, event: str = "client-typing", data: Any = None) -> str:
    return json.dumps({"event": event, "channel": channel, "data": data})


def asked(one: Connection, channel: str, now: float = 0) -> Authorize:
    data = ANN_DATA if channel.startswith("presence-") else None
    (action,) = one.receive(subscribe(channel, channel_data=data), now)
    assert isinstance(action, Authorize)
    return action


def joined(one: Connection, channel: str, position: Seq | None = None) -> None:
    one.accept(asked(one, channel), members=(ANN,), position=position)


def sent(actions: list[Action]) -> list[dict[str, Any]]:
    assert all(isinstance(action, Send) for action in actions)
    return [json.loads(action.text) for action in actions if isinstance(action, Send)]


def refusal(actions: list[Action]) -> tuple[Any, ...]:
    """The code of an error, or the type and status of a subscription that did not begin."""
    (told,) = sent(actions)
    if told["event"] == "pusher:error":
        return (told["data"]["code"],)
    assert told["event"] == "pusher:subscription_error"
    return (told["data"]["type"], told["data"]["status"])


def test_it_begins_with_its_socket_id() -> None:
    (greeting,) = sent(connection(Limits(activity_timeout_seconds=60)).greet())

    assert greeting == {
        "event": "pusher:connection_established",
        "data": '{"socket_id":"1.2","activity_timeout":60}',
    }


def test_a_ping_is_answered_and_a_pong_is_not() -> None:
    one = connection()

    assert one.receive('{"event":"pusher:ping","data":{}}', 1) == [Send(frames.PONG)]
    assert one.receive('{"event":"pusher:pong","data":{}}', 1) == []


@pytest.mark.parametrize(
    ("channel", "kind", "auth", "data", "member"),
    [
        ("orders", Kind.PUBLIC, "", None, None),
        (PRIVATE, Kind.PRIVATE, "app:1", None, None),
        (PRIVATE, Kind.PRIVATE, "app:1", "{}", None),
        (ROOM, Kind.PRESENCE, "app:1", ANN_DATA, ANN),
    ],
)
def test_every_channel_is_asked_for(
    channel: str, kind: Kind, auth: str, data: str | None, member: Member | None
) -> None:
    actions = connection().receive(subscribe(channel, auth, data), 0)

    assert actions == [
        Authorize(channel=channel, kind=kind, auth=auth, channel_data=data, member=member)
    ]


def test_a_subscription_that_is_accepted_is_confirmed_and_told_where_it_begins() -> None:
    one = connection()

    told = sent(one.accept(asked(one, PRIVATE), position=Seq(4)))

    assert told == [
        {"event": "pusher_internal:subscription_succeeded", "channel": PRIVATE, "data": "{}"},
        {"event": "sessile.position", "channel": PRIVATE, "data": '{"seq":4}'},
    ]


def test_a_member_is_told_who_is_there() -> None:
    one = connection()

    (told,) = sent(one.accept(asked(one, ROOM), members=(ANN,)))

    assert json.loads(told["data"])["presence"] == {"count": 1, "ids": ["ann"], "hash": {"ann": 1}}


def test_a_subscription_that_is_refused_says_why_and_may_be_tried_again() -> None:
    one = connection()

    told = sent(one.refuse(asked(one, PRIVATE), status=404, message="Not yours."))

    assert told[0]["data"] == {"type": "AuthError", "error": "Not yours.", "status": 404}
    assert one.receive(trigger(PRIVATE), 0) != []
    joined(one, PRIVATE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (subscribe("private-encrypted-x"), ("InvalidChannel", 400)),
        (subscribe("no such name"), ("InvalidChannel", 400)),
        (subscribe("a" * 165), ("InvalidChannel", 400)),
        (subscribe(PRIVATE, auth=""), ("AuthError", 401)),
        (subscribe(ROOM, auth="", channel_data=ANN_DATA), ("AuthError", 401)),
        (subscribe(ROOM), ("AuthError", 400)),
        (subscribe(ROOM, channel_data="{}"), ("AuthError", 400)),
        ("what", (4300,)),
        ('{"event":"pusher:signin","data":{}}', (4300,)),
    ],
)
def test_what_nobody_could_allow_is_refused_at_once(text: str, expected: tuple[Any, ...]) -> None:
    assert refusal(connection().receive(text, 0)) == expected


def test_a_second_subscription_to_a_channel_changes_nothing() -> None:
    one = connection()
    first = asked(one, PRIVATE)

    assert refusal(one.receive(subscribe(PRIVATE), 0)) == (4300,)
    assert one.awaits(first)
    one.accept(first)
    assert refusal(one.receive(subscribe(PRIVATE), 0)) == (4300,)
    assert one.receive(unsubscribe(PRIVATE), 0) == [Unsubscribed(PRIVATE)]


def test_a_client_that_left_before_the_decision_is_not_in() -> None:
    one = connection()
    first = asked(one, PRIVATE)

    assert one.receive(unsubscribe(PRIVATE), 0) == []
    assert not one.awaits(first)
    assert one.accept(first) == []
    assert one.refuse(first, status=403, message="") == []


def test_an_old_decision_does_not_answer_a_new_question() -> None:
    one = connection()
    first = asked(one, PRIVATE)
    one.receive(unsubscribe(PRIVATE), 0)
    second = asked(one, PRIVATE)

    assert first == second
    assert one.accept(first) == []
    assert one.accept(second) != []


def test_leaving_a_channel_that_one_is_not_in_is_harmless() -> None:
    assert connection().receive(unsubscribe(PRIVATE), 0) == []


def test_ten_thousand_subscriptions_are_refused_at_the_limit() -> None:
    one = connection(Limits(frames_burst_max=20_000))

    first = [one.receive(subscribe(f"c{number}", ""), 0) for number in range(100)]
    more = [one.receive(subscribe(f"c{number}", ""), 0) for number in range(100, 10_000)]

    assert all(isinstance(action, Authorize) for (action,) in first)
    assert {refusal(actions) for actions in more} == {("LimitReached", 403)}


def test_the_limit_counts_what_is_there_and_what_is_asked_for() -> None:
    one = connection(Limits(channels_max=2))
    joined(one, "a")
    asked(one, "b")

    assert refusal(one.receive(subscribe("c"), 0)) == ("LimitReached", 403)
    one.receive(unsubscribe("a"), 0)
    joined(one, "c")


def test_events_reach_only_who_is_in_their_channel() -> None:
    one = connection()
    joined(one, "a")
    event = frames.channel_event("a", "paid", "{}")

    assert one.deliver(event) == [Send(event.text)]
    assert one.deliver(frames.channel_event("b", "paid", "{}")) == []
    one.receive(unsubscribe("a"), 0)
    assert one.deliver(event) == []


def test_each_entry_is_told_once() -> None:
    one = connection()
    joined(one, PRIVATE, Seq(4))

    told = [
        seq
        for seq in (3, 4, 5, 5, 7, 6, 8)
        if one.deliver(frames.log_event(PRIVATE, "e", {}, seq=Seq(seq)))
    ]

    assert told == [5, 7, 8]


def test_without_a_position_the_first_entry_is_the_beginning() -> None:
    one = connection()
    joined(one, PRIVATE)

    told = [
        seq for seq in (3, 3, 4) if one.deliver(frames.log_event(PRIVATE, "e", {}, seq=Seq(seq)))
    ]

    assert told == [3, 4]


def test_who_is_expelled_is_told_and_hears_no_more() -> None:
    one = connection()
    joined(one, "a")
    pending = asked(one, "b")

    told, left = one.expel("a", status=404, message="Gone.")
    assert isinstance(told, Send)
    assert left == Unsubscribed("a")
    assert one.deliver(frames.channel_event("a", "paid", "{}")) == []
    assert refusal(one.expel("b", status=404, message="Gone.")) == ("AuthError", 404)
    assert not one.awaits(pending)
    assert one.expel("c", status=404, message="Gone.") == []


@pytest.mark.parametrize(("channel", "user_id"), [(TALK, None), (ROOM, "ann")])
def test_a_client_event_goes_to_the_channel(channel: str, user_id: str | None) -> None:
    one = connection()
    joined(one, channel)

    (action,) = one.receive(trigger(channel, data={"a": 1}), 0)

    assert action == ClientEvent(
        channel=channel, event="client-typing", data='{"a":1}', user_id=user_id
    )
    assert json.loads(action.told().text)["data"] == '{"a":1}'


@pytest.mark.parametrize(
    ("channel", "event", "data"),
    [
        ("orders", "client-typing", None),
        ("private-other", "client-typing", None),
        ("not a name", "client-typing", None),
        (PRIVATE, "typing", None),
        (PRIVATE, "pusher_internal:member_added", None),
        (PRIVATE, "client-" + "a" * 194, None),
        (PRIVATE, "client-typing", "a" * 10_241),
        (PRIVATE, "client-typing", "é" * 5_121),
    ],
)
def test_a_client_event_that_is_not_allowed_is_refused(channel: str, event: str, data: Any) -> None:
    one = connection()
    joined(one, PRIVATE)
    joined(one, "orders")

    assert refusal(one.receive(trigger(channel, event, data), 0)) == (4301,)


def test_a_client_event_may_be_as_large_as_the_limit() -> None:
    one = connection()
    joined(one, TALK)

    (action,) = one.receive(trigger(TALK, data="a" * 10_240), 0)

    assert isinstance(action, ClientEvent)


@pytest.mark.parametrize("channel", [PRIVATE, "presence-sb-ses_1"])
def test_in_a_session_s_channel_clients_trigger_nothing_unless_they_may(channel: str) -> None:
    for allowed in (False, True):
        one = connection(Limits(client_events_in_sessions=allowed))
        joined(one, channel)

        (action,) = one.receive(trigger(channel), 0)

        assert isinstance(action, ClientEvent) is allowed
        assert allowed or refusal([action]) == (4301,)


def test_what_is_made_of_an_entry_follows_it_and_is_told_once() -> None:
    one = connection()
    joined(one, PRIVATE, Seq(1))
    event = Event(channel=PRIVATE, text="entry", seq=Seq(2), more=("card", "badge"))

    assert one.deliver(event) == [Send("entry"), Send("card"), Send("badge")]
    assert one.deliver(event) == []


def test_client_events_may_be_off() -> None:
    one = connection(Limits(client_events=False))
    joined(one, TALK)

    assert refusal(one.receive(trigger(TALK), 0)) == (4301,)


def passed(one: Connection, count: int, now: float) -> int:
    actions = [one.receive(trigger(TALK), now)[0] for _ in range(count)]
    return sum(isinstance(action, ClientEvent) for action in actions)


def test_ten_client_events_a_second_pass() -> None:
    one = connection()
    joined(one, TALK)

    assert [passed(one, 15, now) for now in (0, 0.5, 0.5, 1.5, 100)] == [10, 5, 0, 10, 10]
    assert passed(one, 1, 99) == 0, "a clock that went back gives nothing"


def test_a_frame_that_is_too_large_ends_the_connection() -> None:
    limit = Limits().frame_bytes_max
    for frame in ("a" * (limit + 1), "é" * (limit // 2 + 1), "a" * 1_048_576, b"a" * (limit + 1)):
        one = connection()
        assert closing(one.receive(frame, 0)) == 1009

    assert refusal(connection().receive("a" * limit, 0)) == (4300,)


def closing(actions: list[Action]) -> int:
    """The code of a connection's end: once as a frame, once as the WebSocket's own."""
    told, end = actions
    assert isinstance(told, Send)
    assert isinstance(end, Close)
    assert json.loads(told.text) == {
        "event": "pusher:error",
        "data": {"code": end.code, "message": end.reason},
    }
    return end.code


def test_a_binary_frame_is_refused_and_the_connection_stays() -> None:
    one = connection()

    assert refusal(one.receive(b'{"event":"pusher:ping"}', 0)) == (4300,)
    assert one.receive('{"event":"pusher:ping"}', 0) == [Send(frames.PONG)]


def test_a_flood_of_frames_ends_the_connection() -> None:
    one = connection(Limits(frames_burst_max=3, frames_per_second_max=1))

    for now in (0, 0, 0, 1, 2):
        assert refusal(one.receive("x", now)) == (4300,)
    assert closing(one.receive("x", 2)) == 4100


def test_a_silent_client_is_pinged_and_then_let_go() -> None:
    one = connection()

    assert one.due_at == 120
    assert one.tick(119.9) == []
    assert one.tick(120) == [Send(frames.PING)]
    assert one.due_at == 150
    assert one.tick(149.9) == []
    assert closing(one.tick(150)) == 4201
    assert one.due_at == inf


@pytest.mark.parametrize("frame", ['{"event":"pusher:pong","data":{}}', "nonsense", b"1"])
def test_any_frame_is_a_sign_of_life(frame: str | bytes) -> None:
    one = connection()
    one.tick(120)

    one.receive(frame, 149)

    assert one.due_at == 269
    assert one.tick(150) == []
    assert one.tick(269) == [Send(frames.PING)]


def test_what_a_client_is_told_is_no_sign_of_its_life() -> None:
    one = connection()
    joined(one, "a")

    one.deliver(frames.channel_event("a", "paid", "{}"))

    assert one.due_at == 120


def test_a_connection_that_drains_is_told_to_come_back_at_once() -> None:
    assert closing(connection().close(frames.DRAINING)) == 4200


def test_after_its_end_nothing_comes_of_it() -> None:
    one = connection()
    joined(one, "a")
    pending = asked(one, "b")
    one.close(frames.DRAINING)

    assert one.receive(subscribe("c"), 1) == []
    assert one.tick(1e9) == []
    assert one.accept(pending) == one.refuse(pending, status=403, message="") == []
    assert one.deliver(frames.channel_event("a", "paid", "{}")) == []
    assert one.expel("a", status=404, message="") == []
    assert one.close(frames.PONG_MISSING) == []
    assert one.due_at == inf


@given(st.lists(st.text(st.characters(), max_size=60) | st.binary(max_size=20), max_size=20))
def test_no_frame_raises(received: list[str | bytes]) -> None:
    one = connection()

    for frame in received:
        for told in sent(one.receive(frame, 0)):
            assert told["event"] == "pusher:error"
