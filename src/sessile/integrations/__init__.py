"""What drives an assistant's turns: a user's own function, or a loop over a model.

Each module is imported when an assistant first needs it, so that what it bridges to may be
missing.
"""

from typing import Any

from sessile.ports.agent import AgentLoop


def agent_loop(*, name: str, model: Any, instructions: str, brought: Any) -> AgentLoop:
    """What drives an assistant that was declared so. `brought`: its own agent, or None."""
    if callable(brought):
        from sessile.integrations.functions import FunctionLoop  # noqa: PLC0415

        return FunctionLoop(brought)
    raise NotImplementedError("a model, or an agent of pydantic-ai")
