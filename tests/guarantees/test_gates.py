"""Grants, approvals and buttons, asked for and answered over HTTP."""

from typing import Any

from pydantic import BaseModel
from tests.guarantees.callers import Record, told
from tests.guarantees.conftest import Serve

from sessile import Assistant, Button, History, Reply, Tools, TurnContext


class Site(BaseModel):
    """The payload of a press."""

    site: int


def bank(ran: list[int]) -> Assistant:
    """Refunds behind an approval, tells secrets behind a grant, and shows buttons."""
    assistant = Assistant("bank", owner_grants=("secrets",))

    @assistant.tool("refund", approval=True)
    async def refund(turn: TurnContext, number: int) -> str:
        ran.append(number)
        return f"refunded {number}"

    @assistant.tool("secret", grant="secrets")
    async def secret(turn: TurnContext) -> str:
        return "sesame"

    @assistant.button("site", label="A site")
    async def site(turn: TurnContext, payload: Site) -> Reply:
        return Reply(f"site {payload.site}", (Button("site", "Next", {"site": payload.site + 1}),))

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        text: str = turn.input["text"]
        name = "refund" if text.startswith("refund") else "secret"
        result = await tools.call(name, {"number": 7} if name == "refund" else {})
        return str(result.value or result.reason)

    return assistant


async def waits(caller: Any, session: str) -> tuple[Record, str]:
    """The turn that waits, and its call."""
    turn = await caller.accepted(session, "refund it")
    async with caller.follow(session) as stream:
        entries = await stream.until("turn.awaiting", turn=turn["turn_id"])
    return turn, entries[-1]["body"]["call_ids"][0]


async def test_an_approval_is_asked_for_shown_and_given(serve: Serve) -> None:
    ran: list[int] = []
    async with serve(bank(ran)) as world:
        mine = await world.ana.opened()
        turn, call = await waits(world.ana, mine)
        session = await world.ana.session(mine)
        listed = told(await world.ana.get(f"/v1/sessions/{mine}/tools"), 200)["items"]

        assert session["blocked_by"]["turn_id"] == turn["turn_id"]
        assert {"tool": "refund", "status": "needs_approval"}.items() <= listed[0].items()
        assert ran == []

        at = f"/v1/sessions/{mine}/calls/{call}"
        for stranger in (world.ben, world.cleo, world.boss):
            assert (await stranger.post(f"{at}/approve")).json()["code"] == "session_not_found"
        assert told(await world.ana.post(f"{at}/approve"), 200)["status"] in {"awaiting", "running"}
        ended = await world.ana.ended(turn)

        assert (ended["status"], ended["output"], ran) == ("completed", "refunded 7", [7])
        again = await world.ana.post(f"{at}/deny", json={"reason": "too late"})
        assert again.status_code in {404, 409}
        assert (await world.ana.session(mine))["blocked_by"] is None


async def test_a_denial_is_told_to_the_agent_with_its_reason(serve: Serve) -> None:
    ran: list[int] = []
    async with serve(bank(ran)) as world:
        mine = await world.ana.opened()
        turn, call = await waits(world.ana, mine)
        at = f"/v1/sessions/{mine}/calls/{call}/deny"

        assert (await world.ana.post(at, json={"why": "no"})).status_code == 422
        told(await world.root.post(at, json={"reason": "not this month"}), 200)

        assert "not this month" in (await world.ana.ended(turn))["output"]
        assert ran == []


async def test_grants_are_set_by_who_may_and_hold_from_the_next_turn(serve: Serve) -> None:
    async with serve(bank([])) as world:
        mine = await world.ana.opened()
        at = f"/v1/sessions/{mine}/grants"

        assert "secrets" in (await world.ana.said(mine, "tell"))["output"], "it says what it needs"
        assert (await world.ben.put(at, json={"grants": ["secrets"]})).status_code == 404
        refused = await world.ana.put(at, json={"grants": ["secrets", "manage_sessions"]})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        for wrong in ({}, {"grants": "secrets"}, {"grants": [""]}, {"grants": ["a b"]}):
            assert (await world.ana.put(at, json=wrong)).status_code == 422
        granted = told(await world.ana.put(at, json={"grants": ["secrets"]}), 200)

        assert granted["grants"] == ["secrets"]
        assert (await world.ana.said(mine, "tell"))["output"] == "sesame"
        every = told(await world.root.put(at, json={"grants": ["manage_sessions"]}), 200)
        assert every["grants"] == ["manage_sessions"]
        assert "secrets" in (await world.ana.said(mine, "tell"))["output"]


async def press(caller: Any, session: str, **given: Any) -> Any:
    body = {"input": {"type": "button", **given}}
    return await caller.post(f"/v1/sessions/{session}/turns?wait=20", json=body)


async def test_a_press_is_answered_by_its_handler_and_a_wrong_one_changes_nothing(
    serve: Serve,
) -> None:
    async with serve(bank([])) as world:
        mine = await world.ana.opened()

        turn = told(await press(world.ana, mine, button="site", payload={"site": 3}), 200)
        log = await world.ana.log(mine)
        (message,) = [m for m in await world.ana.messages(mine) if m["role"] == "assistant"]

        assert turn["output"] == "site 3"
        assert turn["input"]["text"] == "A site"
        offer = {"type": "button", "button": "site", "label": "Next", "payload": {"site": 4}}
        assert message["parts"][-1] == offer
        kinds = [entry["kind"] for entry in log]
        assert kinds.index("button.pressed") < kinds.index("message.added")
        decided = next(entry["body"] for entry in log if entry["kind"] == "intent.decided")
        assert decided["path"] == "button"

        for wrong in (
            {"button": "nowhere"},
            {"button": "site", "payload": {"site": "three"}},
            {"button": "site", "payload": []},
            {"button": 5},
            {"button": "site", "payload": {"site": 1}, "more": 1},
        ):
            refusal = await press(world.ana, mine, **wrong)
            assert (refusal.status_code, refusal.json()["code"]) == (422, "invalid_input"), wrong
        assert await world.ana.log(mine) == log

        told(await world.ana.post(f"/v1/sessions/{mine}/close"), 200)
        closed = await press(world.ana, mine, button="site", payload={"site": 3})
        assert (closed.status_code, closed.json()["code"]) == (409, "session_closed")
