"""The chat's view is a fold of the log: what it shows is what the entries say."""

from typing import Any

from sessile.cli.client import Entry
from sessile.cli.view import Block, Card, Note, Said, View, blocks_of

NUMBERS = {"current_iteration": 0, "total_iterations": 0, "tokens_used": 0, "total_tokens": 0}


class Log:
    """Entries with their numbers, told to a view as they come."""

    def __init__(self, view: View | None = None) -> None:
        self.view = View() if view is None else view

    def add(self, kind: str, turn_id: str | None = "trn_1", **body: Any) -> None:
        entry = Entry(self.view.cursor + 1, kind, turn_id, "2026-11-21T08:00:00.000Z", body)
        self.view.apply(entry)

    def queued(self, turn_id: str = "trn_1", text: str = "Hello") -> None:
        self.add("turn.queued", turn_id, position=1, input={"type": "message", "text": text})

    def started(self, turn_id: str = "trn_1", attempt: int = 1) -> None:
        self.add("turn.started", turn_id, attempt=attempt, fence=1, node="n")

    def delta(self, text: str, offset: int, channel: str = "text") -> None:
        self.add("message.delta", message_id="msg_1", offset=offset, text=text, channel=channel)

    def added(self, text: str, role: str = "assistant", state: str = "complete") -> None:
        parts = [{"type": "text", "text": text}]
        self.add("message.added", message_id="msg_1", role=role, parts=parts, state=state)

    def tool(self, what: str, call_id: str = "call_1", **body: Any) -> None:
        self.add(f"tool.{what}", call_id=call_id, name="look", arguments={"n": 7}, **body)

    def approval(self, what: str, call_id: str = "call_1", **body: Any) -> None:
        asked = {"message_id": "msg_9", "name": "look", "arguments": {"n": 7}}
        self.add(f"approval.{what}", call_id=call_id, **(asked if what == "requested" else body))

    def completed(self, turn_id: str = "trn_1") -> None:
        self.add("turn.completed", turn_id, output="", **NUMBERS)

    @property
    def said(self) -> Said:
        (said,) = (block for block in self.view.blocks if isinstance(block, Said))
        return said

    @property
    def card(self) -> Card:
        (card,) = (block for block in self.view.blocks if isinstance(block, Card))
        return card

    @property
    def notes(self) -> list[str]:
        return [block.text for block in self.view.blocks if isinstance(block, Note)]


def test_a_message_grows_by_its_deltas_and_is_replaced_by_its_whole() -> None:
    log = Log()
    log.delta("Hel", 0)
    log.delta("lo", 3)
    assert (log.said.text, log.said.done) == ("Hello", False)

    log.added("Hello, Ann.")

    assert (log.said.text, log.said.done) == ("Hello, Ann.", True)


def test_thinking_is_kept_apart_from_what_is_said() -> None:
    log = Log()

    log.delta("Hm", 0, channel="thinking")
    log.delta("Yes", 0)

    assert (log.said.thinking, log.said.text) == ("Hm", "Yes")


def test_an_entry_that_is_known_already_changes_nothing() -> None:
    view = View()
    entry = Entry(1, "session.closed", None, "", {"by": "ann", "reason": ""})

    view.apply(entry)
    view.apply(entry)

    assert view.blocks == [Note("The session was closed.")]
    assert view.cursor == 1


def test_a_message_whose_beginning_was_missed_says_so() -> None:
    log = Log()

    log.delta("lo", 3)

    assert log.said.text == "…lo"


def test_what_a_lost_attempt_had_said_is_taken_back() -> None:
    log = Log()
    log.delta("Hel", 0)
    log.said.shown = 3

    log.add("message.reset", message_id="msg_1")

    assert log.notes == ["The reply above was cut off; it begins again."]
    assert not any(isinstance(block, Said) for block in log.view.blocks)


def test_a_message_that_only_calls_tools_is_not_shown() -> None:
    log = Log()

    log.added("")

    assert log.view.blocks == []


def test_a_card_goes_from_started_to_its_outcome_in_its_place() -> None:
    for what, body, outcome in (
        ("completed", {"result": {"status": "shipped"}}, '{"status": "shipped"}'),
        ("failed", {"error": "no such order"}, "no such order"),
        ("interrupted", {"reason": "lost"}, "lost"),
        ("refused", {"reason": "not allowed", "verdict": "denied"}, "not allowed"),
    ):
        log = Log()
        log.tool("started")
        log.tool("started", "call_2")
        first = log.view.blocks[0]
        assert isinstance(first, Card)
        assert (first.status, first.arguments) == ("started", "n=7")

        log.tool(what, **body)

        assert log.view.blocks[0] is first
        assert (first.status, first.outcome) == (what, outcome)
        assert len(log.view.blocks) == 2


def test_a_sub_agents_call_is_nested() -> None:
    log = Log()

    log.tool("started", parent_call_id="call_0")

    assert log.card.nested


def test_settled_blocks_are_handed_over_in_order_and_once() -> None:
    log = Log()
    log.added("Look it up", role="user")
    log.tool("started", "call_1")
    log.tool("started", "call_2")
    assert [type(block) for block in log.view.settled()] == [Said]

    log.tool("completed", "call_2", result=2)
    assert log.view.settled() == []

    log.tool("completed", "call_1", result=1)
    settled = log.view.settled()

    assert [block.call_id for block in settled if isinstance(block, Card)] == ["call_1", "call_2"]
    assert log.view.blocks == []


def test_the_queue_is_what_waits() -> None:
    log = Log()
    log.queued("trn_1", "one")
    log.queued("trn_2", "two")
    log.add("turn.edited", "trn_2", input={"type": "message", "text": "2"})
    assert log.view.queue == {"trn_1": "one", "trn_2": "2"}

    log.started("trn_1")
    log.add("turn.cancelled", "trn_2", reason="asked", by="ann", output="", **NUMBERS)

    assert log.view.queue == {}
    assert log.view.running is not None
    assert log.view.running.turn_id == "trn_1"


def test_progress_never_falls() -> None:
    log = Log()
    log.started()
    log.add("turn.progress", **NUMBERS | {"current_iteration": 3, "tokens_used": 9}, note="a\nb")
    log.add("turn.progress", **NUMBERS | {"current_iteration": 2, "total_iterations": 5}, note="")

    running = log.view.running

    assert running is not None
    assert (running.current_iteration, running.total_iterations, running.tokens_used) == (3, 5, 9)


def test_an_end_settles_everything_of_its_turn() -> None:
    log = Log()
    log.started()
    log.delta("Hel", 0)
    log.tool("started")

    log.add("turn.cancelled", reason="asked", by="ann", output="Hel", **NUMBERS)

    assert log.view.running is None
    assert log.view.ended == {"trn_1": "cancelled"}
    assert log.said.partial
    assert log.card.status == "interrupted"
    assert len(log.view.settled()) == 3


def test_each_end_but_a_good_one_is_told() -> None:
    told: list[Block] = []
    for kind, body in (
        ("completed", {}),
        ("failed", {"error": {"code": "silent", "message": "no\nsign"}}),
        ("cancelled", {"reason": "displaced"}),
        ("interrupted", {"reason": "lost"}),
    ):
        log = Log()
        log.started()
        log.add(f"turn.{kind}", output="", **NUMBERS, **body)
        told.extend(log.view.settled())

    assert told == [
        Note("failed: no\\nsign (silent)", bad=True),
        Note("cancelled: displaced"),
        Note("interrupted: lost", bad=True),
    ]


def test_a_cancel_that_was_asked_for_is_seen() -> None:
    log = Log()
    log.started()

    log.add("turn.cancel_requested", by="ann", reason="asked")

    assert log.view.running is not None
    assert log.view.running.cancelling


def test_a_second_attempt_says_that_the_server_was_lost() -> None:
    log = Log()
    log.started(attempt=2)

    assert log.notes == ["The server was lost; the turn goes on."]


def test_the_buttons_of_a_message_stand_below_it() -> None:
    log = Log()
    parts = [
        {"type": "text", "text": "Which?"},
        {"type": "button", "button": "pick", "label": "Maple\nTower", "payload": {}},
        {"type": "button", "button": "pick", "label": "Bridge", "payload": {}},
    ]

    log.add("message.added", message_id="msg_1", role="assistant", parts=parts, state="complete")

    assert log.said.text == "Which?"
    (buttons,) = log.notes
    assert "Tower] [Bridge]" in buttons
    assert "\n" not in buttons
    wire = {"message_id": "msg_1", "role": "assistant", "text": "Which?", "state": "complete"}
    said, note = blocks_of({**wire, "parts": parts})
    assert isinstance(said, Said)
    assert isinstance(note, Note)
    assert note.text == buttons


def test_a_call_waits_until_it_is_answered_and_is_one_card() -> None:
    log = Log()
    log.started()
    log.approval("requested")
    log.add("turn.awaiting", call_ids=["call_1"], expires_at_ms=0, calls=[], output="")
    assert (log.card.status, log.card.done) == ("waiting", False)
    assert log.view.waiting is log.card

    log.approval("granted", by="ann", unanswered=0)
    assert log.view.waiting is None
    log.started(attempt=2)
    log.tool("started")
    log.tool("completed", result="shipped")

    assert (log.card.status, log.card.outcome) == ("completed", "shipped")
    assert log.notes == []


def test_a_call_that_is_denied_says_why() -> None:
    log = Log()
    log.started()
    log.approval("requested")

    log.approval("denied", by="ann", unanswered=0, reason="no")
    log.tool("refused", verdict="denied", reason="The user did not approve it: no")

    assert (log.card.status, log.card.outcome) == ("refused", "The user did not approve it: no")


def test_the_first_of_several_calls_that_wait_is_asked_for_first() -> None:
    log = Log()
    log.started()
    log.approval("requested", "call_1")
    log.approval("requested", "call_2")
    asked = [log.view.waiting]
    log.approval("granted", "call_1", by="ann", unanswered=1)
    asked.append(log.view.waiting)

    assert [card and card.call_id for card in asked] == ["call_1", "call_2"]


def test_a_turn_that_ends_while_it_waits_asks_for_nothing() -> None:
    log = Log()
    log.started()
    log.approval("requested")

    log.add("turn.cancelled", reason="asked", by="ann", output="", **NUMBERS)

    assert log.view.waiting is None


def test_kinds_that_are_not_known_are_passed_over() -> None:
    log = Log()

    log.add("planet.aligned", what="ever")
    log.add("turn.pondered")

    assert log.view.blocks == []
    assert log.view.cursor == 2


def test_a_snapshot_takes_the_place_of_everything() -> None:
    log = Log()
    log.delta("old", 0)
    call = {
        "call_id": "c",
        "name": "look",
        "arguments": {},
        "status": "failed",
        "reason": "no",
        "result": None,
    }

    log.view.begin(
        {
            "session": {"head": 40},
            "running_turn": {
                "turn_id": "trn_5",
                "status": "running",
                **NUMBERS,
                "current_iteration": 2,
            },
            "queued_turns": [{"turn_id": "trn_6", "input": {"type": "message", "text": "next"}}],
            "messages": [
                {
                    "message_id": "m1",
                    "role": "user",
                    "text": "Hi",
                    "state": "complete",
                    "parts": [],
                },
                {
                    "message_id": "m2",
                    "role": "tool",
                    "text": "",
                    "state": "complete",
                    "parts": [call],
                },
            ],
        }
    )

    assert log.view.cursor == 40
    assert [type(block) for block in log.view.settled()] == [Said, Card]
    assert log.view.queue == {"trn_6": "next"}
    assert log.view.running is not None
    assert log.view.running.current_iteration == 2


def test_a_snapshot_of_a_session_that_waits_has_its_calls() -> None:
    log = Log()
    running = {"turn_id": "trn_1", "status": "awaiting", **NUMBERS}
    snapshot = {
        "session": {"head": 9},
        "running_turn": running,
        "queued_turns": [],
        "messages": [],
    }
    body = {"call_id": "call_1", "message_id": "msg_9", "name": "look", "arguments": {"n": 7}}
    other = {**body, "call_id": "call_2"}
    approvals = [
        Entry(6, "approval.requested", "trn_1", "", body),
        Entry(7, "approval.requested", "trn_1", "", other),
        Entry(9, "approval.granted", "trn_1", "", {"call_id": "call_1"}),
    ]

    log.view.begin(snapshot, approvals)
    assert log.view.waiting is not None
    assert log.view.waiting.call_id == "call_2"
    log.started(attempt=2)

    assert log.notes == []


def test_control_characters_of_a_tool_stay_in_its_line() -> None:
    log = Log()

    log.tool("completed", result="a\nb\x1b[2J")

    assert log.card.outcome == "a\\nb\\x1b[2J"


def test_a_partial_message_of_a_history_says_so() -> None:
    wire = {"message_id": "m", "role": "assistant", "text": "Hel", "state": "partial", "parts": []}

    (block,) = blocks_of(wire)

    assert isinstance(block, Said)
    assert block.partial


def test_turns_that_ended_long_ago_are_forgotten() -> None:
    log = Log()

    for number in range(2_000):
        log.started(f"trn_{number}")
        log.completed(f"trn_{number}")

    assert len(log.view.ended) <= 1_000
    assert "trn_1999" in log.view.ended
