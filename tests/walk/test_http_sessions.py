"""Sessions over HTTP: every route as it is meant to be used. Shapes are those of the schemas."""

import json
import shutil
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import BaseModel
from tests.doubles import ManualClock
from tests.runtime.gate import Fills
from tests.walk.people import Walk, each_store, message, walking

from sessile.adapters.memory import MemoryStore
from sessile.http import schemas


def shaped(reply: httpx2.Response, model: type[BaseModel], status: int = 200) -> Any:
    """The reply's JSON. It has each field of the model, and no other."""
    assert reply.status_code == status, reply.text
    model.model_validate(reply.json())
    return reply.json()


@each_store
async def test_a_session_is_opened_and_says_all_that_is_known_of_it(walk: Walk) -> None:
    reply = await walk.alice.post(
        "/v1/sessions", json={"title": "Orders", "metadata": {"ref": [1, None]}}
    )

    session = shaped(reply, schemas.Session, 201)
    assert reply.headers["location"] == f"/v1/sessions/{session['session_id']}"
    assert session == {
        "session_id": session["session_id"],
        "user_id": "alice",
        "assistant": "echo",
        "status": "active",
        "title": "Orders",
        "metadata": {"ref": [1, None]},
        "grants": [],
        "head": 1,
        "queued": 0,
        "running_turn_id": None,
        "blocked_by": None,
        "created_at": session["created_at"],
        "updated_at": session["created_at"],
    }
    assert shaped(await walk.alice.get(reply.headers["location"]), schemas.Session) == session


async def test_an_idempotent_open_makes_one_session(walk: Walk) -> None:
    headers = {"idempotency-key": "once"}

    first = await walk.alice.post("/v1/sessions", json={"title": "A"}, headers=headers)
    again = await walk.alice.post("/v1/sessions", json={"title": "A"}, headers=headers)
    other = await walk.alice.post("/v1/sessions", json={"title": "B"}, headers=headers)

    assert again.json()["session_id"] == first.json()["session_id"]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert len((await walk.alice.get("/v1/sessions")).json()["items"]) == 1


async def test_an_exclusive_session_is_found_again(walk: Walk) -> None:
    first = await walk.alice.post("/v1/sessions", json={"assistant": "only"})
    again = await walk.alice.post("/v1/sessions", json={"assistant": "only"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["session_id"] == first.json()["session_id"]


@each_store
async def test_a_repeated_open_says_again_whether_it_made_the_session(walk: Walk) -> None:
    made = [await opens(walk, "k1") for _ in range(2)]
    found = [await opens(walk, "k2") for _ in range(2)]

    assert [it.status_code for it in (*made, *found)] == [201, 201, 200, 200]
    assert len({it.json()["session_id"] for it in (*made, *found)}) == 1


async def opens(walk: Walk, key: str) -> Any:
    headers = {"idempotency-key": key}
    return await walk.alice.post("/v1/sessions", json={"assistant": "only"}, headers=headers)


@each_store
async def test_sessions_are_listed_youngest_first_page_by_page(walk: Walk) -> None:
    opened = sorted([await walk.opened() for _ in range(5)], reverse=True)

    pages, cursor = [], None
    while True:
        query = {"limit": 2} if cursor is None else {"limit": 2, "before": cursor}
        page = shaped(await walk.alice.get("/v1/sessions", params=query), schemas.SessionPage)
        pages.append([each["session_id"] for each in page["items"]])
        if (cursor := page["next"]) is None:
            break

    assert pages == [opened[:2], opened[2:4], opened[4:]]


async def test_a_user_sees_its_own_sessions_and_an_admin_those_of_its_tenant(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.bob.post("/v1/sessions", json={})

    seen = (await walk.admin.get("/v1/sessions")).json()["items"]

    assert [each["session_id"] for each in seen] == [session_id]
    assert len((await walk.bob.get("/v1/sessions")).json()["items"]) == 1
    assert (await walk.admin.get(f"/v1/sessions/{session_id}")).status_code == 200


async def test_a_patch_changes_what_it_names_and_nothing_else(walk: Walk) -> None:
    session_id = await walk.opened(title="Old", metadata={"keep": 1, "drop": 2})
    url = f"/v1/sessions/{session_id}"

    merged = await walk.alice.patch(url, json={"metadata": {"drop": None, "new": 3}})
    untitled = await walk.alice.patch(url, json={"title": None})

    assert shaped(merged, schemas.Session)["title"] == "Old"
    assert merged.json()["metadata"] == {"keep": 1, "new": 3}
    assert untitled.json()["title"] is None
    assert untitled.json()["metadata"] == {"keep": 1, "new": 3}


@each_store
async def test_a_closed_session_takes_no_turn_and_stays_readable(walk: Walk) -> None:
    session_id = await walk.opened()
    url = f"/v1/sessions/{session_id}"

    closed = await walk.alice.post(f"{url}/close")
    again = await walk.alice.post(f"{url}/close", json={})
    refused = await walk.alice.post(f"{url}/turns", json=message("hello"))

    assert shaped(closed, schemas.Session)["status"] == "closed"
    assert shaped(again, schemas.Session) == closed.json()
    assert (refused.status_code, refused.json()["code"]) == (409, "session_closed")
    assert (await walk.alice.get(url)).json()["status"] == "closed"


@each_store
async def test_a_deleted_session_is_gone_and_stays_gone(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.said(session_id, "remember me")
    url = f"/v1/sessions/{session_id}"

    deleted = await walk.alice.delete(url)

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await walk.alice.get(url)).status_code == 404
    assert (await walk.alice.delete(url)).status_code == 404
    assert (await walk.alice.post(f"{url}/turns", json=message("hello"))).status_code == 404
    assert await walk.everything() == {}


@each_store
async def test_a_fork_remembers_up_to_the_turn_it_was_cut_at(walk: Walk) -> None:
    session_id = await walk.opened(title="Trunk")
    first = await walk.said(session_id, "one")
    await walk.said(session_id, "two")

    reply = await walk.alice.post(
        f"/v1/sessions/{session_id}/fork", json={"turn_id": first["turn_id"], "title": "Branch"}
    )

    fork = shaped(reply, schemas.Session, 201)
    assert reply.headers["location"] == f"/v1/sessions/{fork['session_id']}"
    assert fork["title"] == "Branch"
    messages = (await walk.alice.get(f"/v1/sessions/{fork['session_id']}/messages")).json()
    assert [each["text"] for each in messages["items"]] == ["one", "you said: one"]


@each_store
async def test_an_export_is_the_whole_log_a_line_an_entry(walk: Walk) -> None:
    session_id = await walk.opened()
    for number in range(3):
        await walk.said(session_id, f"line\n{number}\u2028")

    reply = await walk.alice.get(f"/v1/sessions/{session_id}/export")

    assert reply.headers["content-type"] == "application/jsonl"
    assert reply.headers["content-disposition"] == f'attachment; filename="{session_id}.jsonl"'
    lines = reply.text.removesuffix("\n").split("\n")
    entries = [json.loads(line) for line in lines]
    assert entries == await walk.log(session_id)
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))


@each_store
async def test_messages_are_read_backwards_page_by_page(walk: Walk) -> None:
    session_id = await walk.opened()
    for number in range(3):
        await walk.said(session_id, str(number))
    url = f"/v1/sessions/{session_id}/messages"

    newest = shaped(await walk.alice.get(url, params={"limit": 4}), schemas.MessagePage)
    older = shaped(
        await walk.alice.get(url, params={"limit": 4, "before": newest["next"]}),
        schemas.MessagePage,
    )

    assert [each["text"] for each in newest["items"]] == ["1", "you said: 1", "2", "you said: 2"]
    assert [each["text"] for each in older["items"]] == ["0", "you said: 0"]
    assert older["next"] is None
    assert [each["role"] for each in older["items"]] == ["user", "assistant"]


async def test_every_tool_says_whether_it_may_be_used_and_why_not(walk: Walk) -> None:
    session_id = await walk.opened()

    page = shaped(
        await walk.alice.get(f"/v1/sessions/{session_id}/tools"),
        schemas.ToolPage,
    )

    assert {each["tool"]: each["status"] for each in page["items"]} == {
        "notes.find": "allowed",
        "wipe": "denied",
        "context_status": "denied",
        "context_summarize": "denied",
    }
    assert all(each["reason"] for each in page["items"])


async def test_the_context_is_told_in_figures(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.said(session_id, "12345")

    context = shaped(await walk.alice.get(f"/v1/sessions/{session_id}/context"), schemas.Context)

    assert (context["messages"], context["characters"]) == (2, 5 + len("you said: 12345"))


async def test_the_node_says_how_it_is(walk: Walk) -> None:
    shaped(await walk.nobody.get("/healthz"), schemas.Health)
    shaped(await walk.nobody.get("/readyz"), schemas.Health)
    shaped(await walk.nobody.get("/"), schemas.About)
    await walk.said(await walk.opened(), "hello")

    figures = await walk.nobody.get("/metrics")

    assert figures.headers["content-type"].startswith("text/plain")
    assert 'sessile_turns_ended_total{status="completed"} 1.0' in figures.text
    route = 'method="POST",route="/v1/sessions/{session_id}/turns",status="200"'
    assert f"sessile_http_requests_total{{{route}}} 1.0" in figures.text


async def test_a_node_that_drains_is_not_ready(walk: Walk) -> None:
    await walk.server.workers.drain()

    reply = await walk.nobody.get("/readyz")

    assert shaped(reply, schemas.Problem, 503)["code"] == "not_ready"
    assert (await walk.nobody.get("/healthz")).status_code == 200


async def test_a_node_whose_disk_is_full_is_not_ready_until_it_has_written(
    tmp_path: Path,
) -> None:
    store = Fills(MemoryStore(clock=ManualClock()))
    async with walking(data_dir=tmp_path, store=store, sweep_seconds=3600) as walk:
        assert (await walk.nobody.get("/readyz")).status_code == 200
        store.full = True
        assert (await walk.alice.post("/v1/sessions", json={})).status_code == 507
        asked = store.asked

        told = [shaped(await walk.nobody.get("/readyz"), schemas.Problem, 503) for _ in range(3)]

        assert {each["detail"] for each in told} == {
            "the store could not be written: The disk is full; nothing was stored."
        }
        assert store.asked == asked, "a probe writes nothing"
        store.full = False
        await walk.opened()
        assert (await walk.nobody.get("/readyz")).status_code == 200


@pytest.mark.parametrize("walk", ["sqlite"], indirect=True)
async def test_a_node_whose_data_directory_is_gone_is_not_ready(
    walk: Walk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(tmp_path / "data")

    reply = await walk.nobody.get("/readyz")

    assert "removed or replaced" in shaped(reply, schemas.Problem, 503)["detail"]
    refused = await walk.alice.post("/v1/sessions", json={})
    assert shaped(refused, schemas.Problem, 500)["code"] == "storage_gone"
    told = [each.__dict__.get("code") for each in caplog.records if each.levelname == "ERROR"]
    assert told.count("storage_gone") == 1


@each_store
@pytest.mark.parametrize(
    ("what", "by"), [("events", "after"), ("turns", "after"), ("messages", "before")]
)
async def test_a_page_is_bounded_in_bytes_and_leads_to_the_rest(
    walk: Walk, what: str, by: str
) -> None:
    session_id = await walk.opened()
    for _ in range(4):
        await walk.said(session_id, "a" * 3_000)
    path = f"/v1/sessions/{session_id}/{what}"
    accept = {"accept": "application/json"}
    whole = (await walk.alice.get(path, headers=accept)).json()
    walk.server.reads._bytes_max = 7_000

    items, pages, query = [], 0, {}
    while True:
        reply = await walk.alice.get(path, headers=accept, params=query)
        page = reply.json()
        items = page["items"] + items if by == "before" else items + page["items"]
        pages += 1
        assert len(reply.content) < 15_000
        if page["next"] is None:
            break
        query = {by: page["next"]}

    assert whole["next"] is None
    assert items == whole["items"]
    assert pages > 2
