"""What a probe shows is reported under its name and nothing else is; and what looks like it and is
none is not."""

import asyncio
import json
import runpy
from dataclasses import replace
from io import StringIO
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Process, Serve
from tests.incidents.conftest import naive as served
from tests.verify import probed
from tests.verify.test_checks import Told

from sessile.verify import loading, runner
from sessile.verify.answering import answers_in
from sessile.verify.checker import declared, judge
from sessile.verify.history import History, Kind, NoHistory, read, write

LIMITS = {**runner.LIMITS, "stop_seconds": 5.0}
SOON = {"stuck_seconds": 0.5, "told_seconds": 2.0}
PLANTED = {
    "stale session": "stale-context",
    "stale turn": "stale-context",
    "stale principal": "stale-context",
    "context bleed": "context-bleed",
    "bricked": "bricked-session",
    "orphan": "orphan-tool-call",
    "kept grant": "grant-drift",
    "no gate": "grant-drift",
    "hidden gate": "invisible-gate",
    "consumed": "consumed-approval",
    "unreplayable": "unreplayable-thread",
}
BY_PROBE = {each.name for each in declared() if "probe" in each.needs} - {"zombie-write"}
"""`test_pauses` pauses a backend."""


async def played(planted: str | None, **differs: Any) -> History:
    limits = LIMITS | SOON if planted in ("consumed", "unreplayable") else LIMITS
    async with served(probed.probed(planted)) as site:
        target = loading.read_mapping(probed.mapping(**differs))
        plan = runner.Plan(url=site.url, target=target, limits=limits, only=("probe",))
        return await runner.play(plan)


def verdicts(history: History, verdict: str) -> set[str]:
    return {each.check.name for each in judge(history) if each.verdict == verdict}


async def test_what_is_planted_is_found_and_nothing_else() -> None:
    histories = await asyncio.gather(*map(played, PLANTED))

    found = {
        planted: verdicts(history, "found")
        for planted, history in zip(PLANTED, histories, strict=True)
    }
    assert found == {planted: {name} for planted, name in PLANTED.items()}


async def test_nothing_is_found_where_nothing_is_planted() -> None:
    history = await played(None)

    assert verdicts(history, "found") == set()
    assert verdicts(history, "passed") >= BY_PROBE | {"context-bleed", "orphan-tool-call"}


async def test_a_probe_without_gates_and_a_backend_without_a_probe_test_less() -> None:
    without = await played(None, grants=None, approvals=None)
    tested = {"stale-context", "bricked-session", "unreplayable-thread"}
    assert BY_PROBE - verdicts(without, "not testable") == tested

    nobody = await played(None, probe=False)
    assert verdicts(nobody, "not testable") >= BY_PROBE


NUMBER = attrgetter("number")
CAN = ("send", "open", "read", "turn", "probe", "grants", "approvals", "two principals")


class Probed(Told):
    """What a probe answered, by hand. A nonce is `vq` and one digit, 32 times."""

    def __init__(self) -> None:
        super().__init__(*CAN)
        for session in ("ses_1", "ses_2"):
            said = {"session": session, "sessions": [session]}
            self.did("open", session=None, said=said, part="probe")

    def probe(
        self, digit: int, command: str = "call", *, session: str = "ses_1", answers: bool = True,
        client: str = "probe/one", shown: str = "", **told: Any,
    ) -> None:  # fmt: skip
        nonce, turn = word(digit), f"trn_{digit}"
        answer = {"probe": command, "nonce": nonce, "nonces": [nonce], **told}
        said = {"session": session, "sessions": [session], "turn": turn}
        said["reply"] = json.dumps(answer) if answers else ""
        where: dict[str, Any] = {"part": "probe", "client": client, "session": session}
        self.did("send", nonce=nonce, said=said, **where)

    def gate(self, kind: Kind, *, status: int = 200, **said: Any) -> None:
        self.did(kind, status=status, said=said, part="probe", client="probe/approvals")

    def shared(self) -> None:
        """The second session is the other principal's."""
        q = (replace(op, principal="q") for op in self.ops if op.said.get("session") == "ses_2")
        self.ops = sorted({op.number: op for op in (*self.ops, *q)}.values(), key=NUMBER)

    def untested(self, name: str) -> bool:
        (result,) = judge(History(self.run, tuple(self.ops)), only=[name])
        return result.verdict == "not testable"


def word(digit: int) -> str:
    return f"vq{str(digit) * 32}"


def seen(session: str = "ses_1", turn: str = "trn_1", principal: str = "p") -> dict[str, str]:
    return {"session": session, "turn": turn, "principal": principal}


def test_words_of_a_backends_own_for_sessions_and_turns_are_no_other_ones() -> None:
    told = Probed()
    told.probe(1, tool=seen("row 7", "run a", "user 3"))
    told.probe(2, tool=seen("row 7", "run b", "user 3"))
    told.probe(3, session="ses_2", tool=seen("row 8", "run c", "user 3"))

    assert told.found == set()


def test_one_word_for_two_sessions_is_a_stale_one() -> None:
    told = Probed()
    told.probe(1, tool=seen("row 7", "run a"))
    told.probe(2, session="ses_2", tool=seen("row 7", "run b"))

    assert told.found == {"stale-context"}


def test_a_tool_and_its_agent_are_given_the_same() -> None:
    told = Probed()
    told.probe(1, agent=seen("row 7"), tool=seen("row 8"))

    assert told.found == {"stale-context"}


def test_a_session_that_is_right_after_another_was_wrong_is_not_blamed() -> None:
    told = Probed()
    told.probe(1, tool=seen("ses_2"))
    told.probe(2, session="ses_2", tool=seen("ses_2", "trn_2"))

    (result,) = judge(History(told.run, tuple(told.ops)), only=["stale-context"])
    assert [each.session for each in result.findings] == ["ses_1"]


@pytest.mark.parametrize(
    ("names", "found"),
    [("pqp", set[str]()), ("ppp", set[str]()), ("pqq", {"stale-context"})],
)
def test_a_principal_is_stale_where_the_two_are_told_apart(names: str, found: set[str]) -> None:
    told = Probed()
    told.probe(1, tool=seen(principal=names[0]))
    told.probe(2, session="ses_2", tool=seen("ses_2", "trn_2", names[1]))
    told.shared()
    told.probe(3, tool=seen(turn="trn_3", principal=names[2]))

    assert told.found == found


def test_what_no_tool_told_is_not_tested() -> None:
    told = Probed()
    told.probe(1, "look")

    assert told.untested("stale-context")


@pytest.mark.parametrize(("shown", "names"), [(1, set[str]()), (2, {"context-bleed"})])
def test_a_word_of_another_session_in_what_is_shown_has_bled(shown: int, names: set[str]) -> None:
    told = Probed()
    told.probe(1)
    told.probe(2, session="ses_2")
    told.probe(3, nonces=[word(shown), word(3)])

    assert told.found == names


def test_a_word_of_another_principal_has_bled_too() -> None:
    told = Probed()
    told.probe(1)
    told.probe(2, session="ses_2")
    told.shared()
    told.probe(3, nonces=[word(2), word(3)])

    assert told.found == {"context-bleed"}


def broken(*, fails: bool, behind: bool, beside: bool = True) -> Probed:
    told = Probed()
    told.probe(1, "fail", client="probe/fail", answers=not fails)
    for digit in (2, 3, 4):
        told.probe(digit, "look", client="probe/fail", answers=behind)
    for digit in (5, 6, 7):
        told.probe(digit, "look", client="probe/control", session="ses_2", answers=beside)
    return told


def test_a_session_is_bricked_where_nothing_behind_a_failure_is_answered() -> None:
    assert broken(fails=True, behind=False).found == {"bricked-session"}
    assert broken(fails=True, behind=True).found == set()


def test_a_session_is_not_bricked_where_nothing_failed_or_new_ones_fail_too() -> None:
    assert broken(fails=False, behind=False).untested("bricked-session")
    assert broken(fails=True, behind=False, beside=False).untested("bricked-session")


@pytest.mark.parametrize(("outcomes", "names"), [(0, True), (1, False), (2, True)])
def test_a_call_has_one_outcome_in_what_is_shown(outcomes: int, names: bool) -> None:
    told = Probed()
    told.probe(1, calls={"call_1": outcomes})

    assert told.found == ({"orphan-tool-call"} if names else set())


@pytest.mark.parametrize(("status", "names"), [(200, {"grant-drift"}), (409, set[str]())])
def test_a_grant_that_was_not_taken_away_is_none_that_drifts(status: int, names: set[str]) -> None:
    told = Probed()
    told.gate("grant")
    told.probe(1, "gated", tool=seen())
    told.gate("revoke", status=status)
    told.probe(2, "gated", tool=seen(turn="trn_2"))

    assert told.found == names


@pytest.mark.parametrize("visible", ["refused", "offered", "listed", ""])
def test_a_gate_is_visible_where_anything_tells_of_it(visible: str) -> None:
    told = Probed()
    if visible == "listed":
        told.gate("tools", names=["probe_gated"])
    offered = ["probe_gated"] if visible == "offered" else []
    told.probe(1, "gated", offered=offered, refused="no" if visible == "refused" else None)

    assert told.found == (set() if visible else {"invisible-gate"})


@pytest.mark.parametrize(
    ("answers", "seconds", "status", "names"),
    [
        (False, 100, 200, {"consumed-approval"}),
        (False, 1, 200, set[str]()),
        (False, 100, 409, set[str]()),
        (True, 100, 200, set[str]()),
    ],
)
def test_an_approval_is_consumed_where_no_answer_comes_of_it(
    answers: bool, seconds: float, status: int, names: set[str]
) -> None:
    told = Probed()
    told.probe(1, "ask", client="probe/approvals", answers=answers, tool=seen())
    told.gate("approve", status=status)
    told.now += seconds
    told.read("messages", word(1))

    assert told.found == names


def test_an_answer_from_before_the_approval_says_nothing_of_it() -> None:
    told = Probed()
    told.probe(1, "ask", client="probe/approvals", refused="not yet")
    told.gate("approve")
    told.now += 100
    told.read("messages", word(1))

    assert told.untested("consumed-approval")


def test_an_answer_with_what_its_tool_was_given_is_the_one_that_counts() -> None:
    told = Probed()
    told.probe(1, "ask", client="probe/approvals", refused="not yet")
    answer = {"probe": "ask", "nonce": word(1), "tool": seen("ses_2")}
    told.did("turn", turn="trn_1", said={"state": "completed", "reply": json.dumps(answer)})

    assert "stale-context" in told.found


def test_what_has_another_form_is_no_answer() -> None:
    good = json.dumps({"probe": "look", "nonce": word(1)})
    odd = [
        '{"probe": "look"}', '{"probe": "look", "nonce": 7}', '{"probe": "look", "nonce": "vq1"}',
        good[:-1] + ', "calls": 3}', good[:-1] + ', "tool": "row"}', '{"probe": ' + "[" * 9_999,
        '{"probe": "lo',
    ]  # fmt: skip

    assert [each["nonce"] for each in answers_in(*odd, " ".join(odd[:-2]) + good)] == [word(1)]


@pytest.mark.parametrize("kind", ["tools", "pending"])
def test_a_history_whose_names_are_no_list_is_none(kind: Kind) -> None:
    told = Probed()
    told.gate(kind, names=7)
    lines = StringIO()
    write(History(told.run, tuple(told.ops)), lines)

    with pytest.raises(NoHistory, match="names is a int"):
        read(lines.getvalue().splitlines())


async def test_the_probe_of_pydantic_ai_answers_what_the_table_says() -> None:
    probe = runpy.run_path(str(loading.probes()["pydantic_ai"]))
    agent = probe["agent"]

    first = await agent.run(f"probe: call {word(1)}", conversation_id="ses_1")
    history = first.all_messages()
    second = await agent.run(f"probe: look {word(2)}", message_history=history)

    (called,), (looked,) = answers_in(first.output), answers_in(second.output)
    assert (called["command"], called["tool"]["session"]) == ("call", "ses_1")
    assert (looked["nonce"], looked["nonces"]) == (word(2), (word(1), word(2)))
    assert list(looked["calls"].values()) == [1]
    assert "probe_look" in looked["offered"]
    parts = [part for each in history[:2] for part in each.parts]
    assert list(probe["shown"](parts, "")["calls"].values()) == [0]
    for how in ("break", "fail"):
        with pytest.raises(RuntimeError, match="it was to fail"):
            await agent.run(f"probe: {how} {word(3)}")


@pytest.mark.parametrize("name", sorted(loading.probes()))
def test_each_probe_knows_the_table_and_imports_nothing_of_the_checker(name: str) -> None:
    text = loading.probes()[name].read_text()

    commands = ("call", "break", "fail", "wait")
    assert all(f'"{each}"' in text for each in commands)
    assert "sessile.verify" not in text
    compile(text, name, "exec")


def test_sessile_with_its_probe_has_nothing_held_against_it(tmp_path: Path) -> None:
    with Process("verify", "--probe-file", "sessile", cwd=tmp_path) as printed:
        assert printed.end() == 0
    (tmp_path / "app.py").write_text("".join(printed.lines))

    with Serve(tmp_path, "app.py") as served_:
        url = served_.ready().url
        with Process("verify", url, "--probe", "--part", "probe", "--json", cwd=tmp_path) as verify:
            code = verify.end()

    assert code == 0, verify.told
    told = json.loads("".join(verify.lines))
    passed = {each["name"] for each in told["checks"] if each["verdict"] == "passed"}
    assert passed >= BY_PROBE | {"context-bleed", "orphan-tool-call"}
