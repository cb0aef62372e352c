"""The facts of a log: they cannot be changed, and their numbers never fall."""

from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.machines import EXAMPLES

from sessile.core import commands, context, events, policy, session, settle, transcript
from sessile.core.codec import to_json
from sessile.core.events import (
    TERMINAL_KINDS,
    Entry,
    Event,
    Progress,
    SessionOpened,
    Terminal,
    ToolEvent,
    ToolOutcome,
    ToolStarted,
    TurnProgress,
    Unknown,
)
from sessile.core.ids import CallId, MessageId, Seq, TurnId, UserId

NUMBERS = [each.name for each in fields(Progress)]
PROGRESS = st.builds(Progress, **{name: st.integers(0, 10**9) for name in NUMBERS})


def test_the_four_numbers_of_progress_are_0_until_known() -> None:
    assert NUMBERS == ["current_iteration", "total_iterations", "tokens_used", "total_tokens"]
    assert [getattr(Progress(), name) for name in NUMBERS] == [0, 0, 0, 0]


@EXAMPLES
@given(one=PROGRESS, other=PROGRESS)
def test_progress_is_raised_number_by_number(one: Progress, other: Progress) -> None:
    raised = one.raised_to(other)

    for name in NUMBERS:
        assert getattr(raised, name) == max(getattr(one, name), getattr(other, name))
    assert raised == other.raised_to(one)


@EXAMPLES
@given(progress=PROGRESS)
def test_g13_no_number_falls_when_a_turn_ends(progress: Progress) -> None:
    settled = progress.settled()

    for name in NUMBERS:
        assert getattr(settled, name) >= getattr(progress, name)
    assert settled.current_iteration == progress.current_iteration
    assert settled.tokens_used == progress.tokens_used


@EXAMPLES
@given(progress=PROGRESS)
def test_at_the_end_no_count_is_above_its_total(progress: Progress) -> None:
    settled = progress.settled()

    assert settled.total_iterations >= settled.current_iteration
    assert settled.total_tokens >= settled.tokens_used


def test_totals_that_nobody_announced_are_the_final_counts() -> None:
    settled = Progress(current_iteration=3, tokens_used=500).settled()

    assert settled.total_iterations == 3
    assert settled.total_tokens == 500


def test_what_is_raised_is_progress_and_no_event() -> None:
    event = TurnProgress(turn_id=TurnId("trn_1"), current_iteration=2)

    assert event.raised_to(Progress()) == Progress(current_iteration=2)
    assert type(event.settled()) is Progress


def test_the_outcome_of_a_call_says_of_it_what_its_start_does() -> None:
    started = ToolStarted(
        turn_id=TurnId("trn_1"),
        call_id=CallId("call_1"),
        message_id=MessageId("msg_1"),
        name="look",
        arguments={"order": 7},
        parent_call_id=CallId("call_2"),
        idempotent=True,
        grant="looking",
    )

    outcomes = (
        started.completed("found"),
        started.failed("no"),
        started.interrupted("lost"),
        started.refused(verdict="denied", reason="no"),
    )

    assert {type(outcome) for outcome in outcomes} == set(get_args(ToolOutcome))
    completed, failed, interrupted, refused = outcomes
    assert (completed.result, failed.error, interrupted.reason) == ("found", "no", "lost")
    assert (refused.verdict, refused.reason) == ("denied", "no")
    for each in fields(ToolEvent):
        said = {to_json(getattr(event, each.name)) for event in (started, *outcomes)}
        assert len(said) == 1, each.name


def test_an_event_cannot_be_changed() -> None:
    opened = SessionOpened(user_id=UserId("ann"), assistant="support")
    entry = Entry(Seq(1), "session.opened", None, 0, "{}")

    for value, name in ((opened, "assistant"), (entry, "seq"), (Progress(), "tokens_used")):
        with pytest.raises(AttributeError):
            setattr(value, name, 2)


@pytest.mark.parametrize("module", [commands, context, events, policy, session, settle, transcript])
def test_every_value_of_core_is_frozen_and_has_no_room_for_more(module: ModuleType) -> None:
    values = [v for v in vars(module).values() if isinstance(v, type) and is_dataclass(v)]

    assert values
    for each in values:
        assert each.__dataclass_params__.frozen, each
        assert "__slots__" in vars(each), each


def test_events_made_without_metadata_share_none() -> None:
    first = SessionOpened(user_id=UserId("ann"), assistant="support")
    second = SessionOpened(user_id=UserId("ann"), assistant="support")

    assert first.metadata == {}
    assert first.metadata is not second.metadata


def test_a_turn_ends_in_one_of_four_ways() -> None:
    assert {cls.kind for cls in get_args(Terminal)} == TERMINAL_KINDS
    assert len(TERMINAL_KINDS) == 4
    assert all(issubclass(cls, Progress) for cls in get_args(Terminal))


def test_an_unknown_kind_is_an_event_too() -> None:
    assert Unknown in get_args(Event)
    assert Unknown(kind="moon.risen", turn_id=None).body == {}
