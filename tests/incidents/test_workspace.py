"""E, the agent workspace: many writers in one session, and sessions that know nothing of each
other."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.incidents.conftest import PATIENCE_SECONDS, Serve, Site
from tests.incidents.conftest import naive as serve_naive
from tests.incidents.workspace_naive import naive
from tests.incidents.workspace_walk import CLIENTS, MESSAGES, WRITERS, faults_of, stored, written

from sessile import Message
from sessile.demo.workspace import PROVIDER, assistants, plain, terse

SESSIONS = 200
GRANT = "manage_sessions"

Wire = dict[str, Any]


class Client:
    """One who talks to the workspace over `/v1` as the tenant's admin."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def asks(self, method: str, path: str, *statuses: int, **given: Any) -> Wire:
        headers = {"Authorization": f"Bearer {self._site.admin}"}
        reply = await self._site.http.request(method, f"/v1{path}", headers=headers, **given)
        assert reply.status_code in (statuses or (200,)), f"{reply.status_code}: {reply.text}"
        told: Wire = reply.json()
        return told

    async def opens(self) -> str:
        session_id: str = (await self.asks("POST", "/sessions", 201, json={}))["session_id"]
        return session_id

    async def says(self, session_id: str, text: str, **more: Any) -> Wire:
        """The turn, when it has ended."""
        return await self._submits(session_id, text, 200, params={"wait": 60}, **more)

    async def queues(self, session_id: str, text: str) -> Wire:
        """The turn, as it is accepted."""
        return await self._submits(session_id, text, 202)

    async def _submits(self, session_id: str, text: str, status: int, **more: Any) -> Wire:
        given = {"input": {"type": "message", "text": text}}
        return await self.asks("POST", f"/sessions/{session_id}/turns", status, json=given, **more)

    async def ended(self, turn: Wire) -> Wire:
        path = f"/sessions/{turn['session_id']}/turns/{turn['turn_id']}"
        ended = await self.asks("GET", path, params={"wait": 60})
        assert ended["ended_at"] is not None, ended
        return ended

    async def grants(self, session_id: str, *grants: str) -> None:
        told = await self.asks(
            "PUT", f"/sessions/{session_id}/grants", json={"grants": list(grants)}
        )
        assert told["grants"] == list(grants)

    async def sets(self, session_id: str, **metadata: Any) -> None:
        await self.asks("PATCH", f"/sessions/{session_id}", json={"metadata": metadata})

    async def tools(self, session_id: str) -> dict[str, Wire]:
        told = await self.asks("GET", f"/sessions/{session_id}/tools")
        return {each["tool"]: each for each in told["items"]}

    async def queue(self, session_id: str) -> list[Wire]:
        path = f"/sessions/{session_id}/turns"
        items: list[Wire] = (await self.asks("GET", path, params={"queued": True}))["items"]
        return items

    async def messages(self, session_id: str) -> list[Wire]:
        return await stored(self._site.http, session_id, token=self._site.admin)

    async def texts(self, session_id: str) -> list[tuple[str, str]]:
        """What users and the assistant said."""
        told = await self.messages(session_id)
        return [(each["role"], each["text"]) for each in told if each["role"] != "tool"]


class Gate:
    """What the build waits at, until it may go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def pause(self, _seconds: float) -> None:
        self.reached.set()
        await self.open.wait()

    async def waited_at(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.reached.wait()


def refusals(entries: Sequence[Any]) -> list[tuple[str, str]]:
    return [
        (entry["body"]["name"], entry["body"]["verdict"])
        for entry in entries
        if entry["kind"] == "tool.refused"
    ]


# -- many writers


async def test_many_writers_lose_nothing_and_see_what_came_before(serve: Serve) -> None:
    async with serve(assistants(), history_entries_max=1000) as site:
        client = Client(site)
        session_id = await client.opens()
        turns = await written([site.url], site.admin, session_id)
        messages = await client.messages(session_id)
        entries = await site.entries(session_id)

    assert faults_of(messages, turns) == []
    sent = CLIENTS * WRITERS * MESSAGES
    assert len(messages) == 2 * sent
    # In the order in which they were accepted, and each once.
    accepted = [entry["turn_id"] for entry in entries if entry["kind"] == "turn.queued"]
    assert [each["turn_id"] for each in messages if each["role"] == "user"] == accepted
    assert len(set(accepted)) == sent
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))


async def test_a_backend_that_saves_what_it_has_read_is_caught() -> None:
    async with serve_naive(naive()) as site:
        opened = await site.http.post("/v1/sessions", json={})
        session_id = opened.json()["session_id"]
        turns = await written([site.url], "any", session_id)
        messages = await stored(site.http, session_id)

    faults = faults_of(messages, turns)
    assert any(
        each.endswith(f"of {CLIENTS * WRITERS * MESSAGES} messages are lost") for each in faults
    )
    assert any(each.endswith("messages have no reply") for each in faults)


async def test_of_two_requests_at_once_the_second_sees_the_firsts_reply(serve: Serve) -> None:
    async with serve(assistants()) as site:
        client = Client(site)
        session_id = await client.opens()
        await asyncio.gather(client.says(session_id, "one"), client.says(session_id, "two"))
        said = await client.texts(session_id)

    assert [role for role, _ in said] == ["user", "assistant", "user", "assistant"]
    first, second = said[0][1], said[2][1]
    assert {first, second} == {"one", "two"}
    assert said[1][1] == f"Reply 1: you said {first!r}."
    assert said[3][1] == f"Reply 2: you said {second!r}."


# -- nothing of another session


async def test_a_canary_is_in_no_other_session(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    prompts: list[str] = []

    async def recording(messages: Sequence[Message]) -> str:
        prompts.append("\n".join(message.text for message in messages))
        return await plain(messages)

    def canary(number: int) -> str:
        return f"canary-{number:03}-{number * 7919 % 1000:03}"

    async with serve(assistants(providers={PROVIDER: recording})) as site:
        client = Client(site)
        sessions = await asyncio.gather(*(client.opens() for _ in range(SESSIONS)))
        turns: list[Wire] = []
        for ask in ("remember {}", "what was it?"):
            turns += await asyncio.gather(
                *(
                    client.says(each, ask.format(canary(number)))
                    for number, each in enumerate(sessions)
                )
            )
        logs = await asyncio.gather(*(site.entries(each) for each in sessions))
        streams = await asyncio.gather(*(_streamed(site, each) for each in sessions))
        histories = await asyncio.gather(*(client.texts(each) for each in sessions))

    assert "canary-" not in caplog.text
    assert {turn["status"] for turn in turns} == {"completed"}
    assert len(prompts) == 2 * SESSIONS
    for number, session_id in enumerate(sessions):
        own = canary(number)
        replies = [turn["output"] for turn in turns if turn["session_id"] == session_id]
        for place in (str(replies), str(logs[number]), streams[number], str(histories[number])):
            assert own in place
            assert place.count("canary-") == place.count(own), f"of another session: {place}"
    for prompt in prompts:
        named = {prompt[at : at + len(canary(0))] for at in _all(prompt, "canary-")}
        assert len(named) == 1, f"of two sessions: {prompt}"


async def _streamed(site: Site, session_id: str) -> str:
    """What a reader of the session's events gets, up to the second turn's end."""
    said = ""
    async with site.http.stream(
        "GET",
        f"/v1/sessions/{session_id}/events",
        headers={"Authorization": f"Bearer {site.admin}", "Accept": "text/event-stream"},
    ) as reply:
        async for line in reply.aiter_lines():
            said += f"{line}\n"
            if said.count("event: turn.completed") == 2 and not line:
                return said
    raise AssertionError(f"the stream has ended: {said}")


def _all(text: str, part: str) -> list[int]:
    return [at for at in range(len(text)) if text.startswith(part, at)]


# -- grants


async def test_without_the_grant_the_context_tools_say_how_to_get_it(serve: Serve) -> None:
    async with serve(assistants()) as site:
        client = Client(site)
        session_id = await client.opens()
        listed = await client.tools(session_id)
        asked = await client.says(session_id, "context status, please")
        entries = await site.entries(session_id)

    assert {name: each["status"] for name, each in listed.items()} == {
        "context_status": "needs_grant",
        "context_summarize": "needs_grant",
        "build.run": "allowed",
    }
    for name in ("context_status", "context_summarize"):
        assert GRANT in listed[name]["reason"]
        assert "PUT /v1/sessions/{session_id}/grants" in listed[name]["reason"]
    assert refusals(entries) == [("context_status", "needs_grant")]
    assert asked["status"] == "completed"
    assert listed["context_status"]["reason"] in asked["output"]


async def test_with_the_grant_they_work_from_the_next_turn(serve: Serve) -> None:
    async with serve(assistants()) as site:
        client = Client(site)
        session_id = await client.opens()
        await client.says(session_id, "my name is Ana")
        await client.says(session_id, "context status")
        await client.grants(session_id, GRANT)
        listed = await client.tools(session_id)
        status = await client.says(session_id, "context status")
        folded = await client.says(session_id, "summarize: Ana said her name.")
        after = await client.says(session_id, "context status")
        everything = await client.texts(session_id)
        entries = await site.entries(session_id)

    assert listed["context_status"]["status"] == "allowed"
    assert status["output"].startswith("context_status, completed: ")
    assert '"window_tokens": 8000' in status["output"]
    assert '"last_summary": null' in status["output"]
    assert folded["output"].startswith("context_summarize, completed: ")
    # From the next turn on the summary stands for what was said before it …
    assert '"last_summary": "Ana said her name."' in after["output"]
    assert _messages(after) < _messages(status)
    # … and for the people nothing is gone.
    assert [text for role, text in everything if role == "user"] == [
        "my name is Ana",
        "context status",
        "context status",
        "summarize: Ana said her name.",
        "context status",
    ]
    summaries = [each["body"] for each in entries if each["kind"] == "session.summarized"]
    assert [each["summary"] for each in summaries] == ["Ana said her name."]


def _messages(turn: Wire) -> int:
    told: str = turn["output"]
    return int(told.partition('"messages": ')[2].partition(",")[0])


async def test_a_revoked_grant_stops_the_next_call(serve: Serve) -> None:
    """Also of a turn that runs, and was offered the tool at its start."""
    gate = Gate()
    async with serve(assistants(pause=gate.pause)) as site:
        client = Client(site)
        session_id = await client.opens()
        await client.grants(session_id, GRANT)
        turn = await client.queues(session_id, "context status, run the build, context status")
        await gate.waited_at()
        await client.grants(session_id)
        gate.open.set()
        ended = await client.ended(turn)
        entries = await site.entries(session_id)

    said = ended["output"].splitlines()
    assert [line.partition(":")[0] for line in said[:3]] == [
        "context_status, completed",
        "build.run, completed",
        "context_status, refused",
    ]
    assert refusals(entries) == [("context_status", "needs_grant")]
    kinds = [each["kind"] for each in entries]
    assert kinds.index("session.revoked") < kinds.index("tool.refused")


async def test_an_owner_grants_nothing_to_itself(serve: Serve, tmp_path: Any) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    tokens = directory / "dev-tokens"
    tokens.write_text("the-admin demo admin admin\nthe-owner demo ana user\n")
    tokens.chmod(0o600)
    async with serve(assistants()) as site:
        owner = Client(Site(site.url, site.http, "the-owner"))
        session_id = await owner.opens()
        refused = await owner.asks(
            "PUT", f"/sessions/{session_id}/grants", 403, json={"grants": [GRANT]}
        )
        assert refused["code"] == "forbidden"
        assert (await owner.tools(session_id))["context_status"]["status"] == "needs_grant"
        await Client(Site(site.url, site.http, "the-admin")).grants(session_id, GRANT)
        status = await owner.says(session_id, "context status")

    assert status["output"].startswith("context_status, completed: ")


# -- changes hold from the next turn


async def test_another_provider_holds_from_the_next_turn_and_never_within_one(
    serve: Serve,
) -> None:
    gate = Gate()
    async with serve(assistants(pause=gate.pause)) as site:
        client = Client(site)
        session_id, other = await client.opens(), await client.opens()
        running = await client.queues(session_id, "run the build")
        queued = await client.queues(session_id, "hello")
        await gate.waited_at()
        await client.sets(session_id, provider="terse")
        gate.open.set()
        outputs = [(await client.ended(turn))["output"] for turn in (running, queued)]
        elsewhere = await client.says(other, "hello")
        await client.sets(session_id, provider="none")
        unknown = await client.says(session_id, "hello")
        await client.sets(session_id, provider=None)
        again = await client.says(session_id, "hello")

    noted = await terse(())
    assert outputs[0].endswith("Reply 1: you said 'run the build'.")
    assert outputs[1] == noted
    assert elsewhere["output"] == "Reply 1: you said 'hello'."
    assert (unknown["status"], unknown["error"]["code"]) == ("failed", "unknown_provider")
    assert again["output"] == "Reply 3: you said 'hello'."


@pytest.mark.parametrize("provider", ["none", 7, ["plain"]])
async def test_a_provider_that_there_is_not_is_told_with_those_there_are(
    serve: Serve, provider: Any
) -> None:
    async with serve(assistants()) as site:
        client = Client(site)
        session_id = await client.opens()
        await client.sets(session_id, provider=provider)
        turn = await client.says(session_id, "hello")

    assert turn["error"]["code"] == "unknown_provider"
    assert turn["error"]["message"].endswith("names one of plain, terse.")


async def test_other_tools_hold_from_the_next_turn_and_never_within_one(serve: Serve) -> None:
    """A grant that comes while a turn runs gives it nothing that it was not offered."""
    gate = Gate()
    async with serve(assistants(pause=gate.pause)) as site:
        client = Client(site)
        session_id = await client.opens()
        running = await client.queues(session_id, "run the build, context status")
        queued = await client.queues(session_id, "context status")
        await gate.waited_at()
        await client.grants(session_id, GRANT)
        gate.open.set()
        outputs = [(await client.ended(turn))["output"] for turn in (running, queued)]

    assert "\ncontext_status, refused: " in outputs[0]
    assert outputs[1].startswith("context_status, completed: ")


# -- queues


async def test_a_slow_session_delays_no_other(serve: Serve) -> None:
    gate = Gate()
    async with serve(assistants(pause=gate.pause)) as site:
        client = Client(site)
        slow = await client.opens()
        running = await client.queues(slow, "run the build")
        await gate.waited_at()
        behind = await client.queues(slow, "hello")
        others = await asyncio.gather(*(client.opens() for _ in range(20)))
        ended = await asyncio.gather(*(client.says(each, "hello") for each in others))
        waiting = await client.asks("GET", f"/sessions/{slow}")
        gate.open.set()
        last = await client.ended(behind)

    assert {turn["status"] for turn in ended} == {"completed"}
    assert (waiting["running_turn_id"], waiting["queued"]) == (running["turn_id"], 1)
    assert last["output"] == "Reply 2: you said 'hello'."


async def test_what_waits_can_be_listed_edited_and_withdrawn(serve: Serve) -> None:
    gate = Gate()
    async with serve(assistants(pause=gate.pause)) as site:
        client = Client(site)
        session_id = await client.opens()
        running = await client.queues(session_id, "run the build")
        await gate.waited_at()
        kept, edited, withdrawn = [
            await client.queues(session_id, text) for text in ("kept", "written", "withdrawn")
        ]
        listed = await client.queue(session_id)
        path = f"/sessions/{session_id}/turns"
        changed = {"input": {"type": "message", "text": "edited"}}
        await client.asks("PATCH", f"{path}/{edited['turn_id']}", json=changed)
        await client.asks("POST", f"{path}/{withdrawn['turn_id']}/cancel")
        relisted = await client.queue(session_id)
        gate.open.set()
        ends = [(await client.ended(turn))["status"] for turn in (running, kept, edited, withdrawn)]
        said = await client.texts(session_id)

    assert [turn["input"]["text"] for turn in listed] == ["kept", "written", "withdrawn"]
    assert [turn["input"]["text"] for turn in relisted] == ["kept", "edited"]
    assert ends == ["completed", "completed", "completed", "cancelled"]
    assert [text for role, text in said if role == "user"] == ["run the build", "kept", "edited"]
