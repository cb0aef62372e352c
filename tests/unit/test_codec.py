"""Events as JSON: what is written today is read for ever."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime, timedelta
from types import MappingProxyType, UnionType
from typing import Any, Literal, NewType, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.machines import EXAMPLES

from sessile.core import codec
from sessile.core.events import Entry, Event, SessionClosed, TurnCompleted, Unknown
from sessile.core.ids import Seq, TurnId, UserId

# For ever: a kind that was written once is in somebody's log. One may be added, none renamed.
KINDS = {
    "session.opened",
    "session.updated",
    "session.forked",
    "session.handed_off",
    "session.granted",
    "session.revoked",
    "session.summarized",
    "session.redacted",
    "session.closed",
    "turn.queued",
    "turn.edited",
    "turn.started",
    "turn.steered",
    "turn.progress",
    "turn.awaiting",
    "turn.cancel_requested",
    "turn.completed",
    "turn.failed",
    "turn.cancelled",
    "turn.interrupted",
    "message.added",
    "message.delta",
    "message.reset",
    "tool.started",
    "tool.completed",
    "tool.failed",
    "tool.interrupted",
    "tool.refused",
    "approval.requested",
    "approval.granted",
    "approval.denied",
    "intent.decided",
    "button.offered",
    "button.pressed",
    "log.compacted",
}
# An entry of each kind as the first version wrote it: only what had no default.
FIRST_WRITTEN = {
    "session.opened": '{"user_id":"ann","assistant":"support"}',
    "session.updated": '{"title":null,"metadata":{},"by":"ann"}',
    "session.forked": '{"from_session_id":"ses_1","from_turn_id":"trn_1","from_seq":9}',
    "session.handed_off": '{"assistant":"loans"}',
    "session.granted": '{"grant":"manage_sessions","by":"root"}',
    "session.revoked": '{"grant":"manage_sessions","by":"root"}',
    "session.summarized": '{"summary":"They met.","upto_seq":9}',
    "session.redacted": '{"message_ids":["msg_1"],"by":"root"}',
    "session.closed": '{"by":"ann"}',
    "turn.queued": '{"position":1,"input":{"type":"message"},"message_id":"msg_1","by":"ann"}',
    "turn.edited": '{"input":{"type":"message"},"by":"ann"}',
    "turn.started": '{"attempt":1,"fence":1,"node":"n1"}',
    "turn.steered": '{"steer_id":"trn_2","message_id":"msg_2","input":{},"by":"ann"}',
    "turn.progress": "{}",
    "turn.awaiting": '{"call_ids":["call_1"],"expires_at_ms":9}',
    "turn.cancel_requested": '{"by":"ann"}',
    "turn.completed": '{"output":"done"}',
    "turn.failed": '{"error":{"code":"agent_failed","message":"","retry":false}}',
    "turn.cancelled": '{"reason":"asked","by":"ann"}',
    "turn.interrupted": '{"reason":"lost"}',
    "message.added": '{"message_id":"msg_1","role":"user","parts":[]}',
    "message.delta": '{"message_id":"msg_1","offset":0,"text":"so"}',
    "message.reset": '{"message_id":"msg_1"}',
    "tool.started": '{"call_id":"call_1","message_id":"msg_1","name":"t","arguments":{}}',
    "tool.completed": '{"call_id":"call_1","message_id":"msg_1","name":"t","arguments":{},'
    '"result":1}',
    "tool.failed": '{"call_id":"call_1","message_id":"msg_1","name":"t","arguments":{},'
    '"error":"no"}',
    "tool.interrupted": '{"call_id":"call_1","message_id":"msg_1","name":"t","arguments":{},'
    '"reason":"lost"}',
    "tool.refused": '{"call_id":"call_1","message_id":"msg_1","name":"t","arguments":{},'
    '"verdict":"denied","reason":"no"}',
    "approval.requested": '{"call_id":"call_1","message_id":"msg_1","name":"t","arguments":{}}',
    "approval.granted": '{"call_id":"call_1","by":"root","unanswered":1}',
    "approval.denied": '{"call_id":"call_1","by":null,"unanswered":0}',
    "intent.decided": '{"intent":null,"score":0.5,"threshold":0.7,"path":"agent"}',
    "button.offered": '{"message_id":"msg_1","button":"yes","label":"Yes"}',
    "button.pressed": '{"button":"yes"}',
    "log.compacted": '{"from_seq":3,"to_seq":9}',
}
CLASSES: dict[str, type] = {cls.kind: cls for cls in get_args(Event) if cls is not Unknown}
# Tools called outside a turn, and messages that a fork copied, are of no turn.
OF_NO_TURN = {kind for kind in KINDS if kind.startswith("tool.")} | {"message.added"}

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
NUMBER = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Anything that a field of this type may hold."""
    if isinstance(hint, NewType):
        hint = hint.__supertype__
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is UnionType or str(origin) == "typing.Union":
        return st.one_of([values_of(each) for each in arguments])
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return OBJECT
    return {
        str: TEXT,
        int: st.integers(0, 2**53),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        type(None): st.none(),
        Any: JSON,
    }[hint]


def events_of(kind: str) -> st.SearchStrategy[Event]:
    hints = get_type_hints(CLASSES[kind])
    needed = {
        each.name: values_of(hints[each.name])
        for each in fields(CLASSES[kind])
        if each.default is MISSING and each.default_factory is MISSING
    }
    free = {
        each.name: values_of(hints[each.name])
        for each in fields(CLASSES[kind])
        if each.name not in needed
    }
    made = st.fixed_dictionaries(needed, optional=free)
    return made.map(lambda values: CLASSES[kind](**values))


def entry_of(event: Event, *, seq: int = 1, at_ms: int = 0) -> Entry:
    return Entry(Seq(seq), event.kind, codec.turn_of(event), at_ms, codec.encode(event))


def first_written(kind: str) -> Entry:
    turn_id = TurnId("trn_1") if "turn_id" in get_type_hints(CLASSES[kind]) else None
    return Entry(Seq(1), kind, turn_id, 0, FIRST_WRITTEN[kind])


# Kinds ------------------------------------------------------------------------------------------


def test_the_kinds_are_those_that_were_ever_written() -> None:
    assert codec.kinds() == KINDS
    assert CLASSES.keys() == KINDS == FIRST_WRITTEN.keys()


@pytest.mark.parametrize("kind", sorted(KINDS))
@settings(EXAMPLES, max_examples=30)
@given(data=st.data())
def test_an_event_survives_a_round_trip(kind: str, data: st.DataObject) -> None:
    event = data.draw(events_of(kind))

    entry = entry_of(event)

    assert codec.decode(entry) == event
    assert codec.encode(codec.decode(entry)) == entry.body


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_the_first_version_wrote_is_read(kind: str) -> None:
    entry = first_written(kind)

    event = codec.decode(entry)

    assert event.kind == kind
    assert codec.turn_of(event) == entry.turn_id
    written_again = json.loads(codec.encode(event))
    assert json.loads(entry.body).items() <= written_again.items()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_field_that_is_missing_is_told(kind: str) -> None:
    entry = first_written(kind)
    body = json.loads(entry.body)

    for name in body:
        rest = json.dumps({other: body[other] for other in body if other != name})
        with pytest.raises(ValueError, match=name):
            codec.decode(Entry(entry.seq, kind, entry.turn_id, 0, rest))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_event_of_a_turn_names_it(kind: str) -> None:
    entry = first_written(kind)
    nameless = Entry(entry.seq, kind, None, 0, entry.body)

    if entry.turn_id is None or kind in OF_NO_TURN:
        assert codec.turn_of(codec.decode(nameless)) is None
    else:
        with pytest.raises(ValueError, match="turn_id"):
            codec.decode(nameless)


@pytest.mark.parametrize("body", ["[]", "null", "1", '"text"', "true", '[["user_id","ann"]]'])
@pytest.mark.parametrize("kind", ["session.opened", "moon.risen"])
def test_a_body_that_is_no_object_is_told(kind: str, body: str) -> None:
    with pytest.raises(ValueError, match="entry 7"):
        codec.decode(Entry(Seq(7), kind, None, 0, body))


@pytest.mark.parametrize("parts", ["null", "1", '"text"', "{}"])
def test_parts_that_are_no_list_are_told(parts: str) -> None:
    body = f'{{"message_id":"msg_1","role":"user","parts":{parts}}}'

    with pytest.raises(ValueError, match="parts"):
        codec.decode(Entry(Seq(7), "message.added", None, 0, body))


@pytest.mark.parametrize("body", ["", "{", "{'a':1}", '{"a":1}{}'])
def test_a_body_that_is_no_json_is_told(body: str) -> None:
    with pytest.raises(ValueError, match=r"line 1 column \d"):
        codec.decode(Entry(Seq(7), "session.closed", None, 0, body))


@EXAMPLES
@given(body=OBJECT, turn_id=st.none() | st.just(TurnId("trn_1")))
def test_an_unknown_kind_survives_a_round_trip(
    body: dict[str, Any], turn_id: TurnId | None
) -> None:
    entry = Entry(Seq(1), "moon.risen", turn_id, 0, codec.to_json(body))

    event = codec.decode(entry)

    assert event == Unknown(kind="moon.risen", turn_id=turn_id, body=body)
    assert codec.turn_of(event) == turn_id
    assert entry_of(event) == entry


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_fields_of_a_newer_version_do_not_hinder_an_older_one(kind: str) -> None:
    entry = first_written(kind)
    body = {**json.loads(entry.body), "mood": "blue", "turn": 7}
    newer = Entry(entry.seq, kind, entry.turn_id, 0, json.dumps(body))

    assert codec.decode(newer) == codec.decode(entry)
    assert json.loads(codec.entry_json(newer))["body"] == body


def test_the_turn_of_an_entry_stands_in_its_column_alone() -> None:
    event = TurnCompleted(turn_id=TurnId("trn_1"), output="done")

    assert "turn_id" not in json.loads(codec.encode(event))
    assert codec.decode(entry_of(event)) == event


def test_the_body_of_an_event_is_its_fields() -> None:
    event = SessionClosed(by=UserId("ann"), reason="done")

    assert codec.encode(event) == '{"by":"ann","reason":"done"}'


# JSON that any database takes -------------------------------------------------------------------


def cleaned(text: str) -> str:
    """The text as it is promised to be stored."""
    stored, pending = "", ""
    for char in text:
        if "\udc00" <= char <= "\udfff" and pending:
            stored += (pending + char).encode("utf-16", "surrogatepass").decode("utf-16")
            pending = ""
            continue
        stored += "\ufffd" if pending else ""
        pending = char if "\ud800" <= char <= "\udbff" else ""
        if not pending:
            stored += "\ufffd" if char == "\0" or "\udc00" <= char <= "\udfff" else char
    return stored + ("\ufffd" if pending else "")


NASTY = st.text(st.sampled_from('\0\\u0"a\n\x7f\ud83d\ude00\udfff\ud800\ufeffé\U0001f600'))


@EXAMPLES
@given(text=NASTY)
def test_nul_and_lone_surrogates_are_replaced(text: str) -> None:
    assert json.loads(codec.to_json(text)) == cleaned(text)
    assert json.loads(codec.to_json({text: [text]})) == {cleaned(text): [cleaned(text)]}


@EXAMPLES
@given(text=NASTY)
def test_what_is_written_can_be_encoded(text: str) -> None:
    written = codec.to_json([text])

    assert written.encode().decode() == written
    assert "\\u0000" not in written.replace("\\\\", "")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("\0", "\ufffd"),
        ("\0\0a\0", "\ufffd\ufffda\ufffd"),
        ("\\u0000", "\\u0000"),
        ("\\\\u0000", "\\\\u0000"),
        ("\\\0", "\\\ufffd"),
        ("\\\\\0", "\\\\\ufffd"),
        ("\\u0000\0", "\\u0000\ufffd"),
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ufeffa\ud800", "\ufeffa\ufffd"),
    ],
)
def test_text_that_only_looks_like_nul_is_left_in_peace(text: str, stored: str) -> None:
    assert json.loads(codec.to_json(text)) == stored
    assert json.loads(codec.to_json({"a": text})) == {"a": stored}


@EXAMPLES
@given(text=NASTY)
def test_clean_replaces_surrogates_and_nothing_else(text: str) -> None:
    assert codec.clean(text).replace("\0", "\ufffd") == cleaned(text)


@EXAMPLES
@given(text=st.text())
def test_a_clean_text_stays_the_same_object(text: str) -> None:
    assert codec.clean(text) is text


@EXAMPLES
@given(value=JSON)
def test_other_json_is_written_compactly_and_unchanged(value: Any) -> None:
    written = codec.to_json(value)

    assert json.loads(written) == value
    assert written == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_null(number: float) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    written = codec.to_json({"a": [number, 1.5, "NaN\0"], "b": {"c": number}})

    assert json.loads(written, parse_constant=refuse) == {
        "a": [None, 1.5, "NaN\ufffd"],
        "b": {"c": None},
    }


def test_any_mapping_and_sequence_is_written() -> None:
    assert codec.to_json(MappingProxyType({"a": (1, 2)})) == '{"a":[1,2]}'
    assert codec.to_json([MappingProxyType({"a": float("nan")})]) == '[{"a":null}]'


def test_what_has_no_end_is_no_json() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(ValueError, match="Circular"):
        codec.to_json(endless)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        codec.to_json({"a": object()})


# The wire form of an entry ----------------------------------------------------------------------

DAY_MS = 86_400_000
INSTANTS_MS = st.integers(0, 253_402_300_799_999)  # to the last millisecond of the year 9999


def naive(at_ms: int) -> str:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@EXAMPLES
@given(at_ms=INSTANTS_MS)
def test_a_timestamp_is_the_one_that_datetime_says(at_ms: int) -> None:
    assert codec.timestamp(at_ms) == naive(at_ms)


@pytest.mark.parametrize("year", [1970, 1972, 1999, 2000, 2023, 2024, 2100, 2400, 9999])
def test_every_day_of_a_year_has_its_date(year: int) -> None:
    begun_ms = round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000

    for day in range(365):
        for at_ms in (begun_ms + day * DAY_MS, begun_ms + (day + 1) * DAY_MS - 1):
            assert codec.timestamp(at_ms) == naive(at_ms)


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (82_800_000, "1970-01-01T23:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_a_timestamp_is_rfc_3339_in_utc(at_ms: int, text: str) -> None:
    assert codec.timestamp(at_ms) == text


@EXAMPLES
@given(
    data=st.data(),
    kind=st.sampled_from(sorted(KINDS)),
    seq=st.integers(1, 2**53),
    at_ms=INSTANTS_MS,
)
def test_the_wire_form_is_plain_json(data: st.DataObject, kind: str, seq: int, at_ms: int) -> None:
    event = data.draw(events_of(kind))
    turn_id = None if codec.turn_of(event) is None else TurnId("trn_Az09_-")
    entry = Entry(Seq(seq), kind, turn_id, at_ms, codec.encode(event))

    written = codec.entry_json(entry)

    naively = {
        "seq": entry.seq,
        "kind": entry.kind,
        "turn_id": entry.turn_id,
        "at": naive(at_ms),
        "body": json.loads(entry.body),
    }
    assert json.loads(written) == json.loads(json.dumps(naively))
    assert list(json.loads(written)) == list(naively)
    assert "\n" not in written, "an event of a stream is one line"
