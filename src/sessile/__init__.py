"""Sessile: a session server for AI agents and chat assistants."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sessile.core.context import Principal, ToolResult, TurnContext
    from sessile.core.transcript import History, Message
    from sessile.kit.assistant import Assistant
    from sessile.kit.replies import Button, Intent, Reply
    from sessile.ports.agent import (
        AgentFailed,
        MessageEnd,
        TextDelta,
        ThinkingDelta,
        ToolError,
        Tools,
    )
    from sessile.settings import Settings
    from sessile.wiring import Server

_HOMES = {
    "AgentFailed": "sessile.ports.agent",
    "Assistant": "sessile.kit.assistant",
    "Button": "sessile.kit.replies",
    "History": "sessile.core.transcript",
    "Intent": "sessile.kit.replies",
    "Message": "sessile.core.transcript",
    "MessageEnd": "sessile.ports.agent",
    "Principal": "sessile.core.context",
    "Reply": "sessile.kit.replies",
    "Server": "sessile.wiring",
    "Settings": "sessile.settings",
    "TextDelta": "sessile.ports.agent",
    "ThinkingDelta": "sessile.ports.agent",
    "ToolError": "sessile.ports.agent",
    "ToolResult": "sessile.core.context",
    "Tools": "sessile.ports.agent",
    "TurnContext": "sessile.core.context",
}

__all__ = [
    "AgentFailed",
    "Assistant",
    "Button",
    "History",
    "Intent",
    "Message",
    "MessageEnd",
    "Principal",
    "Reply",
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
