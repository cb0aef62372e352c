"""What the checks may not report: histories, written by hand, in which nothing went wrong although
it looks so, each beside one in which it did."""

from typing import Any

import pytest

from sessile.verify.checker import judge
from sessile.verify.history import History, Kind, Op, Outcome, Run
from sessile.verify.runner import LIMITS

CAN = (
    "send", "open", "read", "two reads", "turn", "stream", "events.turn", "events.ended", "cancel",
    "slow turns", "ends of turns",
)  # fmt: skip
BUSY = (409, 429, 503)
ONE = "vq" + "1" * 32


class Told:
    """A history under way: each operation begins when the last has ended, and takes a second."""

    def __init__(self, *can: str) -> None:
        self.run = Run(target="told", can=can or CAN, limits=LIMITS, seed=0)
        self.ops: list[Op] = []
        self.now = 0.0

    def did(self, kind: Kind, *, took: float = 1.0, status: int | None = 200, **more: Any) -> None:
        refused: Outcome = "failed" if status is not None and status >= 500 else "refused"
        outcome: Outcome = "busy" if status in BUSY else refused
        if status is None or status < 300:
            outcome = "ok"
        given: dict[str, Any] = {"part": "cancel", "client": "c", "session": "ses_1"}
        given |= {"principal": "p", **more}
        self.ops.append(
            Op(
                number=len(self.ops) + 1,
                kind=kind,
                began=self.now,
                ended=self.now + took,
                outcome=outcome,
                status=status,
                **given,
            )
        )
        self.now += took

    def sent(self, turn: str = "trn_1", nonce: str = ONE, **more: Any) -> None:
        session = more.get("session", "ses_1")
        said = {"session": session, "sessions": [session], "turn": turn, "reply": ""}
        self.did("send", nonce=nonce, said=said, **more)

    def asked(self, state: str, turn: str = "trn_1") -> None:
        said = {"state": state, "reply": "", "progress": {}, "session": "ses_1"}
        self.did("turn", turn=turn, said=said)

    def heard(self, what: str, turn: str | None = "trn_1", **more: Any) -> None:
        said = {"stream": 1, "id": str(len(self.ops)), "seq": None, "name": what, "is": what}
        said |= {"session": None, "turn": turn, "state": None, **more}
        self.did("event", said=said, took=0.0, reply=f"{said}")

    def followed(self, *, opened: float, end: str = "left") -> None:
        """The stream ends."""
        said = {"stream": 1, "cursor": None, "end": end, "opened": opened, "silence": 0.0}
        self.did("stream", said=said, settled=True)

    def read(self, path: str, *texts: str) -> None:
        items = [{"id": None, "role": "user", "text": text, "turn": None} for text in texts]
        self.did("read", said={"path": path, "items": items}, settled=True)

    @property
    def found(self) -> set[str]:
        history = History(self.run, tuple(self.ops))
        return {each.check.name for each in judge(history) if each.verdict == "found"}


def test_an_end_is_missing_where_the_turn_says_that_it_has_ended() -> None:
    told = Told()
    told.sent()
    told.heard("started")
    told.asked("completed")
    told.followed(opened=0.0)

    assert told.found == {"missing-terminal"}


def test_no_end_is_missing_of_a_turn_that_has_not_ended() -> None:
    told = Told()
    told.sent()
    told.heard("started")
    told.asked("running")
    told.followed(opened=0.0)

    assert told.found == set()


def test_a_turn_that_stands_still_is_stuck_and_nothing_else() -> None:
    told = Told()
    told.sent()
    told.heard("started")
    told.did("cancel", turn="trn_1")
    told.asked("running")
    told.now += LIMITS["stuck_seconds"] + 1
    told.asked("running")
    told.followed(opened=0.0)

    assert told.found == {"stuck-run"}


def test_a_cancelled_turn_that_is_seen_under_way_and_completes_was_not_stopped() -> None:
    told = Told()
    told.sent()
    told.did("cancel", turn="trn_1")
    told.asked("running")
    told.asked("completed")

    assert told.found == {"unstoppable-turn"}


def test_a_turn_that_had_ended_when_it_was_cancelled_need_not_be_stopped() -> None:
    told = Told()
    told.sent()
    told.did("cancel", turn="trn_1")
    told.asked("completed")

    assert told.found == set()


def test_a_cancelled_turn_that_writes_after_it_was_seen_under_way_was_not_stopped() -> None:
    told = Told()
    told.sent()
    told.did("cancel", turn="trn_1")
    told.now += LIMITS["stop_seconds"] + 1
    told.asked("running")
    told.now += 1
    told.heard("text", text="more")
    told.asked("cancelled")

    assert told.found == {"unstoppable-turn"}


def test_text_that_was_long_on_its_way_is_no_turn_that_goes_on() -> None:
    told = Told()
    told.sent()
    told.did("cancel", turn="trn_1")
    told.asked("cancelled")
    told.now += LIMITS["stop_seconds"] + 1
    told.heard("text", text="late")

    assert told.found == set()


def test_a_message_that_was_accepted_and_is_not_there_is_lost() -> None:
    told = Told()
    told.sent()
    told.asked("completed")
    told.read("messages")

    assert told.found == {"lost-message"}


def test_a_message_that_is_kept_with_its_completed_turn_is_not_lost_with_a_failed_one() -> None:
    for state, names in (("failed", set[str]()), ("completed", {"lost-message"})):
        told = Told(*CAN, "late messages")
        told.sent()
        told.asked(state)
        told.read("messages")

        assert told.found == names


def test_a_message_that_was_not_accepted_is_not_lost() -> None:
    told = Told()
    told.sent(status=409)
    told.read("messages")

    assert told.found == set()


def test_a_message_that_was_cancelled_in_the_queue_is_not_lost() -> None:
    told = Told()
    told.sent()
    told.did("cancel", turn="trn_1")
    told.asked("cancelled")
    told.read("messages")

    assert told.found == set()


def test_a_message_of_a_turn_that_was_cancelled_once_it_ran_is() -> None:
    told = Told()
    told.sent()
    told.heard("started")
    told.did("cancel", turn="trn_1")
    told.asked("cancelled")
    told.read("messages")

    assert told.found == {"lost-message"}


def test_histories_differ_where_one_is_the_same_before_and_after_the_other() -> None:
    told = Told()
    told.read("messages", "one")
    told.read("export", "another")
    told.read("messages", "one")

    assert told.found == {"divergent-history"}


def test_histories_do_not_differ_where_something_was_written_between() -> None:
    told = Told()
    told.read("messages", "one")
    told.read("export", "one", "two")
    told.read("messages", "one", "two")

    assert told.found == set()


def test_a_second_message_that_is_told_to_come_back_later_is_not_busy() -> None:
    told = Told()
    told.sent(part="after the end")
    told.heard("ended")
    told.sent("trn_2", status=429, part="after the end")

    assert told.found == set()


def test_a_second_message_may_be_refused_while_no_end_was_told() -> None:
    told = Told()
    told.sent(part="after the end")
    told.sent("trn_2", status=409, part="after the end")

    assert told.found == set()


def test_a_second_message_may_not_be_refused_when_the_end_was_told() -> None:
    told = Told()
    told.sent(part="after the end")
    told.heard("ended")
    told.sent("trn_2", status=409, part="after the end")

    assert told.found == {"premature-busy"}


def of_busy(told: Told, session: str, *, status: int, state: str = "") -> None:
    more = {"part": "busy", "session": session}
    told.sent(f"trn_{session}", client="busy/first", **more)
    told.sent(f"trn_{session}_2", status=status, client="busy/second", **more)
    if state:
        told.did("turn", turn=f"trn_{session}", said={"state": state, "reply": ""}, **more)


def test_a_policy_is_constant_where_the_first_message_may_have_been_answered() -> None:
    told = Told()
    of_busy(told, "ses_1", status=409)
    of_busy(told, "ses_2", status=200, state="completed")
    of_busy(told, "ses_3", status=429, state="running")

    assert told.found == set()


def test_a_policy_is_none_where_the_first_message_was_under_way_both_times() -> None:
    told = Told()
    of_busy(told, "ses_1", status=409)
    of_busy(told, "ses_2", status=200, state="running")

    assert told.found == {"undeclared-busy-policy"}


def test_a_turn_that_failed_when_its_readers_left_may_have_failed_by_itself() -> None:
    for state, found in (("failed", set()), ("cancelled", {"disconnect-cancels-turn"})):
        told = Told()
        told.did("turn", turn="trn_1", said={"state": state, "reply": ""}, part="disconnect")

        assert told.found == found


def test_a_call_is_an_orphan_when_its_turn_has_ended_and_not_before() -> None:
    for ends in (False, True):
        told = Told(*CAN, "events.call")
        told.sent()
        told.heard("other", call="call_1", over=False)
        if ends:
            told.heard("ended")
        told.followed(opened=0.0)

        assert told.found == ({"orphan-tool-call"} if ends else set())


def test_nothing_is_missing_on_a_stream_whose_connection_was_lost() -> None:
    for end, found in (("broken", set()), ("left", {"unannounced-turn"})):
        told = Told()
        told.sent()
        told.heard("other", turn="trn_0")
        told.followed(opened=0.0, end=end)

        assert told.found == found


def test_a_reply_stands_before_what_it_answers_where_that_stands_behind_it() -> None:
    for roles, found in ((("assistant",), set()), (("assistant", "user"), {"reordered-turns"})):
        told = Told()
        told.sent()
        items = [{"id": None, "role": role, "text": ONE, "turn": "trn_1"} for role in roles]
        told.did("read", said={"path": "messages", "items": items}, settled=True)

        assert told.found == found


def test_text_that_was_shown_is_kept_with_other_white_space() -> None:
    for kept, found in (("one two", set()), ("one", {"lost-partial"})):
        told = Told(*CAN, "events.texts")
        told.sent()
        told.heard("text", text=" one\n two ")
        told.now += 1
        told.did("cancel", turn="trn_1")
        items = [{"id": None, "role": "assistant", "text": kept, "turn": None}]
        items += [{"id": None, "role": "user", "text": ONE, "turn": None}]
        told.did("read", said={"path": "messages", "items": items}, settled=True)

        assert told.found == found


def test_a_mark_behind_the_text_of_a_cancelled_turn_is_no_ghost() -> None:
    for kept, found in (("one [stopped]", set()), ("one two", {"ghost-turn"})):
        told = Told(*CAN, "events.texts")
        told.sent()
        told.heard("text", text="one ")
        told.did("cancel", turn="trn_1")
        items = [{"id": None, "role": "assistant", "text": kept, "turn": "trn_1"}]
        items += [{"id": None, "role": "user", "text": ONE, "turn": None}]
        told.did("read", said={"path": "messages", "items": items[::-1]}, settled=True)

        assert told.found == found


def test_what_somebody_else_deleted_comes_back_and_what_its_owner_did_does() -> None:
    """A deletion may be answered 2xx for what is not there, too."""
    for principal, found in (("q", set()), ("p", {"session-resurrection"})):
        told = Told(*CAN, "delete", "two principals")
        told.did("open", said={"session": "ses_1", "sessions": ["ses_1"]}, session=None)
        told.did("delete", principal=principal)
        told.sent()

        assert told.found == found


def test_a_deletion_by_somebody_else_is_one_where_the_owner_is_refused_after_it() -> None:
    for status, found in ((200, set()), (404, {"cross-tenant-write"})):
        told = Told(*CAN, "delete", "two principals")
        told.did("open", said={"session": "ses_1", "sessions": ["ses_1"]}, session=None)
        told.did("delete", principal="q")
        told.sent(status=status)

        assert told.found == found


def test_a_turn_is_read_by_somebody_else_where_one_that_is_not_there_is_refused() -> None:
    for status, found in ((200, set[str]()), (404, {"cross-tenant-read"})):
        told = Told(*CAN, "two principals")
        told.did("open", said={"session": "ses_1", "sessions": ["ses_1"]}, session=None)
        said = {"state": "completed", "reply": ""}
        other: dict[str, Any] = {"principal": "q", "part": "oracle", "client": "oracle/turn"}
        told.did("turn", turn="trn_1", said=said, **other)
        told.did("turn", turn="trn_0", said=said, **{**other, "session": "ses_0"}, status=status)

        assert told.found == found


def test_a_reply_that_streams_ends_a_turn_once_and_what_is_within_it_too() -> None:
    for turn, found in (("trn_2", set[str]()), ("trn_1", {"double-terminal"})):
        told = Told("send", "ends of turns")
        events = [{"is": "ended", "name": name, "state": "", "turn": each}
                  for name, each in (("failed", "trn_1"), ("finished", turn))]  # fmt: skip
        told.did("send", nonce=ONE, said={"turn": "trn_1", "events": events})

        assert told.found == found


def test_a_stream_that_only_greets_need_not_be_come_back_to() -> None:
    for what, found in (("other", set()), ("text", {"non-resumable-stream"})):
        told = Told(*CAN, "events.texts")
        told.heard(what, turn=None, id=None)

        assert told.found == found


def test_a_session_of_a_name_that_was_made_up_is_there_once_it_is_written_to() -> None:
    for written, found in ((False, set()), (True, {"unusable-session-id"})):
        told = Told()
        told.did("open", said={"session": "ses_1"}, session=None, status=None)
        if written:
            told.sent()
        told.did("read", status=404)

        assert told.found == found


def test_a_request_that_is_refused_of_every_session_is_not_as_it_should_be() -> None:
    for accepted, found in ((False, set()), (True, {"unusable-session-id"})):
        told = Told()
        if accepted:
            told.did("read", session="ses_0", said={"path": "messages", "items": []})
        told.did("open", said={"session": "ses_1", "sessions": ["ses_1"]}, session=None)
        told.did("read", status=422)

        assert told.found == found


def pairs(*statuses: tuple[int, int], alone: int = 200) -> Told:
    """Two messages at once to each session, and one that is alone in its own."""
    told = Told()
    for number, (first, second) in enumerate(statuses):
        more = {"part": "busy", "session": f"ses_{number}"}
        told.did("send", client="busy/first", status=first, took=2.0, **more)
        told.now -= 1.5
        told.did("send", client="busy/second", status=second, took=0.5, **more)
        told.now += 1.0
    told.did("send", part="basics", status=alone)
    return told


def test_messages_that_fail_beside_another_where_none_alone_does_have_no_policy() -> None:
    assert pairs((200, 500), (500, 200), (200, 200)).found == {"undeclared-busy-policy"}


def test_messages_that_fail_anyway_say_nothing_of_a_policy() -> None:
    assert pairs((200, 500), (200, 200)).found == set()  # but once
    assert pairs((200, 500), (200, 500), (500, 500)).found == set()
    assert pairs((200, 500), (500, 200), alone=500).found == set()


def test_a_session_is_refused_where_its_only_message_fails() -> None:
    for beside in (False, True):
        told = Told()
        told.did("open", session=None, said={"session": "ses_1", "sessions": ["ses_1"]})
        told.sent(status=500, part="writers", took=0.5)
        told.now -= 0.2 if beside else 0.0
        told.sent(part="writers", took=0.5)

        assert told.found == (set() if beside else {"unusable-session-id"})


def came_back(told: Told, heard: str, again: str, *, client: str, part: str, **more: Any) -> None:
    """Turns by letters: those that a reader heard of, and those that one did who came back from
    behind the first event."""
    reader = f"{part}/{client}"
    for number, turns in ((1, heard), (2, again)):
        stream = 10 * len(told.ops) + number
        for place, turn in enumerate(turns):
            what = {"_": "gap"}.get(turn, "ended")
            told.heard(what, turn=None if turn == "_" else turn, id=f"{place}", stream=stream)
        said = {"stream": stream, "cursor": None if number == 1 else "0", "end": "left"}
        said |= {"opened": 0.0, "silence": 0.0, **more}
        told.did("stream", said=said, part=part, client=reader, session=f"ses_{client}")


@pytest.mark.parametrize(
    ("again", "end", "found"),
    [
        ("bcd", "left", False),
        ("", "left", False),  # nothing at all: perhaps it is slow
        ("bc", "left", False),  # so far
        ("_d", "left", False),  # and told so
        ("d", "broken", False),
        ("d", "left", True),
        ("e", "left", True),  # of all that there was before
    ],
)
def test_a_gap_is_silent_where_what_came_later_was_told(again: str, end: str, found: bool) -> None:
    told = Told(*CAN, "resume")
    came_back(told, "abcd", again, client="back", part="old cursor", end=end)

    assert ("silent-gap" in told.found) == found


@pytest.mark.parametrize(
    ("control", "again", "found"),
    [("bc", "bc", False), ("bc", "b", True), ("b", "b", False), ("bc", "", True)],
)
def test_a_thread_cannot_be_told_again_where_one_without_a_failure_can(
    control: str, again: str, found: bool
) -> None:
    told = Told(*CAN, "resume", "probe")
    came_back(told, "abc", control, client="control back", part="probe")
    came_back(told, "abc", again, client="fail back", part="probe")

    assert ("unreplayable-thread" in told.found) == found
