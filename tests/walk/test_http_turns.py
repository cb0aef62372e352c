"""Turns over HTTP: accepted durably, run in order, once each, and waited for or not."""

import asyncio
from typing import Any

import pytest
from tests.walk.people import Walk, each_store, message
from tests.walk.test_http_sessions import shaped

from sessile.http import schemas

TURNS = schemas.TurnPage


@each_store
async def test_an_accepted_turn_is_in_the_log_before_the_reply(walk: Walk) -> None:
    session_id = await walk.opened()

    reply = await walk.alice.post(
        f"/v1/sessions/{session_id}/turns", json=message("hold me", when_busy="enqueue")
    )

    turn = shaped(reply, schemas.SubmittedTurn, 202)
    assert reply.headers["location"] == f"/v1/sessions/{session_id}/turns/{turn['turn_id']}"
    assert turn["session_id"] == session_id
    assert turn["input"] == {"type": "message", "text": "hold me"}
    assert (turn["position"], turn["output"], turn["error"], turn["ended_at"]) == (1, *[None] * 3)
    (accepted,) = [entry for entry in await walk.log(session_id) if entry["seq"] == turn["seq"]]
    assert (accepted["kind"], accepted["turn_id"]) == ("turn.queued", turn["turn_id"])
    walk.holds.go("me")


@each_store
async def test_a_wait_answers_200_with_the_ended_turn(walk: Walk) -> None:
    session_id = await walk.opened()

    reply = await walk.alice.post(
        f"/v1/sessions/{session_id}/turns?wait=30", json=message("progress")
    )

    turn = shaped(reply, schemas.SubmittedTurn)
    assert (turn["status"], turn["output"]) == ("completed", "you said: progress")
    assert (turn["current_iteration"], turn["tokens_used"]) == (1, 3)
    record = shaped(await walk.alice.get(reply.headers["location"]), schemas.Turn)
    assert record == {name: value for name, value in turn.items() if name != "seq"}


async def test_a_wait_that_runs_out_answers_202_and_the_turn_goes_on(walk: Walk) -> None:
    session_id = await walk.opened()
    url = f"/v1/sessions/{session_id}/turns"

    reply = await walk.alice.post(f"{url}?wait=0.001", json=message("hold on"))
    walk.holds.go("on")
    ended = await walk.alice.get(reply.headers["location"], params={"wait": 30})

    assert shaped(reply, schemas.SubmittedTurn, 202)["status"] == "running"
    assert shaped(ended, schemas.Turn)["status"] == "completed"


async def test_a_failed_turn_says_why_in_its_record(walk: Walk) -> None:
    turn = await walk.said(await walk.opened(), "fail")

    assert turn["status"] == "failed"
    assert turn["error"] == {
        "code": "out_of_ideas",
        "message": "There is nothing more to say.",
        "retry": True,
    }


@each_store
async def test_a_turn_may_open_its_session(walk: Walk) -> None:
    reply = await walk.alice.post(
        "/v1/turns?wait=30", json=message("hello", title="New", metadata={"a": 1}, assistant="echo")
    )

    turn = shaped(reply, schemas.SubmittedTurn)
    session = (await walk.alice.get(f"/v1/sessions/{turn['session_id']}")).json()
    assert (session["title"], session["metadata"]) == ("New", {"a": 1})
    assert turn["output"] == "you said: hello"


@each_store
async def test_the_same_key_gives_the_same_turn(walk: Walk) -> None:
    url = f"/v1/sessions/{await walk.opened()}/turns?wait=30"
    headers = {"idempotency-key": "pay once"}

    first = await walk.alice.post(url, json=message("pay"), headers=headers)
    before = await walk.everything()
    again = await walk.alice.post(url, json=message("pay"), headers=headers)
    other = await walk.alice.post(url, json=message("pay twice"), headers=headers)

    assert again.json() == first.json()
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert await walk.everything() == before


@each_store
async def test_opening_with_a_turn_is_idempotent_as_a_whole(walk: Walk) -> None:
    headers = {"idempotency-key": "whole"}

    first = await walk.alice.post("/v1/turns?wait=30", json=message("hi"), headers=headers)
    before = await walk.everything()
    again = await walk.alice.post("/v1/turns?wait=30", json=message("hi"), headers=headers)
    text = await walk.alice.post("/v1/turns", json=message("ho"), headers=headers)
    title = await walk.alice.post("/v1/turns", json=message("hi", title="x"), headers=headers)

    assert again.json() == first.json()
    assert [r.json()["code"] for r in (text, title)] == ["idempotency_conflict"] * 2
    assert await walk.everything() == before


@each_store
async def test_twenty_messages_at_once_are_answered_one_after_another(walk: Walk) -> None:
    session_id = await walk.opened()
    texts = [f"message {number}" for number in range(20)]

    turns = await asyncio.gather(*(walk.said(session_id, text) for text in texts))

    assert [turn["output"] for turn in turns] == [f"you said: {text}" for text in texts]
    said = (await walk.alice.get(f"/v1/sessions/{session_id}/messages?limit=100")).json()["items"]
    assert len(said) == 40
    assert len({each["message_id"] for each in said}) == 40
    in_order = sorted(turns, key=lambda turn: turn["position"])
    assert [each["turn_id"] for each in said] == [
        turn["turn_id"] for turn in in_order for _ in ("asked", "answered")
    ]
    assert [each["text"] for each in said] == [
        text
        for turn in in_order
        for text in (turn["input"]["text"], f"you said: {turn['input']['text']}")
    ]


@each_store
async def test_turns_are_listed_in_the_order_accepted(walk: Walk) -> None:
    session_id = await walk.opened()
    first = await walk.queued(session_id, "hold it")
    others = [await walk.queued(session_id, str(number)) for number in range(3)]
    url = f"/v1/sessions/{session_id}/turns"

    page = shaped(await walk.alice.get(url, params={"limit": 3}), TURNS)
    rest = shaped(await walk.alice.get(url, params={"limit": 3, "after": page["next"]}), TURNS)
    waiting = shaped(await walk.alice.get(url, params={"queued": "true"}), TURNS)

    in_order = [turn["turn_id"] for turn in (first, *others)]
    assert [turn["turn_id"] for turn in (*page["items"], *rest["items"])] == in_order
    assert rest["next"] is None
    assert [turn["turn_id"] for turn in waiting["items"]] == in_order[1:]
    walk.holds.go("it")


@each_store
async def test_a_queued_input_can_be_edited_until_its_turn_starts(walk: Walk) -> None:
    session_id = await walk.opened()
    running = await walk.queued(session_id, "hold it")
    queued = await walk.queued(session_id, "draft")
    url = f"/v1/sessions/{session_id}/turns"

    edited = await walk.alice.patch(f"{url}/{queued['turn_id']}", json=message("final"))
    refused = await walk.alice.patch(f"{url}/{running['turn_id']}", json=message("late"))
    walk.holds.go("it")
    ended = await walk.alice.get(f"{url}/{queued['turn_id']}?wait=30")

    assert shaped(edited, schemas.Turn)["input"]["text"] == "final"
    assert (refused.status_code, refused.json()["code"]) == (409, "turn_not_queued")
    assert refused.json()["details"] == {"status": "running"}
    assert ended.json()["output"] == "you said: final"


@each_store
async def test_a_queued_turn_is_withdrawn_and_a_running_one_stopped(walk: Walk) -> None:
    session_id = await walk.opened()
    running = await walk.queued(session_id, "hold it")
    queued = await walk.queued(session_id, "never")
    url = f"/v1/sessions/{session_id}/turns"
    await walk.holds.reached("it")

    withdrawn = await walk.alice.post(f"{url}/{queued['turn_id']}/cancel")
    stopping = await walk.alice.post(f"{url}/{running['turn_id']}/cancel", json={})
    stopped = await walk.alice.get(f"{url}/{running['turn_id']}?wait=30")
    again = await walk.alice.post(f"{url}/{running['turn_id']}/cancel")

    assert shaped(withdrawn, schemas.Turn)["status"] == "cancelled"
    assert shaped(stopping, schemas.Turn, 202)["status"] == "running"
    assert shaped(stopped, schemas.Turn)["status"] == "cancelled"
    assert stopped.json()["error"]["code"] == "cancelled"
    assert shaped(again, schemas.Turn)["status"] == "cancelled"


async def test_an_ended_turn_cannot_be_cancelled(walk: Walk) -> None:
    session_id = await walk.opened()
    turn = await walk.said(session_id, "done")

    reply = await walk.alice.post(f"/v1/sessions/{session_id}/turns/{turn['turn_id']}/cancel")

    assert (reply.status_code, reply.json()["code"]) == (409, "turn_ended")
    assert reply.json()["details"] == {"status": "completed"}


@pytest.mark.parametrize(
    ("when_busy", "status", "code"),
    [("enqueue", 202, None), ("reject", 409, "session_busy"), ("interrupt", 202, None)],
)
async def test_a_busy_session_does_with_an_input_what_it_was_told(
    walk: Walk, when_busy: str, status: int, code: str | None
) -> None:
    session_id = await walk.opened()
    running = await walk.queued(session_id, "hold it")
    await walk.holds.reached("it")
    url = f"/v1/sessions/{session_id}/turns"

    reply = await walk.alice.post(url, json=message("me too", when_busy=when_busy))

    assert (reply.status_code, reply.json().get("code")) == (status, code)
    walk.holds.go("it")
    ended = await walk.alice.get(f"{url}/{running['turn_id']}?wait=30")
    assert ended.json()["status"] == ("cancelled" if when_busy == "interrupt" else "completed")


async def test_a_steered_message_belongs_to_the_running_turn(walk: Walk) -> None:
    session_id = await walk.opened()
    running = await walk.queued(session_id, "hold it")
    await walk.holds.reached("it")
    url = f"/v1/sessions/{session_id}/turns"

    reply = await walk.alice.post(url, json=message("left", when_busy="steer"))

    assert shaped(reply, schemas.SubmittedTurn, 202)["turn_id"] == running["turn_id"]
    assert reply.json()["seq"] > running["seq"]
    walk.holds.go("it")


async def test_a_full_queue_says_when_to_come_back(walk: Walk) -> None:
    session_id = await walk.opened()
    await walk.queued(session_id, "hold it")
    url = f"/v1/sessions/{session_id}/turns"
    replies = [await walk.alice.post(url, json=message(str(n))) for n in range(257)]

    assert [reply.status_code for reply in replies] == [202] * 256 + [429]
    assert replies[-1].json()["code"] == "queue_full"
    assert int(replies[-1].headers["retry-after"]) > 0
    walk.holds.go("it")


async def test_a_task_and_its_metadata_are_kept_as_given(walk: Walk) -> None:
    session_id = await walk.opened()
    given: dict[str, Any] = {"type": "task", "text": "sum up", "metadata": {"due": "today"}}

    reply = await walk.alice.post(f"/v1/sessions/{session_id}/turns", json={"input": given})

    assert shaped(reply, schemas.SubmittedTurn, 202)["input"] == given


async def test_at_shutdown_a_wait_ends_with_the_turn_as_it_stands(walk: Walk) -> None:
    session_id = await walk.opened()

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(
            walk.alice.post(f"/v1/sessions/{session_id}/turns?wait=60", json=message("hold it"))
        )
        await walk.holds.reached("it")
        walk.app.drain()

    assert shaped(asked.result(), schemas.SubmittedTurn, 202)["status"] == "running"
    walk.holds.go("it")
