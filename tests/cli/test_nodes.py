"""Nodes that share a PostgreSQL: `serve --no-run` takes turns, `work` runs them."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.cli.conftest import WAIT_SECONDS, Process, Ran, Serve
from tests.servers.databases import database
from tests.servers.postgres import free_port

APP = """
from sessile import Assistant

echo = Assistant("echo")


@echo.agent
async def answer(turn):
    return "You said " + turn.input["text"]
"""
SLOW = """
import asyncio

from sessile import Assistant

slow = Assistant("slow")


@slow.agent
async def answer(turn):
    for number in range(100):
        yield f"{number} é😀 "
        await asyncio.sleep(0.02)
"""
JSON = {"Accept": "application/json"}
SAID = {"input": {"type": "message", "text": "hello"}}


@pytest.fixture
def dsn() -> Iterator[str]:
    opened = database()
    with asyncio.Runner() as runner:
        yield runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def app(tmp_path: Path) -> Path:
    file = tmp_path / "app.py"
    file.write_text(APP, encoding="utf-8")
    return file


def test_what_one_node_takes_another_runs(tmp_path: Path, app: Path, dsn: str) -> None:
    shared = {"SESSILE_STORE_URL": dsn}
    with Serve(tmp_path, str(app), "--no-run", **shared) as serving:
        serving.ready()
        assert serving.wait_for(r"  runs no turns")
        headers = {"Authorization": f"Bearer {serving.token}"}
        with httpx2.Client(headers=headers, timeout=WAIT_SECONDS) as client:
            turn = client.post(f"{serving.url}/v1/turns", json=SAID).json()
            assert turn["status"] == "queued"
            assert client.get(f"{serving.url}/readyz").status_code == 200

            with Process("work", str(app), cwd=tmp_path, env=shared) as working:
                url = working.wait_for(r"^Sessile \S+ on (http://\S+)")[1]
                place = f"/v1/sessions/{turn['session_id']}/turns/{turn['turn_id']}"
                ended = client.get(f"{serving.url}{place}?wait=20").json()

                assert ended["output"] == "You said hello"
                assert client.get(f"{url}/readyz").status_code == 200
                assert client.get(f"{url}/metrics").status_code == 200
                assert client.get(f"{url}{place}").status_code == 404
                assert working.wait_for(r"  runs turns only")


def test_a_stream_that_moves_between_nodes_repeats_no_character_and_misses_none(
    tmp_path: Path, dsn: str
) -> None:
    file = tmp_path / "app.py"
    file.write_text(SLOW, encoding="utf-8")
    shared = {"SESSILE_STORE_URL": dsn, "SESSILE_DELTA_MILLISECONDS": "10"}
    with ExitStack() as stack:
        places = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            serving = Serve(
                tmp_path / name, str(file), fresh=True, SESSILE_DEV_TOKEN="admin", **shared
            )
            places.append(stack.enter_context(serving).ready().url)
        client = stack.enter_context(
            httpx2.Client(headers={"Authorization": "Bearer admin"}, timeout=WAIT_SECONDS)
        )
        turn = client.post(f"{places[0]}/v1/turns", json=SAID).json()
        path = f"/v1/sessions/{turn['session_id']}"

        entries: list[dict[str, Any]] = []
        connections = 0
        while not entries or entries[-1]["kind"] != "turn.completed":
            url = f"{places[connections % 2]}{path}/events"
            entries += _first_few(client, url, after=str(entries[-1]["seq"]) if entries else "")
            connections += 1
        log = client.get(f"{places[0]}{path}/events?limit=200", headers=JSON)

    assert connections > 10, "it moved in mid-answer"
    assert entries == log.json()["items"]
    pieces = [entry["body"] for entry in entries if entry["kind"] == "message.delta"]
    assert [piece["offset"] for piece in pieces] == [
        sum(len(piece["text"]) for piece in pieces[:n]) for n in range(len(pieces))
    ]
    assert "".join(piece["text"] for piece in pieces) == entries[-1]["body"]["output"]


def _first_few(client: httpx2.Client, url: str, *, after: str) -> list[dict[str, Any]]:
    """What a reader gets that goes away after five entries."""
    got: list[dict[str, Any]] = []
    headers = {"Last-Event-ID": after} if after else {}
    with client.stream("GET", url, headers=headers) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                got.append(json.loads(line.removeprefix("data: ")))
                if len(got) == 5 or got[-1]["kind"] == "turn.completed":
                    return got
    return got


def test_a_password_is_not_shown(tmp_path: Path, app: Path, dsn: str) -> None:
    with Serve(
        tmp_path, str(app), SESSILE_STORE_URL=dsn.replace("sessile@", "sessile:secret@")
    ) as serving:
        serving.ready()

        assert "sessile:…@127.0.0.1" in serving.wait_for(r"  data +(.+)$")[1]
        assert "secret" not in serving.told


def test_a_database_that_is_not_there_is_told_in_a_line(tmp_path: Path, app: Path) -> None:
    address = f"postgresql://ann:secret@127.0.0.1:{free_port()}/none"

    with Process(
        "serve", str(app), "--store-busy-seconds-max", "0.2", "--store-url", address, cwd=tmp_path
    ) as ran:
        assert ran.end() == 2

    assert len(ran.errors) == 1
    assert "cannot use postgresql://ann:…@127.0.0.1" in ran.errors[0]
    assert "secret" not in ran.told


def test_a_role_needs_a_database_that_nodes_share(run: Callable[..., Ran], app: Path) -> None:
    for command in (("work", str(app)), ("serve", str(app), "--no-run")):
        ran = run(*command)

        assert ran.code == 2
        assert "--store-url postgresql://" in ran.err
