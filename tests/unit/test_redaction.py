"""What a redaction leaves of a log, where the voided text was repeated in other shapes."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.machines import ADMIN, KEY, OWNER, log_of, says

from sessile.core import codec
from sessile.core.errors import RoleRequired, StillInUse
from sessile.core.events import (
    ButtonOffered,
    ButtonPressed,
    Event,
    IntentDecided,
    MessageAdded,
    MessageDelta,
    MessageReset,
    SessionOpened,
    SessionRedacted,
    SessionSummarized,
    SessionUpdated,
    ToolStarted,
    TurnAwaiting,
    TurnCancelRequested,
    TurnCompleted,
    TurnEdited,
    TurnProgress,
    TurnQueued,
    TurnStarted,
    TurnSteered,
)
from sessile.core.ids import CallId, Fence, MessageId, Seq, TurnId
from sessile.core.redaction import Redacted, Redaction, RedactMessage, Shown
from sessile.core.session import Session, Turn, evolve, evolve_session, unborn
from sessile.core.turns import evolve_turn

TRN, ASKED, CARD = TurnId("trn_1"), MessageId("msg_asked"), MessageId("msg_card")
SECRET = "it is 4711"
CALL = ToolStarted(
    turn_id=TRN, call_id=CallId("call_1"), message_id=CARD, name="look", arguments={"for": SECRET}
)
DECIDED = IntentDecided(
    turn_id=TRN, intent="pin", score=0.9, threshold=0.5, path="words", reason="said 4711"
)
DONE = TurnCompleted(turn_id=TRN, output="thanks")
OTHER = replace(
    CALL, call_id=CallId("call_2"), message_id=MessageId("msg_2"), arguments={"order": 7}
)


def shown(
    *during: Event,
    title: str | None = None,
    metadata: dict[str, Any] | None = None,
    said: str = SECRET,
    given: dict[str, Any] | None = None,
    end: Event | None = DONE,
) -> Shown:
    """A session of one turn, which has ended unless `end` is none."""
    opened = SessionOpened(
        user_id=OWNER.user_id, assistant="support", title=title, metadata=metadata or {}
    )
    queued = TurnQueued(
        turn_id=TRN, position=1, input=given or says(said), message_id=ASKED, by=OWNER.user_id
    )
    started = TurnStarted(turn_id=TRN, attempt=1, fence=Fence(1), node="n1")
    events = (opened, queued, started, *during, *(() if end is None else (end,)))
    session: Session | None = None
    turn: Turn | None = None
    for seq, event in enumerate(events, start=1):
        session = evolve_session(session, event, key=KEY, at_ms=1)
        if codec.turn_of(event) == TRN:
            turn = evolve_turn(turn, event, key=KEY, seq=Seq(seq), at_ms=1)
    assert session is not None
    head = evolve(unborn(KEY, OWNER.user_id), events)
    return Shown(head, session, turn if end is None else None, log_of(*events, at_ms=1))


def redacted(message_id: MessageId, *during: Event, **more: Any) -> Redacted:
    """What becomes of such a session that has ended."""
    redaction = Redaction(RedactMessage(principal=ADMIN, message_id=message_id, reason="law"))
    session = shown(*during, **more)
    redaction.check(session)
    assert not redaction.meet(session)
    return redaction.rewrite(session)


def lost(message_id: MessageId, *during: Event, **more: Any) -> list[tuple[str, dict[str, Any]]]:
    """Of each entry that becomes another, what is not as it was. All of them say so."""
    before = {it.seq: json.loads(it.body) for it in shown(*during, **more).entries}
    changed: list[tuple[str, dict[str, Any]]] = []
    for entry in redacted(message_id, *during, **more).entries:
        body = json.loads(entry.body)
        assert body.pop("redacted") is True
        was = before[entry.seq]
        changed.append((entry.kind, {name: it for name, it in body.items() if was[name] != it}))
    return changed


def bodies(done: Redacted) -> dict[str, dict[str, Any]]:
    return {it.kind: json.loads(it.body) for it in done.entries}


def test_why_an_intent_was_seen_in_it_is_void_and_which_stays() -> None:
    decided = bodies(redacted(ASKED, DECIDED))["intent.decided"]
    assert (decided["reason"], decided["intent"], decided["redacted"]) == ("", "pin", True)


def test_the_error_of_a_call_that_failed_is_void_with_its_card() -> None:
    failed = bodies(redacted(CARD, CALL, CALL.failed("no 4711 here")))["tool.failed"]
    assert (failed["error"], failed["arguments"], failed["redacted"]) == ("", {}, True)
    assert "result" not in failed


def test_lists_in_metadata_lose_what_repeats_it_and_keep_their_length() -> None:
    metadata = {"notes": ["before", f"he said {SECRET}", 7, {"at": [SECRET]}], "n": 1}
    session = redacted(ASKED, metadata=metadata).session
    assert session is not None
    assert session.metadata == {"notes": ["before", "", 7, {"at": [""]}], "n": 1}


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("it is 4711", False),
        ("it  is\n4711", False),
        ("it is 47…", False),
        ("About it is 4711", False),
        ("it", True),
        ("Pins", True),
        (None, True),
    ],
)
def test_a_title_that_was_made_of_it_goes(title: str | None, kept: bool) -> None:
    session = redacted(ASKED, title=title).session
    assert (session is None) == kept
    assert session is None or session.title is None


def test_a_title_that_is_a_short_message_word_for_word_goes() -> None:
    session = redacted(ASKED, title="yes", said="yes").session
    assert session is not None
    assert session.title is None
    assert redacted(ASKED, title="yes, and more", said="yes").session is None


def test_a_title_may_be_the_beginning_of_a_message_on_more_lines() -> None:
    session = redacted(ASKED, title="it is 47…", said="it is\n\n4711").session
    assert session is not None
    assert session.title is None


def test_a_call_of_a_turn_that_has_nothing_of_the_message_stays_as_it_is() -> None:
    other = replace(CALL, turn_id=TurnId("trn_2"), message_id=MessageId("msg_other"))
    assert "tool.started" not in bodies(redacted(ASKED, other))
    assert bodies(redacted(ASKED, CALL))["tool.started"]["arguments"] == {"for": ""}


@pytest.mark.parametrize(("title", "kept"), [("4711 …", False), ("it i…", False), ("it …", True)])
def test_of_a_title_that_was_cut_short_four_letters_tell(title: str, kept: bool) -> None:
    told = [("session.opened", {"title": None})]
    assert lost(ASKED, title=title)[:1] == ([("turn.queued", VOID_INPUT)] if kept else told)


def test_four_letters_are_a_text_that_others_repeat() -> None:
    session = redacted(ASKED, said="4711", metadata={"a": "at 4711", "b": "471"}).session
    assert session is not None
    assert session.metadata == {"a": "", "b": "471"}


def test_a_text_is_repeated_also_on_one_line() -> None:
    session = redacted(ASKED, said="it is\n\n4711", metadata={"a": "so it is 4711"}).session
    assert session is not None
    assert session.metadata == {"a": ""}


# What is lost of each entry, and no more ----------------------------------------------------------

SAID = MessageId("msg_said")
VOID_INPUT = {"input": {"type": "message", "text": "", "redacted": True}}


def adds(message_id: MessageId, *parts: dict[str, Any], role: Any = "assistant") -> MessageAdded:
    return MessageAdded(turn_id=TRN, message_id=message_id, role=role, parts=parts)


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def part_of(call: ToolStarted) -> dict[str, Any]:
    """Of the message that asked for the call; a provider keeps something with it."""
    named = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    return {"type": "tool_call", **named, "provider": {"raw": "…"}}


def test_of_an_assistants_message_there_stays_which_calls_and_buttons_it_had() -> None:
    button = {"button": "go", "label": "Go", "payload": {"n": 1}}
    thought = {"type": "thinking", "text": "hm"}
    parts = (thought, text("Well"), part_of(CALL), {"type": "button", **button})
    call = {"type": "tool_call", "call_id": "call_1", "name": "look", "arguments": {}}
    empty = {"label": "", "payload": {}}

    assert lost(
        SAID,
        MessageDelta(turn_id=TRN, message_id=SAID, offset=3, text="Well"),
        ButtonOffered(turn_id=TRN, message_id=SAID, **button),
        adds(SAID, *parts),
        CALL,
        CALL.completed("found"),
        adds(MessageId("msg_other"), text("And so on"), part_of(OTHER)),
        OTHER,
        OTHER.failed("no"),
    ) == [
        ("message.delta", {"text": "", "offset": 0}),
        ("button.offered", empty),
        (
            "message.added",
            {
                "parts": [
                    {**text(""), "redacted": True},
                    call,
                    {"type": "button", "button": "go", **empty},
                ]
            },
        ),
        ("tool.started", {"arguments": {}}),
        ("tool.completed", {"arguments": {}}),
        ("turn.completed", {"output": ""}),
    ]


@pytest.mark.parametrize(
    "piece",
    [
        MessageDelta(turn_id=TRN, message_id=SAID, offset=0, text="Well"),
        MessageReset(turn_id=TRN, message_id=SAID),
        ButtonOffered(turn_id=TRN, message_id=SAID, button="go", label="Go", payload={}),
    ],
)
def test_the_output_is_void_with_a_message_that_was_never_whole(piece: Event) -> None:
    assert lost(SAID, piece)[-1] == ("turn.completed", {"output": ""})


def test_of_a_card_its_outcome_is_void_and_what_repeats_that() -> None:
    found = "a pin of 4 digits"

    assert lost(
        CARD,
        CALL,
        CALL.completed(found),
        OTHER,
        OTHER.refused(verdict="denied", reason="no"),
        TurnProgress(turn_id=TRN, note=f"{found} it is", tokens_used=1),
        TurnProgress(turn_id=TRN, note="and on", tokens_used=1),
    ) == [
        ("tool.started", {"arguments": {}}),
        ("tool.completed", {"arguments": {}, "result": None}),
        ("turn.progress", {"note": ""}),
    ]


def test_of_an_input_that_was_edited_what_stood_there_before_is_void_too() -> None:
    edited, at_last = "rather it is 0815", "let it be"

    assert lost(
        ASKED,
        TurnEdited(turn_id=TRN, input=says(edited), by=OWNER.user_id),
        TurnEdited(turn_id=TRN, input=says(at_last), by=OWNER.user_id),
        adds(ASKED, text(at_last), role="user"),
        adds(SAID, part_of(replace(CALL, arguments={"for": [edited], "n": 1})), part_of(OTHER)),
        CALL,
        CALL.failed(f"no {edited}"),
        OTHER,
        OTHER.refused(verdict="denied", reason=f"{SECRET}?"),
    ) == [
        ("turn.queued", VOID_INPUT),
        ("turn.edited", VOID_INPUT),
        ("turn.edited", VOID_INPUT),
        ("message.added", {"parts": [{**text(""), "redacted": True}]}),
        (
            "message.added",
            {
                "parts": [
                    {
                        "type": "tool_call",
                        "call_id": "call_1",
                        "name": "look",
                        "arguments": {"for": [""], "n": 1},
                    },
                    part_of(OTHER),
                ]
            },
        ),
        ("tool.started", {"arguments": {"for": ""}}),
        ("tool.failed", {"arguments": {"for": ""}, "error": ""}),
        ("tool.refused", {"reason": ""}),
    ]


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        (CALL.completed({"echo": SECRET, "n": 1}), {"result": {"echo": "", "n": 1}}),
        (CALL.failed(f"no {SECRET}"), {"error": ""}),
        (CALL.refused(verdict="denied", reason=f"no {SECRET}"), {"reason": ""}),
        (CALL.interrupted(f"no {SECRET}"), {"reason": ""}),
    ],
)
def test_of_an_outcome_what_repeats_it_is_void_and_with_its_card_all(
    outcome: Event, kept: dict[str, Any]
) -> None:
    whole = {name: None if name == "result" else "" for name in kept}

    assert lost(ASKED, outcome)[-1] == (outcome.kind, {"arguments": {"for": ""}, **kept})
    assert lost(CARD, outcome)[-1] == (outcome.kind, {"arguments": {}, **whole})


def test_what_the_input_of_another_turn_says_is_no_repetition() -> None:
    edited = TurnEdited(turn_id=TurnId("trn_2"), input=says("other words"), by=OWNER.user_id)

    assert lost(ASKED, edited, TurnProgress(turn_id=TRN, note="other words")) == [
        ("turn.queued", VOID_INPUT)
    ]


def test_a_message_that_was_steered_in_is_void_where_it_was_accepted() -> None:
    steered = TurnSteered(
        turn_id=TRN,
        steer_id=TurnId("trn_2"),
        message_id=SAID,
        input=says("And it?"),
        by=OWNER.user_id,
    )

    assert lost(SAID, steered) == [("turn.steered", VOID_INPUT)]


def test_a_title_and_metadata_that_were_set_later_lose_it_too() -> None:
    told = SessionUpdated(title=f"On {SECRET}", metadata={"a": SECRET}, by=OWNER.user_id)

    assert lost(ASKED, told)[1:] == [("session.updated", {"title": None, "metadata": {"a": ""}})]


def test_of_a_press_there_stays_which_button_it_was() -> None:
    pressed = {"type": "button", "button": "go", "message_id": "msg_0"}

    assert lost(
        ASKED,
        ButtonPressed(turn_id=TRN, button="go", payload={"n": 1}),
        given={**pressed, "payload": {"n": 1}, "text": "Go"},
    ) == [
        ("turn.queued", {"input": {**pressed, "payload": {}, "text": "", "redacted": True}}),
        ("button.pressed", {"payload": {}}),
    ]


@pytest.mark.parametrize("message_id", [SAID, ASKED])
def test_of_a_wait_the_calls_and_the_reply_so_far_are_void_with_who_said_them(
    message_id: MessageId,
) -> None:
    call = {"call_id": "call_1", "message_id": CARD, "name": "look", "arguments": {"n": SECRET}}
    awaiting = TurnAwaiting(
        turn_id=TRN, call_ids=(), expires_at_ms=9, calls=(call,), output="Well, "
    )
    calls = [{**call, "arguments": {} if message_id == SAID else {"n": ""}}]

    void = dict(lost(message_id, adds(SAID, text("Well"), part_of(CALL)), awaiting))

    output = {"output": ""} if message_id == SAID else {}
    assert void["turn.awaiting"] == {"calls": calls, **output}


def test_summaries_before_it_and_titles_that_do_not_repeat_it_stay() -> None:
    early = SessionSummarized(summary="all was early", upto_seq=Seq(2))
    late = replace(early, summary="and late")
    told = SessionUpdated(title="Pins", metadata={}, by=OWNER.user_id)

    assert lost(SAID, early, adds(SAID, text("Well")), told, late, title="Pins") == [
        ("message.added", {"parts": [{**text(""), "redacted": True}]}),
        ("session.summarized", {"summary": ""}),
        ("turn.completed", {"output": ""}),
    ]


def test_a_text_in_two_parts_is_repeated_as_one() -> None:
    parts, metadata = (text("47"), text("11")), {"a": "it is 4711"}

    session = redacted(SAID, adds(SAID, *parts), said="?", metadata=metadata).session

    assert session is not None
    assert session.metadata == {"a": ""}


def test_the_turn_is_what_its_entries_say_then() -> None:
    done = redacted(ASKED)

    (turn,) = done.turns
    assert (turn.input, turn.seq, turn.created_at_ms) == (VOID_INPUT["input"], 2, 1)
    assert (turn.status, turn.output) == ("completed", "thanks")
    assert done.inputs == {TRN}


def test_where_nothing_is_void_nothing_is_written() -> None:
    """However its JSON is laid out: an older version may have written it."""
    session = shown()
    laid_out = [it._replace(body=json.dumps(json.loads(it.body))) for it in session.entries]

    redaction = Redaction(RedactMessage(principal=ADMIN, message_id=MessageId("msg_none")))

    assert redaction.rewrite(session._replace(entries=laid_out)) == Redacted()


@pytest.mark.parametrize("edited", [False, True])
def test_a_press_of_its_button_is_of_the_message_once_it_has_ended(edited: bool) -> None:
    press = {"type": "button", "button": "go", "message_id": SAID, "payload": {}, "text": "Go"}
    during = (TurnEdited(turn_id=TRN, input=press, by=OWNER.user_id),) if edited else ()
    redaction = Redaction(RedactMessage(principal=ADMIN, message_id=SAID))

    assert not redaction.meet(shown(*during, given=None if edited else press, end=None))
    assert redaction.meet(shown(*during, given=None if edited else press))
    assert redaction.ids == {SAID: None, ASKED: None}
    assert not redaction.meet(shown(*during, given=None if edited else press))


# Who may, and when --------------------------------------------------------------------------------


def test_what_is_good_for_reading_redacts_nothing() -> None:
    reader = replace(ADMIN, scopes=frozenset({"read"}))

    with pytest.raises(RoleRequired):
        Redaction(RedactMessage(principal=reader, message_id=ASKED)).check(shown())


AWAITS = TurnAwaiting(turn_id=TRN, call_ids=(), expires_at_ms=9)


@pytest.mark.parametrize("during", [(), (AWAITS,)])
def test_a_message_whose_turn_has_not_ended_is_in_use(during: tuple[Event, ...]) -> None:
    with pytest.raises(StillInUse) as refused:
        Redaction(RedactMessage(principal=ADMIN, message_id=ASKED)).check(shown(*during, end=None))

    assert refused.value.details == {"turn_id": TRN}


def test_a_message_that_an_agent_reads_now_is_in_use_and_not_while_its_turn_waits() -> None:
    copied = replace(adds(SAID, text(SECRET)), turn_id=None)
    redaction = Redaction(RedactMessage(principal=ADMIN, message_id=SAID))

    with pytest.raises(StillInUse) as refused:
        redaction.check(shown(copied, end=None))
    redaction.check(shown(copied, AWAITS, end=None))

    assert refused.value.details == {"turn_id": TRN}


@pytest.mark.parametrize("stopped", [False, True])
def test_a_fork_whose_turn_has_read_it_is_stopped_once(stopped: bool) -> None:
    copied = replace(adds(SAID, text(SECRET)), turn_id=None)
    stop = TurnCancelRequested(turn_id=TRN, by=OWNER.user_id)
    fork = shown(copied, *((stop,) if stopped else ()), said="?", end=None)

    done = Redaction(RedactMessage(principal=ADMIN, message_id=SAID, reason="law")).rewrite(fork)

    *stops, last = done.events
    assert last == SessionRedacted(message_ids=(SAID,), by=ADMIN.user_id, reason="law")
    by = replace(stop, by=ADMIN.user_id, reason="redacted")
    assert stops == ([] if stopped else [by])
