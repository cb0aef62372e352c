"""`sessile serve` as a process: what it says, what it refuses, and how it stops."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.cli.conftest import WAIT_SECONDS, Process, Ran, Serve, environment, until
from tests.cli.gates import APP, open_gate
from tests.cli.terminal import Terminal

from sessile.cli.serving import called

SAID = {"input": {"type": "message", "text": "wait"}}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    file = tmp_path / "app.py"
    file.write_text(APP, encoding="utf-8")
    return file


def ask(served: Serve, method: str, place: str, body: Any = None, **more: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {served.token}"}
    return httpx2.request(
        method, f"{served.url}{place}", json=body, headers=headers, timeout=WAIT_SECONDS, **more
    )


def begun(served: Serve, assistant: str = "slow") -> dict[str, Any]:
    """A turn that has said something, and waits for its gate to be opened."""
    submitted = ask(served, "POST", "/v1/turns", {"assistant": assistant, **SAID}).json()
    place = f"{served.url}/v1/sessions/{submitted['session_id']}/events"
    headers = {"Authorization": f"Bearer {served.token}"}
    wanted = "message.delta" if assistant == "slow" else "tool.started"
    with httpx2.stream("GET", place, headers=headers, timeout=WAIT_SECONDS) as events:
        for line in events.iter_lines():
            if line == f"event: {wanted}":
                return submitted  # type: ignore[no-any-return]
    raise AssertionError(f"no {wanted}")


def test_it_says_where_it_is_and_what_to_try(demo: Serve) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", demo.url)
    assert demo.wait_for(r"  data +(.+)$")[1] == str(demo.directory / "sessile-data")
    assert demo.wait_for(r"  assistants +(.+)$")[1].startswith("demo, support, ")
    assert demo.wait_for(r"  others +(.+)$")[1] == "sessile-data/dev-tokens"
    assert demo.wait_for(r"  or +(.+)$")[1] == f"sessile chat --url {demo.url}"


def test_it_says_how_to_be_signed_in_to_the_console(demo: Serve) -> None:
    line = demo.wait_for(r"  console +(echo .+)$")[1]

    ran = subprocess.run(["sh", "-c", line], cwd=demo.directory, capture_output=True, check=True)

    assert ran.stdout.decode() == f"{demo.url}/#token={demo.token}\n"


def test_the_line_to_try_works_as_it_stands(demo: Serve) -> None:
    assert tried(demo.wait_for(r"  try +(curl .+)$")[1], demo.directory) == "completed"


def test_a_token_is_shown_on_a_terminal_alone(demo: Serve, tmp_path: Path) -> None:
    assert demo.token not in demo.told

    with Terminal("serve", "--port", "0", cwd=tmp_path) as terminal:
        token = terminal.wait_for(r"  token +(\S+)\n")[1]
        assert terminal.wait_for(r"  console +(\S+)\n")[1].endswith(f"/#token={token}")
        line = terminal.wait_for(r"  try +(curl .+)\n")[1]
        assert token in line
        assert tried(line, tmp_path) == "completed"
        terminal.process.terminate()
        assert terminal.end() == 0


def tried(line: str, directory: Path) -> str:
    """How the turn ended that a line of shell asked for."""
    ran = subprocess.run(["sh", "-c", line], cwd=directory, capture_output=True, check=True)
    status: str = json.loads(ran.stdout)["status"]
    return status


def test_the_demos_routes_are_there_beside_the_demo_assistant(demo: Serve) -> None:
    task = httpx2.post(f"{demo.url}/api/tasks", json={"task": "a task"}, timeout=WAIT_SECONDS)

    assert task.status_code == 202
    assert ask(demo, "GET", f"/v1/sessions/{task.json()['session_id']}").status_code == 200
    assert ask(demo, "POST", "/v1/sessions", {}).json()["assistant"] == "demo"


def test_a_file_of_ones_own_is_served(tmp_path: Path, app: Path) -> None:
    with Serve(tmp_path, str(app)) as served:
        served.ready()
        open_gate(tmp_path, "wait")

        turn = ask(served, "POST", "/v1/turns?wait=20", SAID).json()

        assert served.wait_for(r"  assistants +(.+)$")[1] == "slow, only, stubborn, blocked"
        assert ask(served, "POST", "/api/tasks", {"task": "no demo here"}).status_code == 404
        assert turn["output"] == "It began, and it ended."


def test_flags_and_variables_win_over_the_settings_of_a_server_in_a_file(
    tmp_path: Path, app: Path
) -> None:
    with app.open("a", encoding="utf-8") as more:
        more.write("\nfrom sessile import Server, Settings\n")
        more.write('made = Server(slow, settings=Settings(data_dir=HERE / "made", port=1))\n')

    with Serve(tmp_path, f"{app}:made", SESSILE_STORE_URL="memory") as served:
        served.ready()

        assert served.wait_for(r"  data +(.+)$")[1].startswith("memory")
        assert (tmp_path / "made" / "dev-tokens").exists()


def test_a_development_token_may_be_given(tmp_path: Path) -> None:
    with Serve(tmp_path, SESSILE_DEV_TOKEN="an-admins-token") as served:
        served.ready()

        assert served.token == "an-admins-token"
        assert ask(served, "GET", "/v1/sessions").status_code == 200


def one_line(ran: Process) -> str:
    """What a process said that ended with the code 2: no traceback."""
    assert ran.end() == 2
    told = "".join(ran.errors)
    assert told.startswith("sessile: ")
    assert told.count("\n") == 1
    return told


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Process("serve", "--port", str(port), cwd=tmp_path) as ran:
            told = one_line(ran)

    assert f"127.0.0.1:{port}" in told
    assert "--port" in told
    assert not (tmp_path / "sessile-data").exists()


def test_a_data_directory_that_is_in_use_is_told(demo: Serve) -> None:
    with Serve(demo.directory) as second:
        told = one_line(second)

    assert f"another server uses the data directory sessile-data: process {demo.pid};" in told
    assert "--data-dir" in told
    assert "within 10 seconds" in told
    assert ask(demo, "GET", "/healthz").status_code == 200


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("192.0.2.1", "requested address; give an"),
        ("no.such.invalid", "there is no such"),
    ],
)
def test_an_address_that_is_none_of_this_machine_is_refused(
    run: Callable[..., Ran], host: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    ran = run("serve", "--host", host, "--port", "0")

    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert host in ran.err
    assert why in ran.err
    assert not list(tmp_path.iterdir())


def test_a_database_of_a_newer_version_is_told(tmp_path: Path, run: Callable[..., Ran]) -> None:
    import sqlite3
    from contextlib import closing

    assert run("migrate", "--data-dir", str(tmp_path / "sessile-data")).code == 0
    with closing(sqlite3.connect(tmp_path / "sessile-data" / "sessile.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()

    with Serve(tmp_path) as served:
        assert "9999" in one_line(served)


def test_tokens_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "sessile-data").mkdir()
    (tmp_path / "sessile-data" / "dev-tokens").write_text("one two\n")

    with Serve(tmp_path) as served:
        assert "line 1" in one_line(served)


def test_the_chat_to_try_is_called_as_a_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/sessile", "serve"])
    monkeypatch.setenv("PATH", str(tmp_path))

    assert called() == ".venv/bin/sessile"
    (tmp_path / "sessile").touch(mode=0o755)
    assert called() == "sessile"


@pytest.mark.parametrize("output", [">/dev/full", ">&-"])
def test_it_serves_where_what_it_says_cannot_be_written(tmp_path: Path, output: str) -> None:
    serve = f'exec "$0" -m sessile serve --port 0 {output}'
    command = ["sh", "-c", serve, sys.executable]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    ) as ran:
        assert ran.stderr is not None
        logged = json.loads(ran.stderr.readline())
        ran.send_signal(signal.SIGTERM)
        rest = ran.stderr.read()

    assert logged["message"] == "serving"
    assert [json.loads(line)["message"] for line in rest.splitlines()] == ["draining", "stopped"]
    assert ran.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_turn_that_runs_comes_to_its_end_before_the_server_does(
    tmp_path: Path, app: Path, number: signal.Signals
) -> None:
    with Serve(tmp_path, str(app)) as served:
        turn = begun(served.ready())

        served.send(number)
        served.wait_for(r"Stopping: finishing 1 turn, for 10 s at most; again to stop at once")
        open_gate(tmp_path, "wait")

        assert served.end() == 0
        assert "Traceback" not in served.told
    (tmp_path / "wait.open").unlink()
    with Serve(tmp_path, str(app)) as again:
        again.ready()
        found = ask(again, "GET", f"/v1/sessions/{turn['session_id']}/turns/{turn['turn_id']}")

    assert found.json()["status"] == "completed"
    assert found.json()["attempt"] == 1


def test_a_stream_is_fed_until_the_turn_has_ended_and_then_says_goodbye(
    tmp_path: Path, app: Path
) -> None:
    with Serve(tmp_path, str(app)) as served:
        turn = begun(served.ready())
        place = f"{served.url}/v1/sessions/{turn['session_id']}/events"
        headers = {"Authorization": f"Bearer {served.token}"}
        lines: list[str] = []
        with httpx2.stream("GET", place, headers=headers, timeout=WAIT_SECONDS) as events:
            coming: Iterator[str] = events.iter_lines()
            for line in coming:
                lines.append(line)
                if line == "event: message.delta":
                    break
            served.send(signal.SIGTERM)
            served.wait_for("Stopping")
            open_gate(tmp_path, "wait")
            lines.extend(coming)

        assert served.end() == 0
    assert "event: turn.completed" in lines
    assert any(line.startswith("retry: ") for line in lines[lines.index("event: turn.completed") :])


def test_asked_twice_it_stops_at_once_and_the_turn_goes_on_at_the_next_start(
    tmp_path: Path, app: Path
) -> None:
    with Serve(tmp_path, str(app), "--drain-seconds-max", "1000") as served:
        turn = begun(served.ready())

        served.send(signal.SIGINT)
        served.wait_for("Stopping")
        served.send(signal.SIGINT)

        assert served.end() == 0
    with Serve(tmp_path, str(app)) as again:
        again.ready()
        open_gate(tmp_path, "wait")
        place = f"/v1/sessions/{turn['session_id']}/turns/{turn['turn_id']}?wait=20"
        found = ask(again, "GET", place).json()
        log = ask(again, "GET", f"/v1/sessions/{turn['session_id']}/export").text

    assert found["status"] == "completed"
    assert found["attempt"] == 2
    # It was handed back, not lost: that is held against no turn.
    entries = [json.loads(line) for line in log.splitlines()]
    started = [entry["body"] for entry in entries if entry["kind"] == "turn.started"]
    assert [body["strikes"] for body in started] == [0, 0]


def test_a_tool_that_holds_its_thread_does_not_hold_the_server(tmp_path: Path, app: Path) -> None:
    with Serve(tmp_path, str(app), "--drain-seconds-max", "0.2") as served:
        begun(served.ready(), "blocked")

        served.send(signal.SIGTERM)

        assert served.end() == 0


def test_an_agent_that_does_not_let_itself_be_cancelled_does_not_hold_the_server(
    tmp_path: Path, app: Path
) -> None:
    with Serve(tmp_path, str(app), "--drain-seconds-max", "0.2") as served:
        served.ready()
        ask(served, "POST", "/v1/turns", {"assistant": "stubborn", **SAID})
        until((tmp_path / "stubborn.reached").exists)

        served.send(signal.SIGTERM)

        assert served.end() == 0
        served.wait_for("an agent goes on after its turn was stopped")


def test_log_lines_are_json_objects_with_ids_and_no_texts_or_tokens(
    tmp_path: Path, app: Path
) -> None:
    with app.open("a", encoding="utf-8") as more:
        more.write("\nimport logging\nlogging.getLogger('mine').warning(")
        more.write("'loaded', extra={'where': 'a\\nb\\x1b[2J'})\n")
    with Serve(tmp_path, str(app), "--log-level", "debug") as served:
        served.ready()
        open_gate(tmp_path, "wait")
        body = {"input": {"type": "message", "text": "wait"}}
        turn = ask(served, "POST", "/v1/turns?wait=20", body).json()
        ask(served, "GET", "/v1/sessions/ses_%0Anone%1b[2J")
        served.send(signal.SIGTERM)
        assert served.end() == 0

    logged = [json.loads(line) for line in served.errors]
    assert all({"level", "logger", "at", "message"} <= line.keys() for line in logged)
    assert {"serving", "draining", "stopped", "loaded"} <= {line["message"] for line in logged}
    told = "".join(served.errors)
    assert served.token not in told
    assert "It began" not in told
    assert "\x1b" not in told
    assert turn["output"] == "It began, and it ended."


def test_log_lines_may_be_text(tmp_path: Path) -> None:
    with Serve(tmp_path, "--log-format", "text") as served:
        served.ready()
        served.send(signal.SIGTERM)
        assert served.end() == 0

    assert re.search(r"Z \[info +\] serving .*url=http://127", "".join(served.errors))
