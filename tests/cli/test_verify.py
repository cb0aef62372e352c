"""`sessile verify`: what it prints, writes and exits with."""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from tests.cli.conftest import Ran
from tests.verify.test_planted import played

from sessile.verify.history import History, read, write

Run = Callable[..., Ran]
HOSTILE = "<script>alert(1)</script>\x1b[2J"


def kept(history: History, path: Path) -> str:
    with path.open("w", encoding="utf-8") as to:
        write(history, to)
    return str(path)


@pytest.fixture(scope="module")
def faulty() -> History:
    """Of a backend that answers each third open without an id, and with a script."""
    history = asyncio.run(played("null-session-id", only=("basics", "keys")))
    ops = (replace(op, reply=op.reply + HOSTILE) for op in history.ops)
    return History(history.run, tuple(ops))


@pytest.fixture(scope="module")
def clean() -> History:
    return asyncio.run(played(None, only=("basics", "keys")))


def test_what_was_found_is_named_with_its_requests(
    run: Run, faulty: History, tmp_path: Path
) -> None:
    ran = run("verify", "--from", kept(faulty, tmp_path / "run.jsonl"))

    assert ran.code == 1
    assert "null-session-id  " in ran.out
    assert "POST /sessions -> 201" in ran.out
    assert "1 check found something wrong" in ran.err


def test_nothing_found_exits_with_0_and_says_what_was_not_tested(
    run: Run, clean: History, tmp_path: Path
) -> None:
    ran = run("verify", "--from", kept(clean, tmp_path / "run.jsonl"))

    assert ran.code == 0
    assert "0 found something" in ran.out
    assert "not tested, which is not passed" in ran.out


def test_a_history_that_was_kept_is_judged_to_the_same(
    run: Run, faulty: History, tmp_path: Path
) -> None:
    first = run("verify", "--from", kept(faulty, tmp_path / "one.jsonl"), "--json")
    copy = tmp_path / "two.jsonl"
    run("verify", "--from", str(tmp_path / "one.jsonl"), "--history", str(copy))

    again = run("verify", "--from", str(copy), "--json")

    assert json.loads(again.out) == json.loads(first.out)
    with copy.open(encoding="utf-8") as lines:
        assert read(lines) == faulty


def test_the_page_and_the_xml_show_what_a_backend_said_as_text(
    run: Run, faulty: History, tmp_path: Path
) -> None:
    page, xml = tmp_path / "report.html", tmp_path / "report.xml"

    run(
        "verify", "--from", kept(faulty, tmp_path / "run.jsonl"), "--html", str(page),
        "--junit", str(xml),
    )  # fmt: skip

    assert "&lt;script&gt;alert(1)" in page.read_text()
    assert "<script" not in page.read_text()
    cases = {case.get("name"): case for case in Xml.parse(xml).getroot()}
    assert cases["null-session-id"].find("failure") is not None
    assert cases["fallback-session"].find("skipped") is not None
    assert cases["lost-message"].find("failure") is None


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["http://192.0.2.1:80"], "--i-own-this-server"),
        (
            ["http://192.0.2.1:80", "--i-own-this-server", "--restart", "true"],
            "--restart is for a server of it",
        ),
        (
            ["http://192.0.2.1:80", "--i-own-this-server", "--pause", "true", "--resume", "true"],
            "--pause is for a server of it",
        ),
        (["--pause", "true"], "--pause and --resume go together"),
        (["--resume", "true"], "--pause and --resume go together"),
        (["ftp://localhost"], "no address of a server"),
        (["--mapping", "no-such"], "neither a file nor one of"),
        (["--from", "no-such.jsonl"], "no-such.jsonl"),
        (["--limit", "nothing=1", "--mapping", "tasks"], "no limit is called nothing"),
        (["--limit", "told_seconds=nan", "--mapping", "tasks"], "no time and no ratio"),
        (["--part", "writer", "--mapping", "tasks"], "no part is called writer"),
        (["http://[::1"], "no address of a server"),
        (["http://localhost:99999"], "no address of a server"),
        (["http://u:pw@localhost:9", "--mapping", "tasks"], "no message was accepted"),
    ],
)
def test_a_run_that_cannot_be_made_exits_with_2(run: Run, arguments: list[str], why: str) -> None:
    ran = run("verify", *arguments)

    assert ran.code == 2
    assert why in ran.err


HEAD = json.dumps({"target": "t", "can": ["send"], "limits": {}, "seed": 0})
OPEN = {"number": 1, "kind": "open", "part": "p", "client": "c", "principal": "p", "began": 0,
        "ended": 1, "outcome": "ok"}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([], "is empty"),
        ([HEAD, json.dumps(OPEN)[:30]], "line 2 is no line"),
        ([HEAD, "[" * 100_000], "line 2 is no line of a history: it is too deep"),
        ([HEAD.replace('"seed": 0', '"seed": 0, "version": 9, "new": 1')], "of version 9"),
        ([HEAD.replace('"seed": 0', '"seed": "<script>"')], "line 1 is no line"),
        ([HEAD, json.dumps({**OPEN, "began": float("inf")})], "began is inf"),
        ([HEAD, json.dumps({**OPEN, "said": {"session": [1]}})], "session is a list"),
        ([HEAD, json.dumps({**OPEN, "kind": "read"})], "path is missing"),
        ([HEAD, json.dumps({**OPEN, "kind": "stream"})], "stream is missing"),
        ([HEAD, json.dumps(OPEN), json.dumps(OPEN)], "two operations have one number"),
        ([HEAD, json.dumps(OPEN)], "no message was accepted"),
    ],
)
def test_a_history_that_is_none_exits_with_2(
    run: Run, lines: list[str], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("\n".join(lines))

    ran = run("verify", "--from", str(path), "--html", str(tmp_path / "page.html"))

    assert ran.code == 2
    assert why in ran.err


def test_a_server_that_went_away_has_not_passed(run: Run, clean: History, tmp_path: Path) -> None:
    last = replace(clean.ops[-1], kind="read", outcome="unknown", status=None, said={})
    gone = History(clean.run, (*clean.ops[:-1], last))

    ran = run("verify", "--from", kept(gone, tmp_path / "run.jsonl"))

    assert ran.code == 2
    assert "the server stopped answering" in ran.err


def test_a_server_that_keeps_a_run_waiting_is_not_waited_for_without_end(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        to = ("verify", url, "--mapping", "agui", "--history", str(path))
        ran = run(*to, "--limit", "run_seconds=0.2")

    assert ran.code == 2
    assert "it had not ended after 0.2 s" in ran.err
    assert "what is not done is not tested" in ran.err
    with path.open(encoding="utf-8") as lines:
        assert read(lines).run.limits["run_seconds"] == 0.2


def test_a_terminal_gets_no_orders_from_a_history(
    run: Run, faulty: History, tmp_path: Path
) -> None:
    ops = tuple(replace(op, client=HOSTILE, request=HOSTILE + op.request) for op in faulty.ops)
    orders = History(replace(faulty.run, target=HOSTILE), ops)

    ran = run("verify", "--from", kept(orders, tmp_path / "run.jsonl"))

    assert ran.code == 1
    assert "\x1b" not in ran.out


def test_checks_limits_and_mappings_are_listed(run: Run) -> None:
    ran = run("verify", "--list")

    assert ran.code == 0
    for name in ("lost-message", "stuck_seconds=30", "workspace"):
        assert name in ran.out
