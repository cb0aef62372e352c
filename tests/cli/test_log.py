"""`sessile log`: the same entries from a server and from its database."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import WAIT_SECONDS, Process, Ran, Serve
from tests.cli.test_chat import ask, piped, sessions

from sessile.cli.log import _until_interrupted


@pytest.fixture(scope="module")
def session_id(demo: Serve) -> str:
    """A session with a turn that called a tool."""
    assert piped(demo, "Look up order 7\n")[0] == 0
    return sessions(demo)[0]


def asked(demo: Serve, session_id: str, *more: str) -> tuple[str, ...]:
    return ("log", session_id, "--url", demo.url, "--token", demo.token, *more)


def test_the_rows_say_what_happened(demo: Serve, session_id: str, run: Callable[..., Ran]) -> None:
    ran = run(*asked(demo, session_id))

    assert ran.code == 0
    rows = ran.out.splitlines()
    assert rows[0].split() == ["seq", "time", "turn", "att", "kind", "what"]
    turn = ask(demo, f"/v1/sessions/{session_id}/turns").json()["items"][0]["turn_id"][-8:]
    assert rows[1].split()[0] == "1"
    assert rows[1].endswith("  session.opened       demo for admin")
    assert rows[2].endswith(f"  {turn}       turn.queued          Look up order 7")
    assert rows[3].split()[3:6] == [turn, "1", "turn.started"]
    assert any(row.endswith('tool.started         orders.lookup {"number":7}') for row in rows)
    assert any("tool.completed       orders.lookup -> {" in row for row in rows)
    ends = [row for row in rows if " turn.completed " in row]
    assert ends[0].endswith("turn.completed       Order 7 is shipped: 3 items, 55.3 EUR.")


def test_json_lines_are_the_entries_as_they_are(
    demo: Serve, session_id: str, run: Callable[..., Ran]
) -> None:
    page = ask(demo, f"/v1/sessions/{session_id}/export").text

    ran = run(*asked(demo, session_id, "--json"))

    assert [json.loads(line) for line in ran.out.splitlines()] == [
        json.loads(line) for line in page.splitlines()
    ]


def test_a_database_is_read_without_a_server_and_says_the_same(
    demo: Serve, session_id: str, run: Callable[..., Ran]
) -> None:
    data_dir = str(demo.directory / "sessile-data")

    for more in ((), ("--json",), ("--after", "3")):
        of_server = run(*asked(demo, session_id, *more))
        of_file = run("log", session_id, "--data-dir", data_dir, *more)

        assert of_file == of_server
        assert of_file.code == 0


def test_it_may_begin_behind_an_entry(
    demo: Serve, session_id: str, run: Callable[..., Ran]
) -> None:
    ran = run(*asked(demo, session_id, "--after", "3", "--json"))

    assert json.loads(ran.out.splitlines()[0])["seq"] == 4


def test_it_follows_a_session_as_it_goes_on(demo: Serve, session_id: str) -> None:
    with Process(*asked(demo, session_id, "--follow"), cwd=demo.directory) as log:
        log.wait_for("turn.completed +Order 7 is shipped")

        piped(demo, "My name is Di\n", "--session", session_id)

        log.wait_for("turn.completed +Nice to meet you, Di")
        log.send(signal.SIGINT)
        assert log.end() == 0
    assert "Traceback" not in log.told


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["ses_none", "--data-dir", "{data}"], 2, "no session ses_none"),
        (["ses_none", "--data-dir", "{data}/none"], 2, "no database"),
        (["ses_none", "--data-dir", "{data}", "--follow"], 2, "--follow"),
        (["ses_none", "--url", "{url}", "--token", "{token}"], 2, "session_not_found"),
        (["ses_none", "--url", "http://127.0.0.1:1", "--token", "t"], 1, "sessile serve"),
    ],
)
def test_what_cannot_be_read_is_told(
    demo: Serve, run: Callable[..., Ran], arguments: list[str], code: int, why: str
) -> None:
    known = {"data": str(demo.directory / "sessile-data"), "url": demo.url, "token": demo.token}

    ran = run("log", *(each.format(**known) for each in arguments))

    assert ran.code == code
    assert why in ran.err
    assert ran.err.count("\n") == 1


def test_every_kind_has_words_or_its_body() -> None:
    from sessile.cli.client import Entry
    from sessile.cli.log import _what
    from sessile.core import codec

    for kind in (*codec.kinds(), "planet.aligned"):
        assert _what(Entry(1, kind, None, "", {"a": 1})) == '{"a":1}'


def test_a_row_is_one_line_whatever_was_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from sessile.cli.client import Entry
    from sessile.cli.log import _Printer

    body = {"output": "one\ntwo\x1b[2J" + "x" * 1_000}
    _Printer(as_json=False).show(Entry(1, "turn.completed", "trn_1", "", body))

    _, row = capsys.readouterr().out.splitlines()
    assert "one\\ntwo\\x1b[2J" in row
    assert len(row) < 200


async def test_an_interrupt_whose_cancellation_is_lost_is_made_again() -> None:
    lost: list[str] = []

    async def follow() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append("a cancellation")
                if len(lost) > 1:
                    raise

    asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
    async with asyncio.timeout(WAIT_SECONDS):
        await _until_interrupted(follow())

    assert len(lost) == 2
