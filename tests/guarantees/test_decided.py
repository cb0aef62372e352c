"""Which stage took a message or a press, and how sure the classifier was, is in the log."""

from typing import Any

import pytest
from tests.guarantees.callers import of_kind, told
from tests.guarantees.conftest import Serve

from sessile import Assistant, Button, Intent, Reply, TurnContext


def clerk(seen: list[tuple[str, str, int]]) -> Assistant:
    """Notes which stage had which turn, by the context's identity."""
    assistant = Assistant("clerk")

    def note(stage: str, turn: TurnContext) -> None:
        seen.append((stage, turn.turn_id, id(turn)))

    @assistant.button("help", label="Help")
    async def help_(turn: TurnContext, payload: dict[str, Any]) -> Reply | None:
        note("button", turn)
        if payload.get("how") == "fail":
            raise ConnectionError
        return Reply("button") if payload.get("how") == "answer" else None

    @assistant.direct
    async def direct(turn: TurnContext) -> str | None:
        note("direct", turn)
        return "direct" if turn.input["text"] == "directly" else None

    @assistant.intent(
        "balance",
        phrases=("my balance",),
        examples=("how much money is on my account?", "what is left on my account?"),
    )
    async def balance(turn: TurnContext, intent: Intent) -> str | None:
        note("intent", turn)
        return f"intent {intent.name}"

    @assistant.intent("card", examples=("block my credit card", "I have lost my card"))
    async def card(turn: TurnContext, intent: Intent) -> str | None:
        return f"intent {intent.name}"

    @assistant.agent
    async def agent(turn: TurnContext) -> str:
        note("agent", turn)
        return "agent"

    return assistant


@pytest.mark.parametrize(
    ("text", "path", "intent", "score"),
    [
        ("my balance", "intent", "balance", "certain"),
        ("how much money is left on my account?", "intent", "balance", "above"),
        ("xylophone zebra quartz", "agent", None, "below"),
        ("directly", "direct", None, "none"),
    ],
)
async def test_a_decision_has_its_path_score_and_threshold(
    serve: Serve, text: str, path: str, intent: str | None, score: str
) -> None:
    async with serve(clerk([])) as world:
        mine = await world.ana.opened()
        turn = await world.ana.said(mine, text)
        log = await world.ana.log(mine)

    (entry,) = of_kind(log, "intent.decided")
    body = entry["body"]
    assert entry["turn_id"] == turn["turn_id"]
    assert (body["path"], body["intent"]) == (path, intent)
    assert turn["output"] == (f"intent {intent}" if intent else path)
    assert body["reason"]
    match score:
        case "certain":
            assert body["score"] == 1
        case "above":
            assert 0 < body["threshold"] <= body["score"] < 1
        case "below":
            assert 0 <= body["score"] < body["threshold"]
        case _:
            assert body["score"] == body["threshold"] == 0


@pytest.mark.parametrize("how", ["hand on", "fail"])
async def test_a_press_goes_through_all_stages_with_one_context(serve: Serve, how: str) -> None:
    seen: list[tuple[str, str, int]] = []
    async with serve(clerk(seen)) as world:
        mine = await world.ana.opened()
        press = {"type": "button", "button": "help", "payload": {"how": how}, "text": "my balance"}
        turn = told(
            await world.ana.post(f"/v1/sessions/{mine}/turns?wait=20", json={"input": press}), 200
        )
        agents = {**press, "text": "xylophone zebra quartz"}
        other = told(
            await world.ana.post(f"/v1/sessions/{mine}/turns?wait=20", json={"input": agents}), 200
        )
        log = await world.ana.log(mine)

    assert [turn["output"], other["output"]] == ["intent balance", "agent"]
    mine_seen, other_seen = seen[:3], seen[3:]
    assert [stage for stage, *_ in mine_seen] == ["button", "direct", "intent"]
    assert [stage for stage, *_ in other_seen] == ["button", "direct", "agent"]
    assert {tuple(where) for _, *where in mine_seen} == {(turn["turn_id"], mine_seen[0][2])}
    assert {tuple(where) for _, *where in other_seen} == {(other["turn_id"], other_seen[0][2])}
    assert len(of_kind(log, "turn.started")) == 2
    assert [e["body"]["path"] for e in of_kind(log, "intent.decided")] == ["intent", "agent"]


async def test_a_press_of_what_is_no_longer_offered_is_told_so(serve: Serve) -> None:
    """A button is offered by a message of this session, and by that one alone."""
    seen: list[tuple[str, str, int]] = []
    assistant = clerk(seen)

    @assistant.intent("offer", phrases=("offer",))
    async def offer(turn: TurnContext, intent: Intent) -> Reply:
        return Reply("Here.", (Button("help", "Help me", {"how": "answer"}),))

    async with serve(assistant) as world:
        mine, other = await world.ana.opened(), await world.ana.opened()
        for session_id in (mine, other):
            await world.ana.said(session_id, "offer")
        asked, offering = [each["message_id"] for each in await world.ana.messages(mine)]
        elsewhere = (await world.ana.messages(other))[-1]["message_id"]
        before = await world.ana.log(other)

        turns = []
        for message_id in (offering, asked, elsewhere):
            press = {"type": "button", "button": "help", "payload": {"how": "answer"}}
            reply = await world.ana.post(
                f"/v1/sessions/{mine}/turns?wait=20",
                json={"input": {**press, "message_id": message_id}},
            )
            turns.append(told(reply, 200))
        log = await world.ana.log(mine)

        assert await world.ana.log(other) == before

    stale = "This button is no longer offered."
    assert [turn["output"] for turn in turns] == ["button", stale, stale]
    assert {turn["status"] for turn in turns} == {"completed"}
    assert [stage for stage, *_ in seen].count("button") == 1
    reasons = [entry["body"]["reason"] for entry in of_kind(log, "intent.decided")]
    assert reasons[-2:] == ["stale", "stale"]
