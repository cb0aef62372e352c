"""The assistant of a server that was given none: the demo model, and tools to try it with."""

from typing import Any

from sessile import Assistant, TurnContext
from sessile.demo.support import STEP_SECONDS, declare_actions


def demo_assistant(
    *, model: Any = "demo", step_seconds: float = STEP_SECONDS, others: tuple[Assistant, ...] = ()
) -> Assistant:
    """The assistant `demo`. `step_seconds`: the pause in each of the slow report's steps;
    `others`: whom it can ask, and hand a session to."""
    demo = Assistant(
        "demo",
        model=model,
        description="Follows fixed rules; needs no network. Shows what a session does.",
        instructions="You are the demo assistant of a session server. Be brief.",
    )
    declare_actions(demo, step_seconds=step_seconds)
    for other in others:
        demo.delegate(other)

    @demo.tool("session.hand_off", idempotent=True)
    async def hand_off(turn: TurnContext, assistant: str) -> None:
        """Hand the session to another assistant, which answers from here on.

        Args:
            assistant: its name
        """
        await turn.hand_off(assistant, reason="The user asked for it.")

    return demo
