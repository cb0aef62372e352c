"""What a session is set to holds from the next turn on, and never changes within one."""

import asyncio
from typing import Any

import pytest
from tests.guarantees.callers import told
from tests.guarantees.conftest import Serve

from sessile import Assistant, History, Tools, TurnContext


class Gate:
    """What a turn waits at, until it may go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        async with asyncio.timeout(30):
            await self.open.wait()


def looker(gate: Gate, seen: list[dict[str, Any]]) -> Assistant:
    """Looks at what it was given before and behind the gate, and so does its tool."""
    assistant = Assistant("looker")

    @assistant.tool("look", idempotent=True)
    async def look(turn: TurnContext) -> str:
        return str(turn.metadata.get("provider"))

    @assistant.tool("secret", grant="secrets", idempotent=True)
    async def secret(turn: TurnContext) -> str:
        return "sesame"

    @assistant.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> str:
        async def looked() -> dict[str, Any]:
            return {
                "metadata": dict(turn.metadata),
                "tool": (await tools.call("look")).value,
                "offered": sorted(tool.name for tool in tools.offered),
                "said": [message.text for message in history.messages if message.role == "user"],
            }

        before = await looked()
        if turn.input["text"] == "hold":
            await gate.wait()
        after = await looked()
        seen.extend((before, after))
        return "done"

    return assistant


@pytest.mark.parametrize("queued_first", [True, False])
async def test_a_change_while_a_turn_runs_is_the_next_one_s(
    serve: Serve, queued_first: bool
) -> None:
    gate, seen = Gate(), list[dict[str, Any]]()
    async with serve(looker(gate, seen)) as world:
        opened = await world.ana.open(metadata={"provider": "old", "kept": 1})
        mine = opened["session_id"]
        running = await world.ana.accepted(mine, "hold")
        await gate.reached.wait()
        queued = await world.ana.accepted(mine, "next") if queued_first else None
        at = f"/v1/sessions/{mine}"
        told(await world.ana.patch(at, json={"metadata": {"provider": "new"}}), 200)
        told(await world.root.put(f"{at}/grants", json={"grants": ["secrets"]}), 200)
        queued = queued or await world.ana.accepted(mine, "next")
        gate.open.set()
        await world.ana.ended(running)
        await world.ana.ended(queued)

    before, after, *later = seen
    old = {"provider": "old", "kept": 1}
    assert before == after == {
        "metadata": old, "tool": "old", "offered": ["look"], "said": ["hold"]
    }  # fmt: skip
    assert (
        later
        == [
            {
                "metadata": {"provider": "new", "kept": 1},
                "tool": "new",
                "offered": ["look", "secret"],
                "said": ["hold", "next"],
            }
        ]
        * 2
    )
