"""What a redaction leaves of a log, where the voided text was repeated in other shapes."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.machines import ADMIN, KEY, OWNER, says

from sessile.core import codec
from sessile.core.events import (
    Entry,
    Event,
    IntentDecided,
    SessionOpened,
    ToolStarted,
    TurnCompleted,
    TurnQueued,
    TurnStarted,
)
from sessile.core.ids import CallId, Fence, MessageId, Seq, TurnId
from sessile.core.redaction import Redacted, Redaction, RedactMessage, Shown
from sessile.core.session import Session, evolve, evolve_session, unborn

TRN, ASKED, CARD = TurnId("trn_1"), MessageId("msg_asked"), MessageId("msg_card")
SECRET = "it is 4711"
CALL = ToolStarted(
    turn_id=TRN, call_id=CallId("call_1"), message_id=CARD, name="look", arguments={"for": SECRET}
)
DECIDED = IntentDecided(
    turn_id=TRN, intent="pin", score=0.9, threshold=0.5, path="words", reason="said 4711"
)
DONE = TurnCompleted(turn_id=TRN, output="thanks")


def redacted(
    message_id: MessageId,
    *during: Event,
    title: str | None = None,
    metadata: dict[str, Any] | None = None,
    said: str = SECRET,
) -> Redacted:
    """What becomes of a session of one turn that has ended."""
    opened = SessionOpened(
        user_id=OWNER.user_id, assistant="support", title=title, metadata=metadata or {}
    )
    queued = TurnQueued(
        turn_id=TRN, position=1, input=says(said), message_id=ASKED, by=OWNER.user_id
    )
    started = TurnStarted(turn_id=TRN, attempt=1, fence=Fence(1), node="n1")
    events = (opened, queued, started, *during, DONE)
    session: Session | None = None
    for event in events:
        session = evolve_session(session, event, key=KEY, at_ms=1)
    assert session is not None
    entries = [
        Entry(Seq(seq), event.kind, codec.turn_of(event), 1, codec.encode(event))
        for seq, event in enumerate(events, start=1)
    ]
    redaction = Redaction(RedactMessage(principal=ADMIN, message_id=message_id))
    shown = Shown(evolve(unborn(KEY, OWNER.user_id), events), session, None, entries)
    redaction.check(shown)
    assert not redaction.meet(shown)
    return redaction.rewrite(shown)


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
