"""G1: an id is born once, before all that bears it. G2: what belongs together stays together."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from tests.guarantees.callers import Caller, of_kind, refused, told
from tests.guarantees.conftest import Serve

from sessile import Assistant, TurnContext

ID = re.compile(r"ses_[A-Za-z0-9_-]{16,}")
NO_IDS = ("null", "None", "undefined", "0", "ses_", "ses_null", "%00", "%20", "..%2F..", "s" * 3000)


def echo(name: str = "echo", **given: Any) -> Assistant:
    assistant = Assistant(name, **given)

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        return f"{turn.session_id} heard {turn.input['text']}"

    return assistant


async def test_g1_an_open_answers_with_an_id_of_its_own_that_works_at_once(serve: Serve) -> None:
    async with serve(echo()) as world:
        ana = world.ana

        async def born() -> str:
            session_id: str = (await ana.open())["session_id"]
            assert ID.fullmatch(session_id)
            for rest in ("", "/messages", "/turns", "/tools", "/context", "/export"):
                assert (await ana.get(f"/v1/sessions/{session_id}{rest}")).status_code == 200
            assert (await ana.session(session_id))["session_id"] == session_id
            async with ana.follow(session_id) as stream:
                (first,) = await stream.until("session.opened")
            assert first["seq"] == 1
            assert (await ana.said(session_id, "hi"))["session_id"] == session_id
            return session_id

        born_ids = await asyncio.gather(*(born() for _ in range(12)))

        assert len(set(born_ids)) == 12
        listed = [each["session_id"] for each in await ana.sessions()]
        assert sorted(listed) == sorted(born_ids)


async def test_g1_every_record_bears_the_id_of_the_request_and_no_other(serve: Serve) -> None:
    async with serve(echo()) as world:
        ana = world.ana
        session_ids = [await ana.opened() for _ in range(5)]
        for text in ("one", "two", "three"):
            turns = await asyncio.gather(*(ana.said(each, text) for each in session_ids))
            assert [turn["session_id"] for turn in turns] == session_ids

        for session_id in session_ids:
            everything = [
                await ana.session(session_id),
                await ana.log(session_id),
                await ana.messages(session_id),
                await ana.turns(session_id),
            ]
            assert set(ID.findall(json.dumps(everything))) == {session_id}


async def test_g1_a_turn_without_a_session_opens_one_first_and_names_it(serve: Serve) -> None:
    async with serve(echo()) as world:
        body = {"input": {"type": "message", "text": "hi"}}
        turns = [
            told(reply, 202)
            for reply in await asyncio.gather(
                *(world.ana.post("/v1/turns", json=body) for _ in range(20))
            )
        ]

        session_ids = {turn["session_id"] for turn in turns}
        assert {each["session_id"] for each in await world.ana.sessions()} == session_ids
        assert len(session_ids) == 20
        for turn in turns:
            ended = await world.ana.ended(turn)
            assert ended["output"] == f"{turn['session_id']} heard hi"
            log = await world.ana.log(turn["session_id"])
            assert [entry["kind"] for entry in log[:2]] == ["session.opened", "turn.queued"]
            assert {entry["turn_id"] for entry in log[1:]} == {turn["turn_id"]}
            assert log[1]["seq"] == turn["seq"]


async def test_g1_what_is_no_id_is_never_taken_for_one(serve: Serve) -> None:
    body = {"input": {"type": "message", "text": "hi"}}
    async with serve(echo()) as world:
        own = await world.ana.opened()
        for no_id in NO_IDS:
            at = f"/v1/sessions/{no_id}"
            replies = [
                await world.ana.get(at),
                await world.ana.get(f"{at}/events"),
                await world.ana.patch(at, json={"title": "mine"}),
                await world.ana.post(f"{at}/turns", json=body),
                await world.ana.post(f"{at}/close"),
            ]
            assert {reply.status_code for reply in replies} == {404}, no_id

        assert [each["session_id"] for each in await world.ana.sessions()] == [own]
        assert (await world.ana.session(own))["head"] == 1


async def test_g1_an_empty_id_is_no_open_in_disguise(serve: Serve) -> None:
    body = {"input": {"type": "message", "text": "hi"}}
    async with serve(echo()) as world:
        for path in ("/v1/sessions//turns", "/v1/sessions/", "/v1/turns/"):
            assert (await world.ana.post(path, json=body)).status_code == 404
        assert await world.ana.sessions() == []


async def test_g1_a_request_that_names_two_sessions_is_refused(serve: Serve) -> None:
    async with serve(echo()) as world:
        mine, other = await world.ana.opened(), await world.ana.opened()

        reply = await world.ana.submit(mine, "hi", session_id=other)
        unborn = await world.ana.post(
            "/v1/turns", json={"input": {"type": "message", "text": "hi"}, "session_id": other}
        )
        chosen = await world.ana.post("/v1/sessions", json={"session_id": other})

        assert refused(reply) == (400, "session_mismatch")
        assert unborn.status_code in (400, 422)
        assert chosen.status_code in (400, 422)
        sessions = await world.ana.sessions()
        assert {each["session_id"]: each["head"] for each in sessions} == {mine: 1, other: 1}


async def test_g1_a_refused_first_turn_leaves_no_session(serve: Serve) -> None:
    async with serve(echo(), text_chars_max=10) as world:
        for body in (
            {"input": {"type": "message", "text": "hi"}, "assistant": "nobody"},
            {"input": {"type": "message", "text": "x" * 11}},
            {"input": {"type": "message"}},
            {"input": {"type": "message", "text": "hi"}, "title": "x" * 201},
        ):
            assert (await world.ana.post("/v1/turns", json=body)).status_code == 422, body
        assert await world.ana.sessions() == []


async def test_g2_concurrent_opens_of_an_exclusive_assistant_are_one_session(serve: Serve) -> None:
    async with serve(echo(exclusive=True)) as world:

        async def opened_by(caller: Caller, n: int) -> str:
            replies = await asyncio.gather(
                *(caller.post("/v1/sessions", json={}) for _ in range(n))
            )
            statuses = sorted(reply.status_code for reply in replies)
            assert statuses == [200] * (n - 1) + [201]
            (session_id,) = {reply.json()["session_id"] for reply in replies}
            return str(session_id)

        first, bens, cleos = await asyncio.gather(
            opened_by(world.ana, 30), opened_by(world.ben, 10), opened_by(world.cleo, 10)
        )
        assert len({first, bens, cleos}) == 3
        assert (await world.ana.post(f"/v1/sessions/{first}/close")).status_code == 200
        second = await opened_by(world.ana, 30)

        assert second != first
        active = [each for each in await world.ana.sessions() if each["status"] == "active"]
        assert [each["session_id"] for each in active] == [second]
        assert refused(await world.ana.submit(first, "hi")) == (409, "session_closed")

    async with serve(echo(exclusive=True)) as world:
        assert (await world.ana.open())["session_id"] == second


async def test_g2_first_turns_for_an_exclusive_assistant_meet_in_one_session(serve: Serve) -> None:
    async with serve(echo("plain"), echo("only", exclusive=True)) as world:

        async def said(n: int) -> dict[str, Any]:
            body = {"assistant": "only", "input": {"type": "message", "text": f"n{n}"}}
            return told(await world.ana.post("/v1/turns", params={"wait": 15}, json=body), 200)

        turns = await asyncio.gather(*(said(n) for n in range(20)))

        (session_id,) = {turn["session_id"] for turn in turns}
        assert {turn["output"] for turn in turns} == {f"{session_id} heard n{n}" for n in range(20)}
        assert len(await world.ana.sessions()) == 1


async def test_g2_exclusive_holds_while_sessions_are_closed_and_opened(serve: Serve) -> None:
    async with serve(echo(exclusive=True)) as world:
        ana = world.ana
        seen: list[list[str]] = []

        async def churn() -> None:
            for _ in range(6):
                await ana.post(f"/v1/sessions/{await ana.opened()}/close")

        async def watch() -> None:
            while not churning.done():
                # One read is one moment; the pages of a list are several.
                page = told(await ana.get("/v1/sessions", params={"limit": 200}), 200)["items"]
                seen.append([each["session_id"] for each in page if each["status"] == "active"])

        churning = asyncio.gather(*(churn() for _ in range(5)))
        await asyncio.gather(churning, watch())

        assert max(len(active) for active in seen) == 1


async def test_g2_fallback_retry_and_reconnect_stay_in_the_session(serve: Serve) -> None:
    """The first model fails, the tool fails at first, the client hangs up and asks again: one
    session has all of it."""
    asked: list[str] = []

    async def down(_messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
        raise ModelHTTPError(503, "down")
        yield ""  # only so that it is a stream

    async def up(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[Any]:
        results = sum(part.part_kind == "tool-return" for part in messages[-1].parts)
        tried = sum(part.part_kind == "tool-call" for each in messages for part in each.parts)
        if tried < 2:
            yield {0: DeltaToolCall("flaky", "{}", tool_call_id=f"call-{tried}")}
        else:
            yield f"done after {tried}, {results}"

    assistant = Assistant(
        "support",
        model=FallbackModel(FunctionModel(stream_function=down), FunctionModel(stream_function=up)),
    )

    @assistant.tool("flaky")
    async def flaky(turn: TurnContext) -> str:
        """Fails at first."""
        asked.append(turn.session_id)
        if len(asked) == 1:
            raise RuntimeError("not yet")
        return f"found for {turn.session_id}"

    async with serve(assistant) as world:
        body = {"input": {"type": "message", "text": "zq7-needle"}}
        key = {"Idempotency-Key": "the-request"}
        first = told(await world.ana.post("/v1/turns", json=body, headers=key), 202)
        async with world.ana.follow(first["session_id"]) as stream:
            await stream.until("turn.queued")
        again = told(
            await world.ana.post("/v1/turns", params={"wait": 15}, json=body, headers=key), 200
        )

        assert again["turn_id"] == first["turn_id"]
        assert again["status"] == "completed", again
        assert again["output"].startswith("done after 2")
        (session,) = await world.ana.sessions()
        assert asked == [session["session_id"]] * 2
        log = await world.ana.log(session["session_id"])
        assert len(of_kind(log, "turn.queued")) == 1
        (found,) = of_kind(log, "tool.completed")
        assert found["body"]["result"] == f"found for {session['session_id']}"
        said = [message["text"] for message in await world.ana.messages(session["session_id"])]
        assert said.count("zq7-needle") == 1
