"""`sessile chat`, through a pipe and on a terminal, against a server that runs."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from tests.cli.conftest import WAIT_SECONDS, Process, Serve, until
from tests.cli.gates import APP, open_gate
from tests.cli.terminal import Terminal


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Its assistants wait at gates that a test opens."""
    directory = tmp_path_factory.mktemp("slow")
    (directory / "app.py").write_text(APP, encoding="utf-8")
    with Serve(directory, "app.py") as served:
        yield served.ready()


def ask(served: Serve, place: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {served.token}"}
    return httpx2.get(f"{served.url}{place}", headers=headers, timeout=WAIT_SECONDS)


def piped(served: Serve, text: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a chat that was given this text to say."""
    with Process(
        "chat", "--url", served.url, *arguments, cwd=served.directory, stdin=subprocess.PIPE
    ) as chat:
        assert chat.process.stdin is not None
        chat.process.stdin.write(text)
        chat.process.stdin.close()
        code = chat.end()
        return code, "".join(chat.lines), "".join(chat.errors)


def sessions(served: Serve) -> list[str]:
    return [session["session_id"] for session in ask(served, "/v1/sessions").json()["items"]]


def test_each_line_is_a_message_and_its_reply_is_printed(demo: Serve) -> None:
    code, out, err = piped(demo, "My name is Ana\n\nWhat is my name?\n")

    assert (code, err) == (0, "")
    assert out == "Nice to meet you, Ana.\nYour name is Ana.\n"


def test_tool_calls_are_told_beside_the_replies(demo: Serve) -> None:
    code, out, err = piped(demo, "Look up order 7\n")

    assert code == 0
    assert out == "Order 7 is shipped: 3 items, 55.3 EUR.\n"
    assert err.startswith("[orders.lookup number=7] completed: ")


def test_a_session_is_gone_on_in(demo: Serve) -> None:
    piped(demo, "My name is Bo\n")
    session_id = sessions(demo)[0]

    code, out, _ = piped(demo, "What is my name?\n", "--session", session_id)

    assert (code, out) == (0, "Your name is Bo.\n")
    assert sessions(demo)[0] == session_id


def test_the_user_is_who_the_data_directory_says(demo: Serve) -> None:
    code, _, _ = piped(demo, "Hello\n", "--user", "alice")

    assert code == 0
    assert ask(demo, "/v1/sessions").json()["items"][0]["user_id"] == "alice"


def test_commands_work_through_a_pipe(demo: Serve) -> None:
    code, out, err = piped(
        demo, "My name is Cy\n/new\nWhat is my name?\n/sessions\n/history\n/help\n/quit\nnot said\n"
    )

    assert (code, err) == (0, "")
    newest, before = sessions(demo)[:2]
    assert f"{newest} demo active\n{before} demo active\n" in out
    assert "user: What is my name?\n" in out
    assert "/interrupt TEXT" in out
    assert "Cy." in out.partition("\n")[0]
    assert "not said" not in out


def test_nothing_said_opens_no_session(demo: Serve) -> None:
    before = sessions(demo)

    assert piped(demo, "\n")[0] == 0

    assert sessions(demo) == before


def test_an_exclusive_assistants_session_is_gone_on_in_and_not_told_again(slow: Serve) -> None:
    first = piped(slow, "one\n", "--assistant", "only")
    second = piped(slow, "two\nthree\n", "--assistant", "only")

    assert first == (0, "That was message 1.\n", "")
    assert second == (0, "That was message 2.\nThat was message 3.\n", "")


@pytest.mark.parametrize(
    ("arguments", "text", "code", "why"),
    [
        (["--session", "ses_none"], "hi\n", 2, "session_not_found"),
        (["--token", "wrong"], "hi\n", 2, "does not know this token"),
        (["--user", "carol"], "hi\n", 2, "carol"),
        (["--assistant", "nobody"], "hi\n", 2, "unknown_assistant"),
        (["--url", "http://127.0.0.1:1"], "hi\n", 1, "sessile serve"),
        ([], "/dance\n", 2, "/dance is no command"),
    ],
)
def test_what_cannot_be_done_is_told_and_the_exit_code_says_so(
    demo: Serve, arguments: list[str], text: str, code: int, why: str
) -> None:
    ended, out, err = piped(demo, text, *arguments)

    assert (ended, out) == (code, "")
    assert why in err
    assert err.startswith("sessile: ")
    assert "Traceback" not in err


def test_a_turn_that_does_not_complete_ends_the_pipe(slow: Serve) -> None:
    with Process("chat", "--url", slow.url, cwd=slow.directory, stdin=subprocess.PIPE) as chat:
        assert chat.process.stdin is not None
        chat.process.stdin.write("cut\nnever said\n")
        chat.process.stdin.flush()
        session_id = begun(slow, "cut")
        turn_id = ask(slow, f"/v1/sessions/{session_id}").json()["running_turn_id"]
        place = f"{slow.url}/v1/sessions/{session_id}/turns/{turn_id}/cancel"
        httpx2.post(place, headers={"Authorization": f"Bearer {slow.token}"})
        chat.process.stdin.close()

        assert chat.end() == 1

    assert "".join(chat.lines) == "It began, \n"
    assert "was not completed: cancelled" in chat.told
    turns = ask(slow, f"/v1/sessions/{session_id}/turns").json()["items"]
    assert [turn["input"]["text"] for turn in turns] == ["cut"]


def begun(served: Serve, gate: str) -> str:
    """The newest session, when its turn has come to the gate."""
    until((served.directory / f"{gate}.reached").exists)
    return sessions(served)[0]


def test_ctrl_c_in_a_pipe_cancels_the_turn(slow: Serve) -> None:
    with Process("chat", "--url", slow.url, cwd=slow.directory, stdin=subprocess.PIPE) as chat:
        assert chat.process.stdin is not None
        chat.process.stdin.write("stop\n")
        chat.process.stdin.flush()
        session_id = begun(slow, "stop")

        chat.send(signal.SIGINT)

        assert chat.end() == 130
    (turn,) = ask(slow, f"/v1/sessions/{session_id}/turns").json()["items"]
    place = f"/v1/sessions/{session_id}/turns/{turn['turn_id']}?wait=20"
    assert ask(slow, place).json()["status"] == "cancelled"


def test_the_line_behind_a_call_that_waits_is_the_answer(demo: Serve) -> None:
    code, out, err = piped(demo, "Refund orders 7 and 8\ny\nNo\nWho are you?\n")

    assert code == 0
    first, second = out.splitlines()
    assert first.startswith("Order 7 is refunded: 55.3 EUR. The tool orders_refund did not succeed")
    assert second.startswith("I am Sessile's demo assistant.")
    assert [line for line in err.splitlines() if "completed" not in line] == [
        "[orders.refund number=7] may it run? y or n",
        "[orders.refund number=7] approved",
        "[orders.refund number=8] may it run? y or n",
        "[orders.refund number=8] denied",
        "[orders.refund number=8] refused: The user did not approve it.",
    ]


def test_what_is_no_answer_leaves_the_call_waiting_and_another_chat_answers_it(
    demo: Serve,
) -> None:
    code, out, err = piped(demo, "Refund order 7\nperhaps\n")
    session_id = sessions(demo)[0]

    assert (code, out) == (1, "")
    assert "orders.refund number=7 waits: say y or n" in err
    assert f"sessile chat --session {session_id}" in err
    with Terminal(
        "chat", "--session", session_id, "--url", demo.url, cwd=demo.directory
    ) as terminal:
        terminal.wait_for(r"\? orders\.refund number=7 may it run\? y or n")
        terminal.wait_for("a call waits for y or n")
        terminal.type("/deny not today\r")
        terminal.wait_for(r"⊘ orders\.refund .*not today")
        terminal.type("/approve\r")
        terminal.wait_for("No call waits")
        terminal.type("refund order 8\r")
        terminal.wait_for("a call waits for y or n")
        terminal.type("y\r")
        terminal.wait_for(r"✓ orders\.refund number=8")
        terminal.wait_for(r"Order 8 is refunded: 63\.2 EUR\.")
        assert "server was lost" not in terminal.drawn
        terminal.type("\x04")
        assert terminal.end() == 0


def test_a_terminal_shows_a_turn_as_it_happens(demo: Serve) -> None:
    with Terminal("chat", "--url", demo.url, cwd=demo.directory) as terminal:
        terminal.wait_for("a new session")
        terminal.type("Look up order 7\r")
        terminal.wait_for("> Look up order 7\n")
        terminal.wait_for("a turn runs, Ctrl-C stops it")
        terminal.wait_for(r"✓ orders\.lookup number=7 → ")
        terminal.wait_for(r"Order 7 is shipped: 3 items, 55\.3 EUR\.")

        terminal.type("/quit\r")

        assert terminal.end() == 0
        terminal.wait_for(f"sessile chat --session {sessions(demo)[0]}")
        assert terminal.modes() == list(terminal.before)


def test_ctrl_c_stops_the_turn_and_then_leaves(slow: Serve) -> None:
    with Terminal("chat", "--url", slow.url, cwd=slow.directory) as terminal:
        terminal.type("ctrl\r")
        terminal.wait_for("It began, ")
        terminal.type("and next\r")
        terminal.wait_for("queued 1: and next")
        terminal.wait_for("Ctrl-C stops it")

        terminal.type("\x03")

        terminal.wait_for("cancelled: asked")
        terminal.wait_for("> and next")
        open_gate(slow.directory, "and next")
        terminal.wait_for("and it ended")
        terminal.wait_for(r"slow · ses_\w+(?! ·)\b")

        terminal.type("\x03")

        assert terminal.end() == 0


def test_a_second_ctrl_c_leaves_though_the_turn_runs(slow: Serve) -> None:
    with Terminal("chat", "--assistant", "blocked", "--url", slow.url, cwd=slow.directory) as it:
        it.type("hang\r")
        it.wait_for("Ctrl-C stops it")
        it.type("\x03")
        it.wait_for("cancel")

        it.type("\x03")

        assert it.end() == 0
    open_gate(slow.directory, "hang")


def test_steering_and_interrupting_reach_the_turn_that_runs(slow: Serve) -> None:
    with Terminal("chat", "--url", slow.url, cwd=slow.directory) as terminal:
        terminal.type("busy\r")
        terminal.wait_for("It began, ")
        terminal.type("/steer the other way\r")
        terminal.wait_for("steered: the other way")

        terminal.type("/interrupt now this\r")

        terminal.wait_for("cancelled: displaced")
        terminal.wait_for("> the other way|> now this")
        terminal.type("\x04")
        assert terminal.end() == 0


def test_what_is_no_command_is_told_and_the_chat_goes_on(demo: Serve) -> None:
    with Terminal("chat", "--url", demo.url, cwd=demo.directory) as terminal:
        terminal.type("/dance\r")
        terminal.wait_for("/dance is no command")
        terminal.type("/cancel\r")
        terminal.wait_for("No turn runs")
        terminal.type("/open ses_none\r")
        terminal.wait_for(r"session_not_found")
        terminal.type("//hello\r")
        terminal.wait_for("> /hello")
        terminal.type("\x04")
        assert terminal.end() == 0


def test_a_lost_server_is_come_back_to_and_nothing_is_missed(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    with Serve(tmp_path, "app.py") as served:
        served.ready()
        port = served.url.rpartition(":")[2]
        with Terminal("chat", "--url", served.url, cwd=tmp_path) as terminal:
            terminal.type("lost\r")
            terminal.wait_for("It began, ")

            served.process.kill()
            terminal.wait_for("connection lost, reconnecting")
            with Serve(tmp_path, "app.py", port=port) as again:
                again.ready()
                open_gate(tmp_path, "lost")

                terminal.wait_for("The server was lost; the turn goes on")
                terminal.wait_for("and it ended")
                terminal.type("\x04")
                assert terminal.end() == 0
