"""Sessile: a session server for AI agents and chat assistants."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sessile.core.context import Principal, TurnContext
    from sessile.core.transcript import History, Message
    from sessile.kit.assistant import Assistant
    from sessile.ports.agent import (
        AgentFailed,
        MessageEnd,
        TextDelta,
        ThinkingDelta,
        ToolError,
        ToolResult,
        Tools,
    )
    from sessile.settings import Settings
    from sessile.wiring import Server

_HOMES = {
    "AgentFailed": "sessile.ports.agent",
    "Assistant": "sessile.kit.assistant",
    "History": "sessile.core.transcript",
    "Message": "sessile.core.transcript",
    "MessageEnd": "sessile.ports.agent",
    "Principal": "sessile.core.context",
    "Server": "sessile.wiring",
    "Settings": "sessile.settings",
    "TextDelta": "sessile.ports.agent",
    "ThinkingDelta": "sessile.ports.agent",
    "ToolError": "sessile.ports.agent",
    "ToolResult": "sessile.ports.agent",
    "Tools": "sessile.ports.agent",
    "TurnContext": "sessile.core.context",
}

__all__ = [
    "AgentFailed",
    "Assistant",
    "History",
    "Message",
    "MessageEnd",
    "Principal",
    "Server",
    "Settings",
    "TextDelta",
    "ThinkingDelta",
    "ToolError",
    "ToolResult",
    "Tools",
    "TurnContext",
]


def __getattr__(name: str) -> Any:
    """A public name is imported when it is first used: the core stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sessile' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)
