"""A server that is killed in the middle of a turn: started again, it brings the turn to its end.

The turn has two tools, and waits at each of its steps until the server is killed there with -9.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from tests.cli.conftest import WAIT_SECONDS, Serve, until

from sessile.cli import main

APP = Path(__file__).with_name("two_tools.py")
AGENTS = ("function", "model")
STEPS = ("begin", "in-one", "between", "in-two", "streaming", "end")
ENDS = {"turn.completed", "turn.failed", "turn.cancelled", "turn.interrupted"}
OUTCOMES = {"tool.completed", "tool.failed", "tool.interrupted", "tool.refused"}

EFFECTS = {
    "begin": ["one began", "one ended", "two began", "two ended"],
    # Declared idempotent, and so run again under the same call id.
    "in-one": ["one began", "one began", "one ended", "two began", "two ended"],
    "between": ["one began", "one ended", "two began", "two ended"],
    # Not declared idempotent: whether it took effect is not known, and it is not run again.
    "in-two": ["one began", "one ended", "two began"],
    "streaming": ["one began", "one ended", "two began", "two ended"],
    "end": ["one began", "one ended", "two began", "two ended"],
}


class Survived(NamedTuple):
    """What became of one agent's turn, and of the message after it."""

    turn: dict[str, Any]
    entries: list[dict[str, Any]]
    effects: list[str]
    next_turn: dict[str, Any]


@pytest.fixture(scope="module")
def killed_at(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Survived]]:
    """What survived the kill at a step, by agent; each step is played once for all tests."""
    played: dict[str, dict[str, Survived]] = {}

    def at(step: str) -> dict[str, Survived]:
        if step not in played:
            played[step] = play(step, tmp_path_factory.mktemp(step))
        return played[step]

    return at


def play(step: str, directory: Path) -> dict[str, Survived]:
    shutil.copy(APP, directory / "app.py")
    for earlier in STEPS[: STEPS.index(step)]:
        open_gates(directory, earlier)
    with Serve(directory, "app.py") as served:
        served.ready()
        turns = {agent: ask(served, "/v1/turns", agent) for agent in AGENTS}
        for agent in AGENTS:
            until((directory / f"{agent}.{step}.reached").exists)
        served.process.kill()
        served.end()
    for each in STEPS:
        open_gates(directory, each)
    with Serve(directory, "app.py") as again:
        again.ready()
        survived = {agent: followed(again, agent, turns[agent]) for agent in AGENTS}
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--data-dir", str(directory / "sessile-data")])
        assert ended.value.code in (0, None)
    return survived


def open_gates(directory: Path, step: str) -> None:
    for agent in AGENTS:
        (directory / f"{agent}.{step}.open").touch()


def ask(served: Serve, place: str, agent: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"input": {"type": "message", "text": "Go"}}
    if agent is not None:
        body["assistant"] = agent
    headers = {"Authorization": f"Bearer {served.token}"}
    reply = httpx2.post(f"{served.url}{place}", json=body, headers=headers, timeout=WAIT_SECONDS)
    return reply.raise_for_status().json()  # type: ignore[no-any-return]


def read(served: Serve, place: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {served.token}"}
    reply = httpx2.get(f"{served.url}{place}", headers=headers, timeout=WAIT_SECONDS)
    return reply.raise_for_status()


def followed(served: Serve, agent: str, turn: dict[str, Any]) -> Survived:
    at = f"/v1/sessions/{turn['session_id']}"
    ended = read(served, f"{at}/turns/{turn['turn_id']}?wait=25").json()
    entries = [json.loads(line) for line in read(served, f"{at}/export").text.splitlines()]
    effects = (served.directory / f"{agent}.effects").read_text().splitlines()
    next_turn = ask(served, f"{at}/turns?wait=25")
    of_turn = [entry for entry in entries if entry["turn_id"] == turn["turn_id"]]
    return Survived(ended, of_turn, effects, next_turn)


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("step", STEPS)
class TestKilled:
    @pytest.fixture
    def survived(
        self, killed_at: Callable[[str], dict[str, Survived]], step: str, agent: str
    ) -> Survived:
        return killed_at(step)[agent]

    def test_the_turn_is_completed_by_a_second_attempt(self, survived: Survived, step: str) -> None:
        two = "interrupted" if step == "in-two" else "completed"

        assert survived.turn["status"] == "completed"
        assert survived.turn["attempt"] == 2
        assert survived.turn["output"] == f"one completed, two {two}"

    def test_what_was_done_is_not_done_again(self, survived: Survived, step: str) -> None:
        assert survived.effects == EFFECTS[step]

    def test_each_call_has_one_outcome(self, survived: Survived, step: str) -> None:
        outcomes = [entry for entry in survived.entries if entry["kind"] in OUTCOMES]

        calls = Counter(entry["body"]["call_id"] for entry in outcomes)
        kinds = {entry["body"]["name"]: entry["kind"] for entry in outcomes}
        assert set(calls.values()) == {1}
        two = "tool.interrupted" if step == "in-two" else "tool.completed"
        assert kinds == {"one": "tool.completed", "two": two}

    def test_the_turn_has_one_end(self, survived: Survived) -> None:
        kinds = [entry["kind"] for entry in survived.entries]

        assert [kind for kind in kinds if kind in ENDS] == ["turn.completed"]
        assert kinds[-1] == "turn.completed"
        assert kinds.count("turn.queued") == 1

    def test_what_a_reader_was_shown_and_void_is_taken_back(self, survived: Survived) -> None:
        """Folded as a client folds it, the reply is there once."""
        shown: dict[str, str] = {}
        whole: dict[str, str] = {}
        for entry in survived.entries:
            body = entry["body"]
            match entry["kind"]:
                case "message.delta" if body["channel"] == "text":
                    before = shown.get(body["message_id"], "")
                    assert len(before) == body["offset"]
                    shown[body["message_id"]] = before + body["text"]
                case "message.reset":
                    del shown[body["message_id"]]
                case "message.added" if body["role"] == "assistant":
                    text = "".join(p["text"] for p in body["parts"] if p["type"] == "text")
                    assert text.startswith(shown.pop(body["message_id"], ""))
                    whole[body["message_id"]] = text

        assert shown == {}
        assert [text for text in whole.values() if text] == [survived.turn["output"]]

    def test_the_next_message_is_answered(self, survived: Survived) -> None:
        assert survived.next_turn["status"] == "completed"
        assert survived.next_turn["attempt"] == 1
        assert survived.next_turn["output"] == "one completed, two completed"
