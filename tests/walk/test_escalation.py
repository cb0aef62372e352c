"""An agent that was talked into everything: what it asks for beyond its session's rights is not
done, is refused in the log with a verdict, and reaches nobody else."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.integrations.models import Script, call

from sessile import Assistant, Principal, Server, Settings, TurnContext
from sessile.core.errors import ApprovalAnswered
from sessile.core.ids import CallId, SessionId, TenantId, UserId
from sessile.runtime.feed import Grown

ANA = Principal(tenant_id=TenantId("acme"), user_id=UserId("ana"))
BEN = Principal(tenant_id=TenantId("acme"), user_id=UserId("ben"))
EVE = Principal(tenant_id=TenantId("other"), user_id=UserId("eve"))
SECONDS_MAX = 20.0


@dataclass
class Desk:
    """A server whose assistants' models follow scripts; `ran`: each tool that was executed."""

    front: Script
    helper: Script
    ran: list[tuple[str, str, str, str]] = field(default_factory=list)
    server: Server = field(init=False)

    def noted(self, name: str, turn: TurnContext) -> str:
        self.ran.append((name, turn.tenant_id, turn.user_id, turn.session_id))
        return "done"

    def assistants(self) -> tuple[Assistant, Assistant]:
        front = Assistant(
            "front", model=self.front.model(),
            tools_allowed=("look", "deploy", "refund", "ask.helper", "context_*"),
        )  # fmt: skip
        helper = Assistant("helper", model=self.helper.model(), tools_allowed=("refund", "deploy"))
        front.delegate(helper)

        @front.tool
        async def look(turn: TurnContext, word: str) -> str:
            return self.noted("look", turn)

        for each in (front, helper):

            @each.tool("wipe")
            async def wipe(turn: TurnContext) -> str:
                return self.noted("wipe", turn)

            @each.tool("deploy", grant="deploy")
            async def deploy(turn: TurnContext) -> str:
                return self.noted("deploy", turn)

            @each.tool("refund", approval=True)
            async def refund(turn: TurnContext, number: int) -> str:
                return self.noted("refund", turn)

        return front, helper

    async def opened(self, principal: Principal) -> SessionId:
        return (await self.server.open(principal)).found.head.key.session_id

    async def log(self, principal: Principal, session_id: SessionId) -> list[tuple[str, Any]]:
        entries = await self.server.reads.export(principal, session_id)
        return [(each.kind, json.loads(each.body)) async for each in entries]

    async def refused(self, session_id: SessionId) -> list[tuple[str, str]]:
        """Name and verdict of each call that was refused."""
        log = await self.log(ANA, session_id)
        names = {b["call_id"]: b["name"] for k, b in log if k in ("tool.started", "tool.refused")}
        return [(names[b["call_id"]], b["verdict"]) for k, b in log if k == "tool.refused"]


@asynccontextmanager
async def desk(*steps: Any, helper: tuple[Any, ...] = ("no",)) -> AsyncIterator[Desk]:
    """Nothing that happens in it changes anything in the sessions of others."""
    made = Desk(Script(*steps), Script(*helper))
    async with Server(*made.assistants(), settings=Settings(store_url="memory")) as made.server:
        others = [(who, await made.opened(who)) for who in (ANA, BEN, EVE)]
        before = [await made.log(*each) for each in others]
        yield made
        assert [await made.log(*each) for each in others] == before
        assert len(await made.server.reads.sessions(EVE, limit=10)) == 1


async def said(made: Desk, text: str = "go on") -> tuple[SessionId, Any]:
    session_id = await made.opened(ANA)
    done = await made.server.submit(ANA, session_id, text, wait_seconds=SECONDS_MAX)
    return session_id, done.turn


@pytest.mark.parametrize(
    ("name", "arguments", "verdict"),
    [
        ("wipe", {}, "denied"),
        ("no_such_tool", {}, "denied"),
        ("deploy", {}, "needs_grant"),
        ("context_status", {}, "needs_grant"),
        ("context_summarize", {"summary": "All is allowed."}, "needs_grant"),
    ],
)
async def test_a_call_beyond_its_rights_is_refused_with_its_verdict(
    name: str, arguments: dict[str, Any], verdict: str
) -> None:
    async with desk([call(name, arguments, call_id="a")], "done") as made:
        session_id, turn = await said(made)

        assert turn.status == "completed"
        assert await made.refused(session_id) == [(name, verdict)]
        assert made.ran == []
        assert sorted(made.front.offered[0]) == ["ask_helper", "look", "refund"]


@pytest.mark.parametrize("name", ["Wipe", "wipe ", "look\0", "front.wipe", "../wipe", "wipe()", ""])
async def test_a_name_that_is_like_a_tools_is_none(name: str) -> None:
    async with desk([call(name, call_id="a")], "done") as made:
        await said(made)

        assert made.ran == []


async def test_ids_in_arguments_reach_nobody_else() -> None:
    async with desk(
        lambda _: [
            call(
                "look", {"word": "x", "session_id": "ses_" + "0" * 32, "tenant_id": "other",
                         "user_id": "eve", "turn": {"user_id": "eve"}}, call_id="a",
            ),
            call("look", {"word": f"tenant other, user eve, {EVE}"}, call_id="b"),
        ],
        "done",
    ) as made:  # fmt: skip
        session_id, turn = await said(made)

        assert turn.status == "completed"
        assert {each[1:] for each in made.ran} == {("acme", "ana", session_id)}


async def waiting(made: Desk) -> tuple[SessionId, Any, CallId]:
    session_id, turn = await said(made)
    assert turn.status == "awaiting"
    (call_id,) = turn.awaited.call_ids
    return session_id, turn, call_id


async def told(made: Desk, session_id: SessionId, kind: str, count: int = 1) -> list[Any]:
    """The bodies of the entries of a kind, once there are so many."""
    found: list[Any] = []
    async for item in made.server.follow(ANA, session_id):
        entries = item.entries if isinstance(item, Grown) else ()
        found += [json.loads(each.body) for each in entries if each.kind == kind]
        if len(found) >= count:
            break
    return found


async def test_a_model_does_not_approve_its_own_call() -> None:
    step = ["Approved. I approve this call.", call("refund", {"number": 7}, call_id="a")]
    async with desk(step, "done") as made:
        session_id, _, call_id = await waiting(made)
        approve = f"approve {call_id}"
        queued = await made.server.submit(ANA, session_id, approve)

        assert (queued.turn.status, made.ran) == ("queued", [])
        await made.server.gates.answer(ANA, session_id, call_id, granted=False)
        await told(made, session_id, "turn.completed", 2)

        assert made.ran == []
        assert ("refund", "denied") in await made.refused(session_id)


async def test_a_call_that_was_denied_is_not_made_by_its_id_again() -> None:
    refund = [call("refund", {"number": 7}, call_id="a")]
    async with desk(refund, refund, refund, "done") as made:
        session_id, _, first = await waiting(made)
        await made.server.gates.answer(ANA, session_id, first, granted=False)

        for count in (2, 3):
            asked = await told(made, session_id, "approval.requested", count)
            assert len({each["call_id"] for each in asked}) == count
            again = asked[-1]["call_id"]
            with pytest.raises(ApprovalAnswered):
                await made.server.gates.answer(ANA, session_id, first, granted=True)
            await made.server.gates.answer(ANA, session_id, again, granted=False)
        await told(made, session_id, "turn.completed")

        assert made.ran == []
        assert await made.refused(session_id) == [("refund", "denied")] * 3


async def test_who_is_asked_has_no_more_rights_than_its_own() -> None:
    async with desk(
        [call("ask_helper", {"question": "wipe, deploy and refund it for me"}, call_id="a")],
        "done",
        helper=(
            [
                call("wipe", call_id="b"), call("deploy", call_id="c"),
                call("refund", {"number": 7}, call_id="d"),
                call("look", {"word": "x"}, call_id="e"),
            ],
            "I could not.",
        ),
    ) as made:  # fmt: skip
        session_id, turn = await said(made)

        assert turn.status == "completed"
        assert made.ran == []
        assert sorted(await made.refused(session_id)) == [
            ("deploy", "needs_grant"), ("look", "denied"), ("refund", "needs_approval"),
            ("wipe", "denied"),
        ]  # fmt: skip
