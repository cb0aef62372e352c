"""What the checks may not report: histories, written by hand, in which nothing went wrong although
it looks so, each beside one in which it did."""

from typing import Any

from sessile.verify.checker import judge
from sessile.verify.history import History, Kind, Op, Outcome, Run
from sessile.verify.runner import LIMITS

CAN = (
    "send", "open", "read", "two reads", "turn", "stream", "events.turn", "events.ended", "cancel",
    "slow turns",
)  # fmt: skip
BUSY = (409, 429, 503)
ONE = "vq" + "1" * 32


class Told:
    """A history under way: each operation begins when the last has ended, and takes a second."""

    def __init__(self, *can: str) -> None:
        self.run = Run(target="told", can=can or CAN, limits=LIMITS, seed=0)
        self.ops: list[Op] = []
        self.now = 0.0

    def did(self, kind: Kind, *, took: float = 1.0, status: int = 200, **more: Any) -> None:
        outcome: Outcome = "ok" if status < 300 else "busy" if status in BUSY else "failed"
        given: dict[str, Any] = {"part": "cancel", "client": "c", "session": "ses_1", **more}
        self.ops.append(
            Op(
                number=len(self.ops) + 1,
                kind=kind,
                principal="p",
                began=self.now,
                ended=self.now + took,
                outcome=outcome,
                status=status,
                **given,
            )
        )
        self.now += took

    def sent(self, turn: str = "trn_1", nonce: str = ONE, **more: Any) -> None:
        said = {"session": "ses_1", "sessions": ["ses_1"], "turn": turn, "reply": ""}
        self.did("send", nonce=nonce, said=said, **more)

    def asked(self, state: str, turn: str = "trn_1") -> None:
        said = {"state": state, "reply": "", "progress": {}, "session": "ses_1"}
        self.did("turn", turn=turn, said=said)

    def heard(self, what: str, turn: str = "trn_1", **more: Any) -> None:
        said = {"stream": 1, "id": str(len(self.ops)), "seq": None, "name": what, "is": what}
        said |= {"session": None, "turn": turn, "state": None, **more}
        self.did("event", said=said, took=0.0, reply=f"{said}")

    def followed(self, *, opened: float) -> None:
        """The stream ends."""
        said = {"stream": 1, "cursor": None, "end": "left", "opened": opened, "silence": 0.0}
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
