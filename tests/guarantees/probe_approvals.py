"""An assistant that asks for two approvals side by side, for a server that is killed meanwhile."""

import asyncio

from tests.guarantees.probe import note

from sessile import Assistant, History, Tools, TurnContext

refunds = Assistant("refunds")


@refunds.tool("refund", approval=True)
async def refund(turn: TurnContext, number: int) -> str:
    """Notes that it ran."""
    note("refunded", str(number))
    return f"refunded {number}"


@refunds.agent
async def answer(turn: TurnContext, _history: History, tools: Tools) -> str:
    if turn.input["text"] != "refund both":
        return f"heard {turn.input['text']}"
    both = await asyncio.gather(*(tools.call("refund", {"number": n}) for n in (7, 8)))
    return ", ".join(str(each.value or each.reason) for each in both)
