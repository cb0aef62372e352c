"""The assistant of a server that was given none: the demo model, and tools to try it with."""

import asyncio
from dataclasses import dataclass
from typing import Any

from sessile import Assistant, ToolError, TurnContext

STEP_SECONDS = 0.2
STEPS = 10


@dataclass(frozen=True)
class Order:
    """An order of a shop that there is not."""

    number: int
    status: str
    items: int
    total: float


@dataclass(frozen=True)
class SessionInfo:
    """Where a call came from."""

    session_id: str
    turn_id: str
    company: str
    user_id: str
    assistant: str
    attempt: int


def demo_assistant(*, model: Any = "demo", step_seconds: float = STEP_SECONDS) -> Assistant:
    """The assistant `demo`. `step_seconds`: the pause in each of the slow report's steps."""
    demo = Assistant(
        "demo",
        model=model,
        description="Follows fixed rules; needs no network. Shows what a session does.",
        instructions="You are the demo assistant of a session server. Be brief.",
    )

    @demo.tool("orders.lookup", idempotent=True)
    async def lookup(turn: TurnContext, number: int) -> Order:
        """Look up an order of the demo shop.

        Args:
            number: the order's number, from 1 to 999
        """
        if not 1 <= number <= 999:
            raise ToolError(f"There is no order {number}.")
        status = ("delivered", "shipped", "being packed")[number % 3]
        return Order(number, status, items=number % 5 + 1, total=round(number * 7.9, 2))

    @demo.tool("reports.slow", idempotent=True)
    async def slow(turn: TurnContext) -> str:
        """Write a report, which takes a while and says how far it is."""
        for step in range(1, STEPS + 1):
            await asyncio.sleep(step_seconds)
            await turn.progress(note=f"Step {step} of {STEPS}")
        return f"The slow report is done, in {STEPS} steps."

    @demo.tool("debug.fail")
    async def fail(turn: TurnContext) -> None:
        """A tool that always fails."""
        raise ToolError("This tool always fails, as it was asked to.")

    @demo.tool("debug.getSessionInfo", idempotent=True)
    async def session_info(turn: TurnContext) -> SessionInfo:
        """Tell which session, turn, company and user this call belongs to."""
        return SessionInfo(
            session_id=turn.session_id,
            turn_id=turn.turn_id,
            company=turn.tenant_id,
            user_id=turn.user_id,
            assistant=turn.assistant,
            attempt=turn.attempt,
        )

    return demo
