"""What the next attempt knows of a turn whose node was lost: a fold of its entries."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.machines import KEY, OWNER, log_of, says

from sessile.core.context import ToolResult
from sessile.core.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    Entry,
    Event,
    IntentDecided,
    MessageAdded,
    MessageDelta,
    MessageReset,
    SessionHandedOff,
    ToolStarted,
    TurnProgress,
    TurnStarted,
    TurnSteered,
)
from sessile.core.ids import CallId, Fence, MessageId, TurnId, UserId
from sessile.runtime.calls import HANDED_OFF, Answer, result_of
from sessile.runtime.recovery import Remains, turn_entries

TRN, SAID = TurnId("trn_1"), MessageId("msg_said")
ASKED = MessageAdded(
    turn_id=TRN, message_id=MessageId("msg_1"), role="user", parts=({"type": "text", "text": "Go"},)
)
DELTA = MessageDelta(turn_id=TRN, message_id=SAID, offset=0, text="We")
STEERED = TurnSteered(
    turn_id=TRN,
    steer_id=TurnId("trn_2"),
    message_id=MessageId("msg_2"),
    input=says("And?"),
    by=OWNER.user_id,
)
READ = replace(ASKED, message_id=STEERED.message_id, steer_id=STEERED.steer_id)
BY_AGENT = IntentDecided(turn_id=TRN, intent=None, score=0.0, threshold=0.5, path="agent")


def call(number: int, *, within: int | None = None, idempotent: bool = False) -> ToolStarted:
    return ToolStarted(
        turn_id=TRN,
        call_id=CallId(f"call_{number}"),
        message_id=MessageId(f"msg_card_{number}"),
        name="look",
        arguments={"n": number},
        parent_call_id=None if within is None else CallId(f"call_{within}"),
        idempotent=idempotent,
    )


def says_and_calls(*calls: ToolStarted) -> MessageAdded:
    """Whole, with a text ahead of its calls and one behind them."""
    asked = [
        {"type": "tool_call", "call_id": it.call_id, "name": it.name, "arguments": it.arguments}
        for it in calls
    ]
    texts = [{"type": "text", "text": text} for text in ("I ", "look")]
    parts = (texts[0], *asked, texts[1])
    return MessageAdded(turn_id=TRN, message_id=SAID, role="assistant", parts=parts)


def requested(of: ToolStarted) -> ApprovalRequested:
    return ApprovalRequested(
        turn_id=TRN,
        call_id=of.call_id,
        message_id=of.message_id,
        name=of.name,
        arguments=of.arguments,
    )


def remains(*events: Event) -> Remains:
    folded = Remains()
    folded.fold(log_of(*events), TRN)
    return folded


def test_a_call_that_may_have_taken_effect_is_closed_and_one_that_may_be_repeated_is_not() -> None:
    left = remains(ASKED, call(1), call(2, idempotent=True), DELTA)

    reset, outcome = left.closing(TRN)

    assert reset == MessageReset(turn_id=TRN, message_id=SAID)
    assert outcome == call(1).interrupted("The server was lost while this call ran.")
    assert list(left.calls.started) == ["call_2"]
    assert left.calls.outcomes[CallId("call_1")].status == "interrupted"
    assert left.closing(TRN) == ()


@pytest.mark.parametrize("whole", [says_and_calls(), MessageReset(turn_id=TRN, message_id=SAID)])
def test_a_message_that_is_whole_or_void_is_not_open(whole: Event) -> None:
    assert remains(ASKED, DELTA).open_message == SAID
    assert remains(ASKED, DELTA, whole).open_message is None


def test_the_text_so_far_is_that_of_the_last_whole_message() -> None:
    assert remains(ASKED, replace(says_and_calls(), parts=()), says_and_calls(call(1))).text == (
        "I look"
    )


def test_what_the_agent_began_is_counted_once_and_not_what_its_tools_did() -> None:
    one, two, inner = call(1), call(2), call(3, within=1)
    asked, refused = call(4), call(5)

    left = remains(
        ASKED,
        says_and_calls(one, two),
        one,
        inner,
        inner.completed(3),
        one.completed(1),
        requested(asked),
        asked,
        asked.completed(4),
        two,
        refused.refused(verdict="denied", reason="no"),
    )

    assert (left.begun, left.messages) == (4, 1)
    assert left.calls.drawn == ["call_1", "call_2"]
    assert [(it.call_id, it.parent, it.arguments) for it in left.calls.unnamed] == [
        ("call_3", "call_1", '{"n":3}'),
        ("call_4", None, '{"n":4}'),
        ("call_5", None, '{"n":5}'),
    ]
    assert left.calls.cards == {"call_4": asked.message_id}
    assert left.calls.open_ids == {"call_2"}


def test_a_call_that_was_never_made_is_as_it_was_announced() -> None:
    made, announced, asked = call(1), call(2), call(3)

    calls = remains(ASKED, says_and_calls(made, announced), made, requested(asked)).calls

    card = MessageId("msg_new")
    assert calls.not_made(TRN, lambda: card) == [replace(announced, message_id=card), asked]


def test_each_outcome_says_of_which_call_it_is() -> None:
    results = [
        result_of(call(1).completed(7)),
        result_of(call(2).failed("no")),
        result_of(call(3).interrupted("lost")),
        result_of(call(4).refused(verdict="denied", reason="never")),
    ]

    assert results == [
        ToolResult(call_id=CallId("call_1"), name="look", status="completed", value=7),
        ToolResult(call_id=CallId("call_2"), name="look", status="failed", reason="no"),
        ToolResult(call_id=CallId("call_3"), name="look", status="interrupted", reason="lost"),
        ToolResult(call_id=CallId("call_4"), name="look", status="refused", reason="never"),
    ]


def test_what_an_assistant_called_when_it_had_handed_off_is_not_the_next_ones() -> None:
    late = call(1).refused(verdict=HANDED_OFF, reason="late")

    left = remains(ASKED, SessionHandedOff(assistant="sales"), late)

    assert (left.begun, left.calls.unnamed, left.begun_at) == (0, [], 3)


def test_what_was_steered_in_is_unread_until_a_message_brings_it() -> None:
    assert remains(ASKED, STEERED).steers == {STEERED.steer_id: STEERED}

    left = remains(ASKED, STEERED, says_and_calls(call(1)), call(1), READ)

    assert left.steers == {}
    (reading,) = left.readings
    assert (reading.message.message_id, reading.calls, reading.messages) == ("msg_2", 1, 1)
    assert left.read_again(0, passed=9) == ()
    assert left.read_again(1, passed=1) == (reading.message,)
    assert left.begun_at == 1


def test_an_agent_that_is_spoken_to_again_begins_anew() -> None:
    left = remains(ASKED, call(1), STEERED, says_and_calls(), replace(READ, asked_again=True))

    assert (left.begun_at, left.decided) == (5, "agent")
    assert (left.begun, left.messages, left.readings, left.calls.unnamed) == (0, 0, [], [])
    assert remains(ASKED).begun_at == 1
    assert remains(BY_AGENT, ASKED).decided is None


def test_who_answers_was_decided_and_what_stages_called_is_not_the_agents() -> None:
    by_stage = replace(BY_AGENT, path="tools")

    assert remains(ASKED, call(1), by_stage).decided == "tools"
    assert remains(ASKED, call(1), by_stage).begun == 1
    left = remains(ASKED, call(1), BY_AGENT)
    assert (left.decided, left.begun, left.calls.unnamed) == ("agent", 0, [])


@pytest.mark.parametrize(
    ("by", "reason", "told"),
    [
        (OWNER.user_id, "", "The user did not approve it."),
        (OWNER.user_id, "too much", "The user did not approve it: too much"),
        (None, "", "It was not approved."),
        (None, "Nobody answered.", "It was not approved: Nobody answered."),
    ],
)
def test_the_model_is_told_who_did_not_approve_and_why(
    by: UserId | None, reason: str, told: str
) -> None:
    denied = ApprovalDenied(
        turn_id=TRN, call_id=CallId("call_1"), by=by, unanswered=1, reason=reason
    )
    granted = ApprovalGranted(turn_id=TRN, call_id=CallId("call_2"), by=OWNER.user_id, unanswered=0)

    answers = remains(ASKED, denied, granted).calls.answers

    assert answers == {"call_1": Answer(granted=False, reason=told), "call_2": Answer(granted=True)}


class Paged:
    """A store's log, in pages."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = entries

    async def read(self, _: Any, *, before: int | None, newest_first: bool, limit: int) -> Any:
        assert newest_first
        there = [it for it in self._entries if before is None or it.seq < before]
        return tuple(there[::-1][:limit])


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_a_turn_is_read_back_to_its_first_attempt(page: int) -> None:
    first = TurnStarted(turn_id=TRN, attempt=1, fence=Fence(1), node="n1")
    others = replace(first, turn_id=TurnId("trn_0"))
    progress = TurnProgress(turn_id=TRN)
    again = replace(first, attempt=2)
    entries = log_of(others, progress, first, ASKED, progress, again, progress)

    store: Any = Paged(entries)

    assert await turn_entries(store, KEY, TRN, page=page) == entries[2:]
    assert await turn_entries(store, KEY, TurnId("trn_9"), page=page) == entries
