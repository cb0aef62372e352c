"""B, the message bot: one session a sender, whichever stage of a turn answers in the end."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.incidents.conftest import Serve, Site
from tests.incidents.conftest import naive as serve_naive
from tests.incidents.sites_naive import naive
from tests.incidents.sites_walk import GREETINGS, PICKED, TASK, Crew, Shaky, walk

from sessile.demo.sites import (
    LATE,
    SITES,
    UNKNOWN,
    UNREACHABLE,
    VIEW,
    Language,
    Office,
    assistants,
    router,
)

FIRST_MESSAGES = 20
CREWS = 30

SENDERS_WITH_MORE_SESSIONS_THAN = """
    SELECT head.tenant_id, head.user_id, count(*)
    FROM session_head AS head JOIN session USING (tenant_id, session_id)
    WHERE head.status = 'active' AND session.assistant = 'sites'
    GROUP BY head.tenant_id, head.user_id HAVING count(*) > ?
"""


def bodies(entries: Sequence[Any], kind: str) -> list[dict[str, Any]]:
    return [entry["body"] for entry in entries if entry["kind"] == kind]


def paths(entries: Sequence[Any]) -> list[str]:
    return [body["path"] for body in bodies(entries, "intent.decided")]


async def close(site: Site, session_id: str) -> None:
    reply = await site.http.post(
        f"/v1/sessions/{session_id}/close", headers={"Authorization": f"Bearer {site.admin}"}
    )
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("language", ["en", "fr"])
async def test_a_picked_site_is_answered_with_its_tasks(serve: Serve, language: Language) -> None:
    async with serve(assistants(), router) as site:
        crew = Crew(site.http, "+33612345678")
        assert await walk(crew, language=language) == []
        _, viewed, picked = crew.heard
        entries = await site.entries(picked["sessionId"])

    assert viewed["text"] == SITES[language]
    assert [each["label"] for each in viewed["buttons"]] == [each.name for each in Office().sites]
    assert [each["reused"] for each in crew.heard] == [False, True, True]
    # The log says that the session was reused, and that the output of its tool was found.
    queued = [body["input"]["metadata"] for body in bodies(entries, "turn.queued")]
    assert queued == [{"session": "opened"}, {"session": "reused"}, {"session": "reused"}]
    assert paths(entries) == ["intent", "button", "button"]
    reason = bodies(entries, "intent.decided")[-1]["reason"]
    assert reason == (
        "button pick_site answered: the output of list_projects was found in this session"
    )
    assert [body["name"] for body in bodies(entries, "tool.completed")] == [
        "list_projects",
        "list_tasks",
    ]
    offered = [
        part["button"]
        for body in bodies(entries, "message.added")
        for part in body["parts"]
        if part["type"] == "button"
    ]
    assert offered == ["view_sites", "pick_site", "pick_site", "pick_site", "view_sites"]
    assert [body["button"] for body in bodies(entries, "button.pressed")] == [
        "view_sites",
        "pick_site",
    ]
    # And it reads as the crew saw it.
    said = [body for body in bodies(entries, "message.added") if body["role"] == "user"]
    assert said[-1]["parts"][0]["text"] == PICKED


@pytest.mark.parametrize(
    ("asked", "typed"),
    [("Show me my projects", "maple tower please"), ("Voir mes chantiers", "les tilleuls")],
)
async def test_a_site_may_be_typed_as_well(serve: Serve, asked: str, typed: str) -> None:
    async with serve(assistants(), router) as site:
        crew = Crew(site.http, "ana")
        await crew.says(asked)
        answered = await crew.says(typed)
        entries = await site.entries(answered["sessionId"])

    assert paths(entries) == ["intent", "direct"]
    assert "\n- " in answered["text"]
    assert len({each["sessionId"] for each in crew.heard}) == 1


async def test_first_messages_at_once_make_one_session(serve: Serve, tmp_path: Path) -> None:
    async with serve(assistants(), router) as site:
        crew = Crew(site.http, "ana")
        heard = await asyncio.gather(*(crew.says("Bonjour") for _ in range(FIRST_MESSAGES)))
        entries = await site.entries(heard[0]["sessionId"])
        # As an operator would ask the database.
        with sqlite3.connect(f"file:{tmp_path}/data/sessile.db?mode=ro", uri=True) as database:
            any_, several = (
                database.execute(SENDERS_WITH_MORE_SESSIONS_THAN, (number,)).fetchall()
                for number in (0, 1)
            )
        database.close()

    assert {each["sessionId"] for each in heard} == {heard[0]["sessionId"]}
    assert [each["reused"] for each in heard].count(False) == 1
    assert {each["status"] for each in heard} == {"completed"}
    assert len({each["turnId"] for each in heard}) == FIRST_MESSAGES
    assert len(bodies(entries, "turn.completed")) == FIRST_MESSAGES
    assert any_ == [("demo", "sites:ana", 1)]
    assert several == []


async def test_crews_at_once_each_stay_in_a_session_of_their_own(serve: Serve) -> None:
    async with serve(assistants(), router) as site:
        crews = [Crew(site.http, f"+336{number:08}") for number in range(CREWS)]
        faults = await asyncio.gather(*(walk(crew) for crew in crews))

    assert faults == [[]] * CREWS
    assert len({crew.heard[0]["sessionId"] for crew in crews}) == CREWS


# -- what fails falls back, and stays


async def test_a_handler_that_fails_falls_back_in_the_same_turn(serve: Serve) -> None:
    office = Shaky()
    async with serve(assistants(office), router) as site:
        crew = Crew(site.http, "ana")
        assert await walk(crew) == []
        entries = await site.entries(crew.heard[-1]["sessionId"])

    assert office.asked == ["p1", "p1"]
    assert paths(entries) == ["intent", "button", "agent"]
    decision = bodies(entries, "intent.decided")[-1]
    assert decision["reason"].startswith(
        "button pick_site failed: ToolError; direct by_name had no answer; "
    )
    turn_id = crew.heard[-1]["turnId"]
    mine = [entry["kind"] for entry in entries if entry["turn_id"] == turn_id]
    assert mine.count("turn.started") == 1
    assert [kind for kind in mine if kind.startswith("tool.")] == [
        "tool.started",
        "tool.failed",
        "tool.started",
        "tool.completed",
    ]


async def test_a_handler_that_always_fails_is_answered_for_all_the_same(serve: Serve) -> None:
    async with serve(assistants(Shaky(for_ever=True)), router) as site:
        crew = Crew(site.http, "ana")
        await walk(crew, language="fr")
        answered = crew.heard[-1]

        assert answered["status"] == "completed"
        assert answered["text"] == UNREACHABLE["fr"]
        assert len({each["sessionId"] for each in crew.heard}) == 1
        # And what the session holds is still there.
        assert (await crew.says("voir les chantiers"))["text"] == SITES["fr"]


@pytest.mark.parametrize("language", ["en", "fr"])
async def test_what_cannot_be_answered_offers_what_to_do_next(
    serve: Serve, language: Language
) -> None:
    async with serve(assistants(Shaky(for_ever=True)), router) as site:
        crew = Crew(site.http, "ana")
        await walk(crew, language=language)
        failed = crew.heard[-1]
        again = await crew.picks(PICKED)
        puzzled = await crew.says("?")
        viewed = await crew.picks(VIEW[language])

    assert [failed["text"], again["text"]] == [UNREACHABLE[language]] * 2
    assert puzzled["text"] == UNKNOWN[language]
    assert viewed["text"] == SITES[language]


@pytest.mark.parametrize("language", ["en", "fr"])
async def test_a_button_that_is_no_more_is_answered_in_the_crew_s_language(
    serve: Serve, language: Language
) -> None:
    async with serve(assistants(), router) as site:
        crew = Crew(site.http, "ana")
        await crew.says(GREETINGS[language])
        late = await crew.presses({"button": "view_plan_of_site", "payload": {"site": 1}})
        viewed = await crew.picks(VIEW[language])
        entries = await site.entries(late["sessionId"])

    assert late["text"] == LATE[language]
    assert viewed["text"] == SITES[language]
    assert paths(entries) == ["intent", "button", "button"]
    assert bodies(entries, "intent.decided")[1]["reason"] == (
        "no handler of the button view_plan_of_site; stale late answered"
    )


# -- what is closed is over


async def test_a_closed_sessions_outputs_are_not_seen_by_the_next(serve: Serve) -> None:
    async with serve(assistants(), router) as site:
        crew = Crew(site.http, "ana")
        await walk(crew)
        old = crew.heard[1]
        await close(site, old["sessionId"])

        offered = old["buttons"][0]
        pressed = await crew.presses(offered)
        typed = await crew.says(PICKED)
        before = await site.entries(old["sessionId"])
        after = await site.entries(pressed["sessionId"])

    assert pressed["sessionId"] != old["sessionId"]
    assert [pressed["reused"], typed["reused"]] == [False, True]
    assert typed["sessionId"] == pressed["sessionId"]
    assert [pressed["text"], typed["text"]] == [UNKNOWN["en"], UNKNOWN["en"]]
    assert TASK not in str(after)
    assert paths(after) == ["agent", "agent"]
    assert "button pick_site had no answer" in bodies(after, "intent.decided")[0]["reason"]
    assert before[-1]["kind"] == "session.closed"


async def test_a_restart_forgets_nothing_that_was_shown(serve: Serve) -> None:
    async with serve(assistants(), router) as site:
        crew = Crew(site.http, "ana")
        await crew.says("view sites")
    async with serve(assistants(), router) as site:
        again = Crew(site.http, "ana")
        again.heard = crew.heard
        picked = await again.picks(PICKED)

    assert TASK in picked["text"]
    assert picked["sessionId"] == crew.heard[0]["sessionId"]


# -- the wire


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("message", {"text": "Hello"}),
        ("message", {"from": "", "text": "Hello"}),
        ("message", {"from": "a b", "text": "Hello"}),
        ("message", {"from": "ana", "text": "Hello", "sessionId": "ses_1"}),
        ("message", {"from": "ana", "text": ""}),
        ("button", {"from": "ana", "button": "no such", "payload": {}}),
        ("button", {"from": "ana", "button": "pick_site", "payload": {"project": 7}}),
        ("button", {"from": "ana", "button": "pick_site", "payload": []}),
        ("button", {"from": "ana", "button": 7}),
    ],
)
async def test_what_is_no_message_is_refused_and_leaves_no_turn(
    serve: Serve, path: str, body: dict[str, Any]
) -> None:
    async with serve(assistants(), router) as site:
        reply = await site.http.post(f"/api/{path}", json=body)
        said = await Crew(site.http, "ana").says("Hello")
        entries = await site.entries(said["sessionId"])

    assert reply.status_code in (400, 422)
    assert reply.headers["content-type"] == "application/problem+json"
    assert len(bodies(entries, "turn.queued")) == 1


async def test_a_sender_is_nobody_who_can_log_in(serve: Serve) -> None:
    """The wire has no token: who calls itself by a user's name reaches nothing of that user."""
    async with serve(assistants(), router) as site:
        said = await Crew(site.http, "admin").says("Hello")
        reply = await site.http.get(
            f"/v1/sessions/{said['sessionId']}", headers={"Authorization": f"Bearer {site.admin}"}
        )

    assert reply.json()["user_id"] == "sites:admin"


# -- the fault that it began with


async def test_a_backend_that_falls_back_into_another_session_is_caught() -> None:
    async with serve_naive(naive(Shaky())) as site:
        faults = await walk(Crew(site.http, "ana"))

    assert faults == [
        "2 sessions in one walk: ses_1, ses_2",
        "a picked site is answered with the greeting menu",
    ]
