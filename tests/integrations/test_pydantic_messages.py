"""The history as a model reads it: every call answered, whatever the log holds."""

from typing import Any

import pytest
from pydantic_ai.messages import (
    BinaryContent,
    CompactionPart,
    FilePart,
    ModelResponse,
    ModelResponsePart,
    NativeToolCallPart,
    NativeToolReturnPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)
from tests.integrations.models import shape

from sessile.core.codec import encode
from sessile.core.events import (
    Entry,
    Event,
    JsonObject,
    MessageAdded,
    SessionSummarized,
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
)
from sessile.core.ids import CallId, MessageId, Seq, TurnId
from sessile.core.transcript import History
from sessile.integrations.pydantic_messages import fold, message_parts, wire_name

NOW = TurnId("trn_2")


def history(*events: Event) -> History:
    return History(
        Entry(Seq(at), event.kind, getattr(event, "turn_id", None), at * 1000, encode(event))
        for at, event in enumerate(events, 1)
    )


def said(role: Any, *parts: Any, turn_id: str = "trn_2", state: Any = "complete") -> MessageAdded:
    return MessageAdded(
        turn_id=TurnId(turn_id),
        message_id=MessageId("msg_1"),
        role=role,
        parts=tuple({"type": "text", "text": p} if isinstance(p, str) else p for p in parts),
        state=state,
    )


def asks(call_id: str, name: str = "look", **provider: Any) -> JsonObject:
    part = {"type": "tool_call", "call_id": call_id, "name": name, "arguments": {"n": 1}}
    return part | ({"provider": provider} if provider else {})


def outcome(kind: Any, call_id: str, *, turn_id: str = "trn_2", **values: Any) -> Any:
    return kind(
        turn_id=TurnId(turn_id),
        call_id=CallId(call_id),
        message_id=MessageId("msg_2"),
        name=values.pop("name", "look"),
        arguments={"n": 1},
        **values,
    )


def completed(call_id: str, result: Any = "seen", **values: Any) -> Any:
    return outcome(ToolCompleted, call_id, result=result, **values)


def test_a_call_of_an_older_turn_without_an_outcome_never_reaches_a_model_open() -> None:
    folded = fold(
        history(
            said("user", "one", turn_id="trn_1"),
            said("assistant", asks("call_a"), asks("call_b"), turn_id="trn_1"),
            completed("call_b", turn_id="trn_1"),
            said("user", "two"),
        ),
        NOW,
    )

    assert shape(folded.messages) == [
        ("user-prompt", "one"),
        ("tool-call", ("look", {"n": 1}, "call_a")),
        ("tool-call", ("look", {"n": 1}, "call_b")),
        (
            "tool-return",
            ("look", "call_a", "failed", "This call was never run: its turn ended first."),
        ),
        ("tool-return", ("look", "call_b", "success", "seen")),
        ("user-prompt", "two"),
    ]
    assert folded.pending == {}


def test_an_open_call_of_this_turn_is_left_to_be_made() -> None:
    asked = asks("call_a", tool_call_id="one"), asks("call_b", tool_call_id="two")
    folded = fold(history(said("user", "go"), said("assistant", *asked), completed("call_a")), NOW)

    assert shape(folded.messages) == [
        ("user-prompt", "go"),
        ("tool-call", ("look", {"n": 1}, "one")),
        ("tool-call", ("look", {"n": 1}, "two")),
    ]
    assert folded.pending == {"one": "call_a", "two": "call_b"}
    assert not folded.answered


def test_results_follow_their_calls_whatever_came_between() -> None:
    folded = fold(
        history(
            said("user", "go"),
            said("assistant", asks("call_a"), asks("call_b")),
            completed("call_b", "b"),
            said("user", "and?"),
            completed("call_a", "a"),
        ),
        NOW,
    )

    assert shape(folded.messages)[3:] == [
        ("tool-return", ("look", "call_a", "success", "a")),
        ("tool-return", ("look", "call_b", "success", "b")),
        ("user-prompt", "and?"),
    ]


def test_the_same_id_of_a_provider_in_each_step_keeps_its_own_result() -> None:
    folded = fold(
        history(
            said("user", "go"),
            said("assistant", asks("call_a", tool_call_id="same")),
            completed("call_a", "a"),
            said("assistant", asks("call_b", tool_call_id="same")),
            completed("call_b", "b"),
        ),
        NOW,
    )

    assert [text for kind, text in shape(folded.messages) if kind == "tool-return"] == [
        ("look", "same", "success", "a"),
        ("look", "same", "success", "b"),
    ]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (outcome(ToolFailed, "call_a", error="no disk"), "no disk"),
        (outcome(ToolFailed, "call_a", error=""), "The tool failed."),
        (outcome(ToolRefused, "call_a", verdict="denied", reason="No."), "Refused: No."),
        (
            outcome(ToolInterrupted, "call_a", reason="Lost."),
            "Interrupted: Lost. It may or may not have taken effect, and was not run again.",
        ),
    ],
)
def test_what_came_of_a_call_is_told(event: Any, told: str) -> None:
    folded = fold(history(said("user", "go"), said("assistant", asks("call_a")), event), NOW)

    assert shape(folded.messages)[-1] == ("tool-return", ("look", "call_a", "failed", told))
    assert folded.pending == {}


def test_an_outcome_that_no_message_asked_for_gets_a_call() -> None:
    folded = fold(history(said("user", "go"), completed("call_a", name="debug.look")), NOW)

    assert shape(folded.messages)[1:] == [
        ("tool-call", ("debug_look", {"n": 1}, "call_a")),
        ("tool-return", ("debug_look", "call_a", "success", "seen")),
    ]


def test_a_reply_that_was_cut_off_says_so() -> None:
    folded = fold(
        history(
            said("user", "one", turn_id="trn_1"),
            said(
                "assistant",
                {"type": "thinking", "text": "Hm"},
                "So far",
                turn_id="trn_1",
                state="partial",
            ),
            said("user", "two"),
        ),
        NOW,
    )

    assert shape(folded.messages)[1:3] == [("text", "So far"), ("text", "\n[cut off]")]


def test_the_last_summary_opens_the_history() -> None:
    folded = fold(
        history(
            said("user", "go"),
            said("assistant", asks("call_a")),
            SessionSummarized(summary="old", upto_seq=Seq(0)),
            SessionSummarized(summary="Ana likes tea.", upto_seq=Seq(0)),
            completed("call_a"),
        ),
        NOW,
    )

    shown = shape(folded.messages)
    assert shown[0] == ("user-prompt", "Summary of the conversation so far:\nAna likes tea.")
    assert shown[1] == ("user-prompt", "go")
    assert "old" not in str(shown)


def test_a_history_that_begins_in_the_middle_begins_with_a_request() -> None:
    folded = fold(history(said("assistant", "so"), said("user", "go")), NOW)

    assert shape(folded.messages) == [
        ("user-prompt", "[earlier messages are left out]"),
        ("text", "so"),
        ("user-prompt", "go"),
    ]


def test_a_turn_is_answered_by_a_reply_of_its_own_alone() -> None:
    reply = said("assistant", "done")
    older = said("assistant", "done", turn_id="trn_1")

    assert fold(history(said("user", "go"), reply), NOW).answered
    assert not fold(history(said("user", "go"), older), NOW).answered
    assert not fold(history(said("user", "go"), reply, said("user", "more")), NOW).answered
    assert not fold(history(said("user", "go"), said("assistant", asks("call_a"))), NOW).answered
    assert not fold(history(), NOW).answered


def test_responses_of_this_turn_are_counted() -> None:
    folded = fold(
        history(
            said("assistant", "old", turn_id="trn_1"),
            said("user", "go"),
            said("assistant", asks("call_a")),
            completed("call_a"),
        ),
        NOW,
    )

    assert folded.responses == 1


PARTS: list[ModelResponsePart] = [
    TextPart("Hello", id="msg_7", provider_name="openai", provider_details={"phase": "x"}),
    TextPart("Hello"),
    ThinkingPart("Hm", id="rs_1", signature="sig", provider_name="anthropic"),
    ThinkingPart("", signature="redacted", provider_name="anthropic"),
    NativeToolCallPart("web_search", {"q": "x"}, "ws_1", provider_name="openai"),
    NativeToolReturnPart("web_search", {"hits": [1]}, "ws_1", provider_name="openai"),
    CompactionPart("shorter", provider_name="anthropic"),
    ToolCallPart("look_up", {"n": 1}, "toolu_1", id="fc_1", provider_name="openai"),
    ToolCallPart("look_up", {}, "toolu_1"),
    ToolCallPart("look_up", '{"n": ', "toolu_1"),
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.part_kind)
def test_what_a_provider_said_of_a_part_makes_the_round_trip(part: ModelResponsePart) -> None:
    call_ids = {"toolu_1": CallId("call_a")}
    parts = message_parts(ModelResponse(parts=[part]), call_ids, {"look_up": "look.up"})
    ended = said("assistant", *parts, turn_id="trn_1")

    response = fold(history(said("user", "go"), ended, said("user", "more")), NOW).messages[1]

    (back,) = response.parts
    if isinstance(part, NativeToolReturnPart) and isinstance(back, NativeToolReturnPart):
        back.timestamp = part.timestamp
    assert back == part
    assert type(back) is type(part)
    assert encode(ended)


def test_files_and_output_calls_are_left_out() -> None:
    response = ModelResponse(
        parts=[
            FilePart(BinaryContent(b"x", media_type="image/png")),
            ToolCallPart("final_result", {}, "toolu_1"),
        ]
    )

    assert message_parts(response, {}, {}) == ()


@pytest.mark.parametrize(
    "provider",
    [{"id": ["of another form"]}, {"newer": 1}, {"provider_details": "none"}],
)
def test_what_another_version_wrote_is_read_as_far_as_it_goes(provider: Any) -> None:
    ended = said("assistant", {"type": "text", "text": "Hello", "provider": provider})

    (part,) = fold(history(ended, said("user", "go")), NOW).messages[1].parts

    assert isinstance(part, TextPart)
    assert part.content == "Hello"


def test_parts_of_another_kind_are_passed_over() -> None:
    ended = said("assistant", {"type": "later", "text": "Hello"}, turn_id="trn_1")

    messages = fold(history(said("user", "a"), ended, said("user", "b")), NOW).messages

    assert shape(messages) == [("user-prompt", "a"), ("user-prompt", "b")]
    assert all(message.parts for message in messages)


def test_names_are_sent_in_the_characters_that_every_provider_takes() -> None:
    assert wire_name("debug.getSessionInfo") == "debug_getSessionInfo"
    assert wire_name("look-up_2") == "look-up_2"


def test_messages_have_the_time_of_their_entry() -> None:
    (asked,) = fold(history(said("user", "go")), NOW).messages[0].parts

    assert getattr(asked, "timestamp").timestamp() == 1  # noqa: B009
