"""E, the agent workspace, on two nodes: writers at both of them, in one session."""

import asyncio
from contextlib import ExitStack
from pathlib import Path

from tests.cli.conftest import Serve
from tests.incidents.conftest import reaching
from tests.incidents.workspace_walk import CLIENTS, MESSAGES, WRITERS, faults_of, stored, written
from tests.servers.databases import database

TOKEN = "the-admin"
APP = """
from sessile.demo.workspace import assistants

(workspace,) = assistants()
"""


async def test_writers_at_two_nodes_lose_nothing_and_see_what_came_before(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    async with database() as dsn:
        with ExitStack() as stack:
            nodes = [stack.enter_context(_node(tmp_path, name, dsn)) for name in ("one", "two")]
            first, second = [(await asyncio.to_thread(node.ready)).url for node in nodes]
            async with reaching(first, TOKEN) as site, reaching(second, TOKEN) as other:
                opened = await site.http.post(
                    "/v1/sessions", json={}, headers={"Authorization": f"Bearer {TOKEN}"}
                )
                session_id = opened.json()["session_id"]
                turns = await written([first, second], TOKEN, session_id)
                messages = await stored(site.http, session_id, token=TOKEN)
                elsewhere = await stored(other.http, session_id, token=TOKEN)
                entries = await other.entries(session_id)

    assert faults_of(messages, turns) == []
    assert messages == elsewhere
    sent = CLIENTS * WRITERS * MESSAGES
    assert len(messages) == 2 * sent
    # In the order in which they were accepted, and each once.
    accepted = [entry["turn_id"] for entry in entries if entry["kind"] == "turn.queued"]
    assert [each["turn_id"] for each in messages if each["role"] == "user"] == accepted
    assert len(set(accepted)) == sent
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))


def _node(directory: Path, name: str, dsn: str) -> Serve:
    place = directory / name
    place.mkdir()
    return Serve(
        place,
        str(directory / "app.py"),
        fresh=True,
        SESSILE_STORE_URL=dsn,
        SESSILE_DEV_TOKEN=TOKEN,
        SESSILE_HISTORY_ENTRIES_MAX="1000",
    )
