"""The checker of rounds has to find what is planted in a record in which it found nothing."""

import asyncio
import json
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
from tests.chaos.checker import FENCE, faults_of, takeovers
from tests.chaos.nemesis import Blow
from tests.chaos.nodes import ALIKE
from tests.chaos.play import UNCLOSED, play
from tests.chaos.record import Line, Record

pytestmark = [pytest.mark.filterwarnings(each) for each in UNCLOSED]

SECONDS = 10.0


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Two nodes, of which one is killed."""
    round_ = play(
        tmp_path_factory.mktemp("round"),
        seed=1,
        seconds=SECONDS,
        blows=(Blow(at=SECONDS / 2, kind="kill", seconds=0.5),),
        sessions=24,
        pause_seconds=1.0,
        commands=ALIKE[:2],
    )
    return asyncio.run(round_)


# -- where to plant


def entries(record: Record, *kinds: str) -> Iterator[tuple[Line, int]]:
    """Each place of such an entry: the session, and the index in its log."""
    for final in record.finals:
        for index, entry in enumerate(final["log"]):
            if entry[1] in kinds:
                yield final, index


def renumbered(final: Line) -> None:
    """As if it had been written so."""
    for seq, entry in enumerate(final["log"], start=1):
        entry[0] = seq


def doubled(record: Record, *kinds: str) -> None:
    final, index = next(entries(record, *kinds))
    final["log"].insert(index + 1, list(final["log"][index]))
    renumbered(final)


def changed(final: Line, index: int, old: str, new: str) -> None:
    body = final["log"][index][4]
    assert old in body
    final["log"][index][4] = body.replace(old, new)


def reads(record: Record) -> Line:
    return next(line for line in record.of("read") if len(line["got"]) > 5)


# -- what is planted


def a_lost_entry(record: Record) -> None:
    final, index = next(entries(record, "message.delta"))
    del final["log"][index]


def a_lost_last_entry(record: Record) -> None:
    del record.finals[0]["log"][-1]


def a_doubled_end(record: Record) -> None:
    doubled(record, "turn.completed")


def a_doubled_outcome(record: Record) -> None:
    doubled(record, "tool.completed")


def a_doubled_start(record: Record) -> None:
    doubled(record, "turn.started")


def a_doubled_text(record: Record) -> None:
    doubled(record, "message.delta")


def a_late_write_of_an_old_fence(record: Record) -> None:
    """What the lost attempt had on its way stands behind the start of the next."""
    for final, index in entries(record, "turn.started"):
        log = final["log"]
        if json.loads(log[index][4])["attempt"] == 1:
            continue
        late = next((e for e in log[:index] if e[2] == log[index][2] and FENCE.search(e[4])), None)
        if late is not None:
            log.insert(index + 1, list(late))
            renumbered(final)
            return
    raise AssertionError("no attempt that was lost had written anything")


def a_lost_input(record: Record) -> None:
    """Without a trace: the rows say the same as the log."""
    line = next(record.of("accepted"))
    final = next(f for f in record.finals if f["session"] == line["session"])
    final["log"] = [e for e in final["log"] if e[2] != line["turn"]]
    final["turns"] = [t for t in final["turns"] if t["turn_id"] != line["turn"]]
    renumbered(final)


def an_input_accepted_twice(record: Record) -> None:
    final, index = next(entries(record, "turn.queued"))
    twin = list(final["log"][index])
    twin[2] = "trn_twin"
    final["log"].insert(index + 1, twin)
    renumbered(final)


def inputs_out_of_order(record: Record) -> None:
    final, first, second = next(
        (f, i, j)
        for f, i in entries(record, "turn.queued")
        for g, j in entries(record, "turn.queued")
        if f is g and j > i and f["log"][j][3] - f["log"][i][3] > 1000
    )
    log = final["log"]
    log[first][4], log[second][4] = log[second][4], log[first][4]


def a_charge_made_twice(record: Record) -> None:
    line = next(line for line in record.runs if line["name"] == "charge")
    record.runs.append({**line, "call": "call_another"})


def a_call_run_twice(record: Record) -> None:
    line = next(line for line in record.runs if line["name"] == "charge")
    record.runs.append({**line, "act": "another"})


def a_gap_in_a_stream(record: Record) -> None:
    del reads(record)["got"][3]


def a_repeat_in_a_stream(record: Record) -> None:
    got = reads(record)["got"]
    got.insert(3, got[3])


def a_stream_that_ends_early(record: Record) -> None:
    line = reads(record)
    last = [each for each in record.of("read") if each["session"] == line["session"]][-1]
    last["got"].pop()


def another_text_in_a_stream(record: Record) -> None:
    reads(record)["got"][3][1] = "0"


def a_reset(record: Record) -> None:
    reads(record)["how"] = "reset"


def a_history_with_a_hole(record: Record) -> None:
    del next(line for line in record.of("history") if len(line["read"]) > 2)["read"][1]


def a_history_that_changes(record: Record) -> None:
    line = next(line for line in record.of("history") if line["read"])
    record.history.append(deepcopy(line))
    record.history[-1]["read"][0][1] = "0"


def a_history_that_shrinks(record: Record) -> None:
    line = next(line for line in record.of("history") if len(line["read"]) > 1)
    record.history.append({**line, "began": line["at"] + 1, "read": line["read"][:-1]})


def a_cancel_that_is_forgotten(record: Record) -> None:
    final, index = next(entries(record, "turn.completed"))
    turn = final["log"][index][2]
    record.history.append({"what": "cancelled", "session": final["session"], "turn": turn})


def an_answer_turned_round(record: Record) -> None:
    line = next(record.of("answered"))
    line["granted"] = not line["granted"]


def a_text_of_another_session(record: Record) -> None:
    final, index = next(entries(record, "message.added"))
    changed(final, index, "canary-", "canary-7")


def a_head_that_is_no_fold(record: Record) -> None:
    record.finals[0]["head"]["queued"] = 1


def a_turn_that_is_no_fold(record: Record) -> None:
    record.finals[0]["turns"][0]["attempt"] += 1


def a_lease_that_is_left(record: Record) -> None:
    record.finals[0]["owner"] = "node_1"


def a_turn_without_an_end(record: Record) -> None:
    final, index = next(entries(record, "turn.completed"))
    del final["log"][index]
    renumbered(final)


def a_session_that_is_gone(record: Record) -> None:
    del record.finals[0]


def a_session_of_nobody(record: Record) -> None:
    record.finals.append({**record.finals[0], "session": "ses_other"})


def a_server_error(record: Record) -> None:
    record.history.append({"what": "broken", "path": "/v1", "status": 500, "told": "a bug"})


PLANTED: dict[Callable[[Record], None], str] = {
    a_lost_entry: "at place",
    a_lost_last_entry: "the head row is",
    a_doubled_end: "has ended before",
    a_doubled_outcome: "has an outcome already",
    a_doubled_start: "turn.started: fence",
    a_doubled_text: "offset",
    a_late_write_of_an_old_fence: "written under fence",
    a_lost_input: "was acknowledged and is not there",
    an_input_accepted_twice: "was accepted 2 times",
    inputs_out_of_order: "which was accepted first",
    a_charge_made_twice: "is not idempotent, and was run 2 times",
    a_call_run_twice: "is not idempotent, and was run 2 times",
    a_gap_in_a_stream: "was due, got",
    a_repeat_in_a_stream: "was due, got",
    a_stream_that_ends_early: "its reader got",
    another_text_in_a_stream: "got another text",
    a_reset: "was sent a reset",
    a_history_with_a_hole: "is no prefix of",
    a_history_that_changes: "was read in two versions",
    a_history_that_shrinks: "messages had",
    a_cancel_that_is_forgotten: "was acknowledged, and it is completed",
    an_answer_turned_round: "was acknowledged as",
    a_text_of_another_session: "in entry",
    a_head_that_is_no_fold: "the head row is",
    a_turn_that_is_no_fold: "the turn row is",
    a_lease_that_is_left: "the lease is held by nobody's turn",
    a_turn_without_an_end: "never ended",
    a_session_that_is_gone: "opened, and not there",
    a_session_of_nobody: "there, and opened by nobody",
    a_server_error: "500 a bug",
}


def test_a_round_with_a_kill_leaves_nothing_to_find(clean: Record) -> None:
    assert faults_of(clean) == []
    assert takeovers(clean)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_named(clean: Record, plant: Callable[[Record], None]) -> None:
    record = deepcopy(clean)
    plant(record)

    faults = faults_of(record)

    assert any(PLANTED[plant] in fault for fault in faults), faults
