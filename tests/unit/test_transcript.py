"""What a log says: messages for people and agents."""

from typing import Any

import pytest
from tests.unit.machines import log_of

from sessile.core.events import (
    Entry,
    Event,
    MessageAdded,
    MessageDelta,
    SessionSummarized,
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
    ToolStarted,
    TurnCompleted,
    TurnStarted,
)
from sessile.core.ids import CallId, Fence, MessageId, Seq, TurnId
from sessile.core.transcript import TEXT_KINDS, History, Message, messages, tokens_estimated

TURN = TurnId("trn_1")


def said(text: str, *, role: str = "user", state: str = "complete") -> MessageAdded:
    return MessageAdded(
        turn_id=TURN,
        message_id=MessageId(f"msg_{text}"),
        role=role,
        parts=({"type": "text", "text": text},),
        state=state,
    )


def outcome(cls: type, name: str = "lookup", **rest: object) -> Any:
    return cls(
        turn_id=TURN,
        call_id=CallId("call_1"),
        message_id=MessageId("msg_card"),
        name=name,
        arguments={"order": 7},
        **rest,
    )


def summary(upto_seq: int, text: str = "They met.") -> SessionSummarized:
    return SessionSummarized(summary=text, upto_seq=Seq(upto_seq))


def message(*parts: dict[str, Any]) -> Message:
    (made,) = messages(
        log_of(
            MessageAdded(
                turn_id=TURN, message_id=MessageId("msg_1"), role="assistant", parts=tuple(parts)
            )
        )
    )
    return made


def texts(history: History) -> list[str]:
    return [each.text for each in history.messages]


STARTED = TurnStarted(turn_id=TURN, attempt=1, fence=Fence(1), node="n1")
DELTA = MessageDelta(turn_id=TURN, message_id=MessageId("msg_2"), offset=0, text="he")
ENDED = TurnCompleted(turn_id=TURN, output="hello")


# Messages ---------------------------------------------------------------------------------------


def test_a_message_is_what_its_entry_says() -> None:
    log = log_of(STARTED, said("hello", role="assistant", state="partial"))

    (made,) = messages(log)

    assert made == Message(
        message_id=MessageId("msg_hello"),
        turn_id=TURN,
        seq=Seq(2),
        role="assistant",
        parts=({"type": "text", "text": "hello"},),
        state="partial",
        at_ms=1002,
    )


def test_messages_come_in_log_order_and_other_entries_are_none() -> None:
    log = log_of(STARTED, said("one"), DELTA, said("two", role="assistant"), ENDED)

    assert [each.text for each in messages(log)] == ["one", "two"]


def test_every_role_is_kept() -> None:
    roles = ("user", "assistant", "tool", "system")
    log = log_of(*(said(role, role=role) for role in roles))

    assert tuple(each.role for each in messages(log)) == roles


@pytest.mark.parametrize(
    ("event", "status", "result", "reason", "text"),
    [
        (outcome(ToolCompleted, result="blue"), "completed", "blue", None, "blue"),
        (outcome(ToolCompleted, result={"n": [1]}), "completed", {"n": [1]}, None, '{"n":[1]}'),
        (outcome(ToolCompleted, result=None), "completed", None, None, "null"),
        (outcome(ToolFailed, error="no such order"), "failed", None, "no such order", None),
        (outcome(ToolInterrupted, reason="lost"), "interrupted", None, "lost", None),
        (outcome(ToolRefused, verdict="denied", reason="no"), "refused", None, "no", None),
    ],
)
def test_a_tools_outcome_is_a_message_of_one_part(
    event: Event, status: str, result: Any, reason: str | None, text: str | None
) -> None:
    (made,) = messages(log_of(event))

    assert made.role == "tool"
    assert made.state == "complete"
    assert made.message_id == "msg_card"
    assert made.parts == (
        {
            "type": "tool_result",
            "call_id": "call_1",
            "parent_call_id": None,
            "name": "lookup",
            "arguments": {"order": 7},
            "status": status,
            "result": result,
            "reason": reason,
        },
    )
    assert made.text == (reason if text is None else text)


def test_a_call_without_an_outcome_is_no_message_yet() -> None:
    assert list(messages(log_of(outcome(ToolStarted)))) == []


def test_a_summary_is_a_message_of_the_system() -> None:
    (made,) = messages(log_of(STARTED, summary(1)))

    assert (made.role, made.text, made.turn_id) == ("system", "They met.", None)
    assert made.message_id == "msg_summary_2"


def test_the_kinds_of_a_transcript_all_make_messages() -> None:
    log = log_of(
        said("hello"),
        outcome(ToolCompleted, result=1),
        outcome(ToolFailed, error="no"),
        outcome(ToolInterrupted, reason="lost"),
        outcome(ToolRefused, verdict="denied", reason="no"),
        summary(1),
    )

    assert {entry.kind for entry in log} == TEXT_KINDS
    assert len(list(messages(log))) == len(log)


# Text -------------------------------------------------------------------------------------------


def test_text_parts_are_joined() -> None:
    made = message({"type": "text", "text": "hel"}, {"type": "text", "text": "lo"})

    assert made.text == "hello"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "text": "hm"},
        {"type": "tool_call", "call_id": "call_1", "name": "lookup", "arguments": {}},
        {"type": "moon", "text": "of a newer version"},
    ],
)
def test_a_part_that_is_not_said_has_no_text(part: dict[str, Any]) -> None:
    assert message(part, {"type": "text", "text": "hello"}).text == "hello"


def test_a_message_without_parts_has_no_text() -> None:
    assert message().text == ""


# History ----------------------------------------------------------------------------------------


def test_a_history_has_the_messages_of_its_entries() -> None:
    history = History(log_of(STARTED, said("one"), said("two", role="assistant")))

    assert texts(history) == ["one", "two"]


def test_a_history_leaves_out_what_was_called_from_within_a_call() -> None:
    """Which its readers see, and of which the outputs can be asked for."""
    log = log_of(
        said("one"),
        outcome(ToolCompleted, name="inner", result="seen", parent_call_id=CallId("call_2")),
        outcome(ToolCompleted, name="outer", result="done"),
    )

    assert texts(History(log)) == ["one", "done"]
    assert [each.text for each in messages(log)] == ["one", "seen", "done"]
    assert [each.parts[0].get("parent_call_id") for each in messages(log)] == [None, "call_2", None]
    assert History(log).tool_outputs("inner") == ("seen",)


def test_a_history_is_decoded_once() -> None:
    history = History(iter(log_of(said("one"))))

    assert history.messages is history.messages


def test_a_history_that_is_not_looked_at_is_not_decoded() -> None:
    unreadable = Entry(Seq(1), "message.added", TURN, 0, "{")

    history = History((unreadable,)).extended(log_of(said("two"), after=1))

    assert texts(history.bounded(1)) == ["two"]


def test_tool_outputs_are_what_completed_calls_returned_oldest_first() -> None:
    history = History(
        log_of(
            outcome(ToolCompleted, name="list", result=["a"]),
            outcome(ToolCompleted, name="other", result=["x"]),
            outcome(ToolFailed, name="list", error="no"),
            outcome(ToolInterrupted, name="list", reason="lost"),
            outcome(ToolRefused, name="list", verdict="denied", reason="no"),
            said("list"),
            outcome(ToolCompleted, name="list", result=None),
        )
    )

    assert history.tool_outputs("list") == (["a"], None)
    assert history.tool_outputs("other") == (["x"],)
    assert history.tool_outputs("none") == ()


def test_a_history_is_extended_by_what_was_said_and_stays_as_it_was() -> None:
    before = History(log_of(said("one")))

    after = before.extended(log_of(STARTED, DELTA, said("two"), ENDED, after=1))

    assert texts(after) == ["one", "two"]
    assert texts(before) == ["one"]


def test_a_history_within_its_bound_stays_the_same() -> None:
    history = History(log_of(said("one"), said("two")))

    assert history.bounded(2) is history
    assert History(()).bounded(2).messages == ()


def test_a_bounded_history_has_the_newest_entries() -> None:
    history = History(log_of(*(said(str(number)) for number in range(5))))

    assert texts(history.bounded(2)) == ["3", "4"]


def test_a_history_begins_with_the_last_summary() -> None:
    history = History(
        log_of(said("1"), summary(1, "first"), said("3"), summary(3, "second"), said("5"))
    )

    assert texts(history.bounded(10)) == ["second", "5"]


def test_what_a_summary_does_not_cover_is_kept() -> None:
    """A summary is made in the middle of a turn: the question that is being answered, and the
    call that made the summary, are not in it."""
    history = History(log_of(said("1"), said("2"), said("3"), said("4"), summary(2), said("6")))

    assert texts(history.bounded(10)) == ["They met.", "3", "4", "6"]


def test_a_bound_does_not_cut_the_summary_off() -> None:
    history = History(log_of(said("1"), summary(1), *(said(str(n)) for n in range(3, 9))))

    assert texts(history.bounded(3)) == ["They met.", "6", "7", "8"]
    assert texts(history.bounded(1)) == ["They met.", "8"]


def test_bounding_again_changes_nothing() -> None:
    history = History(log_of(said("1"), said("2"), summary(1), said("4"))).bounded(10)

    assert history.bounded(10) is history
    assert texts(history.extended(log_of(said("5"), after=4)).bounded(10)) == [
        "They met.",
        "2",
        "4",
        "5",
    ]


def test_a_summary_that_a_fork_copied_covers_at_most_what_stands_before_it() -> None:
    """It names a seq of the session that it comes from."""
    history = History(log_of(said("1"), summary(99), said("3")))

    assert texts(history.bounded(10)) == ["They met.", "3"]


def test_tokens_are_estimated_at_four_characters_each_and_one_a_message() -> None:
    assert tokens_estimated(messages(log_of(said("x" * 40), said("abc")))) == 11 + 1
    assert tokens_estimated(()) == 0
