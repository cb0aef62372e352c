"""Assistants, and what drives them."""

from sessile.kit.assistant import Assistant
from sessile.ports.agent import Agent, AgentLoop
from sessile.wiring.stores import MissingExtra


def runnable(assistant: Assistant) -> Agent:
    """The assistant with what drives it; pydantic-ai is imported only where it is used."""
    return assistant.driven_by(_loop(assistant))


def _loop(assistant: Assistant) -> AgentLoop:
    brought = assistant.brought
    if brought is not None and not hasattr(brought, "iter"):
        from sessile.integrations.functions import FunctionLoop  # noqa: PLC0415

        return FunctionLoop(brought)
    try:
        from sessile.integrations.pydantic_ai import PydanticLoop  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            f"the assistant {assistant.name!r} has a model, which needs an extra: "
            "pip install 'sessile[pydantic-ai]'"
        ) from missing

    return PydanticLoop(assistant)
