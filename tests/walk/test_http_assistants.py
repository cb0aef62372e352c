"""Whom a session can be opened with, as a client is told."""

import pytest
from tests.walk.people import Walk

from sessile.http import schemas


async def test_all_assistants_are_told_and_which_is_the_default(walk: Walk) -> None:
    reply = await walk.alice.get("/v1/assistants")

    page = schemas.AssistantPage.model_validate(reply.json())
    assert page.next is None
    assert [(each.name, each.is_default) for each in page.items] == [
        ("echo", True),
        ("only", False),
    ]


async def test_a_session_opened_without_a_name_has_the_default(walk: Walk) -> None:
    page = (await walk.alice.get("/v1/assistants")).json()
    session_id = await walk.opened()

    session = (await walk.alice.get(f"/v1/sessions/{session_id}")).json()

    assert session["assistant"] == next(e["name"] for e in page["items"] if e["is_default"])


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_nobody_is_told_nothing(walk: Walk, method: str) -> None:
    reply = await walk.nobody.request(method, "/v1/assistants")

    assert reply.status_code == (401 if method == "GET" else 405)
