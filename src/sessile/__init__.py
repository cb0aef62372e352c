"""Sessile: a session server for AI agents and chat assistants."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sessile.core.context import Principal, ToolResult, TurnContext
    from sessile.core.errors import SessileError
    from sessile.core.events import Progress
    from sessile.core.ids import SessionId, TenantId, TurnId, UserId
    from sessile.core.session import Session, Turn
    from sessile.core.transcript import History, Message
    from sessile.http.exchange import Caller
    from sessile.http.sessions import IdempotencyKey
    from sessile.kit.assistant import Assistant
    from sessile.kit.intents import NearestExamples, PhrasesFirst
    from sessile.kit.replies import Intent, Reply
    from sessile.ports.agent import (
        AgentFailed,
        Button,
        MessageEnd,
        TextDelta,
        ThinkingDelta,
        ToolError,
        Tools,
    )
    from sessile.ports.auth import Authenticator
    from sessile.ports.intents import Classifier, IntentGuess, IntentSpec
    from sessile.ports.store import Found
    from sessile.runtime.answers import Opened, Submitted
    from sessile.runtime.feed import Ended, Grown, Reset
    from sessile.runtime.keeping import Keeping
    from sessile.runtime.reads import Page, Reads
    from sessile.runtime.sessions import Sessions
    from sessile.settings import Settings
    from sessile.wiring import Server

_HOMES = {
    "AgentFailed": "sessile.ports.agent",
    "Assistant": "sessile.kit.assistant",
    "Authenticator": "sessile.ports.auth",
    "Button": "sessile.ports.agent",
    "Caller": "sessile.http.exchange",
    "Classifier": "sessile.ports.intents",
    "Ended": "sessile.runtime.feed",
    "Found": "sessile.ports.store",
    "Grown": "sessile.runtime.feed",
    "History": "sessile.core.transcript",
    "IdempotencyKey": "sessile.http.sessions",
    "Intent": "sessile.kit.replies",
    "IntentGuess": "sessile.ports.intents",
    "IntentSpec": "sessile.ports.intents",
    "Keeping": "sessile.runtime.keeping",
    "Message": "sessile.core.transcript",
    "MessageEnd": "sessile.ports.agent",
    "NearestExamples": "sessile.kit.intents",
    "Opened": "sessile.runtime.sessions",
    "Page": "sessile.runtime.reads",
    "PhrasesFirst": "sessile.kit.intents",
    "Principal": "sessile.core.context",
    "Progress": "sessile.core.events",
    "Reads": "sessile.runtime.reads",
    "Reply": "sessile.kit.replies",
    "Reset": "sessile.runtime.feed",
    "Server": "sessile.wiring",
    "SessileError": "sessile.core.errors",
    "Session": "sessile.core.session",
    "SessionId": "sessile.core.ids",
    "Sessions": "sessile.runtime.sessions",
    "Settings": "sessile.settings",
    "Submitted": "sessile.runtime.sessions",
    "TenantId": "sessile.core.ids",
    "TextDelta": "sessile.ports.agent",
    "ThinkingDelta": "sessile.ports.agent",
    "ToolError": "sessile.ports.agent",
    "ToolResult": "sessile.core.context",
    "Tools": "sessile.ports.agent",
    "Turn": "sessile.core.session",
    "TurnContext": "sessile.core.context",
    "TurnId": "sessile.core.ids",
    "UserId": "sessile.core.ids",
}

__all__ = [
    "AgentFailed",
    "Assistant",
    "Authenticator",
    "Button",
    "Caller",
    "Classifier",
    "Ended",
    "Found",
    "Grown",
    "History",
    "IdempotencyKey",
    "Intent",
    "IntentGuess",
    "IntentSpec",
    "Keeping",
    "Message",
    "MessageEnd",
    "NearestExamples",
    "Opened",
    "Page",
    "PhrasesFirst",
    "Principal",
    "Progress",
    "Reads",
    "Reply",
    "Reset",
    "Server",
    "SessileError",
    "Session",
    "SessionId",
    "Sessions",
    "Settings",
    "Submitted",
    "TenantId",
    "TextDelta",
    "ThinkingDelta",
    "ToolError",
    "ToolResult",
    "Tools",
    "Turn",
    "TurnContext",
    "TurnId",
    "UserId",
]


def __getattr__(name: str) -> Any:
    """A public name is imported when it is first used: the core stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'sessile' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(_HOMES[name]), name)
