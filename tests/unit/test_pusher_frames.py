"""What a client may say, and what it is told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.core.events import Entry
from sessile.core.ids import Seq, SessionId, TurnId
from sessile.pusher import frames
from sessile.pusher.channels import Member
from sessile.pusher.frames import (
    Fault,
    Ping,
    Pong,
    Subscribe,
    Trigger,
    Unsubscribe,
    is_event_name,
    opening_fault,
    read,
    read_member,
)
from sessile.pusher.projections import Projections

DIGITS_MAX = 4_300  # of a whole number that Python turns into text


def frame(event: str, **more: Any) -> str:
    return json.dumps({"event": event, **more})


def trigger(data: str) -> str:
    return f'{{"event":"client-typing","channel":"private-x","data":{data}}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (frame("pusher:ping", data={}), Ping()),
        (frame("pusher:pong", data={}), Pong()),
        (frame("pusher:subscribe", data={"channel": "c"}), Subscribe("c", "", None)),
        (frame("pusher:subscribe", data={"channel": "c", "auth": ""}), Subscribe("c", "", None)),
        (
            frame("pusher:subscribe", data={"channel": "c", "auth": "k:1", "channel_data": "{}"}),
            Subscribe("c", "k:1", "{}"),
        ),
        (
            frame("pusher:subscribe", data={"channel": "c", "auth": None, "channel_data": None}),
            Subscribe("c", "", None),
        ),
        (frame("pusher:unsubscribe", data={"channel": "c"}), Unsubscribe("c")),
        (trigger('{"a": [1, 2.5]}'), Trigger("private-x", "client-typing", '{"a":[1,2.5]}')),
        (trigger('"{\\"a\\": 1}"'), Trigger("private-x", "client-typing", '{"a": 1}')),
        (trigger('"漢 😀"'), Trigger("private-x", "client-typing", "漢 😀")),
        (trigger("9" * DIGITS_MAX), Trigger("private-x", "client-typing", "9" * DIGITS_MAX)),
        (frame("client-x", channel="private-x"), Trigger("private-x", "client-x", "null")),
        (frame("other", channel="c", data=1), Trigger("c", "other", "1")),
    ],
)
def test_a_frame_says_one_thing(text: str, said: object) -> None:
    assert read(text) == said


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        '"pusher:ping"',
        "null",
        "{}",
        '{"event":1}',
        '{"event":"client-x"}',
        '{"event":"client-x","channel":1}',
        '{"event":"pusher:signin","data":{"auth":"","user_data":"{}"}}',
        '{"event":"pusher:ping"',
        '{"event":"pusher:ping"}{}',
        '\ufeff{"event":"pusher:ping"}',
        '{"event":"pusher:subscribe"}',
        '{"event":"pusher:subscribe","data":"{}"}',
        '{"event":"pusher:subscribe","data":{"channel":["c"]}}',
        '{"event":"pusher:subscribe","data":{"channel":"c","auth":1}}',
        '{"event":"pusher:subscribe","data":{"channel":"c","channel_data":{}}}',
        '{"event":"pusher:unsubscribe","data":{}}',
        trigger("[" * 100_000),
        trigger("[" * 1_000 + "]" * 1_000),
        trigger('{"a":' * 1_000 + "1" + "}" * 1_000),
        trigger("9" * (DIGITS_MAX + 1)),
        trigger("9" * 90_000),
        trigger("NaN"),
        trigger("Infinity"),
        trigger("1e999"),
        trigger("[-1e999]"),
        trigger('"\\ud800"'),
        trigger('"\\udfff\\ud800"'),
        trigger('"\ud800"'),
        trigger('"\x00"'),
        '{"event":"client-\\ud800","channel":"private-x"}',
    ],
)
def test_what_says_nothing_is_a_fault_and_no_exception(text: str) -> None:
    fault = read(text)

    assert isinstance(fault, Fault)
    assert fault.code == 4300


@given(st.text(st.characters(), max_size=200))
def test_any_text_is_read(text: str) -> None:
    read(text)
    read_member(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {"event": st.sampled_from(["pusher:subscribe", "pusher:unsubscribe", "client-x"]) | JSON},
        optional={
            "channel": JSON,
            "data": JSON | st.dictionaries(st.sampled_from(["channel", "auth"]), JSON),
        },
    )
)
def test_what_was_read_can_be_written(value: dict[str, Any]) -> None:
    said = read(json.dumps(value))

    if isinstance(said, Trigger):
        event = frames.channel_event(said.channel, said.event, said.data)
        assert json.loads(event.text.encode())["data"] == said.data


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ('{"user_id":"ann"}', Member(user_id="ann")),
        ('{"user_id":"ann","user_info":{"n":1}}', Member(user_id="ann", info={"n": 1})),
        ('{"user_id":7,"more":1}', Member(user_id="7")),
        (f'{{"user_id":"{"a" * 128}"}}', Member(user_id="a" * 128)),
        (
            f'{{"user_id":"a","user_info":"{"i" * 1_024}"}}',
            Member(user_id="a", info="i" * 1_024),
        ),
        (f'{{"user_id":"{"a" * 129}"}}', None),
        (f'{{"user_id":"a","user_info":"{"i" * 1_025}"}}', None),
        (f'{{"user_id":"a","user_info":"{"é" * 513}"}}', None),
        ('{"user_id":""}', None),
        ('{"user_id":true}', None),
        ('{"user_id":1.5}', None),
        ('{"user_id":"\\ud800"}', None),
        ('{"user_id":"a","user_info":1e999}', None),
        ('{"user_info":{}}', None),
        ("[]", None),
        ("", None),
    ],
)
def test_channel_data_name_a_user_or_none(text: str, member: Member | None) -> None:
    assert read_member(text) == member


@pytest.mark.parametrize(
    ("name", "server", "client"),
    [
        ("paid", True, False),
        ("client-typing", False, True),
        ("client-" + "a" * 193, False, True),
        ("a" * 200, True, False),
        ("client-" + "a" * 194, False, False),
        ("a" * 201, False, False),
        ("", False, False),
        ("a\nb", False, False),
        ("client-\x00", False, False),
        ("\ud800", False, False),
        ("pusher:ping", False, False),
        ("pusher_internal:member_added", False, False),
    ],
)
def test_an_event_s_name_says_who_may_call_one_so(name: str, server: bool, client: bool) -> None:
    assert is_event_name(name) is server
    assert is_event_name(name, client=True) is client


@pytest.mark.parametrize(
    ("key", "protocol", "code"),
    [
        ("app", "7", None),
        ("app", "5", None),
        ("app", "4", 4007),
        ("app", "8", 4007),
        ("app", "", 4007),
        ("app", "7.0", 4007),
        ("app", "\u0667", 4007),
        ("app", None, 4008),
        ("other", "7", 4001),
        ("other", None, 4001),
    ],
)
def test_a_connection_begins_with_the_right_key_and_protocol(
    key: str, protocol: str | None, code: int | None
) -> None:
    fault = opening_fault(key=key, key_expected="app", protocol=protocol)

    assert (fault and fault.code) == code


FAULTS = [each for each in vars(frames).values() if isinstance(each, Fault)]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_fits_into_a_close_frame(fault: Fault) -> None:
    assert len(fault.message.encode()) <= 123
    assert json.loads(frames.error(fault)) == {
        "event": "pusher:error",
        "data": {"code": fault.code, "message": fault.message},
    }


def told(text: str) -> dict[str, Any]:
    """A frame with its data, which are text within text, read too."""
    value: dict[str, Any] = json.loads(text)
    assert isinstance(value["data"], str)
    return {**value, "data": json.loads(value["data"])}


def test_frames_are_what_the_protocol_says() -> None:
    ann = Member(user_id="ann", info={"name": "Zoë"})

    assert told(frames.PING) == {"event": "pusher:ping", "data": {}}
    assert told(frames.PONG) == {"event": "pusher:pong", "data": {}}
    assert told(frames.established("1.2", activity_timeout_seconds=120)) == {
        "event": "pusher:connection_established",
        "data": {"socket_id": "1.2", "activity_timeout": 120},
    }
    assert told(frames.succeeded("c", None)) == {
        "event": "pusher_internal:subscription_succeeded",
        "channel": "c",
        "data": {},
    }
    assert told(frames.succeeded("presence-c", [ann, Member(user_id="ben")]))["data"] == {
        "presence": {
            "count": 2,
            "ids": ["ann", "ben"],
            "hash": {"ann": {"name": "Zoë"}, "ben": None},
        }
    }
    assert told(frames.member_added("presence-c", ann).text) == {
        "event": "pusher_internal:member_added",
        "channel": "presence-c",
        "data": {"user_id": "ann", "user_info": {"name": "Zoë"}},
    }
    assert told(frames.member_removed("presence-c", ann).text) == {
        "event": "pusher_internal:member_removed",
        "channel": "presence-c",
        "data": {"user_id": "ann"},
    }
    assert told(frames.position("c", Seq(7))) == {
        "event": "sessile.position",
        "channel": "c",
        "data": {"seq": 7},
    }
    assert json.loads(frames.refused("c", kind="AuthError", message="No.", status=401)) == {
        "event": "pusher:subscription_error",
        "channel": "c",
        "data": {"type": "AuthError", "error": "No.", "status": 401},
    }


def test_an_entry_is_told_with_its_seq() -> None:
    event = frames.log_event("c", "message.added", {"text": "hé", "seq": 1}, seq=Seq(9))

    assert event.seq == 9
    assert told(event.text) == {
        "event": "message.added",
        "channel": "c",
        "data": {"text": "hé", "seq": 9},
    }


def test_a_projection_that_makes_no_object_is_passed_over() -> None:
    """All readers of the channel would else be sent away, each time they come."""
    entry = Entry(Seq(9), "turn.failed", TurnId("trn_1"), 0, '{"code":"x"}')
    projections = Projections()
    for data in (["a"], "a", None, [("a", 1)], {"a": object()}):
        projections.add(lambda session_id, shown, data=data: [("card", data)])  # type: ignore[misc]
    projections.add(lambda session_id, shown: [("card", {"seq": shown["seq"]})])

    assert projections.of(SessionId("ses_1"), "echo", entry) == [("card", {"seq": 9})]


def test_an_entry_is_told_as_its_kind_and_as_what_was_made_of_it() -> None:
    entry = Entry(Seq(9), "turn.failed", TurnId("trn_1"), 0, '{"code":"x"}')

    event = frames.entry_event("c", entry, [("card", {"action": "a"})])

    assert event.seq == 9
    assert told(event.text) == {
        "event": "turn.failed",
        "channel": "c",
        "data": {
            "seq": 9,
            "kind": "turn.failed",
            "turn_id": "trn_1",
            "at": "1970-01-01T00:00:00.000Z",
            "body": {"code": "x"},
        },
    }
    assert [told(text) for text in event.more] == [
        {"event": "card", "channel": "c", "data": {"action": "a", "seq": 9}}
    ]


def test_what_a_channel_is_told_has_its_data_as_they_came() -> None:
    plain = frames.channel_event("c", "paid", "no JSON")
    signed = frames.channel_event("presence-c", "client-x", "{}", user_id="ann")

    assert plain.seq is None
    assert json.loads(plain.text) == {"event": "paid", "channel": "c", "data": "no JSON"}
    assert json.loads(signed.text)["user_id"] == "ann"


def test_what_no_socket_could_send_is_replaced() -> None:
    event = frames.channel_event("c", "paid", "a\ud800\x00b")

    assert json.loads(event.text.encode())["data"] == "a\ufffd\ufffdb"
