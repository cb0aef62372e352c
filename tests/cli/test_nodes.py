"""Nodes that share a PostgreSQL: `serve --no-run` takes turns, `work` runs them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

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
